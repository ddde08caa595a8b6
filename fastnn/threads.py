"""The number of threads, and the choice between the parallel and the serial twin of an entry.

All users of Numba in a process share its threads, and two threading layers end the process: workqueue when two Python
threads enter parallel code; GNU OpenMP in a forked child of a process whose threads have run, for fastnn or for others,
and where it cannot start as many threads as it wants. Results do not depend on the number of threads, so the serial
twin can stand in at any call: in forked children, while another Python thread is inside a parallel call, and where
threads cannot be started.
"""

import collections
import contextlib
import functools
import math
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import joblib
import numba
import numpy as np
from numba import config

from .core.compile.exclusive import exclusively, torn, undisturbed
from .core.compile.jit import load_leaves
from .core.compile.private import thread_setter
from .journal import runs_serially

# Work of a parallel call below which a second thread gains nothing; for a third thread it is half as much again. Entry
# of the loop costs 1.5 to 4.8 us (two threads, Zen 3; 13 on 16 virtual cores of another machine), and half of what a
# thread reads was written by the other. (Predictions of 1.75e6 operations take 1.04 to 1.17 of the time on two.)
CROSSOVER_FLOPS = 2e6
# Ratio of the same limit for a step of an epoch, whose threads stay in one loop with barriers of .1 to .3 us.
# (128-96-10 with batches of 32, 1.8e6 operations, .89 of the time on two; 784-30-10 with batches of 10, 1e6, 1.02.)
STEP = 0.75
SHARDS_CROSSOVER_FLOPS = 1e6  # the same with gradient shards, where threads exchange gradients alone
# Work of a step up to which `ThreadCountTuner` measures whether several threads are faster. (Time on two distant cores
# of Zen 5 over time on one: for 100-128-10 1.18 with batches of 128, 8e6 operations, and 1.06 with 256, 15e6; for
# 100-128-128-10 with 200, 31e6, .90.)
TUNED_FLOPS = 3e7
TRIAL_FLOPS = 3e8  # work of a trial, some milliseconds on one core
GRANT_SECONDS = 10.0  # how long `processors` and OMP_NUM_THREADS are taken for what they were (100 us to ask again)

_inside = {}  # "call": the token of the call that is inside parallel code, if there is one
_forked = False
_launched = False  # whether Numba's threads have been started
_refused = None  # why they could not be started
_grant = None  # what `_granted` has found, until when it holds, and for how many processors that was
_own = threading.local()  # ``at_hand``: the number of them that this Python thread may use
_warned = set()


def _after_fork_in_child():
    global _forked
    _inside.clear()
    _forked = torn()
    try:
        numba.threading_layer()
    except ValueError:  # Numba's threads did not run in the parent, so they may run in the child
        return
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def processors():
    """Number of processors that this process may use, as joblib counts them.

    It is the least of these: processors of the machine, those that the process may run on, the quota of its container
    (cgroup v1 and v2, rounded up), and LOKY_MAX_CPU_COUNT.
    """
    return _granted()[0]


def _granted():
    """What `processors` is, and what OMP_NUM_THREADS allows; at most GRANT_SECONDS old.

    The affinity is asked for in every call, so that a process that is moved to other processors notices at once.
    """
    global _grant
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    grant, now = _grant, time.monotonic()
    if grant is None or grant[2] != allowed or now >= grant[1]:
        try:
            counted = joblib.cpu_count()
        except (OSError, ValueError):  # a quota that cannot be read, or LOKY_MAX_CPU_COUNT that is no number
            counted = allowed
        _grant = grant = (max(1, min(allowed, counted)), _omp_num_threads()), now + GRANT_SECONDS, allowed
    return grant[0]


def _omp_num_threads():
    """What OMP_NUM_THREADS allows; infinity where it is not set or NUMBA_NUM_THREADS says more.

    Dask and Ray set it for their workers, as joblib sets both, and scikit-learn's own parallel loops heed it.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if os.environ.get("NUMBA_NUM_THREADS") or not first.isdecimal():
        return math.inf
    return int(first) or math.inf


def available_threads():
    """Number of threads that this process uses unless it is told otherwise.

    It is the size of Numba's pool (NUMBA_NUM_THREADS), bounded by `processors` and by OMP_NUM_THREADS.
    """
    return min(config.NUMBA_NUM_THREADS, *_granted())


def resolve_n_jobs(n_jobs):
    """Number of threads for a value of ``n_jobs``.

    Parameters
    ----------
    n_jobs : int or None
        None: `available_threads`; k: at most k; -1: as many as there are `processors`, -2: all but one, ... Never more
        than there are in Numba's pool.

    Returns
    -------
    int
        Between 1 and the size of Numba's pool.

    Raises
    ------
    ValueError
        If ``n_jobs`` is 0 or no integer.
    """
    if n_jobs is None:
        return available_threads()
    if not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(
            f"n_jobs must be None, a positive number of threads, or -1 for all (-2: all but one), got {n_jobs!r}."
        )
    pool = config.NUMBA_NUM_THREADS
    return min(n_jobs, pool) if n_jobs > 0 else max(1, min(pool, processors()) + 1 + n_jobs)


def threads_for(flops, limit, parts=0):
    """Number of threads that pay, at most ``limit``, for ``flops`` floating-point operations a call or step.

    ``parts`` is the number of gradient shards for the steps of an epoch, where more than one are divided among the
    threads; it is 0 for calls that each enter a parallel loop.
    """
    if parts > 1:
        return min(parts, limit) if flops >= SHARDS_CROSSOVER_FLOPS else 1
    each = CROSSOVER_FLOPS / 2 * (STEP if parts else 1)
    return limit if flops >= limit * each else max(1, int(flops // each))


def runner(entry, dtype, n_threads, sparse=False, implementations=frozenset()):
    """A function that calls an entry on ``n_threads`` threads; all code that it needs is compiled or loaded.

    ``sparse`` says whether the entry is for sparse input; ``implementations`` is what else `load_leaves` loads.
    """
    if config.DISABLE_JIT:
        _warn_once("plain Python", "NUMBA_DISABLE_JIT is set: fastnn runs as plain Python, thousands of times slower.")
        return functools.partial(_in_python, entry.py_func)
    load_leaves(dtype, sparse, implementations)
    serial = entry.twin(dtype)
    if n_threads == 1:
        return serial
    if not _at_hand(n_threads):
        runs_serially("Numba's threads do not run in forked processes" if _forked else f"no others: {_refused}")
        return serial
    return functools.partial(_run, serial, entry.twin(dtype, parallel=True), n_threads)


def _in_python(function, *args):
    """Call a function that is not compiled, without NumPy's warnings: compiled code gives none either."""
    with np.errstate(all="ignore"):
        return function(*args)


