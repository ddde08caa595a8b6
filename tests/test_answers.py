"""What leaves an estimator: the float type of X, float64 precision from the network's last sums, plain numbers."""

import json
import sqlite3
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn import neural_network
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier, MLPRegressor

RNG = np.random.RandomState(0)
X = RNG.normal(size=(120, 5))
SCORES = X @ RNG.normal(size=(5, 6))
BINARY, LABELS, INDICATOR = (SCORES[:, 0] > 0).astype(int), SCORES.argmax(axis=1), (SCORES[:, :3] > 0).astype(int)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# name -> (class, targets, parameters): one of each kind of output
MODELS = {
    "two classes": (MLPClassifier, BINARY, {}),
    "six classes": (MLPClassifier, LABELS, {}),
    "several labels": (MLPClassifier, INDICATOR, {}),
    "logistic outputs of six classes": (MLPClassifier, LABELS, {"out_activation": "logistic"}),
    "softmax outputs of two classes": (MLPClassifier, BINARY, {"out_activation": "softmax"}),
    "one value": (MLPRegressor, SCORES[:, 0], {}),
    "two values": (MLPRegressor, SCORES[:, :2], {}),
    "counts": (MLPRegressor, BINARY, {"loss": "poisson"}),
}


def fitted(name, **more):
    kind, y, parameters = MODELS[name]
    model = kind(**{"hidden_layer_sizes": (7,), "max_iter": 15, "random_state": 0, **parameters, **more})
    return model.fit(X, y)


def answers(model, x):
    names = ("predict_proba", "predict_log_proba") if hasattr(model, "predict_proba") else ("predict",)
    return {name: getattr(model, name)(x) for name in names}


