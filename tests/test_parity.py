"""The same seed walks scikit-learn's trajectory: 20 epochs, or some L-BFGS iterations, beside scikit-learn's own.

In float64 both must agree to 1e-9. In float32 losses must agree to 1e-4, or to 3 times the distance between
scikit-learn's own float32 and float64 runs where that is larger; scikit-learn gets float32 X, y and weights.
"""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score

import fastnn

N_ROWS, N_FEATURES = 150, 12


def make_data():
    """X and a dict of targets, all float64 or integer; the float32 runs cast them."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((N_ROWS, N_FEATURES)).astype(np.float32).astype(np.float64)
    signal = X @ rng.standard_normal((N_FEATURES, 4)) / 3 + 0.3 * rng.standard_normal((N_ROWS, 4))
    targets = {
        "2 classes": np.where(signal[:, 0] > 0.2, 4, -1),
        "10 classes": np.digitize(signal[:, 0], np.quantile(signal[:, 0], np.arange(1, 10) / 10)) * 3 - 5,
        "labels": (signal > 0).astype(int),
        "1 output": signal[:, 0],
        "3 outputs": signal[:, :3],
        "counts": np.floor(np.exp(signal[:, 0])),
    }
    return X, targets, rng.uniform(0, 2, N_ROWS) * (rng.uniform(size=N_ROWS) < 0.8)


X, TARGETS, WEIGHTS = make_data()
SGD = {"solver": "sgd", "learning_rate_init": 0.05}
SOLVERS = {
    "nesterov": SGD,
    "momentum": {**SGD, "nesterovs_momentum": False},
    "plain sgd": {**SGD, "momentum": 0.0},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}

# name -> (target, how it is trained, parameters); "how" is fit, weighted, csr, csc, warm or partial.
CASES = {
    f"{activation}, {solver}, {target}": (target, "fit", {"activation": activation, **parameters})
    for activation in ("identity", "logistic", "tanh", "relu")
    for solver, parameters in SOLVERS.items()
    for target in ("2 classes", "10 classes", "1 output", "3 outputs")
}
ADAPTIVE = {**SGD, "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 2}
EARLY = {"early_stopping": True, "n_iter_no_change": 3, "tol": 1e-3, "validation_fraction": 0.2}
CASES |= {
    "invscaling": ("10 classes", "fit", {**SGD, "learning_rate": "invscaling", "power_t": 0.3}),
    "adaptive": ("10 classes", "fit", ADAPTIVE),
    "adaptive, early stopping": ("2 classes", "fit", {**ADAPTIVE, **EARLY}),
    "early stopping, 2 classes": ("2 classes", "fit", EARLY),
    "early stopping, 10 classes": ("10 classes", "fit", EARLY),
    "early stopping, labels": ("labels", "fit", EARLY),
    "early stopping, 3 outputs": ("3 outputs", "fit", EARLY),
    "early stopping, weighted": ("1 output", "weighted", EARLY),
    "early stopping, sparse": ("2 classes", "csr", EARLY),
    "stops on tol": ("1 output", "fit", {**SGD, "tol": 0.01, "n_iter_no_change": 2}),
    "warm start": ("10 classes", "warm", {}),
    "warm start, early stopping": ("2 classes", "warm", EARLY),
    "warm start, adaptive": ("3 outputs", "warm", ADAPTIVE),
    "partial_fit, classes": ("10 classes", "partial", {}),
    "partial_fit, values": ("3 outputs", "partial", SGD),
    "partial_fit, invscaling": ("2 classes", "partial", {**SGD, "learning_rate": "invscaling"}),
    "weights, classes": ("10 classes", "weighted", {}),
    "weights, 2 classes": ("2 classes", "weighted", SGD),
    "weights, values": ("3 outputs", "weighted", {}),
    "weights, labels": ("labels", "weighted", {}),
    "csr": ("10 classes", "csr", {}),
    "csc": ("3 outputs", "csc", SGD),
    "labels": ("labels", "fit", {}),
    "labels, sgd": ("labels", "fit", SGD),
    "poisson": ("counts", "fit", {"loss": "poisson"}),
    "poisson, tanh, weighted": ("counts", "weighted", {"loss": "poisson", "activation": "tanh"}),
    "no hidden layer": ("10 classes", "fit", {"hidden_layer_sizes": ()}),
    "three hidden layers": ("2 classes", "fit", {"hidden_layer_sizes": (17, 1, 9)}),
    "one hidden unit": ("3 outputs", "fit", {"hidden_layer_sizes": 1}),
    "strong penalty": ("1 output", "fit", {"alpha": 5.0}),
    "no shuffle": ("10 classes", "fit", {"shuffle": False}),
    "full batch": ("2 classes", "fit", {**SGD, "batch_size": N_ROWS}),
    "batches of one": ("3 outputs", "fit", {"batch_size": 1, "learning_rate_init": 0.001}),
}
LBFGS = {
    f"lbfgs, {activation}, {target}": (target, how, {"activation": activation, "solver": "lbfgs", **more})
    for activation, target, how, more in [
        ("identity", "1 output", "fit", {}),
        ("logistic", "10 classes", "fit", {}),
        ("tanh", "2 classes", "fit", {}),
        ("relu", "3 outputs", "fit", {}),
        ("tanh", "counts", "fit", {"loss": "poisson"}),
        ("tanh", "labels", "weighted", {}),
        ("tanh", "10 classes", "warm", {}),
        ("logistic", "3 outputs", "csr", {}),
    ]
}


def trained(library, case, dtype):
    """An estimator of ``library`` after the training that ``case`` describes, on data of ``dtype``."""
    target, how, parameters = case
    classifier = target in ("2 classes", "10 classes", "labels")
    y, weight = TARGETS[target], WEIGHTS.astype(dtype)
    kind = library.MLPClassifier if classifier else library.MLPRegressor
    options = {"hidden_layer_sizes": (16,), "batch_size": 32, "max_iter": 20, "random_state": 3, **parameters}
    if library is fastnn:
        options["dtype"] = dtype
    if not classifier:
        y = y.astype(dtype)
    data = X.astype(dtype)
    if how in ("csr", "csc"):
        data = sp.csr_array(np.where(abs(data) > 0.7, data, 0)).asformat(how)
    estimator = kind(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if how == "partial":
            more = {"classes": np.unique(y)} if classifier else {}
            for i in range(10):
                half = slice(None, 80) if i % 2 else slice(70, None)
                estimator.partial_fit(data[half], y[half], **more)
        elif how == "warm":
            estimator.set_params(warm_start=True, max_iter=10).fit(data, y).fit(data, y)
        else:
            estimator.fit(data, y, sample_weight=weight if how == "weighted" else None)
    return estimator, data


def weights(estimator):
    return np.concatenate([array.ravel() for array in estimator.coefs_ + estimator.intercepts_])


def same_predictions(ours, theirs, data):
    """Share of rows with the same prediction: equal classes, or values within 1e-3 of the largest."""
    a, b = ours.predict(data), theirs.predict(data)
    same = abs(a - b) <= 1e-3 * abs(b).max() if isinstance(ours, fastnn.MLPRegressor) else a == b
    return np.mean(same.reshape(len(same), -1).all(axis=1))


def curve(estimator):
    return np.asarray(getattr(estimator, "loss_curve_", [estimator.loss_]))


def difference(one, other):
    """Largest relative difference of two estimators' losses, or of their weights measured by the largest."""
    weight, loss = weights(other), curve(other)
    return max(abs(curve(one) / loss - 1).max(), abs(weights(one) - weight).max() / abs(weight).max())


