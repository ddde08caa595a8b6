"""The state that pickles carry: every weight and every moment once, nothing compiled.

``coefs_`` and ``intercepts_`` are views on one flat vector; that vector is stored, with the spare elements that the
engine wants behind it, so that what is loaded can be used in place, also read-only (joblib's ``mmap_mode="r"``).
Everything in the state is an array or a plain Python value.
"""

from inspect import signature
from itertools import pairwise

import numpy as np

from .plan import ROOM, make_layout, n_params
from .schedules import Optimizer
from .state import flat_params, split

FORMAT = 1  # of the pickled state; raise it when an older fastnn could not read the new one


class PickleMixin:
    """``__getstate__`` and ``__setstate__`` of the estimators."""

    def __getstate__(self):
        return dump(super().__getstate__())

    def __setstate__(self, state):
        defaults = {name: parameter.default for name, parameter in signature(type(self)).parameters.items()}
        self.__dict__.update(load(state, type(self).__name__, defaults))


def units_of(coefs, intercepts):
    """Units of all levels of a network with these weights; raises ValueError if they do not fit together."""
    shapes = [(np.shape(coef), np.shape(intercept)) for coef, intercept in zip(coefs, intercepts)]
    fits = len(shapes) == len(coefs) == len(intercepts) > 0
    fits = fits and all(len(coef) == 2 and intercept == coef[1:] for coef, intercept in shapes)
    fits = fits and all(left[0][1] == right[0][0] for left, right in pairwise(shapes))
    if not fits:
        raise ValueError(
            "coefs_ and intercepts_ do not fit together: expected pairs of shapes (fan_in, fan_out), (fan_out,), each "
            f"fan_in the fan_out before it, got {shapes} from {len(coefs)} coefs_ and {len(intercepts)} intercepts_."
        )
    return (shapes[0][0][0], *(coef[1] for coef, _ in shapes))


def dump(attributes):
    """The state to pickle, from an estimator's ``__dict__``."""
    state = {**attributes, "_fastnn_format": FORMAT}
    if "coefs_" in state:
        coefs, intercepts = state.pop("coefs_"), state.pop("intercepts_")
        units, dtype = units_of(coefs, intercepts), np.dtype(attributes["dtype"])
        if dtype not in (np.float32, np.float64):  # set since the fit; nobody could load the state
            raise ValueError(f"dtype must be float32 or float64, got {dtype}.")
        params = flat_params(make_layout(units, dtype, 1), dtype, coefs, intercepts)
        vector = np.zeros(params.size + ROOM, dtype)
        vector[: params.size] = params
        state["_weights"] = {"units": units, "vector": vector}
    if "_optimizer" in state:
        state["_optimizer"] = state["_optimizer"].to_dict()
    return state


def load(state, owner, defaults):
    """An estimator's ``__dict__`` from a pickled state; parameters that it lacks get their ``defaults``."""
    if not isinstance(state, dict) or "_fastnn_format" not in state:
        raise ValueError(f"This is not the state of a fastnn {owner}: it carries no format mark.")
    state = dict(state)
    found = state.pop("_fastnn_format")
    if not isinstance(found, int) or found > FORMAT:
        raise ValueError(f"This {owner} was pickled by a newer fastnn (format {found}, this one reads {FORMAT}).")
    try:
        if "_weights" in state:
            weights = state.pop("_weights")
            state["coefs_"], state["intercepts_"] = _weights(tuple(weights["units"]), weights["vector"])
        if "_optimizer" in state:
            state["_optimizer"] = Optimizer.from_dict(state["_optimizer"])
            _check_moments(state["_optimizer"].moments, state["coefs_"], state["intercepts_"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"The pickled state of this {owner} is damaged: {error!r}.") from error
    return {**defaults, **state}


def _weights(units, vector):
    if not isinstance(vector, np.ndarray) or vector.dtype not in (np.float32, np.float64):
        raise ValueError(f"a vector of float32 or float64 expected, found {type(vector).__name__}")
    layout = make_layout(units, vector.dtype, 1)
    n = n_params(layout)
    if vector.shape != (n + ROOM,):
        raise ValueError(f"{n} weights of units {units} do not fill a vector of shape {vector.shape}")
    return split(layout, np.asarray(vector)[:n])


def _check_moments(moments, coefs, intercepts):
    expected = sum(array.size for array in (*coefs, *intercepts))
    if not isinstance(moments, np.ndarray) or moments.ndim != 2 or moments.shape[1] != expected:
        raise ValueError(f"moments of {expected} parameters expected, found shape {np.shape(moments)}")
