"""Prediction: many rows in every form of input, one row, and the memory that many rows through a wide layer need."""

import numpy as np
from numba.core.errors import NumbaError

from .common import LIBRARIES, THREADS, Limited, data_of, extra_megabytes, fitted

FORMS = {
    "float32": lambda X: X,
    "float64": lambda X: X.astype(np.float64),
    "uint8": lambda X: (255 * X).astype(np.uint8),
    "fortran": np.asfortranarray,
}


class Predict(Limited):
    """predict_proba of 5,000 rows of 784 through 100 hidden units."""

    param_names = ("form", "n_jobs", "library")
    params = (tuple(FORMS), THREADS, LIBRARIES)

    def setup(self, form, n_jobs, library):
        super().setup(n_jobs, library)
        self.model = fitted(library, "mnist-100", n_jobs)
        self.X = FORMS[form](data_of("mnist-100")[1])
        self.model.predict_proba(self.X)

    def time_predict_proba(self, form, n_jobs, library):
        self.model.predict_proba(self.X)


class PredictOneRow(Limited):
    """Latency of predict_proba for a single row."""

    param_names = ("workload", "n_jobs", "library")
    params = (("mnist-100", "moons"), (1,), LIBRARIES)

    def setup(self, name, n_jobs, library):
        super().setup(n_jobs, library)
        self.model = fitted(library, name, n_jobs)
        self.X = data_of(name, 1000)[1][:1]
        self.model.predict_proba(self.X)

    def time_predict_proba(self, name, n_jobs, library):
        self.model.predict_proba(self.X)


class PredictSparse(Limited):
    """predict_proba of 5,000 rows of words in CSR through 10000-16-16-1."""

    param_names = ("n_jobs", "library")
    params = (THREADS, LIBRARIES)

    def setup(self, n_jobs, library):
        super().setup(n_jobs, library)
        try:
            self.model = fitted(library, "imdb", n_jobs)
        except (NumbaError, TypeError) as reason:  # commits whose kernels were dense only
            raise NotImplementedError("no sparse input") from reason
        self.X = data_of("imdb")[1]
        self.model.predict_proba(self.X)

    def time_predict_proba_csr(self, n_jobs, library):
        self.model.predict_proba(self.X)


class PredictMemory:
    """Memory of predict on 30,000 rows through 2000 hidden units: peak of the process, and what predict adds."""

    param_names = ("library",)
    params = (LIBRARIES,)
    timeout = 300

    def setup(self, library):
        self.model = fitted(library, "mnist-100", -1, hidden=(2000,))
        self.X = data_of("mnist-100", 30_000)[1]
        self.model.predict(self.X[:100])

    def peakmem_predict(self, library):
        self.model.predict(self.X)

    def track_predict_extra(self, library):
        return extra_megabytes(lambda: self.model.predict(self.X))

    track_predict_extra.unit = "MB"
