"""The yardstick: products of two 2048 x 2048 float32 matrices by NumPy's BLAS. One "epoch" is one product.

And the pace of the cores themselves: small products on one thread, and on all threads, each thread for itself.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
from threadpoolctl import threadpool_limits

VERSION = np.__version__
SIZE = 2048
FLOPS = 2 * SIZE**3
SMALL = 256  # its three matrices fit in a second cache: what the cores share beside arithmetic does not count
AT_ONCE = 8  # products in one call, or Python's lock would have a part in it


def thread_choices(threads: int) -> list[int]:
    return [threads]


class ProductJob:
    def __init__(self):
        rng = np.random.default_rng(0)
        self.a = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
        self.b = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
        self.c = np.empty_like(self.a)

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            np.matmul(self.a, self.b, out=self.c)
        return time.perf_counter() - start


def make_job(workload, X, y, threads: int):
    return ProductJob()


def _small_products(seconds: float, barrier: Barrier) -> float:
    """Operations a second of products one after the other, from the moment at which all threads are ready."""
    a, b = (np.full((SMALL, SMALL), value, np.float32) for value in (0.5, 2.0))
    stack = np.broadcast_to(a, (AT_ONCE, *a.shape))
    c = stack @ b
    barrier.wait()
    start = now = time.perf_counter()
    done = 0
    while now - start < seconds:
        np.matmul(stack, b, out=c)
        done += AT_ONCE
        now = time.perf_counter()
    return done * 2 * SMALL**3 / (now - start)


def paces(threads: int, seconds: float) -> dict[str, float]:
    """What the machine gives just now: operations a second of one thread, and of all together, none needing another."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        one, together = (sum(pool.map(_small_products, [seconds] * n, [Barrier(n)] * n)) for n in (1, threads))
    return {"one": one, "all": together}
