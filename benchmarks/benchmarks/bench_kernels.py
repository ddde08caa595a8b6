"""Compiled kernels on one core, driven from compiled code, beside the NumPy call that does the same."""

import time

import numpy as np
from numba import njit
from scipy.special import expit
from threadpoolctl import threadpool_limits

import _blas_kernel

VECTOR_BITS = {"SSE": 128, "AVX": 256, "AVX2": 256, "AVX-512": 512}
SPARE = 64  # elements after each operand: the last unit of a row may reach beyond the matrix


def best_time(call, seconds=0.3):
    """Least seconds of `call` over as many runs as fit into `seconds`, at least three."""
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


class BlasVectors:
    """Bits of the vectors that the processor has and that NumPy's BLAS uses: rows of `numpy` count only if equal."""

    param_names = ("of",)
    params = (("processor", "BLAS"),)
    unit = "bits"

    def track_vector_bits(self, of):
        if of == "processor":
            found = [_blas_kernel.processor_vectors()]
        else:
            found = [_blas_kernel.kernel_vectors(name) for name in _blas_kernel.in_use()]
        bits = [VECTOR_BITS[name] for name in found if name]
        if not bits:
            raise NotImplementedError("not known here")
        return min(bits)


class Product:
    """GFLOP/s of one product of a layer, at the sizes of a batch: rows x inputs x outputs."""

    param_names = ("product", "shape", "library")
    params = (
        ("forward", "gradient", "backward"),
        ("100x784x100", "200x784x50", "10x784x30", "64x512x512", "256x256x256", "1x64x64"),
        ("fastnn", "numpy"),
    )
    unit = "GFLOP/s"
    timeout = 300

    def setup(self, product, shape, library):
        rows, n_in, n_out = map(int, shape.split("x"))
        self.m, self.n, self.k = {
            "forward": (rows, n_out, n_in),
            "gradient": (n_in, n_out, rows),
            "backward": (rows, n_in, n_out),
        }[product]
        rng = np.random.default_rng(0)
        self.a = rng.standard_normal((self.m * self.k + SPARE), dtype=np.float32)
        self.b = rng.standard_normal((self.k * self.n + SPARE), dtype=np.float32)
        self.c = np.zeros(self.m * self.n + SPARE, np.float32)
        self.times = max(1, 20_000_000 // (2 * self.m * self.n * self.k))
        if library == "fastnn":
            self.driver = product_driver()

    def track_gflops(self, product, shape, library):
        m, n, k, times = self.m, self.n, self.k, self.times
        across = product == "gradient"  # A is read down its columns
        if library == "fastnn":
            a_row, a_k = (1, m) if across else (k, 1)
            zero = np.zeros(n + SPARE, np.float32)
            seconds = best_time(lambda: self.driver(times, self.c, zero, self.a, a_row, a_k, self.b, m, n, k))
        else:
            a = self.a[: m * k].reshape(k, m).T if across else self.a[: m * k].reshape(m, k)
            b, c = self.b[: k * n].reshape(k, n), self.c[: m * n].reshape(m, n)
            with threadpool_limits(limits=1):
                seconds = best_time(lambda: [np.matmul(a, b, out=c) for _ in range(times)])
        return 2e-9 * m * n * k * times / seconds


def product_driver():
    """A compiled loop over fastnn's product; skips the benchmark at commits that have none of this form."""
    try:
        from fastnn.core.compile.jit import load_leaves
        from fastnn.core.simd.gemm import product
    except ImportError as reason:
        raise NotImplementedError("no fastnn.core.simd.gemm.product") from reason
    load_leaves(np.float32)

    @njit(error_model="numpy")
    def run(times, c, zero, a, a_row, a_k, b, m, n, k):
        for _ in range(times):
            product(c, 0, n, zero, 0, 0, a, 0, a_row, a_k, b, 0, n, m, n, k)

    return run


class Elementwise:
    """Nanoseconds an element of the vectorized functions, over 4096 elements in cache."""

    param_names = ("function", "dtype", "library")
    params = (("exp", "log", "tanh", "sigmoid"), ("float32", "float64"), ("fastnn", "numpy"))
    unit = "ns"
    timeout = 300
    n, times = 4096, 200

    def setup(self, function, dtype, library):
        low, high = (0.1, 10.0) if function == "log" else (-5.0, 5.0)
        self.x = np.random.default_rng(0).uniform(low, high, self.n).astype(dtype)
        self.out = np.empty_like(self.x)
        if library == "fastnn":
            self.driver = elementwise_driver(function)

    def track_ns_per_element(self, function, dtype, library):
        x, out, times = self.x, self.out, self.times
        if library == "fastnn":
            seconds = best_time(lambda: self.driver(times, out, x))
        else:
            call = expit if function == "sigmoid" else getattr(np, function)
            seconds = best_time(lambda: [call(x, out=out) for _ in range(times)])
        return 1e9 * seconds / (self.n * times)


def elementwise_driver(function):
    try:
        from fastnn.core.simd import vecmath
    except ImportError as reason:
        raise NotImplementedError("no fastnn.core.simd.vecmath") from reason
    call = getattr(vecmath, function)

    @njit(error_model="numpy")
    def sweep(out, x):
        for i in range(x.size):
            out[i] = call(x[i])

    @njit(error_model="numpy")
    def run(times, out, x):
        for _ in range(times):
            sweep(out, x)

    return run
