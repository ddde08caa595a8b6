"""Threads and processes: what n_jobs means, and that fits stay right and alive wherever other libraries put them."""

import os
import threading
import time

import joblib
import numba
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from fastnn import MLPClassifier, MLPRegressor, threads
from parallel_runs import LAYERS, require, run

RNG = np.random.RandomState(0)
X = RNG.standard_normal((90, 6)).astype(np.float32)
Y = np.argmax(X[:, :3], axis=1)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---- what n_jobs means ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("n_jobs", "expected"),
    [(None, 3), (1, 1), (2, 2), (4, 4), (99, 4), (-1, 3), (-2, 2), (-3, 1), (-99, 1), (np.int64(2), 2)],
)
def test_n_jobs_counts_processors_and_stays_in_numbas_pool(n_jobs, expected, monkeypatch):
    monkeypatch.setattr(threads, "_grant", None)
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert threads.resolve_n_jobs(n_jobs) == expected


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all", "2", [2], float("nan")])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_other_n_jobs_are_refused_by_name(kind, n_jobs):
    with pytest.raises(ValueError, match="n_jobs"):
        kind(hidden_layer_sizes=3, n_jobs=n_jobs).fit(X, Y)
    fitted = kind(hidden_layer_sizes=3, max_iter=2).fit(X, Y).set_params(n_jobs=n_jobs)
    with pytest.raises(ValueError, match="n_jobs"):
        fitted.predict(X)


@pytest.mark.parametrize(
    ("work", "limit", "expected"),
    [(0.99, 16, 1), (1, 16, 2), (1.6, 16, 3), (7.9, 16, 15), (8, 16, 16), (500, 16, 16), (1, 2, 2), (500, 1, 1)],
)
def test_every_thread_has_its_share_of_work(work, limit, expected):
    """``work`` in units of what two threads are worth, which is less where threads stay in one loop."""
    assert threads.threads_for(work * threads.CROSSOVER_FLOPS, limit) == expected
    assert threads.threads_for(work * threads.CROSSOVER_FLOPS * threads.STEP, limit, parts=1) == expected


# ---- parallel work in processes of its own --------------------------------------------------------------------------
AT_ONCE = """
expected = [fitted(seed, 1) for seed in range(6)]
start, failures = threading.Barrier(6), []


def work(seed):
    try:
        start.wait()
        for _ in range(5):
            same(fitted(seed, 2), expected[seed])
    except BaseException as error:
        failures.append(error)
        raise


everyone = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
[thread.start() for thread in everyone]
[thread.join() for thread in everyone]
assert not failures
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_several_python_threads_fit_at_once(layer):
    require(layer)
    assert run(AT_ONCE, NUMBA_THREADING_LAYER=layer) == [layer]


AT_FIRST = """
start, found = threading.Barrier(4), {}


def work(seed):
    start.wait()
    found[seed] = fitted(seed, 2)


everyone = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
[thread.start() for thread in everyone]
[thread.join() for thread in everyone]
for seed in range(4):
    same(found[seed], fitted(seed, 1))
print(numba.threading_layer())
"""


@pytest.mark.slow
def test_several_python_threads_compile_at_once(tmp_path):
    assert run(AT_FIRST, NUMBA_THREADING_LAYER="workqueue", NUMBA_CACHE_DIR=str(tmp_path)) == ["workqueue"]


LIMITED = """
expected = fitted(0, 1)
for n_jobs in (None, 1, 2, -1, -2):
    same(fitted(0, n_jobs), expected)
try:
    print(numba.threading_layer())
except ValueError:
    print(threads.resolve_n_jobs(2))
"""


def test_numba_num_threads_1_runs_serially():
    assert run(LIMITED, NUMBA_NUM_THREADS="1") == ["1"]


RESTORED = """
numba.set_num_threads(1)
fitted(0, 2)
assert numba.get_num_threads() == 1
v = X[:, 0].astype(float)
for parameters, y in ((dict(learning_rate_init=1e30, solver="sgd"), v), (dict(solver="lbfgs"), v * 1e300)):
    try:
        MLPRegressor(hidden_layer_sizes=64, n_jobs=2, **parameters).fit(X, y)
    except ValueError as error:
        assert "Solver produced non-finite" in str(error)
    else:
        raise AssertionError(f"{parameters} should diverge")
    assert numba.get_num_threads() == 1 and not threads._inside


def out_of_memory():
    raise MemoryError


try:
    threads._run(print, out_of_memory, 2)
except MemoryError:
    assert numba.get_num_threads() == 1 and not threads._inside
    print("done")
"""


def test_numbas_thread_count_is_put_back():
    assert run(RESTORED) == ["done"]


LEAKS = """
import gc


