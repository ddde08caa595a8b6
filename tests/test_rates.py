"""Learning rates by step and epoch: the formulas, the same bits everywhere, warm-up, functions, ends, and refusals."""

import copy
import hashlib
import math
import pickle
import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone

import reference_optimizers
from fastnn import LossCurveDisplay, MLPClassifier, MLPRegressor
from fastnn.arithmetic import log_2, real_power, sin_pi
from fastnn.core.nn.optimizers import OPTIMIZERS
from fastnn.core.records import SCHEDULED
from fastnn.curves import CURVES, ENDING
from fastnn.optimizer import Optimizer

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
RNG = np.random.RandomState(0)
X, CLASSES = RNG.standard_normal((60, 5)), RNG.randint(3, size=60)
SETTINGS = {name: getattr(MLPRegressor(), name) for name in Optimizer.SETTINGS}


def halved(epoch):
    return 0.02 / 2**epoch


class ByTable:
    """A schedule with a memory of what it was asked."""

    def __init__(self, rates):
        self.rates, self.asked = rates, []

    def __call__(self, epoch):
        self.asked.append(epoch)
        return self.rates[epoch]


def quick(kind=MLPClassifier, **options):
    settings = dict(hidden_layer_sizes=(4,), batch_size=20, max_iter=6, random_state=0, tol=0, n_iter_no_change=np.inf)
    return kind(**{**settings, **options})


def rows_of(optimizer, n_steps, n_epochs):
    """The rows of step scalars of some epochs: (n_epochs * n_steps, SCHEDULED)."""
    rows = []
    for _ in range(n_epochs):
        rows.append(optimizer.schedule.scalars(optimizer.step, n_steps).reshape(-1, SCHEDULED).copy())
        optimizer.step += n_steps
        optimizer.schedule.epoch_ends(0, optimizer.schedule.epoch + 1)
    return np.concatenate(rows)


# ---- functions of arithmetic ----------------------------------------------------------------------------------------
def test_sines_and_logarithms():
    x = np.concatenate([np.linspace(0, 0.5, 10_001), [0.25, np.nextafter(0.25, 1), 1e-300, 1e-9]])
    np.testing.assert_allclose(sin_pi(x), np.sin(np.pi * x), rtol=1e-15)
    assert sin_pi(np.array([0.0, 0.5])).tolist() == [0, 1]
    x = np.concatenate([np.linspace(1, 16, 10_001), [2.0, np.nextafter(1, 2)]])
    np.testing.assert_allclose(log_2(x), np.log2(x), rtol=1e-15, atol=1e-16)
    assert log_2(np.array([1.0, 2, 4, 16])).tolist() == [0, 1, 2, 4]
    assert [real_power(0.1, 2.0), real_power(0.5, 0.5), real_power(1, 7)] == [0.1 * 0.1, math.sqrt(0.5), 1]


# ---- formulas -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("warmup", [0, 2, 2.5])
@pytest.mark.parametrize("n_steps", [1, 3, 200, 700])
@pytest.mark.parametrize("name", CURVES)
def test_rates_follow_the_formula(name, n_steps, warmup):
    h = {"decay_rate": 0.3, "decay_every": 2, "warmup": warmup}
    settings = SETTINGS | h | {"learning_rate": name, "max_iter": 7, "learning_rate_init": 0.02, "weight_decay": 0.5}
    for solver in OPTIMIZERS:
        rows = rows_of(Optimizer(settings | {"solver": solver}), n_steps, 7)
        expected = [
            reference_optimizers.scheduled(name, None, 0.02, epoch, i, n_steps, 7, h)
            for epoch in range(7)
            for i in range(n_steps)
        ]
        np.testing.assert_allclose(rows[:, 0], expected, rtol=1e-12, atol=1e-17)
        np.testing.assert_array_equal(rows[:, 1], 0.5 * rows[:, 0])


def test_the_first_and_the_last_rates():
    settings = SETTINGS | {"solver": "rmsprop", "learning_rate_init": 1.0, "max_iter": 10}
    first = {"cosine": 1, "onecycle": 0.1, "coslog": 0, "exponential": 1, "step": 1}
    for name, rate in first.items():
        rates = rows_of(Optimizer(settings | {"learning_rate": name}), 100, 10)[:, 0]
        assert rates[0] == rate
        assert rates.max() <= 1
        assert (rates[-1] < 1e-4) == (name in ENDING)
    one_cycle = rows_of(Optimizer(settings | {"learning_rate": "onecycle"}), 100, 10)[:, 0]
    assert one_cycle.argmax() == 200 and one_cycle[200] == 1


