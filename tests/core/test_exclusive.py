"""What runs while code is compiled: no signal handler, no other compilation, no fork; and nothing is left behind."""

import os
import signal
import threading
import time

import pytest
from numba.core.compiler_lock import global_compiler_lock

from fastnn.core.compile import exclusive
from fastnn.core.compile.exclusive import exclusively, one_by_one, require_room, undisturbed

pytestmark = pytest.mark.nojit

posix = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no signals to spare")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Late(Exception):
    """What a handler raises."""


@pytest.fixture
def handlers():
    """Two signals whose handlers note it and raise."""
    handled = []

    def handler(number, frame):
        handled.append(number)
        raise Late(number)

    earlier = {number: signal.signal(number, handler) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield handled, handler
    for number, function in earlier.items():
        signal.signal(number, function)


def untouched(handler):
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)] == [handler] * 2
    assert exclusive._holder is None
    assert not exclusive._alone.locked() and not exclusive._queue.locked()


@posix
@pytest.mark.parametrize("how", [undisturbed, exclusively])
def test_handlers_run_after_what_they_would_disturb(how, handlers):
    handled, handler = handlers
    done = []

    def work():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert handled == []
        how(signal.raise_signal, signal.SIGUSR1)  # within another one
        done.append(True)

    with pytest.raises(Late):
        how(work)
    assert done == [True]
    assert handled == [signal.SIGUSR1]
    untouched(handler)
    assert how(divmod, 7, 2) == (3, 1)


@posix
def test_every_signals_handler_runs(handlers):
    handled, handler = handlers
    with pytest.raises(Late) as caught:
        undisturbed(lambda: [signal.raise_signal(number) for number in (signal.SIGUSR2, signal.SIGUSR1)])
    assert handled == sorted([signal.SIGUSR1, signal.SIGUSR2])
    assert caught.value.__context__.args == (signal.SIGUSR1,)
    untouched(handler)


@posix
def test_an_error_and_a_handlers_exception_both_arrive(handlers):
    _, handler = handlers

    def work():
        signal.raise_signal(signal.SIGUSR1)
        raise KeyError("of its own")

    with pytest.raises(Late) as caught:
        exclusively(work)
    assert isinstance(caught.value.__context__, KeyError)
    untouched(handler)


@posix
def test_other_threads_have_no_handlers_to_keep_back(handlers):
    _, handler = handlers
    found = []
    thread = threading.Thread(target=undisturbed, args=(lambda: found.append(signal.getsignal(signal.SIGUSR1)),))
    thread.start()
    thread.join()
    assert found == [handler]


@posix
def test_handlers_run_between_two_steps(handlers):
    handled, handler = handlers
    done = []

    def step():
        done.append(len(handled))
        signal.raise_signal(signal.SIGUSR1)

    with pytest.raises(Late):
        one_by_one([step, step, step])
    assert done == [0]
    untouched(handler)


@posix
def test_a_handler_may_compile():
    done = []
    earlier = signal.signal(signal.SIGUSR1, lambda number, frame: one_by_one([lambda: done.append("handler's")]))
    try:
        one_by_one([lambda: signal.raise_signal(signal.SIGUSR1), lambda: done.append("own")])
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    assert done == ["handler's", "own"]


@posix
def test_a_handler_may_wait_for_a_thread_that_compiles():
    done = []
    thread = threading.Thread(target=exclusively, args=(lambda: done.append(True),))

    def handler(number, frame):
        thread.start()
        thread.join(10)
        done.append(thread.is_alive())

    earlier = signal.signal(signal.SIGUSR1, handler)
    try:
        exclusively(signal.raise_signal, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    assert done == [True, False]


def test_one_thread_at_a_time():
    inside, most = [], []

    def work():
        inside.append(None)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()

    everyone = [threading.Thread(target=one_by_one, args=([work] * 3,)) for _ in range(4)]
    [thread.start() for thread in everyone]
    [thread.join() for thread in everyone]
    assert most == [1] * 12


def test_no_room_is_a_memory_error():
    require_room(1 << 20)
    with pytest.raises(MemoryError, match="address space"):
        require_room(1 << 60)


# ---- forks -----------------------------------------------------------------------------------------------------------
def forked(child):
    """Exit status of a child that does this; it is ended after ten seconds."""
    pid = os.fork()
    if not pid:
        status = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            status = child()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def busy(seconds, steps=1):
    """A thread that does one thing after another exclusively, at work."""
    begun = threading.Event()

    def step():
        begun.set()
        time.sleep(seconds)

    thread = threading.Thread(target=one_by_one, args=([step] * steps,))
    thread.start()
    begun.wait()
    return thread


@forks
def test_a_fork_waits_for_the_end_of_one_step():
    thread = busy(0.2, steps=20)
    start = time.perf_counter()
    assert forked(lambda: exclusively(lambda: 17)) == 17
    assert time.perf_counter() - start < 3
    assert thread.is_alive()
    thread.join()
    assert exclusively(lambda: 17) == 17


@forks
def test_a_fork_by_who_compiles_does_not_wait():
    assert exclusively(lambda: forked(lambda: exclusively(lambda: 17))) == 17
    assert exclusive._holder is None and not exclusive._alone.locked()


@forks
@pytest.mark.parametrize("whose", ["own", "Numba's"])
def test_a_child_that_cannot_compile_says_so_at_once(whose, monkeypatch):
    monkeypatch.setattr(exclusive, "OWN_PATIENCE", 0.05)
    monkeypatch.setattr(exclusive, "PATIENCE", 0.05)

    def child():
        try:
            exclusively(lambda: 17)
        except RuntimeError as error:
            return 0 if "forked while another thread" in str(error) else 1
        return 2

    over = threading.Event()
    work = over.wait
    if whose == "Numba's":
        begun = threading.Event()

        def work():
            with global_compiler_lock:
                begun.set()
                over.wait()

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
    else:
        thread = threading.Thread(target=exclusively, args=(work,))
        thread.start()
        while not exclusive._alone.locked():
            time.sleep(0.001)
    try:
        assert forked(child) == 0
    finally:
        over.set()
        thread.join()
    assert exclusively(lambda: 17) == 17


# From Python 3.12 on Python warns of forks beside threads, and loses what a handler raises while it shows that.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@forks
def test_signals_arrive_after_a_fork_that_has_waited(handlers):
    handled, handler = handlers
    main, thread = threading.main_thread().ident, busy(0.3)
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    with pytest.raises(Late):
        assert forked(lambda: 0 if signal.getsignal(signal.SIGUSR1) is handler else 1) == 0
        time.sleep(1)
    assert handled == [signal.SIGUSR1]
    thread.join()
    untouched(handler)


@forks
def test_many_threads_may_fork_and_compile_at_once():
    failures = []

    def work(compiles):
        for _ in range(5):
            if compiles:
                one_by_one([lambda: time.sleep(0.002)] * 5)
            elif forked(lambda: exclusively(lambda: 17)) != 17:
                failures.append(None)

    everyone = [threading.Thread(target=work, args=(n % 2,)) for n in range(6)]
    [thread.start() for thread in everyone]
    [thread.join() for thread in everyone]
    assert not failures
    assert not exclusive._forks
