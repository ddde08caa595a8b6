"""GridSearchCV on digits: hidden (16,), (32,), (64,), (100,) x alpha 1e-5, 1e-4, 1e-3, 3 folds, 50 epochs.

With several workers every search starts processes of its own, inside the clock; what is compiled is in the cache.
"""

import time
from contextlib import nullcontext

from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV

GRID = {"hidden_layer_sizes": [(16,), (32,), (64,), (100,)], "alpha": [1e-5, 1e-4, 1e-3]}
EPOCHS = 50


class SearchJob:
    """Whole searches over estimators of `classifier`, all of whose other parameters are its defaults."""

    def __init__(self, classifier, workload, X, y, threads):
        if workload.workers > threads:
            raise NotImplementedError("more workers than threads")
        self.X, self.y, self.workers = X, y, workload.workers
        # joblib's rule, said aloud: it gives way to the variables that limit the threads of all libraries here.
        self.backend = {"backend": "loky", "inner_max_num_threads": threads // workload.workers}
        self.estimator = classifier(max_iter=EPOCHS, tol=0.0, n_iter_no_change=EPOCHS + 1, random_state=0)

    def run(self, times: int) -> float:
        seconds = 0.0
        for _ in range(times):
            search = GridSearchCV(self.estimator, GRID, cv=3, n_jobs=self.workers)
            start = time.perf_counter()
            with parallel_config(**self.backend) if self.workers > 1 else nullcontext():
                search.fit(self.X, self.y)
            seconds += time.perf_counter() - start
            if self.workers > 1:
                get_reusable_executor().shutdown(wait=True)  # the next search starts its own
        return seconds
