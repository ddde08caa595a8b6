"""The two methods of scikit-learn's that fastnn's take the place of, and by which precision, if any."""

import functools
import inspect
import threading

import sklearn
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron as Base

from . import fits
from .refusals import forward_refusal, training_refusal

# The methods that are exchanged, with the parameters by which scikit-learn calls them.
PARAMETERS = {
    "_fit": ("self", "X", "y", "sample_weight", "incremental"),
    "_forward_pass_fast": ("self", "X", "check_input"),
}

lock = threading.RLock()
patches = []  # those that hold, the newest last
_arrived = None  # in a worker process: the precision by which the process that it works for is patched
_exchanged = {}  # pairs of scikit-learn's and fastnn's function by name, while fastnn's are in place


def current():
    """The precision by which this process is patched, or None."""
    try:
        return patches[-1].dtype
    except IndexError:
        return _arrived


def arrive(dtype):
    """Be patched, or not, as the process is that has sent an estimator to this worker process."""
    global _arrived
    if dtype != _arrived:
        with lock:
            if dtype is not None:
                exchange()
            _arrived = dtype
            restore_unless_needed()


def exchange():
    """Put fastnn's methods in the place of scikit-learn's, unless they are there.

    Raises
    ------
    RuntimeError
        When scikit-learn's class has no such methods.
    """
    if _exchanged:
        return
    found = {name: vars(Base).get(name) for name in PARAMETERS}
    for name, parameters in PARAMETERS.items():
        if not callable(found[name]) or tuple(inspect.signature(found[name]).parameters) != parameters:
            raise RuntimeError(
                f"patch_sklearn does not know the scikit-learn {sklearn.__version__} of this process: its perceptrons "
                f"have no method {name}({', '.join(parameters)}). Import the estimators from fastnn instead."
            )
    makers = {"_fit": _make_fit, "_forward_pass_fast": _make_forward}
    _exchanged.update({name: (original, makers[name](original)) for name, original in found.items()})
    for name, (_, ours) in _exchanged.items():
        setattr(Base, name, ours)


def restore_unless_needed():
    """Put scikit-learn's methods back if no patch holds.

    A method that another program has put in the place of fastnn's stays; fastnn's hands on what that calls it for.
    """
    if current() is not None:
        return
    for name, (original, ours) in _exchanged.items():
        if vars(Base).get(name) is ours:
            setattr(Base, name, original)
    _exchanged.clear()


# `engine` is imported by the first fit: this module may be needed while fastnn's estimators are being imported.
def _make_fit(original):
    @functools.wraps(original)
    def _fit(self, X, y, sample_weight=None, incremental=False):
        dtype = current()
        if dtype is None:
            return original(self, X, y, sample_weight=sample_weight, incremental=incremental)
        reason = training_refusal(self, incremental)
        with fits.Fit(self, incremental, X, reason):
            if reason is not None:
                return original(self, X, y, sample_weight=sample_weight, incremental=incremental)
            from .engine import learn

            learn(self, dtype, X, y, sample_weight, incremental)
        return self

    _fit.__module__ = __name__
    return _fit


def _make_forward(original):
    @functools.wraps(original)
    def _forward_pass_fast(self, X, check_input=True):
        dtype = current()
        if dtype is None or not check_input or forward_refusal(self):  # checked X: scikit-learn's own training
            return original(self, X, check_input=check_input)
        from .engine import forward

        return forward(self, dtype, X)

    _forward_pass_fast.__module__ = __name__
    return _forward_pass_fast
