"""Compiling and loading, undisturbed: by one thread at a time, without signal handlers, and never across a fork.

An exception in the middle could leave Numba's tables half filled for good ("Unknown attribute 'dtype' of type array" in
every later compilation), and LLVM's callbacks into Python lose it. A child that is forked in the middle waits for ever
for locks of a thread that it does not have. So handlers run, and forks happen, between two functions. A thread of its
own for compiling would let handlers raise at once, but not every process may start one, and one that is left behind in
LLVM while the process ends would crash it.

Python runs signal handlers in its main thread: when a function begins, when a loop goes round, and after each call; not
inside of a function of C, nor between a ``with`` and the lock that it takes. What follows is written so that a handler
that raises at such a moment leaves no lock taken and no handler replaced.
"""

import _signal  # `signal` wraps its functions in Python, at whose beginning a handler may raise
import collections
import contextlib
import functools
import gc
import mmap
import os
import signal
import threading
import time
from _thread import interrupt_main

import numpy as np

from .private import locks

try:
    import resource
except ImportError:  # Windows
    resource = None

OWN_PATIENCE = 60.0  # seconds that a fork waits for a function that is being compiled
PATIENCE = 2.0  # ... and for each lock of somebody else
LOADING_BYTES = 16 << 20  # address space wanted before a function is loaded
SELDOM = (50_000, 50, 100)  # gc.set_threshold; Python's own are (700, 10, 10) or (2000, 10, 10)

_alone = threading.Lock()  # of the thread that compiles or loads
_queue = threading.Lock()  # of a thread that waits for `_alone` in order to fork: it comes before the next function
_holder = None  # the thread that has `_alone`
_torn = False  # whether this process is a child that was forked while another thread compiled
_thresholds = None  # the garbage collector's, while it collects seldom
_postponed = None  # what has stood in for the signal handlers lately


# ------------------------------------------------------------------------------------------------------ signals


class _Postponed:
    """Stands in for all signal handlers that are written in Python and run in this thread.

    Attributes
    ----------
    handlers : dict
        The handlers by signal; empty where another one stands in already.
    arrived : dict
        Frames by signal. Several signals of a kind count as one, as always in Python.
    active : bool
        Whether signals are noted, else they are passed on.
    """

    def __init__(self):
        self.handlers = {}
        self.arrived = {}
        self.active = False

    def __call__(self, number, frame):
        if self.active:
            self.arrived[number] = frame
        else:
            self.handlers[number](number, frame)

    def begin(self):
        """Stand in for the handlers from now on."""
        global _postponed
        if not in_main_thread() or (_postponed is not None and _postponed.active):
            return
        every = ((number, _signal.getsignal(number)) for number in range(1, signal.NSIG))
        self.handlers = {number: handler for number, handler in every if callable(handler)}
        for number in self.handlers:
            _signal.signal(number, self)
        _postponed = self
        self.active = True

    def call(self, function, *args):
        """Call a function, and no handler until it ends: `deliver` does that."""
        try:
            self.begin()
            return function(*args)
        finally:
            try:
                self.put_back()
            except BaseException:  # a handler that was back has raised before the others were
                self.put_back()
                raise
            finally:
                self.active = False

    def put_back(self):
        """Give the signals their handlers back, each of which may raise as soon as it is back."""
        for number, handler in self.handlers.items():
            if _signal.getsignal(number) is self:
                _signal.signal(number, handler)

    def deliver(self):
        """Call the handlers of what has arrived, each of them even if another one raises."""
        try:
            while self.arrived:
                number = min(self.arrived)
                try:
                    self.handlers[number](number, self.arrived[number])
                finally:
                    del self.arrived[number]
        finally:
            if self.arrived:
                self.deliver()


def in_main_thread():
    """Whether handlers of signals run in the calling thread."""
    return threading.get_ident() == threading.main_thread().ident


def undisturbed(function, *args):
    """Call a function; handlers of signals that arrive meanwhile are called after it."""
    postponed = _Postponed()
    try:
        return postponed.call(function, *args)
    finally:
        postponed.deliver()


# --------------------------------------------------------------------------------------------- one after the other


def require_room(n_bytes):
    """Raise MemoryError unless so much address space can be had: LLVM ends a process that has none left."""
    try:
        mmap.mmap(-1, n_bytes).close()
    except (OSError, MemoryError):
        raise MemoryError(f"no {n_bytes >> 20} MB of address space left to compile or load code") from None


def _limited():
    """Whether this process may not have all the address space that there is."""
    return resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def exclusively(function, *args):
    """Call a function that compiles or loads, while no other thread does, undisturbed by signals and forks.

    Raises
    ------
    RuntimeError
        In a child that was forked while another thread compiled, after waiting for its end in vain.
    """
    global _holder
    if _torn:
        raise RuntimeError(
            "This process was forked while another thread of its parent compiled, so nothing can be compiled or loaded "
            "in it. Fit and predict once before forking, or start processes by 'spawn' or 'forkserver'."
        )
    thread = threading.get_ident()
    if _holder == thread:
        return undisturbed(function, *args)
    postponed = _Postponed()
    try:
        with _queue:
            pass
        with _alone:
            _holder = thread
            try:
                return postponed.call(collecting_seldom()(function), *args)
            finally:
                _holder = None
    finally:  # what a handler waits for may be a thread that wants to compile
        postponed.deliver()


