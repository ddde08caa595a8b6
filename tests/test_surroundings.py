"""Processes without threads, a threading layer, a compiler or memory: they get results, or a clear error."""

import os
import sys

import numpy as np
import pytest
from numba import config

from processes import ROOT, run

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="starts processes of its own")

# `found` is what fits and predictions on so many threads come to.
DATA = """
import scipy.sparse as sp
from fastnn import MLPClassifier, MLPRegressor, infer, threads

threads.CROSSOVER_FLOPS = 1  # everything is worth a second thread
infer.AT_ONCE_BYTES, infer.CONVERTED_BYTES = 0, 1  # ... and is converted by several
X = np.random.RandomState(0).standard_normal((200, 30)).astype(np.float32)
Y = np.argmax(X[:, :3], axis=1)


def found(n_jobs):
    values = []
    for x in (X, sp.csr_array(np.where(X > 1, X, 0))):
        model = MLPClassifier((12,), max_iter=3, random_state=0, n_jobs=n_jobs).fit(x, Y)
        values += [*model.coefs_, model.predict_proba(x), model.predict_proba(x.astype(np.float64))]
    model = MLPRegressor(hidden_layer_sizes=12, max_iter=3, random_state=0, n_jobs=n_jobs, solver="lbfgs").fit(X, Y)
    return [*values, *model.coefs_, model.predict(X)]


def same(one, other):
    return all(map(np.array_equal, one, other))


"""


def told(out):
    """What the process was warned of, beside iterations that have ended."""
    return [text for category, text in out["warnings"] if category != "ConvergenceWarning"]


# ---- threads ---------------------------------------------------------------------------------------------------------
WITHOUT_LAYER = """
for name in ("tbbpool", "omppool"):
    sys.modules[f"numba.np.ufunc.{name}"] = None  # as if they had not been installed
out["same"] = same(found(2), found(1)) and same(found(2), found(1))
"""


@pytest.mark.parametrize("layer", ["tbb", "threadsafe", "no such layer"])
def test_a_threading_layer_that_is_missing(layer):
    out = run(ROOT, "", DATA + WITHOUT_LAYER, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    assert out["same"]
    (message,) = told(out)
    assert message.startswith("fastnn runs on one thread, as others cannot be had: ")
    assert "layer" in message


NO_THREADS = """
import resource

expected = found(1)
if os.geteuid() == 0:
    os.setuid(65534)  # the limit is not root's
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    out["limited"] = True
else:
    out["limited"] = False
out["same"] = same(found(4), expected) and same(found(4), expected)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count threads otherwise")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_a_process_that_may_start_no_thread(layer, tmp_path):
    out = run(ROOT, "", DATA + NO_THREADS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="4")
    if not out["limited"]:
        pytest.skip("this system lets threads start all the same")
    assert out["same"]
    first, *others = told(out)
    assert first.startswith("fastnn runs on one thread, as others cannot be had: can't start new thread")
    assert not any("one thread" in message for message in others)


ALONE = "out['same'] = same(found(2), found(1))"


def test_one_thread_of_openmp_is_as_good():
    out = run(ROOT, "", DATA + ALONE, OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1", NUMBA_NUM_THREADS="2")
    assert out["same"] and told(out) == []


# ---- the compiler ----------------------------------------------------------------------------------------------------
FITS = """
import scipy.sparse as sp
from fastnn import MLPClassifier, MLPRegressor

np.seterr(all="raise")
X = np.random.RandomState(0).standard_normal((33, 9))
CSR, LABELS = sp.csr_array(np.where(X > 0.5, X, 0)), np.argmax(X[:, :3], axis=1)
for name, (classifies, x, parameters) in {
    "adam": (True, X, dict(hidden_layer_sizes=8, batch_size=10)),
    "sgd": (False, X, dict(hidden_layer_sizes=(5, 13), solver="sgd", activation="tanh")),
    "float64": (False, X, dict(hidden_layer_sizes=30, dtype="float64", activation="logistic")),
    "sparse": (True, CSR, dict(hidden_layer_sizes=17, batch_size=10, n_jobs=2)),
    "lbfgs, float64": (True, X, dict(hidden_layer_sizes=4, solver="lbfgs", dtype="float64")),
    "no hidden layer": (True, X, dict(hidden_layer_sizes=())),
    "early stopping": (False, X, dict(hidden_layer_sizes=3, early_stopping=True)),
}.items():
    kind = MLPClassifier if classifies else MLPRegressor
    model = kind(max_iter=3, random_state=0, **parameters).fit(x, LABELS if classifies else X[:, 0])
    answer = model.predict_proba(x) if classifies else model.predict(x)
    values = np.concatenate([*map(np.ravel, model.coefs_), answer.ravel(), [model.loss_, model.n_iter_]])
    out[name] = values.tolist()
"""


def test_numba_disable_jit_runs_as_plain_python():
    compiled, plain = run(ROOT, "", FITS), run(ROOT, "", FITS, NUMBA_DISABLE_JIT="1")
    new = set(told(plain)) - set(told(compiled))
    assert new == {"NUMBA_DISABLE_JIT is set: fastnn runs as plain Python, thousands of times slower."}
    assert len(told(plain)) == len(told(compiled)) + 1
    for name in compiled.keys() - {"warnings", "compiled"}:
        tolerance = 1e-9 if "float64" in name else 2e-5
        np.testing.assert_allclose(plain[name], compiled[name], rtol=tolerance, atol=tolerance, err_msg=name)


# ---- memory ----------------------------------------------------------------------------------------------------------
LIMITED = """
import pickle, resource


def size():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def ends(megabytes, first):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 90
    try:
        model = first if first is not None else MLPClassifier((40,), max_iter=2, random_state=0, n_jobs=1)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        state = pickle.dumps(model)
        resource.setrlimit(resource.RLIMIT_AS, (size() + (megabytes << 20), hard))
        try:
            model.fit(X, Y)
            status = 0
        except MemoryError:
            status = 1 if pickle.dumps(model) == state else 91
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        model.fit(X[:200], Y[:200])
        if not np.array_equal(model.coefs_[0], np.array(expected)):
            status = 92
    finally:
        os._exit(status)


X, Y = np.tile(X, (4000, 1)), np.tile(Y, 4000)
r, w = os.pipe()
pid = os.fork()
if not pid:
    coef = MLPClassifier((40,), max_iter=2, random_state=0, n_jobs=1).fit(X[:200], Y[:200]).coefs_[0]
    os.write(w, json.dumps(coef.tolist()).encode())
    os._exit(0)
os.waitpid(pid, 0)
os.close(w)
with os.fdopen(r) as pipe:
    expected = json.loads(pipe.read())
X = X.astype(np.float64)  # a fit takes a copy of 96 MB
out["cold"] = [ends(megabytes, None) for megabytes in (0, 2, 8, 20, 40, 90, 400)]
first = MLPClassifier((40,), max_iter=2, random_state=0, n_jobs=1).fit(X[:300], Y[:300])
out["fitted"] = [ends(megabytes, first) for megabytes in (0, 2, 8, 20, 40, 90, 400)]
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_a_limit_of_memory_ends_in_a_result_or_a_memory_error():
    """0: a result, 1: MemoryError and an estimator as before; afterwards, without the limit, the right result."""
    out = run(ROOT, "", DATA + LIMITED)
    for statuses in (out["cold"], out["fitted"]):
        assert set(statuses) == {0, 1} and statuses[0] == 1 and statuses[-1] == 0
