"""scikit-learn's callbacks: which hooks are called, in what order and with what, and how they stop and end a fit."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier, MLPRegressor, callbacks

callback = pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")

RNG = np.random.RandomState(8)
X = RNG.standard_normal((60, 5))
CLASSES = np.array(["a", "b", "c"])[np.argmax(X[:, :3], axis=1)]
VALUES = X[:, 0] - X[:, 1]
SETTINGS = {"hidden_layer_sizes": (4,), "max_iter": 4, "random_state": 0, "n_jobs": 1}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]


class Quiet:
    """A callback that writes down what is called, and wants no data."""

    def __init__(self, stop_at=None, fail_at=None):
        self.calls, self.contexts, self._stop_at, self._fail_at = [], [], stop_at, fail_at

    def setup(self, estimator, context):
        self._note("setup", context)

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def on_fit_task_begin(self, estimator, context):
        self._note("begin", context)

    def on_fit_task_end(self, estimator, context):
        self._note("end", context)
        return context.parent is not None and context.task_id + 1 == self._stop_at

    def _note(self, what, context):
        self.calls.append((what, context.task_name))
        self.contexts.append(context)
        if what == self._fail_at:
            raise RuntimeError(f"failed in {what}")


class Curious(Quiet):
    """A callback that wants everything."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        super().on_fit_task_end(estimator, context)
        self.seen.append((context.task_name, X, y, metadata, fitted_estimator))


def expected_calls(name, n):
    inner = [("begin", name), ("end", name)] * n
    return [("setup", "fit"), ("begin", "fit"), *inner, ("end", "fit"), ("teardown", "fit")]


WAYS = {
    "epochs": (MLPClassifier, {}, lambda m: m.fit(X, CLASSES), "epoch", 4, 4),
    "early stopping": (MLPRegressor, {"early_stopping": True}, lambda m: m.fit(X, VALUES), "epoch", 4, 4),
    "partial_fit": (MLPRegressor, {}, lambda m: m.partial_fit(X, VALUES), "epoch", 1, 1),
    "lbfgs": (MLPRegressor, {"solver": "lbfgs"}, lambda m: m.fit(X, VALUES), "lbfgs-iter", 4, 5),
}


@pytest.mark.parametrize("way", WAYS)
def test_hooks_are_called_in_pairs_for_the_fit_and_for_each_epoch(way):
    kind, options, call, name, n, most = WAYS[way]
    quiet = Quiet()
    model = call(kind(**SETTINGS, **options).set_callbacks(quiet))
    assert quiet.calls == expected_calls(name, n)
    root = quiet.contexts[0]
    assert root.max_subtasks == most
    assert [context.task_id for context in root][1:] == list(range(n))
    assert not set(callbacks.OF_A_FIT) & vars(model).keys()
    plain = call(kind(**SETTINGS, **options))
    for found, right in zip(model.coefs_, plain.coefs_, strict=True):
        np.testing.assert_array_equal(found, right)


def test_nothing_is_made_without_callbacks(monkeypatch):
    monkeypatch.setattr(callbacks.Tasks, "__init__", lambda *args: 1 / 0)
    MLPClassifier(**SETTINGS).fit(X, CLASSES).partial_fit(X, CLASSES)
    MLPClassifier(**SETTINGS).set_callbacks(Quiet()).set_callbacks().fit(X, CLASSES)


def test_attributes_are_made_only_for_hooks_that_name_them(monkeypatch):
    made = []
    real = callbacks.Tasks.begin

    def begin(tasks):
        if not made:
            own = tasks.attributes
            tasks.attributes = lambda: made.append(0) or own()
        real(tasks)

    monkeypatch.setattr(callbacks.Tasks, "begin", begin)
    MLPClassifier(**SETTINGS).set_callbacks(Quiet()).fit(X, CLASSES)
    assert made == []
    MLPClassifier(**SETTINGS).set_callbacks(Curious()).fit(X, CLASSES)
    assert made


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"solver": "schedulefree"}])
def test_the_fitted_estimator_of_an_epoch_is_that_of_a_shorter_fit(options):
    curious = Curious()
    whole = MLPClassifier(**SETTINGS, **options).set_callbacks(curious).fit(X, CLASSES)
    for n, (name, *_, estimator) in enumerate(curious.seen[:-1], 1):
        shorter = MLPClassifier(**{**SETTINGS, "max_iter": n}, **options).fit(X, CLASSES)
        assert name == ("lbfgs-iter" if "lbfgs" in options.values() else "epoch")
        assert estimator.n_iter_ == n == len(estimator.history_["loss"])
        np.testing.assert_array_equal(estimator.predict_proba(X), shorter.predict_proba(X))
    last = curious.seen[-1][-1]
    np.testing.assert_array_equal(last.predict_proba(X), whole.predict_proba(X))
    estimator = curious.seen[1][-1]
    assert estimator.stop_reason_ == "callback"
    assert pickle.loads(pickle.dumps(estimator)).n_iter_ == 2


