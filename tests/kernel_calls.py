"""Calls of leaves on arrays that are NaN wherever a leaf must not write; the losses with data of every kind."""

import functools

import numpy as np
import pytest
from numba import config

from fastnn.core.compile.jit import callable_leaf
from fastnn.core.nn import activations, losses

DTYPES = [np.float32, np.float64]
SIZES = (1, 7, 16, 33, 100)
PADDING = 16  # elements behind an array that a kernel may read
compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


@functools.cache
def compiled(function, dtype):
    return function if config.DISABLE_JIT else callable_leaf(function, dtype)


def read_only(array):
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def within(values, before=4, after=9):
    """A NaN-filled array that holds ``values`` in its middle, and that middle as a view."""
    outer = np.full(before + values.size + after, np.nan, values.dtype)
    inner = outer[before : before + values.size]
    inner[:] = values
    return outer, inner


def surroundings(outer, before=4, after=9):
    return np.concatenate([outer[:before], outer[outer.size - after :]])


# name -> (loss, outputs, uses labels, and hyper-parameters other than the defaults)
LOSS_CASES = {
    "labels, 2": ("log_loss", 2, True),
    "labels, 10": ("log_loss", 10, True),
    "one-hot, 3": ("log_loss", 3, False),
    "binary": ("binary_log_loss", 1, False),
    "multi-label": ("binary_log_loss", 5, False),
    "one value": ("squared_error", 1, False),
    "three values": ("squared_error", 3, False),
    "counts": ("poisson", 1, False),
    "two counts": ("poisson", 2, False),
    "labels, 4 logistic": ("binary_log_loss", 4, True),
    "quadratic, binary": ("logistic_squared_error", 1, False),
    "quadratic, labels": ("logistic_squared_error", 10, True),
    "quadratic, multi-label": ("logistic_squared_error", 3, False),
    "softmax, quadratic, labels": ("softmax_squared_error", 10, True),
    "softmax, quadratic, one-hot": ("softmax_squared_error", 3, False),
    "absolute": ("absolute_error", 1, False),
    "absolute, 3": ("absolute_error", 3, False),
    "huber": ("huber", 1, False),
    "huber, 3": ("huber", 3, False, {"huber_delta": 0.3}),
    "quantile": ("quantile", 1, False, {"quantile": 0.9}),
    "quantile, 2": ("quantile", 2, False),
    "quantiles": ("quantile", 3, False, {"quantile": [0.1, 0.5, 0.95]}),
    "amounts": ("gamma", 1, False),
    "two amounts": ("gamma", 2, False),
    "tweedie": ("tweedie", 1, False),
    "tweedie, 2": ("tweedie", 2, False, {"tweedie_power": 1.2}),
    "tweedie, positive": ("tweedie", 1, False, {"tweedie_power": 3.0}),
    "smoothed, labels": ("smoothed_log_loss", 10, True),
    "smoothed, one-hot": ("smoothed_log_loss", 3, False, {"label_smoothing": 0.4}),
    "smoothed, binary": ("smoothed_binary_log_loss", 1, False),
    "smoothed, multi-label": ("smoothed_binary_log_loss", 5, False, {"label_smoothing": 0.4}),
    "smoothed, 4 logistic": ("smoothed_binary_log_loss", 4, True),
    "focal, labels": ("focal", 10, True),
    "focal, one-hot": ("focal", 3, False, {"focal_gamma": 0.5}),
    "focal, binary": ("binary_focal", 1, False),
    "focal, multi-label": ("binary_focal", 5, False, {"focal_gamma": 0.5}),
    "focal, 4 logistic": ("binary_focal", 4, True),
}
LOSS_CASES = {name: (*case[:3], *(case[3:] or [{}])) for name, case in LOSS_CASES.items()}


def loss_constants(loss, hyper_parameters=None):
    """The constants of a loss, for its defaults where no others are given."""
    row = losses.LOSSES[loss]
    return row.constants(*{**row.hyper_parameters, **(hyper_parameters or {})}.values())


def loss_data(loss, n_outputs, uses_labels, n_data, dtype, rng):
    """(labels, targets, y as the reference wants it)."""
    labels = rng.integers(0, n_outputs, n_data).astype(np.int32)
    if uses_labels or losses.LOSSES[loss].output == "softmax":
        targets = np.eye(n_outputs)[labels]
    elif losses.LOSSES[loss].output == "logistic":
        targets = rng.integers(0, 2, (n_data, n_outputs)).astype(float)
    elif loss == "gamma":
        targets = rng.gamma(2, 1, (n_data, n_outputs))
    elif losses.LOSSES[loss].output == "exp":
        targets = rng.poisson(1.5, (n_data, n_outputs)).astype(float)
    else:
        targets = rng.normal(0, 2, (n_data, n_outputs))
    targets = targets.astype(dtype)
    if uses_labels:
        return labels, np.empty((0, 0), dtype), targets
    return np.empty(0, np.int32), targets, targets


def call_loss(loss, z, row_loss, labels, targets, weights, rows, n_outputs, ldr, output=None, constants=None):
    """Turn sums z into deltas; ``output`` is the activation in between, by default the one that goes with the loss."""
    scratch = np.full((n_outputs + 2) * ldr, np.nan, z.dtype)
    data = [read_only(x) for x in (labels, targets, weights, rows)]
    numbers = read_only(np.array(loss_constants(loss) if constants is None else constants, dtype=z.dtype))
    output = activations.ACTIVATIONS[output or losses.LOSSES[loss].output].id
    compiled(losses.loss_and_delta, z.dtype)(
        losses.LOSSES[loss].id, numbers, output, z, row_loss, *data, n_outputs, ldr, scratch
    )
