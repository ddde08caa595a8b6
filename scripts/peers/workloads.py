"""One table of every job that is timed, its seeded data, its initial weights, its arithmetic and its loss.

compare_peers.py and the asv suite under benchmarks/ both read this table, so a row means the same job everywhere.
Units are (features, *hidden, outputs). One output of a classification is two classes behind a logistic unit; several
are softmax classes. Every job carries scikit-learn's L2 of 1e-4, applied to weights and divided by the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

ALPHA = 1e-4
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Workload:
    """One job: `n` rows through `units`, mini-batches of `batch` rows (0: all rows at once)."""

    name: str
    n: int
    units: tuple[int, ...]
    batch: int
    solver: str
    activation: str = "relu"
    rate: float = 1e-3
    momentum: float = 0.0  # of sgd; Nesterov's form where it is not zero
    task: str = "classes"  # or "regression"
    data: str = "normal"  # "pixels": in [0, 1], four of five zero; "words": CSR, 1 % ones; "digits": scikit-learn's
    kind: str = "fit"  # or "predict": predict_proba of all n rows after a short fit; or "search": see search.py
    workers: int = 1  # processes of a search
    group: str = "core"

    @property
    def batch_rows(self) -> int:
        return self.batch or self.n

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.units[1:-1]

    @property
    def output(self) -> str:
        """Output activation, which also names the loss: softmax, logistic or identity."""
        if self.task == "regression":
            return "identity"
        return "logistic" if self.units[-1] == 1 else "softmax"

    def describe(self) -> str:
        if self.kind == "search":
            return f"GridSearchCV, digits, n_jobs={self.workers}"
        net = "-".join(map(str, self.units))
        if self.kind == "predict":
            return f"{self.n}, {net}, {self.kind}"
        return f"{self.n}, {net}, {self.batch or 'full'}, {self.solver}, {self.activation}"

    def flops(self) -> int:
        """Multiplications and additions of the products of one epoch (or one prediction); nothing else is counted."""
        products = [a * b for a, b in zip(self.units[:-1], self.units[1:], strict=True)]
        if self.kind == "predict":
            return 2 * self.n * sum(products)
        return 2 * self.n * (2 * sum(products) + sum(products[1:]))  # the first layer passes nothing back

    def shrunk(self, limit: int = 2000) -> Workload:
        """The same network on at most `limit` rows (a search: an eighth of them), for runs that must be short."""
        return replace(self, n=min(self.n, limit // 8 if self.kind == "search" else limit))


WORKLOADS = (
    Workload("mnist-100", 60000, (784, 100, 10), 200, "adam", data="pixels"),
    Workload("mnist-50", 60000, (784, 50, 10), 100, "sgd", rate=0.1, data="pixels"),
    Workload("nielsen-30", 50000, (784, 30, 10), 10, "sgd", "logistic", rate=0.1, data="pixels"),
    Workload("binary", 20000, (20, 100, 1), 200, "adam"),
    Workload("moons", 200, (2, 3, 1), 0, "sgd", "tanh", rate=0.1),
    Workload("mnist-512", 60000, (784, 512, 512, 10), 128, "adam", data="pixels"),
    Workload("covertype", 50000, (54, 256, 256, 256, 7), 256, "adam"),
    Workload("boston", 404, (13, 64, 64, 1), 1, "adam", task="regression"),
    Workload("odd-widths", 20000, (101, 77, 53, 3), 100, "adam", group="shapes"),
    Workload("tanh-deep", 20000, (64, 64, 64, 64, 64, 10), 128, "adam", "tanh", group="shapes"),
    Workload("logistic", 20000, (100, 200, 1), 200, "sgd", "logistic", rate=0.1, momentum=0.9, group="shapes"),
    Workload("multi-output", 20000, (32, 128, 128, 12), 200, "adam", task="regression", group="shapes"),
    Workload("bottleneck", 20000, (784, 128, 8, 128, 20), 256, "adam", data="pixels", group="shapes"),
    Workload("batch-32", 30000, (128, 96, 10), 32, "adam", group="shapes"),
    Workload("imdb", 25000, (10000, 16, 16, 1), 512, "adam", data="words", group="sparse"),
    Workload("predict", 60000, (784, 100, 10), 200, "adam", data="pixels", kind="predict", group="predict"),
    Workload("predict-one", 1, (784, 100, 10), 200, "adam", data="pixels", kind="predict", group="predict"),
    Workload("search-1", 1797, (64, 100, 10), 200, "adam", data="digits", kind="search", group="search"),
    Workload("search-2", 1797, (64, 100, 10), 200, "adam", data="digits", kind="search", workers=2, group="search"),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
GROUPS = tuple(dict.fromkeys(workload.group for workload in WORKLOADS))
QUICK = ("mnist-100", "binary", "moons", "boston")


@lru_cache(maxsize=1)
def make_data(workload: Workload, seed: int = 0):
    """Features and targets drawn from a seed, with something to learn in them.

    Returns
    -------
    X : float32 ndarray (n, features), C order, or a CSR array for "words"
    y : int64 class indices (n,), or float32 targets, (n,) for one output and (n, outputs) for several
    """
    if workload.data == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return (X[: workload.n] / 16).astype(np.float32), y[: workload.n].astype(np.int64)
    rng = np.random.default_rng(seed)
    n, n_features, n_outputs = workload.n, workload.units[0], workload.units[-1]
    X = _features(workload.data, n, n_features, rng)
    # The targets follow a random linear map of the features plus noise of half its spread.
    teacher = rng.standard_normal((n_features, n_outputs), dtype=np.float32)
    signal = np.asarray(X @ teacher)
    signal -= signal.mean(axis=0)
    signal /= max(float(signal.std()), 1e-6)
    signal += 0.5 * rng.standard_normal(signal.shape, dtype=np.float32)
    if workload.output == "identity":
        return X, (signal[:, 0] if n_outputs == 1 else signal)
    if workload.output == "logistic":
        return X, (signal[:, 0] > 0).astype(np.int64)
    return X, signal.argmax(axis=1)


def _features(data: str, n: int, n_features: int, rng):
    if data == "words":
        from scipy import sparse

        per_row = max(n_features // 100, 1)
        columns = np.sort(rng.integers(0, n_features, size=(n, per_row), dtype=np.int32), axis=1)
        indptr = np.arange(0, n * per_row + 1, per_row, dtype=np.int32)
        X = sparse.csr_array((np.ones(n * per_row, np.float32), columns.ravel(), indptr), shape=(n, n_features))
        X.sum_duplicates()
        X.data[:] = 1
        return X
    if data == "normal":
        return rng.standard_normal((n, n_features), dtype=np.float32)
    X = rng.random((n, n_features), dtype=np.float32)
    X -= 0.8  # an MNIST image has ink on a fifth of its pixels; in place, so that no copy hides what a fit needs
    X *= 5
    return np.maximum(X, 0, out=X)


def initial_weights(workload: Workload, seed: int = 0):
    """The weights that scikit-learn draws from the seed, for the libraries that bring no estimator of their own."""
    rng = np.random.RandomState(seed)
    factor = 2.0 if workload.activation == "logistic" else 6.0
    coefs, intercepts = [], []
    for fan_in, fan_out in zip(workload.units[:-1], workload.units[1:], strict=True):
        bound = np.sqrt(factor / (fan_in + fan_out))
        coefs.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32))
        intercepts.append(rng.uniform(-bound, bound, fan_out).astype(np.float32))
    return coefs, intercepts


HIDDEN = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
}


def training_loss(workload: Workload, X, y, coefs, intercepts) -> float:
    """Mean loss of the data in float64, without L2: one yardstick for the weights of every library."""
    a = X.astype(np.float64)
    for W, b in zip(coefs[:-1], intercepts[:-1], strict=True):
        a = HIDDEN[workload.activation](a @ W + b)
    z = a @ np.asarray(coefs[-1], np.float64) + intercepts[-1]
    if workload.output == "identity":
        return float(0.5 * np.mean((z - y.reshape(z.shape)) ** 2))
    if workload.output == "logistic":
        return float(np.mean(np.logaddexp(0, z[:, 0]) - y * z[:, 0]))
    top = z.max(axis=1)
    return float(np.mean(top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(y)), y]))
