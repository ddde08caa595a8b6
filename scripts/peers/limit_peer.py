"""What an epoch takes at best: nothing but the products of its steps and Adam's pass over the weights.

fastnn's own kernels multiply matrices of the shapes that each thread has of a step, each product over and over on the
same numbers, so that all it reads lies in the nearest caches. No activations, losses, rows from memory; and no thread
waits for another: the time is the mean of theirs. Products with fewer than a vector's outputs are left out.
"""

import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
from numba import njit

import fastnn
from fastnn.core.compile.jit import load_leaves
from fastnn.core.nn.update import tile_height
from fastnn.core.simd.gemm import NO_C0, product_at
from fastnn.spec import padded_stride
from peers.workloads import BETA_1, BETA_2, EPSILON

VERSION = fastnn.__version__
FEWEST_OUTPUTS = 16
SPARE = 1024  # elements behind a matrix, that whole vectors may read and write


def thread_choices(threads: int) -> list[int]:
    return [threads]


@njit(nogil=True, error_model="numpy")
def multiply(times, c, ldc, a, a_row, a_k, at, b, b_k, m, n, n_k):
    """C <- A B, so many times."""
    for _ in range(times):
        product_at(c, 0, ldc, c, 0, NO_C0, a, 0, a_row, a_k, at, 0, b, 0, b_k, m, n, n_k, 0, 0, 0, 0, 0, 0, 0)


@njit(nogil=True, error_model="numpy")
def adam(times, w, g, m, v, rate, beta_1, beta_2, epsilon):
    one = w.dtype.type(1)
    for _ in range(times):
        for i in range(w.size):
            m[i] = beta_1 * m[i] + (one - beta_1) * g[i]
            v[i] = beta_2 * v[i] + (one - beta_2) * (g[i] * g[i])
            w[i] -= rate * m[i] / (np.sqrt(v[i]) + epsilon)


def matrix(rng, n: int, read_only: bool = True) -> np.ndarray:
    """So many random numbers, and room, from the beginning of a cache line on."""
    memory = rng.random(n + SPARE + 16, dtype=np.float32)
    start = -memory.ctypes.data // memory.itemsize % 16
    memory = memory[start : start + n + SPARE]
    memory.setflags(write=not read_only)
    return memory


@njit
def strip_of(rows, outputs):
    """Weight rows of which training holds the gradient at a time, of so many that a thread has."""
    return min(rows, tile_height(outputs, 4))


class LimitJob:
    """The arithmetic of one thread's share of a step, on as many threads as there are.

    Attributes
    ----------
    products : list of tuple
        Arguments of `multiply` behind the first, and how often a step does it, on the average.
    """

    def __init__(self, workload, threads: int, seed: int):
        rng = np.random.default_rng(seed)
        self.steps = math.ceil(workload.n / workload.batch_rows)
        batch, units = workload.batch_rows, workload.units
        rows = math.ceil(batch / threads)
        self.products = []
        for layer, (i, o) in enumerate(itertools.pairwise(units)):
            if o < FEWEST_OUTPUTS:
                continue
            below, above = i if layer == 0 else padded_stride(i, 4), padded_stride(o, 4)
            a, w, d = (matrix(rng, size) for size in (batch * below, i * o, batch * above))
            stride = 0 if layer == 0 else below  # rows of X are read where a table says
            places = np.arange(0 if stride else batch, dtype=np.int64) * below * 4
            places.setflags(write=False)
            self.add(rng, above, a, stride, 1, places, w, o, rows, o, i)
            strip = strip_of(math.ceil(i / threads), o)
            self.add(rng, above, a, 1, stride, places, d, above, strip, o, batch, i / threads / strip)
            if layer > 0:
                copy = matrix(rng, o * below)
                self.add(rng, below, d, above, 1, places, copy, below, rows, i, o)
        size = sum(i * o for i, o in itertools.pairwise(units)) // threads
        self.moments = [matrix(rng, size, False)[:size] for _ in range(4)] if workload.solver == "adam" else None

    def add(self, rng, ldc, a, a_row, a_k, at, b, b_k, m, n, n_k, per_step=1.0):
        c = matrix(rng, m * ldc, False)
        self.products.append(((c, ldc, a, a_row, a_k, at, b, b_k, m, n, n_k), per_step))

    def run(self, epochs: int, barrier: Barrier) -> float:
        """Seconds of so many epochs of this thread, from the moment at which all are ready."""
        barrier.wait()
        start = time.perf_counter()
        for arguments, per_step in self.products:
            multiply(max(1, round(epochs * self.steps * per_step)), *arguments)
        if self.moments:
            constants = map(np.float32, (1e-3, BETA_1, BETA_2, EPSILON))
            adam(epochs * self.steps, *self.moments, *constants)
        return time.perf_counter() - start


class LimitJobs:
    """A `LimitJob` for each thread."""

    def __init__(self, workload, threads: int):
        load_leaves(np.float32)
        self.jobs = [LimitJob(workload, threads, seed) for seed in range(threads)]

    def run(self, epochs: int) -> float:
        n = len(self.jobs)
        with ThreadPoolExecutor(n) as pool:
            return sum(pool.map(LimitJob.run, self.jobs, [epochs] * n, [Barrier(n)] * n)) / n


def make_job(workload, X, y, threads: int):
    if workload.kind != "fit" or workload.data == "words":
        raise NotImplementedError("no dense training")
    if max(workload.units[1:]) < FEWEST_OUTPUTS:
        raise NotImplementedError("only narrow layers")
    return LimitJobs(workload, threads)
