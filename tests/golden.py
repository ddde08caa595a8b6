"""Golden bits: a digest of what each of many fits comes to, the same on every processor and any number of threads.

    python tests/golden.py            compare, and name the cases that differ
    python tests/golden.py --write    write tests/golden.json anew, after a change that is meant to change bits

A digest covers weights and biases, the loss curve and predictions. The data are drawn as integers and divided, so that
no library's logarithm is in them. Under L-BFGS a plain descent stands for SciPy's minimizer, whose sums follow the BLAS
of the processor: what is compared is the loss and the gradient.
"""

import functools
import hashlib
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import scipy.sparse as sp

from fastnn import MLPClassifier, MLPRegressor

FILE = Path(__file__).with_suffix(".json")
THREADS = (1, 2)

# What is learned: kind of y, estimator, and its parameters.
GOALS = {
    "log_loss": ("classes", MLPClassifier, {}),
    "binary_log_loss": ("two", MLPClassifier, {}),
    "multilabel": ("labels", MLPClassifier, {}),
    "squared_error": ("values", MLPRegressor, {}),
    "squared_error of one output": ("value", MLPRegressor, {}),
    "poisson": ("counts", MLPRegressor, {"loss": "poisson"}),
    "logistic_squared_error": ("classes", MLPClassifier, {"loss": "squared_error", "out_activation": "logistic"}),
    "softmax_squared_error": ("classes", MLPClassifier, {"loss": "squared_error", "out_activation": "softmax"}),
}
SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.01},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.01},
    "nesterov": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.01},
    "adam": {"solver": "adam"},
    "rmsprop": {"solver": "rmsprop"},
    "lbfgs": {"solver": "lbfgs"},
}
ACTIVATIONS = ("relu", "tanh", "logistic", "identity")
# Rows, features, hidden layers and batch of networks that go different ways through the engine.
SHAPES = {
    "small": (60, 5, (7,), 20),
    "one row at a time": (40, 13, (16, 8), 1),
    "narrow": (90, 40, (24, 3), 45),
    "wide": (96, 70, (130, 120), 48),
    "split sums": (220, 64, (130,), 110),
    "large": (48, 300, (450, 20), 24),
    "transposed on the fly": (48, 40, (260, 260), 24),
    "in parts": (450, 20, (100,), 200),
    "in four parts": (820, 20, (100,), 400),
    "no hidden layer": (90, 30, (), 30),
    "many rows": (700, 33, (20, 9), 300),
}
MORE = {
    "early stopping": {"early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 2, "max_iter": 6},
    "in order": {"shuffle": False},
    "alpha": {"alpha": 0.3},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1, "max_iter": 8},
}


def cases():
    """``{name: (goal, shape, parameters, how)}``; ``how`` is "dense", "csr", "weights" or "partial_fit"."""
    found = {}

    def add(goal, shape, solver, activation, dtype, how, more=None):
        name = ", ".join([goal, shape, solver, activation, dtype, how, *([more] if more else [])])
        parameters = {**GOALS[goal][2], **SOLVERS[solver], "activation": activation, "dtype": dtype}
        found[name] = (goal, shape, {**parameters, **MORE.get(more, {})}, how)

    for i, goal in enumerate(GOALS):
        for j, solver in enumerate(SOLVERS):
            for dtype in ("float32", "float64"):
                add(goal, "small", solver, ACTIVATIONS[(i + j) % 4], dtype, "csr" if (i + j) % 3 == 0 else "dense")
    goals = ("log_loss", "squared_error of one output", "squared_error", "binary_log_loss")
    for i, shape in enumerate(SHAPES):
        for j, activation in enumerate(ACTIVATIONS):
            for how in ("dense", "csr"):
                add(goals[(i + j) % 4], shape, "adam", activation, "float32", how)
        add("squared_error of one output", shape, "nesterov", "relu", "float32", "dense")
        add("log_loss", shape, "adam", "tanh", "float64", "dense")
        add("log_loss", shape, "lbfgs", "relu", "float64", "dense")
        add("binary_log_loss", shape, "lbfgs", "relu", "float32", "csr")
        add("squared_error of one output", shape, "adam", "relu", "float32", "weights")
        add("log_loss", shape, "momentum", "relu", "float32", "partial_fit")
    for more in MORE:
        add("log_loss", "many rows", "adam", "relu", "float32", "dense", more)
    return found


@functools.cache
def data(goal, shape):
    """X, y and weights: multiples of 1 / 64 that no library's functions had a part in."""
    n, n_features, _, _ = SHAPES[shape]
    rng = np.random.RandomState(7)
    X = rng.randint(-96, 97, size=(n, n_features)) / 64
    X[rng.randint(0, 10, size=X.shape) < 4] = 0
    values = X[:, :3] - 2 * X[:, [1, 2, 0]] * X[:, [2, 3, 4]]
    y = {
        "classes": np.argmax(values, axis=1),
        "two": (values[:, 0] > 0).astype(int),
        "labels": (values > 0).astype(int),
        "values": values,
        "value": values[:, 0],
        "counts": np.floor(np.abs(values)),
    }[GOALS[goal][0]]
    return X, y, rng.randint(1, 9, size=n) / 4


def descent(function, start, *, callback, **options):
    """Four steps against the gradient, in SciPy's place."""
    x, losses = start.copy(), []
    for _ in range(4):
        loss, gradient = function(x)
        losses.append(loss)
        callback(intermediate_result=SimpleNamespace(fun=loss, x=x))
        x = x - 0.05 * gradient
    return SimpleNamespace(x=x, fun=losses[-1], nit=4, status=0, message="")


def digests(name, n_jobs):
    """Digests of a case's weights, losses and predictions."""
    goal, shape, parameters, how = cases()[name]
    X, y, weights = data(goal, shape)
    _, _, hidden, batch = SHAPES[shape]
    parameters = {"max_iter": 3, "random_state": 3, "batch_size": batch, **parameters}
    model = GOALS[goal][1](hidden_layer_sizes=hidden, n_jobs=n_jobs, **parameters)
    X = sp.csr_array(X) if how == "csr" else X
    more = {"sample_weight": weights} if how == "weights" else {}
    with mock.patch("fastnn.lbfgs.minimize", descent), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y, **more)
        if how == "partial_fit":
            model.partial_fit(X[::2], y[::2])
    losses = model.history_["loss"]
    predicted = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    arrays = [*model.coefs_, *model.intercepts_], [np.array(losses)], [np.asarray(predicted)]
    return " ".join(map(_digest, arrays))


def _digest(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.dtype.str, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def known():
    """The digests in the file."""
    return json.loads(FILE.read_text())


def main():
    """Compare with the file, or write it."""
    found = {name: {digests(name, n_jobs) for n_jobs in THREADS} for name in cases()}
    undecided = [name for name, each in found.items() if len(each) > 1]
    if "--write" in sys.argv[1:] and not undecided:
        FILE.write_text(json.dumps({name: each.pop() for name, each in found.items()}, indent=0) + "\n")
        print(f"{len(found)} cases written")
        return 0
    differ = undecided or [name for name, each in found.items() if each != {known().get(name)}]
    print(*differ, f"{len(differ)} of {len(found)} cases differ", sep="\n")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