# Digests of rates and corrections: the same on every processor, with every NumPy.
DIGESTS = {
    "cosine, adam": "bc79d90da9a58d4a",
    "onecycle, nadam": "39d4f4e20507e2be",
    "coslog, schedulefree": "e970aaae16a9dfdb",
    "exponential, sgd": "e2e49fa2c602aed9",
    "step, lion": "7a5f256d03343180",
}


@pytest.mark.parametrize("case", DIGESTS)
def test_rates_have_the_same_bits_everywhere(case):
    name, solver = case.split(", ")
    settings = SETTINGS | {"solver": solver, "learning_rate": name, "max_iter": 9, "warmup": 0.7, "decay_every": 3.0}
    rows = rows_of(Optimizer(settings), 130, 9)
    assert hashlib.sha256(rows.astype("<f8").tobytes()).hexdigest()[:16] == DIGESTS[case]


@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("name", ["constant", *CURVES])
def test_rows_do_not_depend_on_where_training_was_interrupted(name, solver):
    settings = SETTINGS | {"solver": solver, "learning_rate": name, "max_iter": 12, "warmup": 1, "beta_1": 0.95}
    whole = rows_of(Optimizer(settings), 90, 12)
    pieces, optimizer = [], Optimizer(settings)
    for _ in range(12):
        optimizer = Optimizer.from_dict(pickle.loads(pickle.dumps(optimizer.to_dict())))
        pieces.append(rows_of(optimizer, 90, 1))
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_batch_that_makes_no_step_does_not_shift_the_epochs_that_follow():
    weight = np.ones(60)
    weight[:20] = 0
    options = dict(learning_rate="step", decay_every=1, decay_rate=0.5, learning_rate_init=0.5, shuffle=False)
    model = quick(solver="sgd", **options).fit(X, CLASSES, sample_weight=weight)
    assert model.history_["learning_rate"] == [0.5 * 0.5**e for e in range(6)]


# ---- in the estimators ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_history_holds_the_rate_of_an_epochs_last_step(solver):
    model = quick(solver=solver, learning_rate="cosine", learning_rate_init=0.01).fit(X, CLASSES)
    last = 0.01 * 0.5 * (1 + np.cos(np.pi * (3 * np.arange(6) + 2) / 18))
    np.testing.assert_allclose(model.history_["learning_rate"], last, rtol=1e-12)
    model.set_params(learning_rate=halved).fit(X, CLASSES)
    assert model.history_["learning_rate"] == [halved(e) for e in range(6)]
    model.set_params(learning_rate="constant", warmup=2).fit(X, CLASSES)
    np.testing.assert_allclose(model.history_["learning_rate"], [0.005, 0.01, 0.01, 0.01, 0.01, 0.01], rtol=1e-15)


def test_scikit_learns_schedules_go_on_behind_a_warm_up():
    options = dict(solver="sgd", learning_rate_init=0.5, warmup=1)
    model = quick(learning_rate="invscaling", **options).fit(X, CLASSES)
    seen = 60 * np.arange(6)
    np.testing.assert_allclose(model.history_["learning_rate"][1:], 0.5 / np.sqrt(seen[1:] + 1), rtol=1e-12)
    model = quick(learning_rate="adaptive", **options).set_params(tol=10.0, n_iter_no_change=1).fit(X, CLASSES)
    np.testing.assert_allclose(model.history_["learning_rate"], 0.5 / 5.0 ** np.array([0, 0, 0, 1, 1, 2]), rtol=1e-12)


def test_a_function_is_asked_once_an_epoch_and_never_beyond_the_end():
    table = ByTable([0.1, 0.01, 0.05, 0.0, 0.02, 0.03])
    model = quick(learning_rate=table, solver="adam").fit(X, CLASSES)
    assert table.asked == [*range(6)]
    assert model.history_["learning_rate"] == table.rates
    with pytest.raises(IndexError):
        model.set_params(max_iter=7).fit(X, CLASSES)
    assert model.history_["learning_rate"] == table.rates  # of the fit before