def test_hooks_get_the_users_data_and_only_the_rows_that_are_learned_from():
    weight = RNG.uniform(size=60)
    curious = Curious()
    MLPClassifier(**SETTINGS).set_callbacks(curious).fit(X, CLASSES, weight)
    for _, x, y, metadata, _ in curious.seen:
        assert x is X and y is CLASSES and metadata["sample_weight"] is weight
    curious = Curious()
    MLPRegressor(**SETTINGS, early_stopping=True).set_callbacks(curious).fit(X, VALUES, weight)
    _, x, y, metadata, _ = curious.seen[0]
    assert x.shape == (54, 5)
    np.testing.assert_array_equal(y, x[:, 0] - x[:, 1])
    assert metadata["sample_weight"].shape == (54,)
    assert curious.seen[-1][1] is X


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}])
def test_a_callback_stops_training(options, recwarn):
    quiet = Quiet(stop_at=2)
    model = MLPClassifier(**SETTINGS, **options).set_callbacks(quiet).fit(X, CLASSES)
    name = "lbfgs-iter" if "solver" in options else "epoch"
    assert quiet.calls == expected_calls(name, 2)
    assert (model.n_iter_, model.stop_reason_) == (2, "callback")
    assert not recwarn.list
    shorter = MLPClassifier(**{**SETTINGS, "max_iter": 2}, **options).fit(X, CLASSES)
    np.testing.assert_array_equal(model.predict_proba(X), shorter.predict_proba(X))


@pytest.mark.parametrize("fail_at", ["setup", "begin", "end"])
def test_callbacks_are_torn_down_when_a_hook_fails(fail_at):
    model = MLPClassifier(**SETTINGS).fit(X, CLASSES)
    quiet = Quiet(fail_at=fail_at)
    before = pickle.dumps(model)
    with pytest.raises(RuntimeError, match=f"failed in {fail_at}"):
        model.set_callbacks(quiet).fit(-X, CLASSES)
    assert quiet.calls[-1] == ("teardown", "fit")
    assert pickle.dumps(model.set_callbacks()) == before


def test_callbacks_are_torn_down_when_the_data_are_bad():
    quiet = Quiet()
    model = MLPClassifier(**SETTINGS).set_callbacks(quiet)
    with pytest.raises(ValueError, match="contains NaN"):
        model.fit(np.where(X > 2, np.nan, X), CLASSES)
    assert quiet.calls == [("setup", "fit"), ("begin", "fit"), ("teardown", "fit")]
    assert not set(callbacks.OF_A_FIT) & vars(model).keys()


THREAD = """
import threading, numpy as np
from fastnn import MLPClassifier


class Waiting:  # as scikit-learn's progress bar: a thread without whose end the interpreter does not end
    def setup(self, estimator, context):
        self.over = threading.Event()
        threading.Thread(target=self.over.wait).start()

    def teardown(self, estimator, context):
        self.over.set()

    def on_fit_task_begin(self, estimator, context):
        pass

    on_fit_task_end = on_fit_task_begin


MLPClassifier(max_iter=3).set_callbacks(Waiting()).fit(np.full((9, 2), np.nan), np.arange(9) % 2)
"""


def test_a_process_ends_after_a_fit_that_fails():
    done = subprocess.run([sys.executable, "-c", THREAD], capture_output=True, text=True, timeout=60, check=False)
    assert "contains NaN" in done.stderr
    assert done.returncode == 1


def test_copies_and_clones():
    quiet = Quiet()
    model = MLPClassifier(**SETTINGS).set_callbacks(quiet).fit(X, CLASSES)
    assert clone(model)._skl_callbacks[0] is quiet
    twin = copy.copy(model)
    twin.coefs_[0][:] = 0
    assert np.abs(model.coefs_[0]).sum() > 0
    with pytest.raises(TypeError, match="FitCallback"):
        model.set_callbacks(object())


# ---- inside of other estimators --------------------------------------------------------------------------------------
class Propagated(Quiet):
    """A callback that is set outside and gets into what is inside."""

    max_propagation_depth = None


def test_a_pipeline_passes_callbacks_on():
    seen = Propagated()
    make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS)).set_callbacks(seen).fit(X, CLASSES)
    assert [context.task_name for context in seen.contexts].count("epoch") == 8
    (root,) = {id(context): context for context in seen.contexts if context.parent is None}.values()
    names = [context.estimator_name for context in root]
    assert names.count("MLPClassifier") == 5 and names[0] == "Pipeline"


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_passes_scores_of_all_epochs_on(n_jobs):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = MLPClassifier(**{**SETTINGS, "max_iter": 3}).set_callbacks(monitor)
    GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=2, n_jobs=n_jobs, refit=False).fit(X, CLASSES)
    rows = [row for log in monitor.get_logs(select="all") for row in log.data]
    assert [row["task_name"] for row in rows].count("epoch") == 2 * 2 * 3
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


def test_scikit_learns_progress_bar_counts_the_epochs(capsys):
    pytest.importorskip("rich")
    bar = callback.ProgressBar(max_propagation_depth=None)
    model = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS))
    GridSearchCV(model, {"mlpclassifier__alpha": [1e-4, 1e-2]}, cv=2, n_jobs=2).set_callbacks(bar).fit(X, CLASSES)
    assert "MLPClassifier" in capsys.readouterr().out


OLD = """
import sys
import sklearn.metrics, sklearn.model_selection, sklearn.neural_network, sklearn.pipeline
sys.modules["sklearn.callback"] = None
from fastnn import MLPClassifier, callbacks
assert not hasattr(MLPClassifier(), "set_callbacks")
assert callbacks.CallbackSupportMixin.__module__ == "fastnn.callbacks"
"""


def test_older_versions_of_scikit_learn_have_no_callbacks():
    subprocess.run([sys.executable, "-c", OLD], check=True, timeout=60, env=os.environ)