def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fit(i):
    parameters = dict(max_iter=2, random_state=i, solver=("adam", "sgd", "lbfgs")[i % 3], n_jobs=1 + (i % 20 == 0))
    x = CSR[:60] if i % 4 == 3 else X[:60]
    MLPClassifier((4,), early_stopping=i % 5 == 0, **parameters).fit(x, Y[:60]).predict(x)


for i in range(200):
    fit(i)
before = resident(), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
for i in range(1000):
    fit(i)
after = resident(), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
assert before[1:] == after[1:], (before, after)
print((after[0] - before[0]) // 1024)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_a_thousand_fits_leave_nothing_behind():
    (grown_kib,) = run(LEAKS)
    assert int(grown_kib) < 4096  # one forgotten set of buffers a fit would be 20 KiB * 1,000


# ---- work shared among Python threads --------------------------------------------------------------------------------
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_shared_work_is_done_once_each(n_threads):
    done, workers = [], []

    def make():
        workers.append(threading.get_ident())
        return done.append

    threads.share(make, range(100), n_threads)
    assert sorted(done) == list(range(100))
    assert len(workers) == n_threads
    assert not threads._inside


@pytest.mark.parametrize("main", [True, False])
def test_shared_work_raises_an_error_of_any_thread(main):
    done = []

    def work(item):
        if (threading.current_thread() is threading.main_thread()) == main:
            raise KeyError(item)
        time.sleep(0.001)
        done.append(item)

    with pytest.raises(KeyError):
        threads.share(lambda: work, range(300), 2)
    assert len(done) < 300
    assert not threads._inside


@pytest.mark.parametrize("n_started", [0, 1])
def test_shared_work_is_done_by_the_threads_that_start(n_started, monkeypatch):
    real, started, done = threads.ThreadPoolExecutor.submit, [], []

    def submit(pool, work):
        if len(started) == n_started:
            raise RuntimeError("can't start new thread")
        started.append(None)
        return real(pool, work)

    monkeypatch.setattr(threads.ThreadPoolExecutor, "submit", submit)
    threads.share(lambda: done.append, range(100), 4)
    assert sorted(done) == list(range(100))
    assert not threads._inside


def test_shared_work_stays_on_this_thread_inside_parallel_work():
    workers = []

    def make():
        workers.append(threading.get_ident())
        return lambda item: None

    token = object()
    assert threads._enter(token)
    try:
        threads.share(make, range(10), 4)
    finally:
        threads._inside.clear()
    assert workers == [threading.get_ident()]


# ---- inside joblib --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_grid_search_on_every_backend(backend):
    grid = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(4,), (40, 30)]}
    estimator = MLPClassifier(max_iter=5, random_state=0)
    expected = GridSearchCV(estimator, grid, cv=2).fit(X, Y)
    with joblib.parallel_config(backend):
        found = GridSearchCV(estimator, grid, cv=2, n_jobs=2).fit(X, Y)
    assert found.best_params_ == expected.best_params_
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))


def test_joblibs_limits_hold_in_its_workers(monkeypatch):
    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        monkeypatch.delenv(name)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = joblib.Parallel()(joblib.delayed(threads.resolve_n_jobs)(n) for n in (None, 2, 99, -1, -2))
    assert found == [1] * 5


def test_a_fit_leaves_this_process_as_it_was():
    before = numba.get_num_threads()
    MLPClassifier((64,), max_iter=2, n_jobs=-1).fit(np.tile(X, (5, 20)), np.tile(Y, 5))
    assert numba.get_num_threads() == before


def test_the_faster_way_of_a_trial_is_taken(monkeypatch):
    """Three calls go to several threads, two to one, the rest of a period to the faster; then all begins anew."""
    clock = [0.0]
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock[0])
    ways = []

    def way(name, seconds):
        def call(payload):
            ways.append(name)
            clock[0] += seconds[name] * payload
            return payload

        return call

    seconds = {"several": 2.0, "one": 1.0}
    run = threads.ThreadCountTuner(way("several", seconds), way("one", seconds))
    period = threads.ThreadCountTuner.PERIOD
    assert [run(n, n) for n in (1, 2, 3)] == [1, 2, 3]
    tries = []
    for _ in range(period - 3):
        tries.append(run.tries)
        run(4, 4)
    assert run.tries and tries == [True] * 2 + [False] * (period - 5)
    assert ways == ["several"] * 3 + ["one"] * (period - 3)
    seconds["several"] = 0.5
    ways.clear()
    for _ in range(period):
        run(7, 7)
    assert ways == ["several"] * 3 + ["one"] * 2 + ["several"] * (period - 5)
