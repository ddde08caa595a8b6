"""A job on scikit-learn's estimators, or on any library that keeps their interface."""

from __future__ import annotations

import time
import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import get_tags

from peers.workloads import ALPHA, BETA_1, BETA_2, EPSILON, Workload

warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of epochs always ends at max_iter


def parameters(workload: Workload, epochs: int, seed: int = 0) -> dict:
    """Constructor arguments that train exactly `epochs` epochs."""
    return {
        "hidden_layer_sizes": workload.hidden,
        "activation": workload.activation,
        "solver": workload.solver,
        "alpha": ALPHA,
        "batch_size": workload.batch_rows,
        "learning_rate_init": workload.rate,
        "momentum": workload.momentum,
        "nesterovs_momentum": workload.momentum > 0,
        "beta_1": BETA_1,
        "beta_2": BETA_2,
        "epsilon": EPSILON,
        "shuffle": True,
        "max_iter": epochs,
        "tol": 0.0,
        "n_iter_no_change": epochs + 1,
        "random_state": seed,
    }


class EstimatorJob:
    """Whole fits (or predictions) by `classifier` or `regressor`, timed from the call to its return."""

    def __init__(self, classifier, regressor, workload: Workload, X, y, **extra):
        self.workload, self.X, self.y, self.extra = workload, X, y, extra
        self.cls = regressor if workload.task == "regression" else classifier
        self.fitted = None
        if workload.data == "words" and not get_tags(self.cls()).input_tags.sparse:
            raise NotImplementedError("no sparse input")
        if workload.kind == "predict":
            self._fit_for_prediction()

    def _fit_for_prediction(self):
        from dataclasses import replace

        from peers.workloads import make_data

        few = replace(self.workload, n=2000, kind="fit", batch=200)
        self.fitted = self.cls(**parameters(few, 1), **self.extra).fit(*make_data(few))

    def run(self, epochs: int) -> float:
        """Seconds of `epochs` epochs in one fit, or of so many predictions of all rows."""
        if self.workload.kind == "predict":
            predict = self.fitted.predict_proba
            start = time.perf_counter()
            for _ in range(epochs):
                predict(self.X)
            return time.perf_counter() - start
        estimator = self.cls(**parameters(self.workload, epochs), **self.extra)
        start = time.perf_counter()
        estimator.fit(self.X, self.y)
        seconds = time.perf_counter() - start
        if estimator.n_iter_ != epochs:
            raise RuntimeError(f"{self.workload.name}: stopped after {estimator.n_iter_} of {epochs} epochs")
        self.fitted = estimator
        return seconds

    def weights(self):
        return self.fitted.coefs_, self.fitted.intercepts_
