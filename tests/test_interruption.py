"""Fits that do not end well: Ctrl-C in real processes, divergence, and whatever else fails on the way."""

import builtins
import copy
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.sparse as sp

from fastnn import MLPClassifier, MLPRegressor, evaluation, lbfgs, learning, train

RNG = np.random.RandomState(5)
X = RNG.standard_normal((60, 5)).astype(np.float32)
LABELS = np.array(["a", "b", "c"])[np.argmax(X[:, :3], axis=1)]
VALUES = X[:, 0] - X[:, 1]

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in reduce:RuntimeWarning"),  # scikit-learn sums X
]


# ---- Ctrl-C, sent to a process --------------------------------------------------------------------------------------
LONG_FITS = """
import signal, sys, time, warnings
import numpy as np, scipy.sparse as sp
from fastnn import MLPClassifier, MLPRegressor, learning

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs without it
X = np.tile(np.random.RandomState(0).standard_normal((2000, 50)).astype(np.float32), (100, 1))
Y = X[:, 0] > 0
CASES = {
    "adam": (MLPClassifier, X, {}),
    "sgd": (MLPRegressor, X, {"solver": "sgd", "learning_rate_init": 1e-5}),
    "two threads": (MLPClassifier, X, {"n_jobs": 2}),
    "one batch": (MLPClassifier, X, {"batch_size": 5000}),
    "early stopping": (MLPClassifier, X, {"early_stopping": True, "validation_fraction": 0.01}),
    "sparse": (MLPClassifier, sp.csr_array(np.where(X > 1, X, 0)), {}),
    "lbfgs": (MLPRegressor, X[:20000], {"solver": "lbfgs", "max_iter": 10000}),  # between evaluations, 0.4 s each
}
kind, x, parameters = CASES[sys.argv[1]]
parameters = {"random_state": 0, "n_jobs": 1, **parameters}
parameters["hidden_layer_sizes"] = (500, 500)
first = {**parameters, "max_iter": 1, "batch_size": "auto"}
model = kind(**first).fit(x[:1000], Y[:1000])  # whatever has to be compiled is, for as many threads
model.set_params(**{"max_iter": 3, **parameters})
before = model.coefs_[0].copy()


def telling(training):
    def told(*args, **options):
        print("ready", flush=True)
        return training(*args, **options)

    return told


learning.train, learning.minimize_loss = telling(learning.train), telling(learning.minimize_loss)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        model.fit(x, Y[: x.shape[0]])
    except KeyboardInterrupt:
        print(time.time(), "KeyboardInterrupt", np.array_equal(model.coefs_[0], before))
    else:
        told = [str(warning.message) for warning in caught] == ["Training interrupted by user."]
        print(time.time(), told, model.predict(x[:9]).shape == (9,) and model.coefs_[0].shape == (50, 500))
"""

KEPT = ["True", "True"]
REFUSED = ["KeyboardInterrupt", "True"]  # as in scikit-learn: L-BFGS has no epochs to keep


def interrupted(code, *arguments, after, **environment):
    """What a process prints that gets SIGINT so many seconds after it has said "ready", and when that was sent."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "2", **environment},
    )
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        sent = time.time()
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return output, sent


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process")
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("adam", KEPT),
        ("sgd", KEPT),
        ("two threads", KEPT),
        ("one batch", KEPT),
        ("early stopping", KEPT),
        ("sparse", KEPT),
        ("lbfgs", REFUSED),
    ],
)
def test_ctrl_c_ends_a_long_epoch_within_a_second(case, expected):
    output, sent = interrupted(LONG_FITS, case, after=0.7)
    ended, *found = output.split()
    assert found == expected
    assert 0 < float(ended) - sent < 1


COMPILING = """
import signal, warnings
import numpy as np
from fastnn import MLPClassifier

signal.signal(signal.SIGINT, signal.default_int_handler)
warnings.simplefilter("ignore")
X = np.random.RandomState(0).standard_normal((60, 5))
print("ready", flush=True)
try:
    MLPClassifier((4,), max_iter=3, random_state=0).fit(X, X[:, 0] > 0)
except KeyboardInterrupt:
    pass
model = MLPClassifier((4,), max_iter=3, random_state=0).fit(X, X[:, 0] > 0)
print(model.n_iter_, model.predict_proba(X).sum(), np.abs(model.coefs_[0]).sum())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process")
@pytest.mark.parametrize("after", [0.1, 0.9, 2.2, 3.7])
def test_ctrl_c_while_compiling_does_no_harm(after, tmp_path):
    x = np.random.RandomState(0).standard_normal((60, 5))
    model = MLPClassifier((4,), max_iter=3, random_state=0).fit(x, x[:, 0] > 0)
    output, _ = interrupted(COMPILING, after=after, NUMBA_CACHE_DIR=str(tmp_path))
    expected = [model.n_iter_, model.predict_proba(x).sum(), np.abs(model.coefs_[0]).sum()]
    assert output.split() == [str(value) for value in expected]


