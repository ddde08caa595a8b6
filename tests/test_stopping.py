"""When training ends and what is kept: verbose lines, early stopping, Ctrl-C, divergence, warm start, partial_fit."""

import re
import signal
import threading
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics, neural_network

import fastnn
from fastnn import MLPClassifier, MLPRegressor, learning
from fastnn.core.records import EncodedData
from fastnn.optimizer import Optimizer
from fastnn.progress_lines import Details
from fastnn.scoring import accuracy, r2
from fastnn.train import EpochRecord
from step_scalars import rates_of

RNG = np.random.RandomState(1)
X = RNG.standard_normal((80, 5))
Y = X[:, 0] * X[:, 1] + 0.1 * RNG.standard_normal(80)
BINARY = np.where(Y > 0, "up", "down")
SETTINGS = {"hidden_layer_sizes": (6,), "random_state": 2, "batch_size": 20}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def weights(estimator):
    return np.concatenate([array.ravel() for array in [*estimator.coefs_, *estimator.intercepts_]])


VERBOSE = {
    "max_iter": {"max_iter": 4},
    "loss": {"tol": 0.05, "n_iter_no_change": 2},
    "score": {"early_stopping": True, "tol": 0.05, "n_iter_no_change": 2},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
    "adaptive score": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1, "early_stopping": True},
}


@pytest.mark.parametrize("case", VERBOSE)
def test_verbose_prints_scikit_learns_lines(case, capsys):
    printed = []
    for library, more in ((fastnn, {"dtype": "float64"}), (neural_network, {})):
        library.MLPClassifier(**SETTINGS, **VERBOSE[case], **more, verbose=True).fit(X, BINARY == "up")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "Iteration 1, loss = " in printed[0]


DETAILS = {
    "plain": ({}, r"learning rate = 0\.001, [\d.e-]+ s, at most \d+ s left"),
    "measured": (
        {"early_stopping": True, "metrics": "f1"},
        r"f1 = [\d.]+, val_loss = [\d.]+, val_score = [\d.]+, val_f1 = [\d.]+, learning rate = .*, .* s left",
    ),
    "lbfgs": ({"solver": "lbfgs", "metrics": "f1"}, r"f1 = [\d.]+, [\d.e-]+ s, at most \d+ s left"),
}


@pytest.mark.parametrize("case", DETAILS)
def test_verbose_2_adds_a_line_of_details(case, capsys):
    options, expected = DETAILS[case]
    MLPClassifier(**{**SETTINGS, **options, "max_iter": 2}, verbose=1).fit(X, BINARY == "up")
    plain = capsys.readouterr().out
    model = MLPClassifier(**{**SETTINGS, **options, "max_iter": 2}, verbose=2).fit(X, BINARY == "up")
    lines = capsys.readouterr().out.splitlines()
    details = [line for line in lines if line.endswith("left")]
    assert len(details) == model.n_iter_ and all(re.fullmatch(expected, line) for line in details)
    others = "\n".join(line for line in lines if line not in details) + "\n"
    assert others == plain or case == "lbfgs"
    assert details[-1].endswith("at most 0 s left")


@pytest.mark.parametrize(
    "seconds, words", {7.6: "8 s", 125: "2 min 5 s", 59.7: "1 min 0 s", 11400: "3 h 10 min", -1: "0 s"}.items()
)
def test_durations_are_said_in_words(seconds, words):
    details = Details(2, SimpleNamespace(left=lambda: seconds))
    details._begin = -1e9
    assert details.line(1, {}, None, 0.5) == f"0.5 s, at most {words} left"


def test_early_stopping_returns_to_the_best_weights():
    options = {**SETTINGS, "early_stopping": True, "validation_fraction": 0.25, "learning_rate_init": 0.05}
    fitted = MLPRegressor(**options).fit(X, Y)
    best = int(np.argmax(fitted.validation_scores_)) + 1
    assert 1 < best < fitted.n_iter_
    shorter = MLPRegressor(**options, max_iter=best).fit(X, Y)
    np.testing.assert_array_equal(weights(shorter), weights(fitted))
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    assert (fitted.best_epoch_, shorter.best_epoch_) == (best, best)


