"""Forked children fit and predict, whatever their parent and its other threads are doing or have done."""

import os

import pytest

from parallel_runs import LAYERS, require, run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKED = """
import multiprocessing


def child(seed):
    same(fitted(seed, 2), expected[seed])
    return seed


expected = [fitted(seed, 1) for seed in range(3)]
same(fitted(0, 2), expected[0])
print(numba.threading_layer(), flush=True)
pid = os.fork()
if not pid:
    try:
        child(1)
        grandchild = os.fork()
        if not grandchild:
            os._exit(child(2))
        assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 2
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(child, range(3)) == [0, 1, 2]
same(fitted(2, 2), expected[2])  # the parent goes on in parallel
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_forked_children_fit_and_predict(layer):
    require(layer)
    assert run(FORKED, NUMBA_THREADING_LAYER=layer) == [layer]


BUSY = """
over, begun = threading.Event(), threading.Event()


def work():
    while not over.is_set():
        MLPClassifier((64,), max_iter=3, n_jobs=2).fit(X, Y).predict_proba(X.astype(np.float64))
        begun.set()


expected = fitted(1, 1)
thread = threading.Thread(target=work)
thread.start()
begun.wait()
statuses = []
for n in range(12):
    pid = os.fork()
    if not pid:
        import signal

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            same(fitted(1, 2), expected)
            MLPClassifier((64,), max_iter=1).fit(X, Y)  # draws from NumPy's generator, as the thread does
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
over.set()
thread.join()
assert statuses == [0] * 12, statuses
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_forks_while_another_thread_trains(layer):
    require(layer)
    assert run(BUSY, NUMBA_THREADING_LAYER=layer) == [layer]


COLD = """
import multiprocessing, signal, time


def fit():
    MLPClassifier((4,), max_iter=1, n_jobs=1).fit(X[:50], Y[:50])


def child():
    signal.alarm(250)  # which ends a child that hangs
    fit()


thread = threading.Thread(target=fit)
thread.start()
processes = []
for _ in range(2):
    time.sleep(float(os.environ["AFTER"]))
    assert thread.is_alive()
    processes.append(multiprocessing.get_context("fork").Process(target=child))
    processes[-1].start()
for process in processes:
    process.join()
thread.join()
print(*(process.exitcode for process in processes))
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", ["0.3", "1.6"])
def test_forks_while_another_thread_compiles(after, tmp_path):
    assert run(COLD, AFTER=after, NUMBA_CACHE_DIR=str(tmp_path)) == ["0", "0"]


FOREIGN = """
numba.set_num_threads(2)  # launches Numba's threads, as other libraries' parallel code does
expected = fitted(0, 1)
pid = os.fork()
if not pid:
    same(fitted(0, 2), expected)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child died"
print("done")
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_fork_after_other_parallel_code(layer):
    require(layer)
    assert run(FOREIGN, NUMBA_THREADING_LAYER=layer) == ["done"]


HELD = """
from fastnn.core.compile import exclusive

exclusive.OWN_PATIENCE = 0.1
expected, over = fitted(1, 1), threading.Event()
thread = threading.Thread(target=exclusive.exclusively, args=(over.wait,))
thread.start()
pid = os.fork()
if not pid:
    status = 1
    try:
        same(fitted(1, 2), expected)  # all of that is loaded
        MLPRegressor(hidden_layer_sizes=3, dtype="float64").fit(X, Y)
    except RuntimeError as error:
        status = 0 if "forked while another thread" in str(error) else 2
    os._exit(status)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
over.set()
thread.join()
"""


def test_a_child_forked_amid_a_long_compilation_runs_what_is_loaded():
    assert run(HELD) == ["0"]