# what X is -> the type of what is predicted
TYPES = {
    "float64": (np.asarray, np.float64),
    "float32": (lambda x: x.astype(np.float32), np.float32),
    "float16": (lambda x: x.astype(np.float16), np.float64),
    "int64": (lambda x: (10 * x).astype(np.int64), np.float64),
    "uint8": (lambda x: (100 * np.abs(x)).astype(np.uint8), np.float64),
    "list": (lambda x: x.tolist(), np.float64),
    "Fortran, float32": (lambda x: np.asfortranarray(x, dtype=np.float32), np.float32),
    "CSR, float64": (sp.csr_array, np.float64),
    "CSR, float32": (lambda x: sp.csr_array(x.astype(np.float32)), np.float32),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_answers_have_the_float_type_of_X(name, dtype):
    model = fitted(name, dtype=dtype)
    for what, (convert, expected) in TYPES.items():
        for method, answer in answers(model, convert(X)).items():
            assert answer.dtype == expected, (what, method)
        assert (model.predict(convert(X)).dtype == expected) or not isinstance(model, MLPRegressor), what
    assert {array.dtype.name for array in model.coefs_ + model.intercepts_} == {dtype}


def logits_of(model, x):
    """The last sums as float64 NumPy computes them from the weights."""
    a = np.asarray(x, np.float64)
    pairs = list(zip(model.coefs_, model.intercepts_))
    for i, (w, b) in enumerate(pairs):
        a = a @ w.astype(np.float64) + b
        a = np.maximum(a, 0) if i < len(pairs) - 1 else a
    return a


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_the_formula(name, dtype, tolerance):
    model = fitted(name, dtype=dtype)
    z = logits_of(model, X)
    if isinstance(model, MLPRegressor):
        expected = np.exp(z) if name == "counts" else z
        np.testing.assert_allclose(model.predict(X), expected.reshape(len(X), -1).squeeze(), tolerance, tolerance)
        return
    if name == "two classes":
        proba, logs = np.hstack([expit(-z), expit(z)]), np.hstack([log_expit(-z), log_expit(z)])
    elif name == "several labels":
        proba, logs = expit(z), log_expit(z)
    elif name.startswith("logistic"):
        proba = expit(z) / expit(z).sum(axis=1, keepdims=True)
        logs = np.log(proba)
    else:
        proba, logs = softmax(z, axis=1), log_softmax(z, axis=1)
    np.testing.assert_allclose(model.predict_proba(X), proba, tolerance, tolerance)
    np.testing.assert_allclose(model.predict_log_proba(X), logs, tolerance, tolerance)


@pytest.mark.parametrize("name", ["two classes", "six classes", "softmax outputs of two classes"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_a_row_add_up_to_one_and_can_be_drawn_from(name, dtype):
    proba = fitted(name, dtype=dtype).predict_proba(X)
    assert np.abs(proba.sum(axis=1) - 1).max() <= 1e-15
    draw = np.random.RandomState(0)
    for p in proba:
        draw.multinomial(1, p)
        draw.choice(len(p), p=p)
        np.random.default_rng(0).multinomial(1, p)


@pytest.mark.parametrize("name", ["two classes", "six classes", "several labels", "logistic outputs of six classes"])
def test_logarithms_are_finite_where_probabilities_are_rounded_to_zero(name):
    model = fitted(name)
    model.coefs_[-1] *= 4000
    proba, logs = model.predict_proba(X), model.predict_log_proba(X)
    assert (proba == 0).any()
    assert np.isfinite(logs).all() and logs.min() < -800
    with np.errstate(divide="ignore"):
        sure = (proba > 1e-6) & (1 - proba > 1e-6)
        np.testing.assert_allclose(logs[sure], np.log(proba[sure]), rtol=1e-9, atol=1e-12)


def test_a_prediction_is_a_number_for_json_and_sqlite():
    value = fitted("one value").predict(X[:1])[0]
    share = fitted("two classes").predict_proba(X[:1])[0, 1]
    assert json.loads(json.dumps({"value": value, "share": share})) == {"value": float(value), "share": float(share)}
    table = sqlite3.connect(":memory:")
    table.execute("create table log (value real)")
    table.execute("insert into log values (?)", (value,))
    assert table.execute("select value, typeof(value) from log").fetchone() == (value, "real")


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_target_scaled_and_back_loses_no_digit(by_hand):
    north = 4_864_900 + 130 * np.tanh(X[:, 0] + 0.5 * X[:, 1])
    scaler = StandardScaler().fit(north[:, None])
    regressor = MLPRegressor(hidden_layer_sizes=(20,), max_iter=30, random_state=0)
    code = regressor.fit(X, scaler.transform(north[:, None]).ravel()).predict(X)
    exact = code.astype(np.float64) * scaler.scale_[0] + scaler.mean_[0]
    if by_hand:
        found = scaler.inverse_transform(code[:, None]).ravel()
    else:
        found = TransformedTargetRegressor(regressor, transformer=StandardScaler()).fit(X, north).predict(X)
    assert found.dtype == np.float64 and len(np.unique(found)) == len(X)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)


# ---- dtype="match" --------------------------------------------------------------------------------------------------
SOLVERS = {"adam": {}, "sgd": {"solver": "sgd", "learning_rate_init": 0.05}, "lbfgs": {"solver": "lbfgs"}}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("given", ["float64", "float32", "int64", "CSR float32"])
def test_match_is_scikit_learns_rule(given, solver):
    x = (10 * X).astype(np.int64) if given == "int64" else X.astype(given.split()[-1])
    x = sp.csr_array(x) if given.startswith("CSR") else x
    options = {"hidden_layer_sizes": (7,), "max_iter": 10, "random_state": 0, **SOLVERS[solver]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = MLPClassifier(dtype="match", **options).fit(x, LABELS)
        theirs = neural_network.MLPClassifier(**options).fit(x, LABELS)
    expected = np.float32 if given.endswith("float32") else np.float64
    assert {array.dtype for array in ours.coefs_ + ours.intercepts_} == {np.dtype(expected)}
    assert ours.predict_proba(x).dtype == theirs.predict_proba(x).dtype or solver == "lbfgs"
    tolerance = 1e-9 if expected is np.float64 else 1e-4 if solver != "lbfgs" else 0.05
    for found, wanted in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("first, second", [("float64", "float32"), ("float32", "float64")])
def test_match_keeps_the_type_of_the_weights(first, second):
    model = MLPClassifier((7,), dtype="match", random_state=0, max_iter=3)
    theirs = neural_network.MLPClassifier((7,), random_state=0, max_iter=3)
    for estimator in (model, theirs):
        estimator.partial_fit(X.astype(first), LABELS, classes=np.unique(LABELS)).partial_fit(X.astype(second), LABELS)
    assert model.coefs_[0].dtype == theirs.coefs_[0].dtype == first
    for given in (first, second):
        assert model.predict_proba(X.astype(given)).dtype == theirs.predict_proba(X.astype(given)).dtype
        np.testing.assert_allclose(
            model.predict_proba(X.astype(given)), theirs.predict_proba(X.astype(given)), rtol=1e-4, atol=1e-5
        )
