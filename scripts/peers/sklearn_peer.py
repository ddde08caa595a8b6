"""scikit-learn: float32 X, and float32 y for regression; its threads are those of NumPy's BLAS."""

import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from peers.estimators import EstimatorJob
from peers.search import SearchJob

VERSION = sklearn.__version__


def thread_choices(threads: int) -> list[int]:
    return [threads]  # the child process was started with this limit


def make_job(workload, X, y, threads: int):
    if workload.kind == "search":
        return SearchJob(MLPClassifier, workload, X, y, threads)
    return EstimatorJob(MLPClassifier, MLPRegressor, workload, X, y)
