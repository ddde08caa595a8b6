"""Why training ends: ``stop_reason_`` in all cases, the budget ``max_seconds``, and what the logger says."""

import logging
import math
import pickle
import time
import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastnn import MLPClassifier, MLPRegressor, journal, learning, threads, train
from fastnn.core.compile import announcement
from fastnn.core.engine import entries
from fastnn.stopping import Budget
from fastnn.train import EpochRecord

RNG = np.random.RandomState(2)
X = RNG.standard_normal((60, 5)).astype(np.float32)
CLASSES, VALUES = np.argmax(X[:, :3], axis=1), X[:, 0] - X[:, 1]
SETTINGS = {"hidden_layer_sizes": (4,), "max_iter": 6, "random_state": 0, "n_jobs": 1, "batch_size": 20}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
    pytest.mark.filterwarnings("ignore:Training interrupted by user"),
]


def happening(monkeypatch, at, happens):
    """Let something happen instead of an epoch."""
    real = learning.train

    def loop(*args, **options):
        for epoch, record in enumerate(real(*args, **options), 1):
            yield happens(record) if epoch == at else record

    monkeypatch.setattr(learning, "train", loop)


def interrupt(record):
    raise KeyboardInterrupt


def diverge(record):
    return EpochRecord(math.nan, record.n_steps, False, record.seconds)


ADAPTIVE = {"solver": "sgd", "learning_rate": "adaptive", "tol": 1, "n_iter_no_change": 1, "learning_rate_init": 1e-6}
# Options, what happens in the third epoch, the reason, n_iter_.
REASONS = {
    "max_iter": ({}, None, "max_iter", 6),
    "tol": ({"tol": 9.0, "n_iter_no_change": 2}, None, "tol", 4),
    "adaptive": (ADAPTIVE, None, "tol", 3),
    "early stopping": ({"early_stopping": True, "tol": 9.0, "n_iter_no_change": 2}, None, "early stopping", 4),
    "early stopping, max_iter": ({"early_stopping": True}, None, "max_iter", 6),
    "max_seconds": ({"max_seconds": 1e-9}, None, "max_seconds", 1),
    "Ctrl-C": ({}, interrupt, "interrupted", 2),
    "divergence": ({"early_stopping": True}, diverge, "diverged", 3),
    "divergence, kept": ({"restore_best": True}, diverge, "diverged", 3),
    "lbfgs, max_iter": ({"solver": "lbfgs"}, None, "max_iter", 6),
    "lbfgs, max_fun": ({"solver": "lbfgs", "max_fun": 2, "max_iter": 100}, None, "max_iter", None),
    "lbfgs, tol": ({"solver": "lbfgs", "tol": 9.0}, None, "tol", None),
    "lbfgs, max_seconds": ({"solver": "lbfgs", "max_seconds": 1e-9}, None, "max_seconds", 1),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_is_told(case, monkeypatch):
    options, happens, reason, n_iter = REASONS[case]
    if happens:
        happening(monkeypatch, 3, happens)
    model = MLPRegressor(**SETTINGS).set_params(**options).fit(X, VALUES)
    assert model.stop_reason_ == reason
    assert n_iter in (None, model.n_iter_)
    monkeypatch.undo()
    model.set_params(solver="adam", early_stopping=False, max_seconds=None, tol=0).partial_fit(X, VALUES)
    assert model.stop_reason_ == pickle.loads(pickle.dumps(model)).stop_reason_ == "max_iter"


def test_a_fit_that_fails_keeps_the_reason_of_the_one_before():
    model = MLPRegressor(**SETTINGS, tol=9.0, n_iter_no_change=2).fit(X, VALUES)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full_like(X, np.nan), VALUES)
    assert model.stop_reason_ == "tol"


# ---- max_seconds -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_budget_ends_training_without_a_warning(solver):
    model = MLPClassifier(**SETTINGS, solver=solver).fit(X, CLASSES)  # which compiles
    model.set_params(max_iter=10**7, tol=0, n_iter_no_change=np.inf, max_seconds=0.15, max_fun=10**9, alpha=1.0)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, CLASSES)
    if model.stop_reason_ != "tol":  # of L-BFGS
        assert model.stop_reason_ == "max_seconds"
        assert 0.15 <= time.perf_counter() - start < 3
    assert model.n_iter_ > 5