def sensitivity(case, theirs):
    """How far scikit-learn strays from itself when X is one ulp off: 50 line searches amplify any rounding."""
    exact, strays = X.copy(), []
    try:
        for seed in range(3):
            signs = np.random.RandomState(seed).choice([-1, 1], X.shape)
            X[...] = np.nextafter(exact, exact + signs)
            strays.append(difference(trained(neural_network, case, "float64")[0], theirs))
    finally:
        X[...] = exact
    return max(strays)


@pytest.mark.parametrize("name", [*CASES, *LBFGS])
def test_float64_trajectory(name):
    case = (CASES | LBFGS)[name]
    if name in LBFGS:
        case = (*case[:2], {**case[2], "max_iter": 50})
    ours, data = trained(fastnn, case, "float64")
    theirs, _ = trained(neural_network, case, "float64")
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    limit = 1e-9
    if name in LBFGS and difference(ours, theirs) > limit:
        limit = max(limit, 3 * sensitivity(case, theirs))
    assert difference(ours, theirs) <= limit
    assert same_predictions(ours, theirs, data) == 1
    for attribute in ("validation_scores_", "best_validation_score_", "best_loss_", "_no_improvement_count"):
        expected = getattr(theirs, attribute, None)
        if expected is None:
            assert getattr(ours, attribute, None) is None, attribute
        else:
            np.testing.assert_allclose(getattr(ours, attribute), expected, rtol=1e-9, err_msg=attribute)


@pytest.mark.parametrize("name", [*CASES, *LBFGS])
def test_float32_trajectory(name):
    case = (CASES | LBFGS)[name]
    ours, data = trained(fastnn, case, "float32")
    theirs, _ = trained(neural_network, case, "float32")
    double, _ = trained(neural_network, case, "float64")
    assert {array.dtype for array in ours.coefs_ + ours.intercepts_} == {np.dtype("float32")}
    losses, expected, exact = curve(ours), curve(theirs), curve(double)
    assert len(losses) == len(expected) == len(exact)
    allowed = np.maximum(1e-4 * abs(expected), 3 * abs(expected - exact))
    assert (abs(losses - expected) <= allowed).all(), abs(losses - expected) / allowed
    largest = abs(weights(theirs)).max()
    assert abs(weights(ours) - weights(theirs)).max() <= 1e-3 * largest
    assert same_predictions(ours, theirs, data) >= 0.999


SCORED = {
    "integers": lambda y: y,
    "booleans": lambda y: y > 0,
    "strings": lambda y: np.array(["no", "yes", "maybe"])[y],
    "a list": lambda y: y.tolist(),
    "indicator": lambda y: np.eye(3, dtype=int)[y],
}


@pytest.mark.parametrize("kind", SCORED)
def test_score_is_the_accuracy_that_scikit_learn_computes(kind):
    rng = np.random.RandomState(0)
    X, labels = rng.standard_normal((40, 3)), rng.randint(3, size=40)
    y = SCORED[kind](labels)
    model = fastnn.MLPClassifier((4,), max_iter=3, random_state=0).fit(X, y)
    for weight in (None, rng.uniform(size=40)):
        score = model.score(X, y, sample_weight=weight)
        assert type(score) is float
        assert score == accuracy_score(y, model.predict(X), sample_weight=weight)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.score(X[:-1], y)
