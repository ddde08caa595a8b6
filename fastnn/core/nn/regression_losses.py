"""Losses of the regressor, see `loss_base`.

With several outputs the errors (squared_error, absolute_error, huber, quantile) are averaged over outputs in the loss
but not in the deltas, scikit-learn's convention for squared_error (its #8349). The deviances (poisson, gamma, tweedie)
are summed in both, its convention for poisson. So the delta of an output never depends on the other outputs.
"""

from types import MappingProxyType

import numpy as np

from ..simd.vecmath import exp, log
from .loss_base import (
    NOT_NEGATIVE,
    POSITIVE,
    WITH_SUMS,
    Loss,
    gather_targets,
    loss_of_rows,
    not_negative,
)

SQUARED_ERROR, POISSON, ABSOLUTE_ERROR, HUBER, QUANTILE, GAMMA = range(16, 22)
TWEEDIE = WITH_SUMS + 16


def errors(p, targets):
    """p - y in float64."""
    return p - targets.astype(np.float64)


@loss_of_rows.implementation(SQUARED_ERROR)
def squared_error(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c (p - y)^2 / (2 n_outputs), delta = p - y.

    The loss is averaged over outputs but the delta is not: scikit-learn's convention (its #8349).
    Writes: z, row_loss. Scratch: scratch.
    """
    y = scratch[:ldr]
    half = z.dtype.type(0.5) / z.dtype.type(n_outputs)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            p[r] -= y[r]
            row_loss[r] += half * (p[r] * p[r])


def squared_error_of(p, labels, targets):
    """sum_c (p - y)^2 / (2 n_outputs)."""
    return 0.5 * (errors(p, targets) ** 2).sum(axis=1) / p.shape[1]


@loss_of_rows.implementation(POISSON)
def poisson(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c y log(y / p) - y + p (half the deviance), delta = p - y.

    Writes: z, row_loss. Scratch: scratch.
    """
    y = scratch[:ldr]
    zero = z.dtype.type(0)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            term = y[r] * log(y[r] / p[r])
            term = zero if y[r] == zero else term
            row_loss[r] += term - y[r] + p[r]
            p[r] -= y[r]


def poisson_of(p, labels, targets):
    """sum_c y log(y / p) - y + p."""
    y, p = targets.astype(np.float64), p.astype(np.float64)
    ratio = np.divide(y, p, out=np.ones_like(p), where=y > 0)
    return (y * np.log(ratio) - y + p).sum(axis=1)


@loss_of_rows.implementation(ABSOLUTE_ERROR)
def absolute_error(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c abs(p - y) / n_outputs, delta = 1 or -1, and 0 where p = y.

    Writes: z, row_loss. Scratch: scratch.
    """
    y = scratch[:ldr]
    zero, one = z.dtype.type(0), z.dtype.type(1)
    share = one / z.dtype.type(n_outputs)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            error = p[r] - y[r]
            not_above = -one if error < zero else error
            p[r] = one if error > zero else not_above
            row_loss[r] += share * (error * p[r])


def absolute_error_of(p, labels, targets):
    """sum_c abs(p - y) / n_outputs."""
    return np.abs(errors(p, targets)).mean(axis=1)


@loss_of_rows.implementation(HUBER)
def huber(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c b (e - b / 2) / n_outputs, delta = b, where b is the error e = p - y clipped to [-d, d].

    With d = ``constants[0]`` an output adds e^2 / 2 where abs(e) <= d, else d (abs(e) - d / 2).

    Writes: z, row_loss. Scratch: scratch.
    """
    y = scratch[:ldr]
    most, half = constants[0], z.dtype.type(0.5)
    share = z.dtype.type(1) / z.dtype.type(n_outputs)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            error = p[r] - y[r]
            raised = -most if error < -most else error
            p[r] = most if raised > most else raised
            row_loss[r] += share * (p[r] * (error - half * p[r]))


def huber_of(p, labels, targets, most):
    """sum_c b (e - b / 2) / n_outputs."""
    error = errors(p, targets)
    bounded = np.clip(error, -most, most)
    return (bounded * (error - 0.5 * bounded)).mean(axis=1)


@loss_of_rows.implementation(QUANTILE)
def quantile(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c max((1 - q) e, -q e) / n_outputs of e = p - y; delta = 1 - q where e > 0, -q where e < 0, else 0.

    ``constants`` are the quantile q of each output, or one for all. Writes: z, row_loss. Scratch: scratch.
    """
    y = scratch[:ldr]
    zero, one = z.dtype.type(0), z.dtype.type(1)
    share = one / z.dtype.type(n_outputs)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        q = constants[min(c, constants.size - 1)]
        rest = one - q
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            error = p[r] - y[r]
            not_above = -q if error < zero else error
            p[r] = rest if error > zero else not_above
            row_loss[r] += share * (error * p[r])


def quantile_of(p, labels, targets, *quantiles):
    """sum_c max((1 - q) e, -q e) / n_outputs."""
    error, q = errors(p, targets), np.array(quantiles, np.float64)
    return np.maximum((1 - q) * error, -q * error).mean(axis=1)


@loss_of_rows.implementation(GAMMA)
def gamma(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c y / p - log(y / p) - 1 (half the deviance), delta = 1 - y / p.

    Writes: z, row_loss. Scratch: scratch.
    """
    y = scratch[:ldr]
    one = z.dtype.type(1)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            ratio = y[r] / p[r]
            p[r] = one - ratio
            row_loss[r] -= p[r] + log(ratio)


def gamma_of(p, labels, targets):
    """sum_c y / p - log(y / p) - 1."""
    ratio = targets.astype(np.float64) / p
    return (ratio - np.log(ratio) - 1).sum(axis=1)


@loss_of_rows.implementation(TWEEDIE)
def tweedie(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """Half the Tweedie deviance of a power other than 0, 1, 2; its output activation is exp, so p^a = exp(a s).

    loss_r = sum_c y (y^a - p^a) / a - (y y^a - p p^a) / b, delta = p^a (p - y), where a = 1 - power and b = 2 - power,
    which are ``constants``. Where y = 0 (power < 2), y y^a is 0.

    Writes: z, row_loss. Reads: sums. Scratch: scratch.
    """
    y = scratch[:ldr]
    zero, a, b = z.dtype.type(0), constants[0], constants[1]
    row_loss[:] = 0
    for c in range(n_outputs):
        p, s = z[c * ldr : (c + 1) * ldr], sums[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            raised, given = exp(a * s[r]), exp(a * log(y[r]))
            at_zero = zero if y[r] == zero else given
            row_loss[r] += y[r] * (at_zero - raised) / a - (y[r] * at_zero - p[r] * raised) / b
            p[r] = raised * (p[r] - y[r])


def tweedie_of(p, labels, targets, a, b):
    """sum_c y (y^a - p^a) / a - (y y^a - p p^a) / b."""
    y, p, a = targets.astype(np.float64), p.astype(np.float64), float(a)
    given = np.power(y, a, out=np.zeros_like(y), where=y > 0)
    raised = p**a
    return (y * (given - raised) / a - (y * given - p * raised) / float(b)).sum(axis=1)


REGRESSOR_LOSSES = {
    "squared_error": Loss(SQUARED_ERROR, "identity", False, "squared_error", squared_error_of),
    "poisson": Loss(POISSON, "exp", False, "poisson", poisson_of, domain=not_negative),
    "absolute_error": Loss(ABSOLUTE_ERROR, "identity", False, "absolute_error", absolute_error_of),
    "huber": Loss(
        HUBER, "identity", False, "huber", huber_of, MappingProxyType({"huber_delta": 1.0}),
        lambda huber_delta: (huber_delta,),
    ),
    "quantile": Loss(
        QUANTILE, "identity", False, "quantile", quantile_of, MappingProxyType({"quantile": 0.5}), np.atleast_1d
    ),
    "gamma": Loss(GAMMA, "exp", False, "gamma", gamma_of, domain=lambda: POSITIVE),
    "tweedie": Loss(
        TWEEDIE, "exp", False, "tweedie", tweedie_of, MappingProxyType({"tweedie_power": 1.5}),
        lambda tweedie_power: (1 - tweedie_power, 2 - tweedie_power),
        domain=lambda tweedie_power: NOT_NEGATIVE if tweedie_power < 2 else POSITIVE,
        special_case={0: "squared_error", 1: "poisson", 2: "gamma"}.get,
    ),
}  # fmt: skip