@pytest.mark.parametrize("wrong", [None, "0.1", -0.1, np.nan, np.inf, 1j])
def test_a_function_must_return_a_rate(wrong):
    with pytest.raises(ValueError, match=r"learning_rate=.* must return a number in \[0, inf\).* for epoch 1"):
        quick(learning_rate=ByTable([0.1, wrong])).fit(X, CLASSES)


def test_a_function_that_cannot_be_pickled_says_so_and_can_be_copied():
    model = quick(learning_rate=lambda epoch: 0.1 / (epoch + 1)).fit(X, CLASSES)
    with pytest.raises(pickle.PicklingError, match=r"learning_rate=<function .* cannot be pickled .* estimator cannot"):
        pickle.dumps(model)
    for twin in (copy.deepcopy(model), copy.copy(model), clone(model).fit(X, CLASSES)):
        assert twin.learning_rate is model.learning_rate
        assert twin.history_["learning_rate"] == model.history_["learning_rate"]
    copy.deepcopy(model).partial_fit(X, CLASSES)


@pytest.mark.parametrize("learning_rate", [halved, ByTable([0.1] * 9)])
def test_a_function_is_pickled_with_the_estimator(learning_rate):
    model = quick(learning_rate=learning_rate, max_iter=2).fit(X, CLASSES)
    twin = pickle.loads(pickle.dumps(model))
    for each in (model, twin):
        each.partial_fit(X, CLASSES)
    np.testing.assert_array_equal(twin.coefs_[0], model.coefs_[0])
    assert twin.history_["learning_rate"][-1] == learning_rate(2)


@pytest.mark.parametrize("name", ["constant", *CURVES])
def test_a_schedule_that_has_come_to_its_end_gives_no_warning(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = quick(learning_rate=name, max_iter=3).fit(X, CLASSES)
    assert model.stop_reason_ == "max_iter" and len(caught) == (name not in ENDING)


@pytest.mark.parametrize("name", ENDING)
def test_partial_fit_beyond_the_end_of_a_schedule_is_refused(name):
    model = quick(learning_rate=name, max_iter=3)
    for _ in range(3):
        model.partial_fit(X, CLASSES, classes=np.arange(3))
    before = [array.copy() for array in model.coefs_]
    with pytest.raises(ValueError, match=f"learning_rate='{name}' has ended .* max_iter=3 .* '?constant'?, .*'step'"):
        model.partial_fit(X, CLASSES)
    np.testing.assert_array_equal(model.coefs_[0], before[0])
    model._optimizer = None
    model.partial_fit(X, CLASSES)
    model.fit(X, CLASSES).fit(X, CLASSES)  # each begins anew


@pytest.mark.parametrize("name", [*CURVES, halved])
def test_lbfgs_has_no_rate_to_schedule(name):
    with pytest.raises(ValueError, match=r"learning_rate=.* does not go with solver='lbfgs'"):
        quick(solver="lbfgs", learning_rate=name).fit(X, CLASSES)
    quick(solver="lbfgs", learning_rate="adaptive", max_iter=200).fit(X, CLASSES)  # as in scikit-learn


def test_a_warm_up_must_end_before_the_schedule():
    for name in ENDING:
        with pytest.raises(ValueError, match=f"learning_rate='{name}' ends after max_iter=6 epochs, so warmup=6 must"):
            quick(learning_rate=name, warmup=6).fit(X, CLASSES)
    quick(learning_rate="step", warmup=6).fit(X, CLASSES)


@pytest.mark.parametrize(
    "option",
    [
        {"learning_rate": "linear"}, {"learning_rate": 0.1}, {"warmup": -1}, {"warmup": None}, {"decay_rate": 0},
        {"decay_rate": 1.5}, {"decay_every": 0}, {"weight_decay": -1}, {"weight_decay": np.inf}, {"max_grad_norm": 0},
        {"max_grad_norm": np.nan},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_named(option):
    [(name, value)] = option.items()
    with pytest.raises(ValueError, match=f"'{name}' parameter of MLPClassifier .* Got {re.escape(repr(value))}"):
        quick(**option).fit(X, CLASSES)


def test_rates_are_displayed():
    pytest.importorskip("matplotlib").use("Agg")
    model = quick(learning_rate="onecycle").fit(X, CLASSES)
    display = LossCurveDisplay.from_estimator(model, what="learning_rate")
    assert display.ax_.get_ylabel() == "Learning rate"
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), model.history_["learning_rate"])
