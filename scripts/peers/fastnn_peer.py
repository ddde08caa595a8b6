"""fastnn: the same data and parameters as scikit-learn, plus n_jobs."""

import fastnn
from fastnn import MLPClassifier, MLPRegressor
from peers.estimators import EstimatorJob
from peers.search import SearchJob

VERSION = fastnn.__version__


def thread_choices(threads: int) -> list[int]:
    return [threads]


def make_job(workload, X, y, threads: int):
    if workload.kind == "search":
        return SearchJob(MLPClassifier, workload, X, y, threads)
    return EstimatorJob(MLPClassifier, MLPRegressor, workload, X, y, n_jobs=threads)
