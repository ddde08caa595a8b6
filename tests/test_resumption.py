"""A fit that has been stopped goes on exactly where it was: after Ctrl-C, a budget or a callback, from a pickle in
another process, and from the file of a process that was killed."""

import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_digits

from fastnn import Checkpoint, MLPClassifier, MLPRegressor, checkpoint, train
from fastnn.stopping import Budget

RNG = np.random.RandomState(8)
X = RNG.standard_normal((90, 6))
CLASSES = 1 * (X[:, 0] * X[:, 1] > 0) + (X[:, 2] > 1)
CSR = sp.csr_array(np.where(X > 0, X, 0))
SETTINGS = {"hidden_layer_sizes": (8,), "max_iter": 14, "random_state": 3, "n_jobs": 1, "batch_size": 20}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Training interrupted by user"),
]

OPTIONS = {
    "adam": {},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "rmsprop": {"solver": "rmsprop", "alpha": 0.01},
    "schedulefree": {"solver": "schedulefree", "warmup": 2},
    "onecycle": {"learning_rate": "onecycle", "solver": "nadam", "max_grad_norm": 0.5},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3, "learning_rate_init": 0.02},
    "best, metrics": {"early_stopping": True, "restore_best": True, "metrics": ["accuracy"], "scoring": "loss"},
    "dropout": {"dropout": [0, 0.4]},
    "averages": {"ema_decay": 0.9, "dropout": 0.2},
    "best averages": {"ema_decay": 0.8, "early_stopping": True, "n_iter_no_change": 3, "learning_rate_init": 0.02},
    "one batch": {"batch_size": 90},
    "no shuffle": {"shuffle": False, "random_state": None, "init": "he_normal"},
    "no hidden layer": {"hidden_layer_sizes": (), "class_weight": "balanced"},
}


def made(**options):
    return MLPClassifier(**{**SETTINGS, **options})


def found(model):
    """All that a fit says, but times."""
    state = {name: value for name, value in vars(model).items() if name.endswith("_") and name != "_label_binarizer"}
    state["history_"] = {name: values for name, values in model.history_.items() if name != "seconds"}
    state["optimizer"] = {name: repr(value) for name, value in model._optimizer.to_dict().items() if name != "settings"}
    for name in ("coefs_", "intercepts_"):
        state[name] = [array.tobytes().hex() for array in state[name]]
    return {name: repr(value) for name, value in state.items()}


class Stop:
    """A callback that stops after so many epochs, and keeps pickles."""

    def __init__(self, at):
        self.at, self.pickles = at, []

    def setup(self, estimator, context):
        pass

    on_fit_task_begin = teardown = setup

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.parent is not None:
            fitted_estimator.__dict__.pop("_skl_callbacks")
            self.pickles.append(pickle.dumps(fitted_estimator))
        return context.parent is not None and context.task_id + 1 == self.at


GO_ON = """
import json, pickle, sys, warnings
sys.path[:0] = sys.argv[1:]
warnings.simplefilter("ignore")
from test_resumption import CLASSES, CSR, X, found

jobs = pickle.load(sys.stdin.buffer)
models = [model.set_params(warm_start=True).fit(CSR if sparse else X, CLASSES) for model, sparse in jobs]
print(json.dumps([found(model) for model in models]))
"""


