"""The activations of the float64 network in ``reference``, from their formulas alone."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


# ---- elementary functions -------------------------------------------------------------------------------------------
def logistic(z):
    """1 / (1 + exp(-z)), with the exponential taken of -|z| so that it never overflows."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def softmax(z):
    """exp(z) / sum over the row of exp(z), shifted by the row's maximum."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softplus(z):
    """log(1 + exp(z)), with the exponential taken of -|z| so that it never overflows."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def exp_minus_one(z):
    """z where it is positive, else exp(z) - 1."""
    return np.maximum(z, 0.0) + np.expm1(np.minimum(z, 0.0))


def normal_cdf(z):
    """The probability that a standard normal number is at most z, computed in long double.

    Below 2.5 by 1/2 - e^(-z^2 / 2) (a + a^3 / 3 + a^5 / (3 5) + ...) / sqrt(2 pi), a = |z|, beyond by the continued
    fraction e^(-z^2 / 2) / (a + 1 / (a + 2 / (a + 3 / ...))) / sqrt(2 pi). z^2 is the exact square of z rounded to
    float32, and a rest.
    """
    z = np.asarray(z)
    a = np.minimum(np.abs(z.astype(np.longdouble)), 40)
    rounded = a.astype(np.float32).astype(np.longdouble)
    density = np.exp(-rounded * rounded / 2) * np.exp(-(a - rounded) * (a + rounded) / 2)
    density /= np.sqrt(8 * np.arctan(np.longdouble(1)))
    small, large = np.minimum(a, 2.5), np.maximum(a, 2.5)
    term, series, fraction = small, small, large
    for k in range(1, 60):
        term = term * small * small / (2 * k + 1)
        series = series + term
    for k in range(200, 0, -1):
        fraction = large + k / fraction
    tail = np.where(a < 2.5, 0.5 - density * series, density / fraction)
    return np.where(z > 0, 1 - tail, tail).astype(z.dtype)


SELU_LAMBDA, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., 2017, equation 14


# ---- hidden activations: value(z), and pull(z, a, d) = d times the derivative at z, where a = value(z) --------------
class Activation(NamedTuple):
    value: Callable
    pull: Callable


ACTIVATIONS = {
    "identity": Activation(lambda z: z, lambda z, a, d: d),
    "logistic": Activation(logistic, lambda z, a, d: d * a * (1 - a)),
    "tanh": Activation(np.tanh, lambda z, a, d: d * (1 - a * a)),
    "relu": Activation(lambda z: np.maximum(z, 0.0), lambda z, a, d: np.where(a == 0, 0.0, d)),  # derivative 0 at 0
    "gelu": Activation(
        lambda z: z * normal_cdf(z), lambda z, a, d: d * (normal_cdf(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi))
    ),
    "leaky_relu": Activation(
        lambda z: np.where(z > 0, z, 0.01 * z), lambda z, a, d: np.where(z > 0, d, 0.01 * d)
    ),  # derivative 0.01 at 0
    "silu": Activation(lambda z: z * logistic(z), lambda z, a, d: d * logistic(z) * (1 + z * logistic(-z))),
    "elu": Activation(exp_minus_one, lambda z, a, d: d * np.exp(np.minimum(z, 0.0))),
    "selu": Activation(
        lambda z: np.where(z > 0, SELU_LAMBDA * z, SELU_LAMBDA * SELU_ALPHA * exp_minus_one(z)),
        lambda z, a, d: d * SELU_LAMBDA * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0.0))),
    ),
    "softplus": Activation(softplus, lambda z, a, d: d * logistic(z)),
    "mish": Activation(
        lambda z: z * np.tanh(softplus(z)),
        lambda z, a, d: d * (np.tanh(softplus(z)) + z * logistic(z) / np.cosh(np.minimum(softplus(z), 700.0)) ** 2),
    ),
    "hard_swish": Activation(
        lambda z: z * np.clip(z + 3, 0.0, 6.0) / 6,
        lambda z, a, d: d * np.where(z <= -3, 0.0, np.where(z >= 3, 1.0, z / 3 + 0.5)),
    ),
}

OUTPUTS = {"identity": lambda z: z, "logistic": logistic, "softmax": softmax, "exp": np.exp}