def torn():
    """Whether this process can compile and load nothing, see `exclusively`."""
    return _torn


def one_by_one(steps):
    """Call functions in order, each `exclusively`; handlers of signals run, and forks happen, between two of them."""
    waiting = collections.deque(steps)
    while waiting:
        exclusively(_some_of, waiting)


def _some_of(waiting):
    """Do what waits, up to the moment when a signal has arrived or another thread wants to fork."""
    while waiting:
        if _limited():
            require_room(LOADING_BYTES)
        waiting[0]()
        waiting.popleft()
        if _queue.locked() or (_postponed is not None and _postponed.arrived):
            return


@contextlib.contextmanager
def collecting_seldom():
    """Let Python look for garbage seldom until the block ends: compiling makes millions of objects, and most stay.

    (Looking took 1.4 of the 11 s of the first fit of 784-100-10, Zen 4; it takes .6 so, with 10 MB more.) To be entered
    `undisturbed`.
    """
    global _thresholds
    before, outer = gc.get_threshold(), _thresholds
    _thresholds = before
    if before[0]:  # 0: whoever set it wants none at all
        gc.set_threshold(*map(max, SELDOM, before))
    try:
        yield
    finally:
        gc.set_threshold(*before)
        _thresholds = outer


# -------------------------------------------------------------------------------------------------------- forks


class _Fork:
    """What one thread does around a fork: it takes the locks that a child must not find taken.

    Handlers would run inside of Python's hooks, which lose exceptions: signals that arrive are sent once more.

    Attributes
    ----------
    complete : bool
        Whether all locks are taken without which nothing can be compiled.
    by_main_thread : bool
        Whether it is the thread in which handlers of signals run.
    """

    def __init__(self):
        self.complete, self.by_main_thread = True, in_main_thread()
        self._releases = []
        self._postponed = _Postponed()

    def begin(self):
        """Keep handlers back until the end."""
        try:
            self._postponed.begin()
        except BaseException:
            self._postponed.put_back()
            raise

    def take(self, acquire, release, seconds):
        """Acquire a lock if that takes no longer than so many seconds, and say whether it is acquired."""
        if not (acquire(blocking=False) or acquire(timeout=seconds)):
            return False
        self._releases.append(release)
        return True

    def end(self):
        """Release the locks. Returns the signals that have arrived."""
        for release in reversed(self._releases):
            release()
        self._postponed.put_back()
        self._postponed.active = False
        return sorted(self._postponed.arrived)


_forks = {}  # by thread
_once_more = []  # signals


def _acquire_alone(blocking=True, timeout=0.0):
    """Acquire `_alone` before those who wait for it in order to compile."""
    if not blocking:
        return _alone.acquire(blocking=False)
    end = time.monotonic() + timeout
    if not _queue.acquire(timeout=timeout):
        return False
    try:
        return _alone.acquire(timeout=max(0.0, end - time.monotonic()))
    finally:
        _queue.release()


def _before_fork():
    """Wait until nobody compiles, nor draws from NumPy's global generator, as fits without a ``random_state`` do."""
    thread, fork = threading.get_ident(), _Fork()
    if fork.by_main_thread:
        _once_more.clear()
    fork.begin()
    _forks[thread] = fork
    if _holder != thread:
        fork.complete = fork.take(_acquire_alone, _alone.release, OWN_PATIENCE)
    for lock in locks():  # for what other packages compile
        if not fork.take(lock.acquire, lock.release, PATIENCE):
            fork.complete = False
    lock = getattr(np.random.get_bit_generator(), "lock", None)
    if lock is not None:
        fork.take(lock.acquire, lock.release, PATIENCE)


def _after_fork_in_parent():
    fork = _forks.pop(threading.get_ident(), None)  # None where a handler has raised before anything was done
    _once_more[:] = [] if fork is None else fork.end()  # the last statement: no other thread comes in between


def _after_fork_in_child():
    global _alone, _queue, _holder, _torn, _thresholds
    thread = threading.get_ident()
    fork = _forks.pop(thread, None)
    if fork is not None:
        fork.end()
    _forks.clear()
    _torn = _torn or fork is None or not fork.complete
    _alone, _queue = threading.Lock(), threading.Lock()
    if _postponed is not None and _postponed.active and not (fork and fork.by_main_thread):  # its thread has gone
        _postponed.put_back()
        _postponed.active = False
    if _holder != thread:
        _holder = None
        if _thresholds is not None:
            gc.set_threshold(*_thresholds)
            _thresholds = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
    # A function of C, in which no handler can be called: that happens after the fork.
    os.register_at_fork(after_in_parent=functools.partial(_once_more.sort, key=interrupt_main))
