"""How many threads, and which twin of an entry may run now.

Numba's threads are the process's, and its layers do not forgive: workqueue aborts the process when two Python threads
enter parallel code, and GNU OpenMP kills a forked child of a process whose threads have run, for fastnn or for others.
Results do not depend on the number of threads, so the serial twin can stand in at any call: in forked children and
while another Python thread is inside a parallel call.
"""

import collections
import functools
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import numba
from numba import config

from .core.jit import load_leaves

# Work of a parallel call below which a second thread brings nothing, and so a third below half as much again: entering
# the loop costs 1.5 to 4.8 us (two threads, Zen 3; 13 on 16 virtual cores of another machine), and half of what a
# thread reads was written by the other. (Predictions of 1.75e6 operations take 1.04 to 1.17 of the time on two.)
CROSSOVER_FLOPS = 2e6
# The same, as a share of it, for the steps of an epoch, whose threads stay in one loop and meet in .1 to .3 us.
# (128-96-10 with batches of 32, 1.8e6 operations, .89 of the time on two; 784-30-10 with batches of 10, 1e6, 1.02.)
STEP = 0.75
PARTS_CROSSOVER_FLOPS = 1e6  # the same where threads take parts of the batch and exchange no more than gradients
# Work of a step up to which it depends on the day: see `Faster`. (Two cores of Zen 5 far apart take of one's time, for
# 100-128-10, 1.18 with batches of 128, 8e6 operations, and 1.06 with 256, 15e6; .90 for 100-128-128-10 with 200, 31e6.)
DOUBTFUL_FLOPS = 3e7
TRIAL_FLOPS = 3e8  # work of a trial, some milliseconds on one core

_inside = threading.Lock()
_forked = False


def _after_fork_in_child():
    global _inside, _forked
    _inside = threading.Lock()
    try:
        numba.threading_layer()
    except ValueError:  # Numba's threads did not run in the parent: they may in the child
        return
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def processors():
    """Processors that this process is allowed to run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_threads():
    """Threads this process may use: Numba's pool, bounded by the processors it is allowed to run on."""
    return max(1, min(config.NUMBA_NUM_THREADS, processors()))


def resolve_n_jobs(n_jobs):
    """Number of threads that ``n_jobs`` asks for.

    Parameters
    ----------
    n_jobs : int or None
        None: all threads the process may use; k: at most k; -1: all of Numba's pool, -2: all but one, ...

    Returns
    -------
    int
        Between 1 and the size of Numba's pool.

    Raises
    ------
    ValueError
        For 0 and for what is no integer.
    """
    if n_jobs is None:
        return available_threads()
    if not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(
            f"n_jobs must be None, a positive number of threads, or -1 for all (-2: all but one), got {n_jobs!r}."
        )
    pool = config.NUMBA_NUM_THREADS
    return min(n_jobs, pool) if n_jobs > 0 else max(1, pool + 1 + n_jobs)


def threads_for(flops, limit, parts=0):
    """Threads worth using, at most ``limit``, for parallel calls of ``flops`` floating-point operations each.

    ``parts`` is that of the batch, if they are the steps of an epoch: more than one are what threads can share. It is 0
    for calls that each enter a parallel loop.
    """
    if parts > 1:
        return min(parts, limit) if flops >= PARTS_CROSSOVER_FLOPS else 1
    each = CROSSOVER_FLOPS / 2 * (STEP if parts else 1)
    return limit if flops >= limit * each else max(1, int(flops // each))


def runner(entry, dtype, n_threads, sparse=False, members=frozenset()):
    """A function that calls an entry on ``n_threads`` threads, with everything it needs compiled or loaded.

    ``sparse`` says whether the entry is one of those for sparse input; ``members`` is what else `load_leaves` loads.
    """
    load_leaves(dtype, sparse, members)
    serial = entry.twin(dtype)
    if n_threads == 1:
        return serial
    return functools.partial(_run, serial, entry.twin(dtype, parallel=True), n_threads)


def _run(serial, parallel, n_threads, *args):
    """Call an entry on ``n_threads`` threads, or its serial twin where parallel code must not run."""
    if _forked or not _inside.acquire(blocking=False):
        return serial(*args)
    try:
        before = numba.get_num_threads()
        if before == n_threads:
            return parallel(*args)
        numba.set_num_threads(n_threads)
        try:
            return parallel(*args)
        finally:
            numba.set_num_threads(before)
    finally:
        _inside.release()


class Faster:
    """Calls an entry on several threads, or on one where that has been faster lately.

    How long two cores take to exchange what one has written and the other reads varies by three on one machine, with
    what else runs there and where: steps of 64-100-10 with 200 rows took 60 us on two threads at one time and 146 at
    another, and 80 to 85 on one thread at both (Zen 4, 2 cores). So every PERIOD calls begin with trials, which may be
    shorter than the others: of each way the fastest call counts. Results do not depend on the way.

    Parameters
    ----------
    several, one : callable
        The entry on several threads and on one.
    """

    PERIOD, SEVERAL, TRIALS = 64, 3, 5  # of so many calls the first go to several threads, then some to one

    def __init__(self, several, one):
        self.several, self.one = several, one
        self._calls = 0
        self._fastest = {}

    @property
    def tries(self):
        """Whether the next call is a trial."""
        return self._calls % self.PERIOD < self.TRIALS

    def __call__(self, n_batches, *args):
        """Call the entry, which is to do ``n_batches``."""
        turn = self._calls % self.PERIOD
        self._calls += 1
        if turn == 0:
            self._fastest = {self.several: math.inf, self.one: math.inf}
        if turn >= self.TRIALS:
            return min(self._fastest, key=self._fastest.get)(*args)
        way = self.several if turn < self.SEVERAL else self.one
        start = time.perf_counter()
        made = way(*args)
        self._fastest[way] = min(self._fastest[way], (time.perf_counter() - start) / n_batches)
        return made


def share(make_worker, items, n_threads):
    """Do ``make_worker()(item)`` for every item, on ``n_threads`` Python threads that each make a worker of their own.

    For work that releases the interpreter's lock. This thread is one of them, and the only one while another Python
    thread is inside a parallel call. After an error no further item is begun; the error is raised.
    """
    waiting = collections.deque(items)

    def walk():
        work = make_worker()
        while True:
            try:
                item = waiting.popleft()
            except IndexError:  # none is left
                return
            work(item)

    if n_threads == 1 or not _inside.acquire(blocking=False):
        walk()
        return
    try:
        with ThreadPoolExecutor(n_threads - 1) as pool:
            try:
                others = [pool.submit(walk) for _ in range(n_threads - 1)]
                walk()
            finally:
                waiting.clear()
        for other in others:
            other.result()
    finally:
        _inside.release()
