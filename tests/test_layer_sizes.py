"""Shapes that searches can vary: n_hidden_layers, and what tuners hand over as numbers, words and truth values."""

import pickle

import numpy as np
import pytest
from sklearn import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import RandomizedSearchCV
from sklearn.neural_network import MLPClassifier as TheirMLPClassifier

from fastnn import MLPClassifier, MLPRegressor
from fastnn.parameters import hidden_units

X, Y = load_iris(return_X_y=True)
KINDS = (MLPClassifier, MLPRegressor)
SETTINGS = {"max_iter": 2, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def shapes(model):
    return tuple(len(intercept) for intercept in model.coefs_[1:])


def weights(model):
    return np.concatenate([array.ravel() for array in [*model.coefs_, *model.intercepts_]])


# (hidden_layer_sizes, n_hidden_layers) -> units
LEGAL = {
    "int": (6, None, (6,)),
    "tuple": ((6, 3), None, (6, 3)),
    "list": ([6, 3], None, (6, 3)),
    "none": ([], None, ()),
    "range": (range(3, 5), None, (3, 4)),
    "array": (np.array([6, 3]), None, (6, 3)),
    "small integers": (np.array([6, 3], np.uint8), None, (6, 3)),
    "NumPy int": (np.int64(6), None, (6,)),
    "array without dimensions": (np.array(6), None, (6,)),
    "mixed": ((np.int64(6), 3, np.array(2)), None, (6, 3, 2)),
    "repeated": (6, 3, (6, 6, 6)),
    "repeated once": (6, 1, (6,)),
    "repeated never": (6, 0, ()),
    "repeated, NumPy": (np.int32(6), np.int64(2), (6, 6)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", LEGAL)
def test_shapes_by_numbers(kind, case):
    sizes, times, expected = LEGAL[case]
    model = kind(hidden_layer_sizes=sizes, n_hidden_layers=times, **SETTINGS).fit(X, Y)
    assert shapes(model) == expected == hidden_units(sizes, times)
    assert {type(size) for size in hidden_units(sizes, times)} <= {int}
    plain = kind(hidden_layer_sizes=expected, **SETTINGS).fit(X, Y)
    np.testing.assert_array_equal(weights(model), weights(plain))
    twin = clone(pickle.loads(pickle.dumps(model))).fit(X, Y)
    np.testing.assert_array_equal(weights(twin), weights(plain))
    model.partial_fit(X, Y)


# (hidden_layer_sizes, n_hidden_layers) -> message
ILLEGAL = {
    "text": ("64", None, r"must be an array-like or an int in the range \[1, inf\). Got '64' instead"),
    "text of a tuple": ("(64, 32)", None, r"an array-like or an int in the range \[1, inf\). Got '\(64, 32\)' instead"),
    "float": (64.0, None, r"an array-like or an int in the range \[1, inf\). Got 64.0 instead"),
    "NumPy float": (
        np.float64(64),
        None,
        r"an array-like or an int in the range \[1, inf\). Got (np.float64\()?64.0\)? instead",
    ),
    "truth value": (True, None, r"an array-like or an int in the range \[1, inf\). Got True instead"),
    "None": (None, None, r"an array-like or an int in the range \[1, inf\). Got None instead"),
    "set": ({64, 32}, None, r"an array-like or an int in the range \[1, inf\). Got"),
    "dict": ({64: 1}, None, r"an array-like or an int in the range \[1, inf\). Got"),
    "zero": (0, None, "'hidden_layer_sizes' parameter of .* Got 0 instead"),
    "texts": (
        ["64", "32"],
        None,
        r"hidden_layer_sizes must hold integers, such as 64 or \(64, 32\), got \['64', '32'\]",
    ),
    "floats": (np.array([64.0, 32.0]), None, r"must hold integers, such as 64 or \(64, 32\)"),
    "truth values": ([True], None, r"must hold integers, such as 64 or \(64, 32\), got \[True\]"),
    "nested": ([[64, 32]], None, r"must hold integers, such as 64 or \(64, 32\)"),
    "two dimensions": (np.array([[64, 32]]), None, r"must hold integers, such as 64 or \(64, 32\)"),
    "zero among them": ([64, 0], None, r"hidden_layer_sizes must be > 0, got \[64, 0\]"),
    "sequence and count": ((64,), 2, r"give two numbers such as hidden_layer_sizes=64, n_hidden_layers=2.*\(64,\)"),
    "default and count": ((100,), 1, "n_hidden_layers says how often an int hidden_layer_sizes is repeated"),
    "negative count": (64, -1, r"'n_hidden_layers' parameter of .* must be None or an int in the range \[0, inf\)"),
    "float count": (64, 2.0, "'n_hidden_layers' parameter of"),
    "truth value as count": (64, True, "n_hidden_layers says how often"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ILLEGAL)
def test_other_shapes_are_refused_with_the_legal_form(kind, case):
    sizes, times, message = ILLEGAL[case]
    model = kind(hidden_layer_sizes=sizes, n_hidden_layers=times)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y)
    assert not hasattr(model, "coefs_")


NUMPYS = {
    "activation": (np.str_("tanh"), "tanh"),
    "solver": (np.str_("sgd"), "sgd"),
    "learning_rate": (np.str_("invscaling"), "invscaling"),
    "early_stopping": (np.True_, True),
    "shuffle": (np.False_, False),
    "nesterovs_momentum": (np.bool_(False), False),
    "restore_best": (np.False_, False),
    "validation_stratify": (np.True_, True),
    "scoring": (np.str_("loss"), "loss"),
    "class_weight": (np.str_("balanced"), "balanced"),
    "batch_size": (np.int64(20), 20),
    "max_iter": (np.int16(3), 3),
    "alpha": (np.float64(0.01), 0.01),
    "learning_rate_init": (np.float64(0.02), 0.02),
    "n_jobs": (np.int64(1), 1),
    "dtype": (np.str_("float64"), "float64"),
    "init": (np.str_("he_normal"), "he_normal"),
    "random_state": (np.int64(4), 4),
    "verbose": (np.False_, False),
    "dropout": (np.float32(0.25), 0.25),
    "ema_decay": (np.float64(0.9), 0.9),
}


@pytest.mark.parametrize("name", NUMPYS)
def test_numpys_words_and_numbers_are_pythons(name):
    fits = []
    for value in NUMPYS[name]:
        base = {"solver": "sgd", "early_stopping": name in ("scoring", "restore_best", "validation_stratify")}
        model = MLPClassifier(**{"hidden_layer_sizes": 6, **SETTINGS, **base, name: value}).fit(X, Y)
        fits.append(pickle.loads(pickle.dumps(model)))
    np.testing.assert_array_equal(weights(fits[0]), weights(fits[1]))
    np.testing.assert_array_equal(fits[0].predict(X), fits[1].predict(X))


@pytest.mark.parametrize("solver", ["sgd", "adam", "rmsprop", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_float32_are_the_same_numbers_in_float64(kind, solver):
    names = {
        "sgd": {"momentum": 0.8, "power_t": 0.3, "validation_fraction": 0.25},
        "adam": {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6},
        "rmsprop": {"rho": 0.8},
    }.get(solver, {})
    numbers = {"alpha": 0.01, "learning_rate_init": 0.03, "tol": 0.003, **names}
    more = {"learning_rate": "invscaling", "early_stopping": True, "n_iter_no_change": 2} if solver == "sgd" else {}
    fits = []
    for convert in (np.float32, lambda x: float(np.float32(x))):
        given = {name: convert(value) for name, value in numbers.items()}
        model = kind(hidden_layer_sizes=6, solver=solver, dtype="float64", **more, **given)
        fits.append(model.set_params(max_iter=30, random_state=0).fit(X, Y))
    np.testing.assert_array_equal(weights(fits[0]), weights(fits[1]))
    assert fits[0].n_iter_ == fits[1].n_iter_


def test_a_search_over_width_and_depth():
    space = {"hidden_layer_sizes": np.arange(3, 9), "n_hidden_layers": [0, 1, 2, 3]}
    search = RandomizedSearchCV(MLPClassifier(**SETTINGS), space, n_iter=6, cv=2, random_state=0).fit(X, Y)
    best = search.best_params_
    assert shapes(search.best_estimator_) == (best["hidden_layer_sizes"],) * best["n_hidden_layers"]


def test_conversion_says_the_shape_in_scikit_learns_way():
    model = MLPClassifier(hidden_layer_sizes=6, n_hidden_layers=2, **SETTINGS).fit(X, Y)
    theirs = model.to_sklearn()
    assert isinstance(theirs, TheirMLPClassifier) and theirs.hidden_layer_sizes == (6, 6)
    np.testing.assert_allclose(theirs.predict_proba(X), model.predict_proba(X), rtol=1e-5)
    assert shapes(theirs.fit(X, Y)) == (6, 6)


def test_a_warm_start_cannot_change_the_depth():
    model = MLPClassifier(hidden_layer_sizes=6, n_hidden_layers=2, warm_start=True, **SETTINGS).fit(X, Y)
    with pytest.raises(ValueError, match="warm_start and partial_fit cannot change the network"):
        model.set_params(n_hidden_layers=3).fit(X, Y)
    model.set_params(hidden_layer_sizes=(6, 6), n_hidden_layers=None).fit(X, Y)


@pytest.mark.parametrize("sizes", [(64, 64), [64], 64, np.array([8, 8])], ids=str)
def test_layer_sizes_that_come_first_are_taken_for_the_loss_and_told_so(sizes):
    with pytest.raises(
        ValueError, match=r"'loss' parameter of MLPRegressor must be .* write hidden_layer_sizes="
    ) as told:
        MLPRegressor(sizes).fit(X, Y)
    assert repr(sizes) in str(told.value)
