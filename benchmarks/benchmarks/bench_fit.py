"""Training: whole fits, one partial_fit, sparse input, peak memory, and the score after a fixed number of epochs."""

from dataclasses import replace
from functools import lru_cache

from numba.core.errors import NumbaError
from sklearn.utils import get_tags

from .common import (
    BY_NAME,
    CORE,
    EPOCHS,
    LIBRARIES,
    SHAPES,
    THREADS,
    Limited,
    data_of,
    digits,
    extra_megabytes,
    make_data,
    make_estimator,
)


@lru_cache(maxsize=1)
def warm_up(library, workload, n_jobs):
    """A fit of two batches: compiled code is loaded, thread pools are started."""
    few = replace(workload, n=min(workload.n, 2 * workload.batch_rows))
    make_estimator(library, few, 1, n_jobs).fit(*make_data.__wrapped__(few))


class Fit(Limited):
    """Time of a whole fit on at most 5,000 rows."""

    param_names = ("workload", "solver", "n_jobs", "library")
    params = (CORE, ("adam", "sgd"), THREADS, LIBRARIES)
    number = 1
    repeat = (2, 10, 3.0)
    warmup_time = 0

    def setup(self, name, solver, n_jobs, library):
        super().setup(n_jobs, library)
        workload, self.X, self.y = data_of(name)
        rate = workload.rate if solver == workload.solver else {"adam": 1e-3, "sgd": 1e-2}[solver]
        workload = replace(workload, solver=solver, rate=rate)
        warm_up(library, workload, n_jobs)
        self.estimator = make_estimator(library, workload, EPOCHS.get(name, 1), n_jobs)

    def time_fit(self, name, solver, n_jobs, library):
        self.estimator.fit(self.X, self.y)


class FitLbfgs(Limited):
    """Time of 20 iterations of L-BFGS on at most 5,000 rows."""

    param_names = ("workload", "n_jobs", "library")
    params = (("mnist-100", "binary", "moons"), THREADS, LIBRARIES)
    number = 1
    repeat = (2, 10, 3.0)
    warmup_time = 0

    def setup(self, name, n_jobs, library):
        super().setup(n_jobs, library)
        workload, self.X, self.y = data_of(name)
        self.estimator = make_estimator(library, replace(workload, solver="lbfgs"), 20, n_jobs)
        self.estimator.fit(self.X[:200], self.y[:200])

    def time_fit(self, name, n_jobs, library):
        self.estimator.fit(self.X, self.y)


class FitShapes(Limited):
    """Time of one epoch on at most 5,000 rows of networks of odd, deep, narrow and wide shapes."""

    param_names = ("workload", "n_jobs", "library")
    params = (SHAPES, THREADS, LIBRARIES)
    number = 1
    repeat = (2, 10, 3.0)
    warmup_time = 0

    def setup(self, name, n_jobs, library):
        super().setup(n_jobs, library)
        workload, self.X, self.y = data_of(name)
        warm_up(library, workload, n_jobs)
        self.estimator = make_estimator(library, workload, 1, n_jobs)

    def time_fit(self, name, n_jobs, library):
        self.estimator.fit(self.X, self.y)


class PartialFit(Limited):
    """Time of one partial_fit call on a model that has been trained before."""

    param_names = ("workload", "n_jobs", "library")
    params = (("mnist-100", "binary", "moons"), THREADS, LIBRARIES)
    warmup_time = 0

    def setup(self, name, n_jobs, library):
        super().setup(n_jobs, library)
        workload, self.X, self.y = data_of(name)
        self.estimator = make_estimator(library, workload, 1, n_jobs).fit(self.X, self.y)

    def time_partial_fit(self, name, n_jobs, library):
        self.estimator.partial_fit(self.X, self.y)


class SparseFit(Limited):
    """Time of one epoch on rows of words in CSR, 10000-16-16-1, batch 512; skipped where sparse input is refused."""

    param_names = ("n_jobs", "library")
    params = (THREADS, LIBRARIES)
    number = 1
    repeat = (2, 10, 3.0)
    warmup_time = 0

    def setup(self, n_jobs, library):
        super().setup(n_jobs, library)
        workload, self.X, self.y = data_of("imdb", 5000)
        self.estimator = make_estimator(library, workload, 1, n_jobs)
        if not get_tags(self.estimator).input_tags.sparse:
            raise NotImplementedError("no sparse input")
        try:
            self.estimator.fit(self.X[:1024], self.y[:1024])
        except NumbaError as reason:  # commits whose kernels were dense only
            raise NotImplementedError("no sparse kernels") from reason

    def time_fit_csr(self, n_jobs, library):
        self.estimator.fit(self.X, self.y)


class FitMemory:
    """Memory of a fit on 30,000 rows: peak of the process, and what the fit adds once the library is warm."""

    param_names = ("workload", "library")
    params = (("mnist-100", "mnist-512"), LIBRARIES)
    timeout = 300

    def setup(self, name, library):
        self.workload, self.X, self.y = data_of(name, 30_000)
        warm_up(library, self.workload, -1)

    def peakmem_fit(self, name, library):
        make_estimator(library, self.workload, 1, -1).fit(self.X, self.y)

    def track_fit_extra(self, name, library):
        estimator = make_estimator(library, self.workload, 1, -1)
        return extra_megabytes(lambda: estimator.fit(self.X, self.y))

    track_fit_extra.unit = "MB"


class Score:
    """Accuracy on held-out digits after a fixed number of epochs: the same network must learn as well in both."""

    param_names = ("solver", "library")
    params = (("adam", "sgd"), LIBRARIES)
    unit = "accuracy"
    timeout = 300

    def track_test_accuracy(self, solver, library):
        X_train, X_test, y_train, y_test = digits()
        rate = {"adam": 1e-3, "sgd": 0.1}[solver]
        workload = replace(BY_NAME["mnist-100"], n=len(X_train), solver=solver, rate=rate, batch=50)
        return make_estimator(library, workload, 20).fit(X_train, y_train).score(X_test, y_test)