def _warn_once(what, message):
    """Give a warning that has not been given in this process."""
    if what not in _warned:
        _warned.add(what)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def _at_hand(n_threads):
    """Whether ``n_threads`` of Numba's threads can be used. Warns once if not."""
    global _launched, _refused
    if _forked or _refused:
        return False
    if getattr(_own, "at_hand", 0) >= n_threads:
        return True
    reason = undisturbed(_why_not, n_threads) if _launched else exclusively(_launch)
    if reason is None:
        _launched, _own.at_hand = True, n_threads
        return True
    _refused = reason
    _warn_once("one thread", f"fastnn runs on one thread, as others cannot be had: {reason}")
    return False


def _launch():
    """Start Numba's threads. Returns the reason if that is impossible, or None."""
    reason = _why_not(config.NUMBA_NUM_THREADS)
    if reason is not None:
        return reason
    try:
        numba.get_num_threads()
    except Exception as error:  # NUMBA_THREADING_LAYER is a layer that is not installed
        return " ".join(str(error).split())
    return None


def _why_not(n_threads):
    """Why the layer could not start ``n_threads`` - 1 threads, or None. A trial starts as many Python threads.

    (50 us each.) Where threads cannot start, GNU OpenMP ends the process and workqueue waits for ever. GNU OpenMP has
    threads of its own for each Python thread; other layers start none after the first time.
    """
    if _launched and numba.threading_layer() != "omp":
        return None
    over, started = threading.Event(), []
    try:
        for _ in range(n_threads - 1):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        return str(error)
    finally:
        over.set()
        for thread in started:
            thread.join()
    return None


def _run(serial, parallel, n_threads, *args):
    """Call an entry on ``n_threads`` threads, or its serial twin where parallel code must not run."""
    token = object()
    # A signal handler may raise after any call and at the start of any Python function. The statements after `finally`
    # undo what has been done by then, before a handler can run again.
    try:
        if _forked or not _enter(token):
            runs_serially("the process was forked" if _forked else "another Python thread is inside a parallel call")
            return serial(*args)
        before = numba.get_num_threads()
        if before == n_threads:
            return parallel(*args)
        # The function in C, since in a Python function a handler could raise before the number is set.
        set_num_threads = thread_setter()
        try:
            set_num_threads(n_threads)
            return parallel(*args)
        finally:
            set_num_threads(before)
    finally:
        if _inside == {"call": token}:
            del _inside["call"]


def _enter(token):
    """Enter parallel code unless another call is inside. Returns whether ``token`` is; its owner removes it again."""
    return _inside.setdefault("call", token) is token


class ThreadCountTuner:
    """Calls an entry on several threads, or on one where that has been faster lately.

    The time in which two cores exchange data varies by a factor of three on one machine, with its other load: steps of
    64-100-10 with 200 rows took 60 us on two threads at one time and 146 at another, and 80 to 85 on one thread at both
    (Zen 4, 2 cores). So every PERIOD calls begin with trials, which may be shorter than other calls; the fastest trial
    of each alternative counts. Results do not depend on the choice.

    Parameters
    ----------
    several, one : callable
        The entry on several threads and on one.
    """

    PERIOD, SEVERAL, TRIALS = 64, 3, 5  # of each PERIOD calls, SEVERAL run on several threads, then trials run on one

    def __init__(self, several, one):
        self.several, self.one = several, one
        self._calls = 0
        self._fastest = {}

    @property
    def tries(self):
        """Whether the next call is a trial."""
        return self._calls % self.PERIOD < self.TRIALS

    def __call__(self, n_batches, *args):
        """Call the entry with ``args``; it does ``n_batches`` steps."""
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
    """Call ``make_worker()(item)`` for every item, on ``n_threads`` Python threads, each with a worker of its own.

    For work that releases the interpreter's lock. The calling thread is one of them, and the only one while another
    Python thread is inside a parallel call. After an error no further item is begun; the error is raised.
    """
    if n_threads == 1:
        work = make_worker()
        for item in items:
            work(item)
        return
    waiting, end = collections.deque(items), object()
    waiting.extend([end] * n_threads)

    def walk():
        work = make_worker()
        while (item := waiting.popleft()) is not end:
            work(item)

    def begin(pool, others):
        with contextlib.suppress(RuntimeError):  # no more threads can be started: the running ones do all
            for _ in range(n_threads - 1):
                others.append(pool.submit(walk))

    token = object()
    try:
        if not _enter(token):
            walk()
            return
        others = []
        with ThreadPoolExecutor(n_threads - 1) as pool:
            try:
                undisturbed(begin, pool, others)  # Python would take a handler's exception there for its own failure
                walk()
            except BaseException:
                waiting.clear()
                raise
        for other in others:
            other.result()
    finally:
        if _inside == {"call": token}:
            del _inside["call"]