ALARMS = """
import random, signal, warnings
import numpy as np
from fastnn import MLPClassifier

warnings.simplefilter("ignore")
X = np.random.RandomState(0).standard_normal((60, 5))
rnd, handled, caught = random.Random(0), 0, 0


def handler(number, frame):
    global handled
    handled += 1
    raise TimeoutError("late")  # an OSError, such as caches are ready for


signal.signal(signal.SIGALRM, handler)
print("ready", flush=True)
while True:
    try:
        signal.setitimer(signal.ITIMER_REAL, rnd.expovariate(5))
        model = MLPClassifier((4,), max_iter=3, random_state=0).fit(X, X[:, 0] > 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        break
    except TimeoutError:
        caught += 1
    assert handled == caught and signal.getsignal(signal.SIGALRM) is handler
assert handled == caught > 5
print(model.n_iter_, model.predict_proba(X).sum(), np.abs(model.coefs_[0]).sum())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
def test_what_handlers_raise_while_compiling_arrives(tmp_path):
    x = np.random.RandomState(0).standard_normal((60, 5))
    model = MLPClassifier((4,), max_iter=3, random_state=0).fit(x, x[:, 0] > 0)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ALARMS], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr
    expected = [model.n_iter_, model.predict_proba(x).sum(), np.abs(model.coefs_[0]).sum()]
    assert done.stdout.split()[1:] == [str(value) for value in expected]


# ---- divergence -----------------------------------------------------------------------------------------------------
WILD = {"solver": "sgd", "learning_rate_init": 1e5, "activation": "identity", "n_iter_no_change": 10**6, "tol": 0}
DIVERGING = {
    "values": (MLPRegressor, X, VALUES, WILD),
    "momentum off": (MLPRegressor, X, VALUES, {**WILD, "momentum": 0}),
    "adaptive": (MLPRegressor, X, VALUES, {**WILD, "learning_rate": "adaptive"}),
    "two outputs": (MLPRegressor, X, X[:, :2], WILD),
    "sparse": (MLPRegressor, sp.csr_array(X), VALUES, WILD),
    "double": (MLPRegressor, X, VALUES, {**WILD, "dtype": "float64"}),
    "poisson": (MLPRegressor, X, np.exp(VALUES), {**WILD, "loss": "poisson"}),
    "adam": (MLPRegressor, X, VALUES, {**WILD, "solver": "adam", "learning_rate_init": 1e30}),
    "classes": (MLPClassifier, X, LABELS, {**WILD, "learning_rate_init": 1e30}),
    "early stopping": (MLPRegressor, X, VALUES, {**WILD, "learning_rate_init": 1e30, "early_stopping": True}),
}


@pytest.mark.parametrize("case", DIVERGING)
def test_divergence_ends_at_once_and_says_when(case):
    kind, x, y, parameters = DIVERGING[case]
    with pytest.raises(ValueError, match=r"^Solver produced non-finite parameter weights.*The loss was") as caught:
        kind(hidden_layer_sizes=(6, 4), max_iter=10**6, random_state=0, **parameters).fit(x, y)
    assert int(re.search(r"in epoch (\d+)\.$", str(caught.value))[1]) < 60


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lbfgs_that_overflows_is_told(dtype):
    huge = np.full(60, np.finfo(np.float64).max / 2)  # L-BFGS computes in float64
    with pytest.raises(ValueError, match=r"^Solver produced non-finite parameter weights.*The loss was (inf|nan)\.$"):
        MLPRegressor(hidden_layer_sizes=3, solver="lbfgs", random_state=0, dtype=dtype).fit(X, huge)


# ---- a fit that fails leaves the estimator as it was ----------------------------------------------------------------
def out_of_memory(*args, **options):
    raise MemoryError("no room")


def closed_pipe(*args, **options):
    raise BrokenPipeError("nobody reads")


def control_c(*args, **options):
    raise KeyboardInterrupt


def third_epoch_fails(error):
    real = learning.train

    def loop(*args, **options):
        for epoch, record in enumerate(real(*args, **options), 1):
            if epoch == 3:
                raise error
            yield record

    return loop


class Clumsy:
    """A list that cannot be read to its end."""

    def __len__(self):
        return 60

    def __getitem__(self, index):
        raise RuntimeError("cannot be read")


SPOILED = np.where(np.arange(60)[:, None] == 7, np.nan, X)
# cause: parameters, what replaces X, y or sample_weight, what is patched, the error
CAUSES = {
    "NaN in X": ({}, {"X": SPOILED}, None, ValueError),
    "3-D X": ({}, {"X": X[:, :, None]}, None, ValueError),
    "text in X": ({}, {"X": X.astype(str).astype(object) + "?"}, None, ValueError),
    "complex X": ({}, {"X": X + 1j}, None, ValueError),
    "no rows": ({}, {"X": X[:0], "y": []}, None, ValueError),
    "other columns": ({}, {"X": X[:, :3]}, None, ValueError),
    "unreadable X": ({}, {"X": Clumsy()}, None, (RuntimeError, TypeError, ValueError)),
    "short y": ({}, {"y": [1, 2, 3]}, None, ValueError),
    "NaN in y": ({}, {"y": SPOILED[:, 0]}, None, ValueError),
    "3-D y": ({}, {"y": X[:, :, None]}, None, ValueError),
    "NaN weight": ({}, {"sample_weight": SPOILED[:, 0]}, None, ValueError),
    "zero weight": ({}, {"sample_weight": np.zeros(60)}, None, ValueError),
    "layers": ({"hidden_layer_sizes": (3, 0)}, {}, None, ValueError),
    "random_state": ({"random_state": "seven"}, {}, None, ValueError),
    "n_jobs": ({"n_jobs": "all"}, {}, None, ValueError),
    "divergence": ({}, {"X": X * np.float32(8e37)}, None, ValueError),
    "no memory for the state": ({}, {}, (learning, "new_state", out_of_memory), MemoryError),
    "no memory for the buffers": ({}, {}, (train, "make_buffers", out_of_memory), MemoryError),
    "closed standard output": ({"verbose": True}, {}, (builtins, "print", closed_pipe), BrokenPipeError),
}
IN_FIT_ONLY = {
    "parameter": ({"alpha": -1}, {}, None, ValueError),  # scikit-learn checks none when partial_fit goes on
    "wild steps": ({"learning_rate_init": 1e38}, {}, None, ValueError),
    "small validation set": ({"early_stopping": True, "validation_fraction": 0.01}, {}, None, ValueError),
    "no memory for the scores": ({"early_stopping": True}, {}, (evaluation, "forward", out_of_memory), MemoryError),
    "no memory in mid-training": ({}, {}, (learning, "train", third_epoch_fails(MemoryError())), MemoryError),
    "no memory for lbfgs": ({"solver": "lbfgs"}, {}, (lbfgs, "FullBatch", out_of_memory), MemoryError),
    "Ctrl-C in lbfgs": ({"solver": "lbfgs"}, {}, (lbfgs, "minimize", control_c), KeyboardInterrupt),
}
NEED_KNOWN_COLUMNS = {"other columns"}  # a fresh fit takes them
KNOWN_TO_FAIL = [
    (way, cause)
    for way in ("fit", "warm fit", "partial_fit")
    for cause in (*CAUSES, *IN_FIT_ONLY)
    if (way != "fit" or cause not in NEED_KNOWN_COLUMNS) and (way != "partial_fit" or cause not in IN_FIT_ONLY)
]


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(("way", "cause"), KNOWN_TO_FAIL)
def test_a_failing_fit_changes_nothing(kind, way, cause, monkeypatch):
    parameters, given, patch, error = {**CAUSES, **IN_FIT_ONLY}[cause]
    data = {"X": X, "y": LABELS if kind is MLPClassifier else VALUES, "sample_weight": None}
    first = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": 0, "solver": "sgd", "activation": "identity"}
    model = kind(**first, warm_start=way == "warm fit").fit(**data)
    expected = copy.deepcopy(model).fit(**data).predict(X)
    model.set_params(**parameters)
    before = pickle.dumps(model)
    with monkeypatch.context() as patched:
        if patch:
            patched.setattr(*patch)
        with pytest.raises(error):
            (model.partial_fit if way == "partial_fit" else model.fit)(**{**data, **given})
    assert pickle.dumps(model) == before
    model.set_params(**{name: getattr(kind(), name) for name in parameters}).set_params(**first)
    np.testing.assert_array_equal(model.fit(**data).predict(X), expected)


def test_a_first_fit_that_fails_leaves_the_estimator_unfitted():
    model = MLPClassifier(max_iter=3)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(SPOILED, LABELS)
    assert vars(model) == before
