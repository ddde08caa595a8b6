"""Worker processes of joblib (loky) and multiprocessing: estimators that travel there take the patch with them.

Only what processes send each other says so; files do not. Under ``python -m fastnn run`` all child processes are
patched from their start on, see `site`.
"""

import contextlib
import importlib
import multiprocessing
from multiprocessing.reduction import ForkingPickler

from sklearn.neural_network._multilayer_perceptron import MLPClassifier, MLPRegressor

from .methods import arrive, current


def register():
    """Let estimators that go to other processes say by which precision this one is patched.

    It stays so when a patch is taken back, since workers that are kept have to learn of that, too.
    """
    registries = [ForkingPickler]
    with contextlib.suppress(ImportError):  # of a joblib that has another one: scikit-learn trains in its workers
        registries.append(importlib.import_module("joblib.externals.loky.backend.reduction"))
    for registry in registries:
        for kind in (MLPClassifier, MLPRegressor):
            registry.register(kind, _reduce)


def _reduce(estimator):
    _, (kind, *_), state = estimator.__reduce_ex__(4)[:3]
    return _arrived, (kind, current()), state


def _arrived(kind, dtype):
    if multiprocessing.parent_process() is not None:  # else the process that was patched, or not, by its program
        arrive(dtype)
    return kind.__new__(kind)