def in_another_process(jobs):
    """What estimators, each with whether it takes sparse data, come to in another process."""
    folder = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", GO_ON, folder, os.path.dirname(folder)]
    done = subprocess.run(command, input=pickle.dumps(jobs), capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_training_goes_on_in_another_process_from_a_callbacks_pickle():
    pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")
    jobs, expected = [], []
    for name, options in OPTIONS.items():
        others = [("float64", X), ("float32", CSR)] if name in ("adam", "early stopping") else []
        for dtype, data in (("float32", X), ("float64", CSR), *others):
            if name == "no shuffle":
                np.random.seed(5)
            stop = Stop(None)
            whole = made(**options, dtype=dtype).set_callbacks(stop).fit(data, CLASSES)
            n = 1 if data is CSR else 5
            jobs.append((pickle.loads(stop.pickles[n - 1]), sp.issparse(data)))
            expected.append((name, dtype, found(whole)))
    for (name, dtype, right), state in zip(expected, in_another_process(jobs), strict=True):
        assert state == right, (name, dtype)


@pytest.mark.parametrize("name", OPTIONS)
def test_training_goes_on_inside_of_an_epoch(name, monkeypatch):
    """Calls of one batch each, of which the budget ends some."""
    monkeypatch.setattr(train, "CALL_FLOPS", 1)
    np.random.seed(5)
    whole = found(made(**OPTIONS[name]).fit(X, CLASSES))
    np.random.seed(5)
    model, n_calls = made(**OPTIONS[name], warm_start=True, max_seconds=1), 0
    while n_calls < 60 and getattr(model, "stop_reason_", "max_seconds") == "max_seconds":
        n_calls += 1
        spent = iter([False] * (n_calls % 4) + [True] * 9)
        monkeypatch.setattr(Budget, "spent", lambda self, spent=spent: next(spent))
        model = pickle.loads(pickle.dumps(model.fit(X, CLASSES)))
    assert n_calls > 5
    assert found(model) == whole
    assert "_resume" not in vars(model)


def stopped(at=5, **options):
    """A fit that a budget ends after so many epochs."""
    ends = iter([False] * (at - 1) + [True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Budget, "spent", lambda self: next(ends))
        return made(max_seconds=9, **options).fit(X, CLASSES).set_params(warm_start=True, max_seconds=None)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_budget_for_each_piece_of_a_fit_on_handwritten_digits(n_jobs, monkeypatch):
    """Real data, several threads, and epochs of several calls, which a clock ends and not a test."""
    monkeypatch.setattr(train, "CALL_FLOPS", 2e7)
    digits, labels = load_digits(return_X_y=True)
    options = dict(hidden_layer_sizes=(120,), max_iter=8, learning_rate="onecycle", label_smoothing=0.1, batch_size=64)
    whole = made(**options).fit(digits, labels)
    model, n_fits = made(**options, n_jobs=n_jobs, max_seconds=1e-3, warm_start=True), 0
    while n_fits == 0 or model.stop_reason_ == "max_seconds":
        model = pickle.loads(pickle.dumps(model.fit(digits, labels)))
        n_fits += 1
    assert n_fits > 1
    assert found(model) == found(whole)
    assert model.score(digits, labels) > 0.9


def test_max_iter_counts_all_epochs_and_may_grow():
    whole = made(max_iter=20).fit(X, CLASSES)
    model = stopped().set_params(max_iter=20, n_jobs=2, verbose=False).fit(X, CLASSES)
    assert found(model) == found(whole)
    assert (model.n_iter_, len(model.loss_curve_)) == (20, 20)


class FirstRow:
    """Functions that change what a fit is about."""

    @staticmethod
    def other_x(model):
        return model.fit(np.r_[-X[:1], X[1:]], CLASSES)

    @staticmethod
    def other_y(model):
        return model.fit(X, np.r_[(CLASSES[0] + 1) % 3, CLASSES[1:]])


NOT_THE_SAME = {
    "other rows": lambda m: m.fit(X[:80], CLASSES[:80]),
    "another row": FirstRow.other_x,
    "another label": FirstRow.other_y,
    "weights": lambda m: m.fit(X, CLASSES, np.arange(90.0)),
    "validation data": lambda m: m.fit(X, CLASSES, X_val=X, y_val=CLASSES),
    "a parameter": lambda m: m.set_params(learning_rate_init=0.01).fit(X, CLASSES),
    "a seed": lambda m: m.set_params(random_state=4).fit(X, CLASSES),
    "no epoch left": lambda m: m.set_params(max_iter=5).fit(X, CLASSES),
    "weights to begin from": lambda m: m.fit(X, CLASSES, coefs_init=m.coefs_),
}


@pytest.mark.parametrize("case", NOT_THE_SAME)
def test_what_does_not_fit_starts_as_a_warm_start(case):
    model = stopped()
    plain = pickle.loads(pickle.dumps(model))
    del plain._resume
    model, plain = (NOT_THE_SAME[case](each) for each in (model, plain))
    assert found(model) == found(plain)
    assert model.n_iter_ == model.max_iter


@pytest.mark.parametrize("options", [{"early_stopping": True}, {"solver": "schedulefree"}])
def test_weights_that_were_changed_are_not_thrown_away(options):
    model = stopped(**options)
    model.coefs_[0][:] = 0
    plain = pickle.loads(pickle.dumps(model))
    del plain._resume
    assert found(model.fit(X, CLASSES)) == found(plain.fit(X, CLASSES))


def test_without_warm_start_a_fit_is_fresh():
    model = stopped().set_params(warm_start=False).fit(X, CLASSES)
    assert found(model) == found(made().fit(X, CLASSES))


def test_partial_fit_goes_on_from_a_stopped_fit_as_from_a_shorter_one():
    model, shorter = stopped(5).partial_fit(X, CLASSES), made(max_iter=5).fit(X, CLASSES).partial_fit(X, CLASSES)
    assert found(model) == found(shorter)
    assert "_resume" not in vars(model)


def test_a_generator_of_the_users_is_not_touched_when_training_goes_on():
    whole = made(random_state=np.random.RandomState(3)).fit(X, CLASSES)
    model = stopped(random_state=np.random.RandomState(3))
    before = model.random_state.rand(5)[4]
    model.random_state.seed(1)
    assert before and found(model.fit(X, CLASSES)) == found(whole)
    assert model.random_state.rand() == np.random.RandomState(1).rand()


# ---- Checkpoint ------------------------------------------------------------------------------------------------------
needs_callbacks = pytest.mark.skipif(not hasattr(MLPClassifier(), "set_callbacks"), reason="no callbacks")


@needs_callbacks
@pytest.mark.parametrize("every", [1, 4, 100])
def test_checkpoints_are_written_after_every_so_many_epochs(every, tmp_path, monkeypatch):
    written, real = [], checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda path, model: written.append(model.n_iter_) or real(path, model))
    path = tmp_path / "model.pkl"
    model = made().set_callbacks(Checkpoint(path, every=every)).fit(X, CLASSES)
    assert written == [*range(every, 15, every), 14]
    loaded = pickle.loads(path.read_bytes())
    assert found(loaded) == found(model)
    assert not hasattr(loaded, "_skl_callbacks")
    assert os.listdir(tmp_path) == ["model.pkl"]


@needs_callbacks
def test_a_checkpoint_under_lbfgs_and_of_a_regressor(tmp_path):
    path = str(tmp_path / "model.pkl")
    model = MLPRegressor(**SETTINGS, solver="lbfgs").set_callbacks(Checkpoint(path, every=3))
    with pytest.warns(match="lbfgs failed to converge"):
        model.fit(X, X[:, 0])
    with open(path, "rb") as file:
        np.testing.assert_array_equal(pickle.load(file).predict(X), model.predict(X))


@needs_callbacks
def test_a_disk_that_fails_leaves_the_last_file(tmp_path, monkeypatch):
    path, calls, real = tmp_path / "model.pkl", [], os.fsync

    def fsync(number):
        calls.append(number)
        if len(calls) > 4:
            raise OSError("no space left")
        return real(number)

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    model = made().set_callbacks(Checkpoint(path))
    with pytest.raises(OSError, match="no space left"):
        model.fit(X, CLASSES)
    assert pickle.loads(path.read_bytes()).n_iter_ == 2
    assert os.listdir(tmp_path) == ["model.pkl"]
    assert not hasattr(model, "coefs_")


@needs_callbacks
def test_mistakes_with_checkpoints(tmp_path):
    for every in (0, -1, 1.5, "2", True, None):
        with pytest.raises(ValueError, match="every must be an integer >= 1"):
            Checkpoint("model.pkl", every=every)
    with pytest.raises(FileNotFoundError, match="folder"):
        made().set_callbacks(Checkpoint(tmp_path / "nowhere" / "model.pkl")).fit(X, CLASSES)
    from sklearn.preprocessing import StandardScaler

    with pytest.raises(TypeError, match="fastnn's estimators"):
        StandardScaler().set_callbacks(Checkpoint(tmp_path / "model.pkl")).fit(X)


@needs_callbacks
def test_files_that_killed_processes_left_are_removed(tmp_path):
    old, new, other = (tmp_path / f"{name}.tmp" for name in ("m[1].pkl.aa", "m[1].pkl.bb", "m1.pkl.cc"))
    for left in (old, new, other):
        left.write_bytes(b"")
    for left in (old, other):
        os.utime(left, (1, 1))
    made().set_callbacks(Checkpoint(tmp_path / "m[1].pkl", every=100)).fit(X, CLASSES)
    assert sorted(os.listdir(tmp_path)) == ["m1.pkl.cc.tmp", "m[1].pkl", "m[1].pkl.bb.tmp"]


KILLED = """
import os, pickle, random, signal, sys, time, warnings
sys.path[:0] = sys.argv[2:]
warnings.simplefilter("ignore")
from test_resumption import CLASSES, X, found, made
from fastnn import Checkpoint

options = dict(max_iter=200, early_stopping=True, tol=0, n_iter_no_change=1000, warm_start=True)
start = time.perf_counter()
whole, path, rnd = made(**options).fit(X, CLASSES), sys.argv[1], random.Random(0)
made(**options).set_callbacks(Checkpoint(path)).fit(X, CLASSES)
seconds, seen = time.perf_counter() - start, set()
for trial in range(20):
    child = os.fork()
    if child == 0:
        made(**options).set_callbacks(Checkpoint(path)).fit(X, CLASSES)
        os._exit(0)
    time.sleep(rnd.uniform(0.005, min(seconds, 0.15)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with open(path, "rb") as file:
        model = pickle.load(file)
    seen.add(model.n_iter_)
    assert model.stop_reason_ == ("max_iter" if model.n_iter_ == 200 else "callback")
    if model.n_iter_ < 200 and trial % 5 == 0:
        assert found(model.fit(X, CLASSES)) == found(whole)
print(len(seen))
"""


@needs_callbacks
@pytest.mark.skipif(not hasattr(signal, "SIGKILL") or not hasattr(os, "fork"), reason="needs SIGKILL and forks")
def test_a_process_killed_at_any_moment_leaves_a_file_from_which_training_goes_on(tmp_path):
    folder = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "model.pkl"), folder, os.path.dirname(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 3