class FakeLoop:
    """Stands in for ``train``: real epochs up to a point, then something happens."""

    def __init__(self, monkeypatch, at, happens):
        self.closed = False
        real = learning.train

        def loop(*args, **options):
            try:
                for epoch, record in enumerate(real(*args, **options), 1):
                    yield happens(record) if epoch == at else record
            finally:
                self.closed = True

        monkeypatch.setattr(learning, "train", loop)


def interrupt(record):
    raise KeyboardInterrupt


def diverge(record):
    return EpochRecord(float("nan"), record.n_steps, False, record.seconds)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_interruption_keeps_the_model(monkeypatch, early_stopping):
    loop = FakeLoop(monkeypatch, 4, interrupt)
    estimator = MLPRegressor(**SETTINGS, early_stopping=early_stopping)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        estimator.fit(X, Y)
    assert loop.closed
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (3, 3)
    if early_stopping:
        shorter = MLPRegressor(**SETTINGS, early_stopping=True, max_iter=1 + np.argmax(estimator.validation_scores_))
        monkeypatch.undo()
        np.testing.assert_array_equal(weights(shorter.fit(X, Y)), weights(estimator))


@pytest.fixture
def ctrl_c():
    """Ctrl-C as a terminal's program knows it; shells start background jobs without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_real_ctrl_c_ends_a_long_fit_within_a_second(ctrl_c):
    data, y = np.tile(X, (300, 1)).astype(np.float32), np.tile(BINARY, 300)
    estimator = MLPClassifier((300, 300), max_iter=1)
    estimator.fit(data, y)  # whatever has to be compiled is compiled
    estimator.set_params(max_iter=500, tol=0, n_iter_no_change=500)
    sent = []

    def press():
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(0.7, press)
    timer.start()
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        estimator.fit(data, y)
    assert time.perf_counter() - sent[0] < 1
    assert estimator.n_iter_ < 500
    assert estimator.predict(X).shape == (80,)


def test_divergence_names_the_epoch_and_closes_the_loop(monkeypatch):
    loop = FakeLoop(monkeypatch, 3, diverge)
    estimator = MLPRegressor(**SETTINGS)
    with pytest.raises(ValueError, match=r"Solver produced non-finite.*preprocessed\. The loss was nan in epoch 3\.$"):
        estimator.fit(X, Y)
    assert loop.closed
    assert not hasattr(estimator, "coefs_")


def test_divergence_with_early_stopping_ends_quietly_with_the_best(monkeypatch):
    FakeLoop(monkeypatch, 5, diverge)
    estimator = MLPRegressor(**SETTINGS, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(X, Y)
    assert estimator.n_iter_ == 5
    assert np.isnan(estimator.validation_scores_[-1])
    best = 1 + np.nanargmax(estimator.validation_scores_)
    monkeypatch.undo()
    shorter = MLPRegressor(**SETTINGS, early_stopping=True, max_iter=best).fit(X, Y)
    np.testing.assert_array_equal(weights(shorter), weights(estimator))


def test_divergence_before_any_score_is_an_error(monkeypatch):
    FakeLoop(monkeypatch, 1, diverge)
    with pytest.raises(ValueError, match="in epoch 1"):
        MLPRegressor(**SETTINGS, early_stopping=True).fit(X, Y)


def test_a_batch_without_weight_makes_no_step():
    weight = np.r_[np.zeros(20), np.ones(60)]
    options = {**SETTINGS, "solver": "sgd", "shuffle": False, "max_iter": 3, "dtype": "float64"}
    weighted = MLPRegressor(**options).fit(X, Y, weight)
    without = MLPRegressor(**options).fit(X[20:], Y[20:])
    np.testing.assert_allclose(weights(weighted), weights(without), rtol=1e-12)


def test_warm_start_goes_on_with_a_new_optimizer():
    estimator = MLPRegressor(**SETTINGS, max_iter=3, warm_start=True).fit(X, Y)
    first, seen = weights(estimator), estimator.t_
    optimizer = estimator._optimizer
    estimator.fit(X, Y)
    assert estimator._optimizer is not optimizer
    assert (estimator.n_iter_, len(estimator.loss_curve_), estimator.t_) == (3, 6, 2 * seen)
    assert abs(weights(estimator) - first).max() > 0


def test_partial_fit_keeps_the_settings_of_its_optimizer():
    theirs = neural_network.MLPRegressor(**SETTINGS, solver="sgd", max_iter=2).fit(X, Y)
    ours = MLPRegressor(**SETTINGS, solver="sgd", max_iter=2, dtype="float64").fit(X, Y)
    for estimator in (theirs, ours):
        estimator.set_params(learning_rate_init=0.5, momentum=0.0)
        estimator.partial_fit(X, Y).partial_fit(X, Y, np.arange(80.0))
    assert ours.n_iter_ == theirs.n_iter_ == 1
    assert ours._optimizer.learning_rate == theirs._optimizer.learning_rate == 0.001
    np.testing.assert_allclose(weights(ours), weights(theirs), rtol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


def test_partial_fit_positions():
    classes = ["down", "side", "up"]
    by_position = MLPClassifier(**SETTINGS).partial_fit(X, BINARY, None, classes)
    by_name = MLPClassifier(**SETTINGS).partial_fit(X, BINARY, classes=classes)
    np.testing.assert_array_equal(weights(by_position), weights(by_name))
    assert list(by_position.classes_) == classes
    assert by_position.predict_proba(X).shape == (80, 3)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_learning_rates_are_scikit_learns(solver, schedule):
    options = {**SETTINGS, "solver": solver, "learning_rate": schedule, "max_iter": 30, "tol": 0.05}
    options["n_iter_no_change"] = 2
    theirs = neural_network.MLPRegressor(**options).fit(X, Y)
    ours = MLPRegressor(**options, dtype="float64").fit(X, Y)
    assert ours._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate, rel=1e-14)


def test_bias_correction_depends_on_the_step_alone():
    settings = {name: getattr(MLPRegressor(solver="adam"), name) for name in Optimizer.SETTINGS}
    schedule = Optimizer(settings).schedule
    at_once = rates_of(schedule, 0, 10)
    np.testing.assert_array_equal(at_once, np.concatenate([rates_of(schedule, 0, 3), rates_of(schedule, 3, 7)]))
    assert at_once[0] == pytest.approx(0.001 * np.sqrt(1 - 0.999) / (1 - 0.9), rel=1e-12)


# ---- validation scores against sklearn.metrics ----------------------------------------------------------------------
def held_out(labels=None, targets=None, weight=None):
    empty = np.empty(0)
    return EncodedData(
        X=None,
        csr=None,
        labels=empty if labels is None else labels,
        targets=empty if targets is None else targets,
        sample_weight=empty if weight is None else weight,
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_scikit_learns(weighted):
    rows = RNG.permutation(60)[:25]
    weight = RNG.uniform(size=60) if weighted else None
    options = {"sample_weight": weight[rows]} if weighted else {}
    labels, outputs = RNG.randint(4, size=60), RNG.uniform(size=(25, 4))
    expected = metrics.accuracy_score(labels[rows], outputs.argmax(axis=1), **options)
    assert accuracy(outputs, held_out(labels=labels, weight=weight), rows) == pytest.approx(expected)

    indicator = (RNG.uniform(size=(60, 2)) > 0.5).astype(float)
    expected = metrics.accuracy_score(indicator[rows], outputs[:, :2] > 0.5, **options)
    assert accuracy(outputs[:, :2], held_out(targets=indicator, weight=weight), rows) == pytest.approx(expected)

    y = np.c_[RNG.standard_normal(60), np.full(60, 2.0), np.full(60, 3.0)]
    guess = np.c_[RNG.standard_normal(25), np.full(25, 2.0), RNG.standard_normal(25)]
    for columns in ([0], [1], [2], [0, 1, 2]):
        expected = metrics.r2_score(y[rows][:, columns], guess[:, columns], **options)
        found = r2(guess[:, columns], held_out(targets=y[:, columns], weight=weight), rows)
        assert found == pytest.approx(expected)
