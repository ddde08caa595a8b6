"""The state that pickles carry: every weight and every moment once, nothing compiled.

``__getstate__`` gives the attributes, as scikit-learn's does, so that subclasses can change them; what a pickle stores
of them is made by ``__reduce__``.

``coefs_`` and ``intercepts_`` are views on one flat vector; that vector is stored, with the spare elements that the
engine wants behind it, so that what is loaded can be used in place, also read-only (joblib's ``mmap_mode="r"``). Lists
of arrays that a user has made or changed are stored as they are.
Everything in the state is an array or a plain Python value, except a function that is the learning rate.
"""

import pickle
from copyreg import __newobj__  # type: ignore[attr-defined]  # missing in the stubs
from inspect import signature

import numpy as np

from .callbacks import OF_A_FIT
from .optimizer import Optimizer, checked
from .parameters import FLOAT_TYPES
from .spec import PADDING, make_layout, n_params
from .state import own_vector, split

FORMAT = 1  # of the pickled state; raise it when an older fastnn could not read the new one


class PickleMixin:
    """How the estimators are pickled and copied."""

    def __reduce__(self):
        state = self.__getstate__()
        if type(self).__setstate__ is PickleMixin.__setstate__:  # else that of a subclass wants what it has given
            state = dump(state)
        return __newobj__, (type(self),), state

    def __setstate__(self, state):
        parameters = signature(type(self)).parameters.items()
        defaults = {
            name: parameter.default for name, parameter in parameters if parameter.default is not parameter.empty
        }
        self.__dict__.update(load(state, type(self).__name__, defaults))


def units_of(coefs, intercepts):
    """Units of all levels of a network with these weights; raises ValueError if they do not fit together."""
    units: tuple[int, ...] = ()
    fits = len(coefs) == len(intercepts) > 0
    for coef, intercept in zip(coefs, intercepts):  # asked in every prediction
        shape, ends = np.shape(coef), np.shape(intercept)
        fits = fits and len(shape) == 2 and shape[1:] == ends and (not units or units[-1] == shape[0])
        units = (*(units or shape[:1]), *ends)
    if not fits:
        shapes = [(np.shape(coef), np.shape(intercept)) for coef, intercept in zip(coefs, intercepts)]
        raise ValueError(
            "coefs_ and intercepts_ do not fit together: expected pairs of shapes (fan_in, fan_out), (fan_out,), each "
            f"fan_in the fan_out before it, got {shapes} from {len(coefs)} coefs_ and {len(intercepts)} intercepts_."
        )
    return units


def dump(attributes):
    """The state to pickle, from an estimator's ``__dict__``."""
    state = {**attributes, "_fastnn_format": FORMAT}
    for name in OF_A_FIT:
        state.pop(name, None)
    weights = _one_vector(state.get("coefs_"), state.get("intercepts_"))
    if weights is not None:
        del state["coefs_"], state["intercepts_"]
        state["_weights"] = weights
    optimizer = state.get("_optimizer")
    if optimizer is not None:
        state["_optimizer"] = optimizer = checked(optimizer).to_dict()
    if callable(state.get("learning_rate")):
        state["learning_rate"] = UserFunction(state["learning_rate"])
    if optimizer is not None and callable(optimizer["settings"]["learning_rate"]):
        function = UserFunction(optimizer["settings"]["learning_rate"])
        optimizer["settings"] = {**optimizer["settings"], "learning_rate": function}
    return state


class UserFunction:
    """A user's function in the state of an estimator: it refuses to be pickled where that would fail, and says why.

    A copy of an estimator shares the function, which need not be picklable then.
    """

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        try:
            pickle.dumps(self.function)
        except Exception as error:
            raise pickle.PicklingError(
                f"learning_rate={self.function!r} cannot be pickled ({error}), and so the estimator cannot: define it "
                "with def in a module, or use an instance of a class of a module, or the name of a schedule."
            ) from error
        return _unchanged, (self.function,)

    def __deepcopy__(self, memo):
        return self.function


def _unchanged(function):
    return function


def _unwrapped(settings):
    """Settings or attributes without `UserFunction`."""
    given = settings.get("learning_rate")
    return {**settings, "learning_rate": given.function} if isinstance(given, UserFunction) else settings


def _one_vector(coefs, intercepts):
    """The state of weights that are the engine's own views of one vector; None for others, which stay as they are."""
    try:
        units = units_of(coefs, intercepts)
    except (ValueError, TypeError):
        return None
    dtype = getattr(coefs[0], "dtype", None)
    params = own_vector(make_layout(units, dtype, 1), dtype, coefs, intercepts) if dtype in FLOAT_TYPES else None
    if params is None:
        return None
    vector = np.zeros(params.size + PADDING, dtype)
    vector[: params.size] = params
    return {"units": units, "vector": vector}


def load(state, owner, defaults):
    """An estimator's ``__dict__`` from a pickled state; parameters that it lacks get their ``defaults``."""
    if not isinstance(state, dict) or not state.keys() & {"_fastnn_format", "hidden_layer_sizes"}:
        raise ValueError(f"This is not the state of a fastnn {owner}: it carries no format mark.")
    if "_fastnn_format" not in state:  # a subclass has written its attributes, or scikit-learn its own
        own = {**defaults, **state}
        if own.get("_optimizer") is not None and not isinstance(own["_optimizer"], Optimizer):
            own["_optimizer"] = None  # scikit-learn's moments are not carried over
        return own
    state = dict(_unwrapped(state))
    found = state.pop("_fastnn_format")
    if not isinstance(found, int) or found > FORMAT:
        raise ValueError(f"This {owner} was pickled by a newer fastnn (format {found}, this one reads {FORMAT}).")
    weights = state.pop("_weights", None)
    try:
        if weights is not None:
            state["coefs_"], state["intercepts_"] = _weights(tuple(weights["units"]), weights["vector"])
        if state.get("_optimizer") is not None:
            stored = {**state["_optimizer"], "settings": _unwrapped(state["_optimizer"]["settings"])}
            state["_optimizer"] = Optimizer.from_dict(stored)
            if weights is not None:
                _check_moments(state["_optimizer"].moments, state["coefs_"], state["intercepts_"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"The pickled state of this {owner} is damaged: {error!r}.") from error
    return {**defaults, **state}


def _weights(units, vector):
    if not isinstance(vector, np.ndarray) or vector.dtype not in (np.float32, np.float64):
        raise ValueError(f"a vector of float32 or float64 expected, found {type(vector).__name__}")
    layout = make_layout(units, vector.dtype, 1)
    n = n_params(layout)
    if vector.shape != (n + PADDING,):
        raise ValueError(f"{n} weights of units {units} do not fill a vector of shape {vector.shape}")
    return split(layout, np.asarray(vector)[:n])


def _check_moments(moments, coefs, intercepts):
    expected = sum(array.size for array in (*coefs, *intercepts))
    if not isinstance(moments, np.ndarray) or moments.ndim != 2 or moments.shape[1] != expected:
        raise ValueError(f"moments of {expected} parameters expected, found shape {np.shape(moments)}")
