"""Model selection on digits: many small fits, one after the other or spread over workers; threads as users get them."""

from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, cross_val_score

from .common import LIBRARIES, digits, estimator_class

GRID = {"hidden_layer_sizes": [(16,), (64,)], "alpha": [1e-5, 1e-3]}
EPOCHS = 15


def candidate(library):
    return estimator_class(library)(max_iter=EPOCHS, tol=0.0, n_iter_no_change=EPOCHS + 1, random_state=0)


class Search:
    """GridSearchCV of four candidates in three folds; `workers` processes by loky, or threads of this process."""

    param_names = ("backend", "workers", "library")
    params = (("loky", "threading"), (1, 2), LIBRARIES)
    number = 1
    repeat = (2, 5, 5.0)
    warmup_time = 0
    timeout = 300

    def setup(self, backend, workers, library):
        if backend == "threading" and workers == 1:
            raise NotImplementedError("one worker is the same in every backend")
        self.X, _, self.y, _ = digits()
        candidate(library).fit(self.X[:300], self.y[:300])

    def time_grid_search(self, backend, workers, library):
        with parallel_config(backend, n_jobs=workers):
            GridSearchCV(candidate(library), GRID, cv=3).fit(self.X, self.y)


class CrossValidation:
    """cross_val_score of one candidate in five folds, in this process."""

    param_names = ("library",)
    params = (LIBRARIES,)
    number = 1
    repeat = (2, 5, 5.0)
    warmup_time = 0
    timeout = 300

    def setup(self, library):
        self.X, _, self.y, _ = digits()
        candidate(library).fit(self.X[:300], self.y[:300])

    def time_cross_val_score(self, library):
        cross_val_score(candidate(library), self.X, self.y, cv=5)
