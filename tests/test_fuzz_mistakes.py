"""Mistakes in every place, alone and together: errors of scikit-learn's types in scikit-learn's words, never a crash.

FASTNN_FUZZ sets the number of examples of each test; the usual run takes few.
"""

import os
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn import neural_network

from fastnn import MLPClassifier, MLPRegressor, learning
from fastnn.core.nn.optimizers import OPTIMIZERS
from fastnn.curves import CURVES
from fastnn.parameters import HIDDEN_ACTIVATIONS

SETTINGS = settings(
    max_examples=int(os.environ.get("FASTNN_FUZZ", "80")),
    derandomize="FASTNN_FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
pytestmark = pytest.mark.filterwarnings("ignore")
pick = st.sampled_from
N, FEATURES = 12, 3


def spoiled(x, value, dtype=np.float64):
    x = x.astype(dtype)
    x[5, 1] = value
    return x


# What becomes of a good X, a good y, good weights.
WRONG_X = {
    "NaN": lambda x: spoiled(x, np.nan),
    "inf": lambda x: spoiled(x, np.inf),
    "-inf float32": lambda x: spoiled(x, -np.inf, np.float32),
    "inf float16": lambda x: spoiled(x, np.inf, np.float16),
    "NaN object": lambda x: spoiled(x, np.nan, object),
    "NaN csr": lambda x: sp.csr_array(spoiled(x, np.nan)),
    "inf csc": lambda x: sp.csc_matrix(spoiled(x, np.inf)),
    "NA": lambda x: pd.DataFrame(x).astype("Float64").replace(x[5, 1], pd.NA),
    "no rows": lambda x: x[:0],
    "no columns": lambda x: x[:, :0],
    "no rows csr": lambda x: sp.csr_array(x[:0]),
    "empty list": lambda x: [],
    "1-D": lambda x: x[:, 0],
    "3-D": lambda x: x[:, :, None],
    "number": lambda x: 3.0,
    "None": lambda x: None,
    "words": lambda x: x.astype(str).astype(object) + "?",
    "text": lambda x: np.full(x.shape, "abc"),
    "bytes": lambda x: np.full(x.shape, b"abc"),
    "one word": lambda x: "X",
    "complex": lambda x: x + 1j,
    "complex csr": lambda x: sp.csr_array(x + 1j),
    "ragged": lambda x: [[1, 2, 3], [4, 5]] * (N // 2),
    "dates": lambda x: np.full(x.shape, np.datetime64("2020-01-01")),
    "dicts": lambda x: [{"a": 1}] * N,
    "None inside": lambda x: spoiled(x, None, object),
    "fewer rows": lambda x: x[:5],
}
WRONG_Y = {
    "short": lambda y: y[:7],
    "long": lambda y: np.tile(y, (2,) + (1,) * (y.ndim - 1)),
    "empty": lambda y: y[:0],
    "None": lambda y: None,
    "3-D": lambda y: np.zeros((N, 2, 2)),
    "NaN": lambda y: np.where(np.arange(N) == 3, np.nan, 1.5),
    "inf": lambda y: np.where(np.arange(N) == 3, np.inf, 1.5),
    "complex": lambda y: np.arange(N) * 1j,
    "number": lambda y: 3,
    "dicts": lambda y: [{} for _ in range(N)],
    "None inside": lambda y: np.where(np.arange(N) == 3, None, "a"),
    "mixed": lambda y: np.array([1, "a", None] * (N // 3), dtype=object),
}
WRONG_WEIGHT = {
    "short": np.ones(5),
    "empty": [],
    "2-D": np.ones((N, 2)),
    "zeros": np.zeros(N),
    "NaN": np.r_[np.nan, np.ones(N - 1)],
    "inf": np.r_[np.inf, np.ones(N - 1)],
    "words": ["much"] * N,
    "complex": np.ones(N) * 1j,
}
WRONG_PARAMETER = {
    "hidden_layer_sizes": [0, -1, (3, 0), (3, -2), "3", None, 2.5],
    "activation": ["Relu", "softmax", None, 3],
    "solver": ["Adam", "newton", None],
    "alpha": [-1e-9, "small", None, np.nan],
    "batch_size": [0, -5, 2.5, "all", None],
    "learning_rate": ["fixed", None, 0.1],
    "learning_rate_init": [0, -1, "0.1", None],
    "power_t": [-0.5, "half"],
    "max_iter": [0, -1, 2.5, "many", None],
    "shuffle": ["yes", None, 2],
    "random_state": ["zero", -1, 1.5],
    "tol": [-1, None, "tiny"],
    "verbose": ["yes", -1, None],
    "warm_start": ["yes", None],
    "momentum": [-0.1, 1.1, "high"],
    "nesterovs_momentum": ["yes", None],
    "early_stopping": ["yes", None],
    "validation_fraction": [1.0, 1.5, -0.1, "tenth"],
    "beta_1": [1, -0.1, "high"],
    "beta_2": [1, -0.1, None],
    "epsilon": [0, -1e-8, None],
    "n_iter_no_change": [0, -1, 2.5, None],
    "max_fun": [0, -1, 10.5],
}
OWN_PARAMETER = {
    "n_jobs": [0, 1.5, "all"],
    "dtype": ["float16", "double", np.int32, None, 32],
    "rho": [1, -0.1, "high", None, np.nan],
    "init": ["Glorot", "he", None, 3],
    "init_scale": [0, -1, "wide", np.nan, np.inf],
    "init_bias": ["zero", 0, None],
    "loss": ["hinge", "binary_log_loss", None],
    "out_activation": ["sigmoid", "identity", "exp", None],
    "metrics": [None, 3, len, {"r2": 1}],
    "weight_decay": [-0.1, "strong", None, np.nan, np.inf],
    "max_grad_norm": [0, -1, "one", np.nan, np.inf],
    "warmup": [-1, "long", None, np.nan, np.inf],
    "decay_rate": [0, 1.1, "slow", None],
    "decay_every": [0, -1, "often", None],
}
# scikit-learn's messages do not list these, nor a list as a legal activation.
OWN_NAMES = {*OPTIMIZERS, *CURVES} - {"sgd", "adam"}
OWN_ACTIVATIONS = {*HIDDEN_ACTIVATIONS} - {"identity", "logistic", "tanh", "relu"}
TABLES = {
    "X": WRONG_X,
    "y": WRONG_Y,
    "sample_weight": WRONG_WEIGHT,
    **{name: {str(value): value for value in values} for name, values in WRONG_PARAMETER.items()},
}
MISTAKES = [(place, name) for place, table in TABLES.items() for name in table]
DATES = ("X", "dates")  # scikit-learn takes them for numbers, and so does fastnn


def good(kind, rng):
    x = rng.standard_normal((N, FEATURES)).round(2)
    return x, rng.permutation(np.arange(N) % 3) if kind is MLPClassifier else rng.standard_normal(N)


def quick(kind, **parameters):
    return kind(**{"hidden_layer_sizes": (2,), "max_iter": 2, "random_state": 0, **parameters})


def data_with(kind, mistakes):
    """Parameters and data that hold these mistakes."""
    x, y = good(kind, np.random.RandomState(3))
    data, options = {"X": x, "y": y, "sample_weight": None}, {}
    for place, name in mistakes:
        value = TABLES[place][name]
        if place in ("X", "y"):
            data[place] = value(data[place])
        elif place == "sample_weight":
            data[place] = value
        else:
            options[place] = value
    return options, data


def error_of(call, *args, **options):
    """The error of a call as its type and its words in order of the alphabet (sets have none), or None."""
    try:
        call(*args, **options)
    except Exception as error:
        message = str(error).replace("float16", "float64").replace("} or an array-like. Got", "}. Got")
        words = re.findall(r"\w+", message.replace(" or a callable", ""))
        return type(error).__name__, sorted(word for word in words if word not in OWN_NAMES | OWN_ACTIVATIONS)


def fit_errors(kind, mistakes, way="fit"):
    """The errors of fastnn and of scikit-learn."""
    errors = []
    if any(place == "solver" for place, _ in mistakes):
        way = "fit"  # partial_fit does not exist for scikit-learn's classifier; fastnn's lists the solvers
    for library in (kind, getattr(neural_network, kind.__name__)):
        options, data = data_with(kind, mistakes)
        if way == "partial_fit" and kind is MLPClassifier:
            data["classes"] = [0, 1, 2]
        errors.append(error_of(getattr(quick(library, **options), way), **data))
    return errors


def same_words_about_complex(ours, theirs):
    """scikit-learn prints the matrix behind them, which may be corrupt; fastnn its type."""
    return ours[0] == theirs[0] == "ValueError" and {"Complex", "data", "not", "supported"} <= {*ours[1]} & {*theirs[1]}


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("mistake", MISTAKES, ids=" ".join)
def test_one_mistake(kind, way, mistake):
    ours, theirs = fit_errors(kind, [mistake], way)
    if theirs is not None and theirs[0] == "ZeroDivisionError":  # scikit-learn 1.7, where 1.9 says what is wrong
        assert mistake == ("sample_weight", "zeros") and ours[0] == "ValueError"
        return
    assert ours == theirs or (mistake == ("X", "complex csr") and same_words_about_complex(ours, theirs))
    assert (ours is None) == (mistake == DATES)


@SETTINGS
@given(
    pick([MLPClassifier, MLPRegressor]), pick(["fit", "partial_fit"]), st.sets(pick(MISTAKES), min_size=2, max_size=4)
)
def test_several_mistakes(kind, way, mistakes):
    mistakes = [mistake for mistake in mistakes if mistake != DATES]
    mistakes = list(dict(mistakes).items())  # one in each place
    assume(mistakes)
    try:
        ours, theirs = fit_errors(kind, mistakes, way)
    except (ValueError, TypeError, IndexError):  # one mistake's maker cannot use what another has made
        assume(False)
    alone = [fit_errors(kind, [mistake], way)[1] for mistake in mistakes]
    assert theirs is not None
    assert ours in [theirs, *alone]


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("name", WRONG_X)
def test_wrong_rows_to_predict(kind, name):
    x, y = good(kind, np.random.RandomState(3))
    model = quick(kind).fit(x, y)
    before = pickle.dumps(model)
    if name in ("fewer rows", "dates"):
        assert len(model.predict(WRONG_X[name](x))) == len(WRONG_X[name](x))
        return
    theirs = quick(getattr(neural_network, kind.__name__)).fit(x, y)
    error = error_of(model.predict, WRONG_X[name](x))
    expected = error_of(theirs.predict, WRONG_X[name](x))
    assert error is not None
    assert error == expected or (name == "complex csr" and same_words_about_complex(error, expected))
    assert pickle.dumps(model) == before


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in OWN_PARAMETER for value in OWN_PARAMETER[name]])
def test_mistakes_in_fastnns_own_parameters(name, value):
    kind = MLPClassifier if name in ("loss", "out_activation") else MLPRegressor
    with pytest.raises(ValueError, match=f"'{name}' parameter of {kind.__name__} must be"):
        quick(kind, **{name: value}).fit(*good(kind, np.random.RandomState(3)))


VALIDATION_MISTAKES = [
    (place, name)
    for place, table in {"X_val": WRONG_X, "y_val": WRONG_Y, "sample_weight_val": WRONG_WEIGHT}.items()
    for name in table
    if name != "dates"
]


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(("place", "name"), VALIDATION_MISTAKES)
def test_mistakes_in_validation_data(kind, place, name, monkeypatch):
    x, y = good(kind, np.random.RandomState(3))
    model = quick(kind).fit(x, y)
    before = pickle.dumps(model)
    monkeypatch.setattr(learning, "train", lambda *args, **options: 1 / 0)
    given = {"X_val": x, "y_val": y}
    wrong = TABLES[place.removesuffix("_val")][name]
    given[place] = wrong if place == "sample_weight_val" else wrong(given[place])
    with pytest.raises((ValueError, TypeError), match=place):
        model.fit(x, y, **given)
    assert pickle.dumps(model) == before


@SETTINGS
@given(
    pick([MLPClassifier, MLPRegressor]),
    pick(["X", "csr", "y", "sample_weight"]),
    st.floats(20, 307),
    st.booleans(),
    pick(["float32", "float64"]),
    pick(["adam", "sgd", "lbfgs"]),
    pick(["relu", "tanh", "logistic", "identity"]),
)
def test_huge_values(kind, place, exponent, everywhere, dtype, solver, activation):
    x, y = good(kind, np.random.RandomState(3))
    data = {"X": x.copy(), "y": y, "sample_weight": np.ones(N)}
    where = "X" if place == "csr" or (place == "y" and kind is MLPClassifier) else place
    data[where] = data[where].astype(float)
    data[where][slice(None) if everywhere else slice(4, 5)] *= 10.0**exponent
    if place == "csr":
        data["X"] = sp.csr_array(data["X"])
    model = quick(kind, dtype=dtype, solver=solver, activation=activation)
    try:
        model.fit(**data)
    except ValueError as error:
        assert str(error).startswith("Solver produced non-finite parameter weights. The input data may contain large")
        if exponent > 39 and dtype == "float32":
            assert str(error).endswith('use dtype="float64".') or solver == "lbfgs"
            assert f"{where} holds " in str(error) or solver == "lbfgs"
        assert not hasattr(model, "coefs_")
    else:
        assert exponent < 40 or dtype == "float64" or where == "sample_weight" or solver == "lbfgs"
        assert all(np.isfinite(array).all() for array in [*model.coefs_, *model.intercepts_])
        outputs = model.predict_proba(x) if kind is MLPClassifier else model.predict(x)
        assert outputs.dtype == x.dtype
        theirs = model.to_sklearn()  # weights may be so large that predictions overflow, then theirs do
        expected = theirs.predict_proba(x) if kind is MLPClassifier else theirs.predict(x)
        assert np.isfinite(outputs).all() or not np.isfinite(expected.astype(dtype)).all()


SET_LATER = {
    "activation": "Relu",
    "dtype": "float16",
    "n_jobs": "all",
    "batch_size": 2.5,
    "solver": "Adam",
    "hidden_layer_sizes": "10",
    "alpha": None,
}


@pytest.mark.parametrize("name", SET_LATER)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_parameters_spoiled_after_a_fit(kind, name):
    x, y = good(kind, np.random.RandomState(3))
    model = quick(kind).fit(x, y)
    expected = model.predict(x)
    model.set_params(**{name: SET_LATER[name]})
    with pytest.raises(ValueError, match=name):
        model.partial_fit(x, y)
    if name in ("activation", "dtype", "n_jobs"):
        with pytest.raises(ValueError, match=name):
            model.predict(x)
    else:
        np.testing.assert_array_equal(model.predict(x), expected)
    again = pickle.loads(pickle.dumps(model)).set_params(**{name: getattr(quick(kind), name)})
    np.testing.assert_array_equal(again.predict(x), expected)


SPLITS = {0.0: "should be either positive", 0.999: "train set will be empty", 0.01: "validation set is too small"}


@pytest.mark.parametrize("fraction", SPLITS)
def test_impossible_splits_name_the_parameter(fraction):
    model = quick(MLPRegressor, early_stopping=True, validation_fraction=fraction)
    with pytest.raises(ValueError, match=SPLITS[fraction] + ".*validation_fraction"):
        model.fit(*good(MLPRegressor, np.random.RandomState(3)))


@pytest.mark.parametrize("values", [list("abcd") * 3, np.full(N, "1.5"), np.full(N, np.datetime64("2020-01-01"))])
def test_targets_that_are_no_numbers(values):
    x, _ = good(MLPRegressor, np.random.RandomState(3))
    with pytest.raises(ValueError, match=r"^y must hold numbers for regression, got dtype"):
        quick(MLPRegressor).fit(x, values)
