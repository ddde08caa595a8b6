"""fastnn: the same data and parameters as scikit-learn, plus n_jobs."""

import fastnn
from fastnn import MLPClassifier, MLPRegressor
from peers.estimators import EstimatorJob

VERSION = fastnn.__version__


def thread_choices(threads: int) -> list[int]:
    return [threads]


def make_job(workload, X, y, threads: int):
    return EstimatorJob(MLPClassifier, MLPRegressor, workload, X, y, n_jobs=threads)