def test_a_budget_counts_validation_and_ends_inside_of_an_epoch(monkeypatch):
    monkeypatch.setattr(train, "CALL_FLOPS", 1)  # a call for each batch
    for n_calls in (1, 2, 3, 4, 5):
        spent = iter([False] * (n_calls - 1) + [True])
        monkeypatch.setattr(Budget, "spent", lambda self, spent=spent: next(spent))
        model = MLPRegressor(**SETTINGS, max_seconds=1).fit(X, VALUES)
        assert (model.stop_reason_, model.n_iter_) == ("max_seconds", n_calls // 3)
        assert (model._optimizer.step, model.t_) == (n_calls, n_calls // 3 * 60)
        assert model.predict(X).shape == (60,)


def test_partial_fit_ends_inside_of_its_epoch(monkeypatch):
    monkeypatch.setattr(train, "CALL_FLOPS", 1)
    model = MLPRegressor(**SETTINGS, max_seconds=1e-9).partial_fit(X, VALUES)
    assert (model.stop_reason_, model._optimizer.step, model.n_iter_) == ("max_seconds", 1, 0)


def test_a_generous_budget_changes_nothing():
    model, plain = (MLPClassifier(**SETTINGS, max_seconds=s).fit(X, CLASSES) for s in (1e6, None))
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
    assert model.loss_curve_ == plain.loss_curve_


@pytest.mark.parametrize("value", [0, -1.0, "1", float("nan")])
def test_budgets_that_are_none(value):
    with pytest.raises(ValueError, match="max_seconds"):
        MLPClassifier(max_seconds=value).fit(X, CLASSES)


# ---- the logger ------------------------------------------------------------------------------------------------------
class Cache:
    """A cache that holds the machine code of some functions."""

    def __init__(self, holds):
        self._holds = holds

    def load_overload(self, sig, target_context):
        return "code" if self._holds else None


def test_a_fit_that_compiles_says_so_once(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, logger="fastnn")
    monkeypatch.setattr(announcement.announcement, "due", True)
    for name in ("first", "second"):
        assert announcement.announced(Cache(False), name).load_overload(None, None) is None
    assert [record.levelname for record in caplog.records] == ["INFO", "DEBUG", "DEBUG"]
    assert {record.name for record in caplog.records} == {"fastnn"}
    assert "about 5 s, once for this machine" in caplog.text
    MLPClassifier(**SETTINGS).fit(X, CLASSES)
    assert announcement.announcement.due or caplog.text.count("about 5 s") == 2
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("fastnn").handlers)


def test_a_fit_whose_code_is_in_the_cache_says_so_once(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="fastnn")
    monkeypatch.setattr(announcement.announcement, "loading_due", True)
    for name in ("first", "second"):
        assert announcement.announced(Cache(True), name).load_overload(None, None) == "code"
    assert [record.getMessage() for record in caplog.records] == ["machine code is loaded from the cache"]


# solver, data -> what is said of them
SAID = {
    "adam": (X, "training on 60 rows x 5 features: float32, 1 thread"),
    "lbfgs": (X.astype(np.float64), "training on 60 rows x 5 features: float64, 1 thread"),
}


@pytest.mark.parametrize("solver", SAID)
def test_a_fit_says_its_precision_and_threads(solver, caplog):
    data, said = SAID[solver]
    caplog.set_level(logging.INFO, logger="fastnn")
    MLPClassifier(**SETTINGS, solver=solver, dtype="match").fit(data, CLASSES)
    assert said in [record.getMessage() for record in caplog.records]


def test_why_a_call_runs_on_one_thread_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(journal, "_told", set())
    monkeypatch.setattr(threads, "_refused", "can't start new thread")
    caplog.set_level(logging.DEBUG, logger="fastnn")
    for _ in range(2):
        assert threads.runner(entries.train, np.dtype(np.float32), 2).__class__ is not partial
    levels = {record.levelname: record.getMessage() for record in caplog.records if "one thread" in record.msg}
    assert levels == dict.fromkeys(["INFO", "DEBUG"], "on one thread: no others: can't start new thread")
    with monkeypatch.context() as patched:
        patched.setattr(threads, "_inside", {"call": object()})
        assert threads._run(lambda: "serial", None, 2) == "serial"
    assert "on one thread: another Python thread is inside a parallel call" in caplog.text


def test_nobody_hears_of_a_fit_by_default(capsys):
    MLPClassifier(**SETTINGS).fit(X, CLASSES)
    assert capsys.readouterr() == ("", "")
