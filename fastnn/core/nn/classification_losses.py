"""Losses of the classifier: cross-entropies, focal losses, and squared errors of probabilities; see `loss_base`.

Targets y are one-hot rows of labels, or 0 and 1 for each output by itself.
"""

from types import MappingProxyType

import numpy as np

from ..compile.jit import kernel
from ..simd.scalar import by_dtype, fma, select
from ..simd.vecmath import exp, log
from ..simd.vector import like
from .loss_base import (
    EPS,
    WITH_SUMS,
    Loss,
    clip,
    clipped,
    gather_indicator,
    gather_targets,
    indicator,
    log1p,
    loss_of_rows,
)

LOG_LOSS, LOGISTIC_SQUARED_ERROR, SOFTMAX_SQUARED_ERROR, SMOOTHED_LOG_LOSS, FOCAL = range(5)
BINARY_LOG_LOSS, SMOOTHED_BINARY_LOG_LOSS, BINARY_FOCAL = range(WITH_SUMS, WITH_SUMS + 3)

_largest_logit = by_dtype(*(dtype(np.log((1 - EPS) / EPS)) for dtype in (np.float32, np.float64)))
_is_float64 = by_dtype(False, True)


@kernel
def label_log_loss(z, row_loss, labels, rows, ldr, p):
    """loss_r = -log p[y_r], delta = p - onehot(y). Writes: z, row_loss. Scratch: p (ldr,)."""
    one = z.dtype.type(1)
    for r in range(rows.size):
        i = labels[rows[r]] * ldr + r
        p[r] = clip(z[i])
        z[i] -= one
    for r in range(rows.size):
        row_loss[r] = -log(p[r])


@kernel
def target_log_loss(z, row_loss, targets, rows, n_outputs, ldr, y):
    """loss_r = -sum_c y log p, delta = p - y; a single output p stands for two, p and 1 - p.

    Writes: z, row_loss. Scratch: y (ldr,).
    """
    one = z.dtype.type(1)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            q = clip(p[r])
            row_loss[r] -= y[r] * log(q)
            if n_outputs == 1:
                row_loss[r] -= (one - y[r]) * log(clip(one - q))
            p[r] -= y[r]


@loss_of_rows.implementation(LOG_LOSS)
def log_loss(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = -sum_c y log p, delta = p - y; with labels y is one-hot. Writes: z, row_loss. Scratch: scratch."""
    if labels.size > 0:
        label_log_loss(z, row_loss, labels, rows, ldr, scratch[:ldr])
    else:
        target_log_loss(z, row_loss, targets, rows, n_outputs, ldr, scratch[:ldr])


def log_loss_of(p, labels, targets):
    """-log p[y_r], or -sum_c y log p; a single output p stands for two, p and 1 - p."""
    if labels.size:
        return -np.log(clipped(p[np.arange(len(p)), labels]))
    if p.shape[1] == 1:
        p, targets = np.hstack([p, 1 - p]), np.hstack([targets, 1 - targets])
    return -(targets * np.log(clipped(p))).sum(axis=1)


@kernel
def log1p_exp(s):
    """log(1 + exp(s)), accurate also where exp(s) is much smaller or larger than 1."""
    zero = like(s, 0)
    return (zero if s < zero else s) + log1p(exp(s if s < zero else -s))


@kernel
def add_binary_log_loss(p, s, y, row_loss, n):
    """row_loss_r -= y log p + (1 - y) log(1 - p), p -= y of one output, where p = 1 / (1 + exp(-s)) of the sum s.

    In float64 p is clipped to [EPS, 1 - EPS] as in scikit-learn: on raw features the line search of L-BFGS depends on
    its roundings. (Breast cancer, 240 seeds: accuracy .846 from s, .854 from p, scikit-learn .854.) In float32 p has
    too few digits near 1, so log p = -log(1 + exp(-s)) and log(1 - p) = -log(1 + exp(s)), with s clipped accordingly.

    Writes: p, row_loss (n,). Reads: s, y (n,).
    """
    one, most = p.dtype.type(1), _largest_logit(p[0])
    if _is_float64(p[0]):
        for r in range(n):
            q = clip(p[r])
            row_loss[r] -= y[r] * log(q) + (one - y[r]) * log(one - q)
    else:
        for r in range(n):
            raised = -most if s[r] < -most else s[r]
            logit = most if raised > most else raised
            row_loss[r] += log1p_exp(logit) - y[r] * logit
    for r in range(n):
        p[r] -= y[r]


@loss_of_rows.implementation(BINARY_LOG_LOSS)
def binary_log_loss(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = -sum_c (y log p + (1 - y) log(1 - p)), delta = p - y.

    Writes: z, row_loss. Reads: sums. Scratch: scratch.
    """
    y = scratch[:ldr]
    row_loss[:] = 0
    for c in range(n_outputs):
        gather_indicator(y, labels, targets, rows, c)
        add_binary_log_loss(z[c * ldr : (c + 1) * ldr], sums[c * ldr : (c + 1) * ldr], y, row_loss, rows.size)


def binary_log_loss_of(p, labels, targets):
    """-sum_c (y log p + (1 - y) log(1 - p))."""
    y, q = indicator(p, labels, targets), clipped(p)
    return -(y * np.log(q) + (1 - y) * np.log1p(-q)).sum(axis=1)


@loss_of_rows.implementation(SMOOTHED_LOG_LOSS)
def smoothed_log_loss(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = -sum_c t log p, delta = p - t, where t = (1 - smoothing) y + smoothing / n_outputs.

    ``constants`` are 1 - smoothing and smoothing. Writes: z, row_loss. Scratch: scratch.
    """
    y = scratch[:ldr]
    kept, given = constants[0], constants[1] / z.dtype.type(n_outputs)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            t = fma(kept, y[r], given)
            row_loss[r] -= t * log(clip(p[r]))
            p[r] -= t


def smoothed_log_loss_of(p, labels, targets, kept, smoothing):
    """-sum_c t log p."""
    t = kept * indicator(p, labels, targets) + smoothing / p.shape[1]
    return -(t * np.log(clipped(p))).sum(axis=1)


@loss_of_rows.implementation(SMOOTHED_BINARY_LOG_LOSS)
def smoothed_binary_log_loss(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = -sum_c (t log p + (1 - t) log(1 - p)), delta = p - t, where t = (1 - smoothing) y + smoothing / 2.

    ``constants`` are 1 - smoothing and smoothing. Writes: z, row_loss. Reads: sums. Scratch: scratch.
    """
    y = scratch[:ldr]
    kept, given = constants[0], constants[1] * z.dtype.type(0.5)
    row_loss[:] = 0
    for c in range(n_outputs):
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            y[r] = fma(kept, y[r], given)
        add_binary_log_loss(z[c * ldr : (c + 1) * ldr], sums[c * ldr : (c + 1) * ldr], y, row_loss, rows.size)


def smoothed_binary_log_loss_of(p, labels, targets, kept, smoothing):
    """-sum_c (t log p + (1 - t) log(1 - p))."""
    t, q = kept * indicator(p, labels, targets) + smoothing / 2, clipped(p)
    return -(t * np.log(q) + (1 - t) * np.log1p(-q)).sum(axis=1)


@loss_of_rows.implementation(FOCAL)
def focal(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = -q^g log p, where p is the output of the row's class, q = 1 - p and g = ``constants[0]``.

    delta_c = q^g (1 - g p log(p) / q) (p_c - y_c). q is the sum of the other outputs, which has more digits than 1 - p.
    log(p) / q goes to -1 as q goes to 0.

    Writes: z, row_loss. Scratch: scratch.
    """
    y, others = scratch[:ldr], scratch[ldr : 2 * ldr]
    gamma, zero, one, half = constants[0], z.dtype.type(0), z.dtype.type(1), z.dtype.type(0.5)
    row_loss[:] = 0
    others[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            row_loss[r] += y[r] * p[r]
            others[r] += (one - y[r]) * p[r]
    for r in range(rows.size):
        q, right = others[r], clip(row_loss[r])
        log_p = select(q < half, log1p(-q), log(right))
        power = select(q == zero, zero, exp(gamma * log(q)))
        ratio = select(q == zero, -one, log_p / q)
        row_loss[r] = -power * log_p
        others[r] = power * (one - gamma * right * ratio)
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            p[r] = (p[r] - y[r]) * others[r]


def focal_of(p, labels, targets, gamma):
    """-(1 - p)^gamma log p of the row's class."""
    right = clipped((indicator(p, labels, targets) * p).sum(axis=1))
    return -((1 - right) ** gamma) * np.log(right)


@loss_of_rows.implementation(BINARY_FOCAL)
def binary_focal(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = -sum_c q^g log p, where p = 1 / (1 + exp(-m)), q = 1 - p, m is the sum or its negative, as y is 1 or 0.

    delta = (2 y - 1) q^g (g p log p - q), g = ``constants[0]``. All are computed from exp(-abs(m)), so that p, q and
    their logarithms keep their digits; m is clipped as in `add_binary_log_loss`.

    Writes: z, row_loss. Reads: sums. Scratch: scratch.
    """
    y = scratch[:ldr]
    gamma, zero, one, most = constants[0], z.dtype.type(0), z.dtype.type(1), _largest_logit(z[0])
    row_loss[:] = 0
    for c in range(n_outputs):
        d, s = z[c * ldr : (c + 1) * ldr], sums[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            sign = y[r] + y[r] - one
            raised = select(sign * s[r] < -most, -most, sign * s[r])
            m = select(raised > most, most, raised)
            right = m > zero
            t = exp(select(right, -m, m))
            u, rest = one + t, log1p(t)
            log_p, log_q = select(right, -rest, m - rest), select(right, -m - rest, -rest)
            power = exp(gamma * log_q)
            row_loss[r] -= power * log_p
            d[r] = sign * power * (gamma * select(right, one, t) / u * log_p - select(right, t, one) / u)


def binary_focal_of(p, labels, targets, gamma):
    """-sum_c (1 - p)^gamma log p, with 1 - p for p where y is 0."""
    y, p = indicator(p, labels, targets) > 0.5, clipped(p)
    return -(np.where(y, 1 - p, p) ** gamma * np.where(y, np.log(p), np.log1p(-p))).sum(axis=1)


@loss_of_rows.implementation(LOGISTIC_SQUARED_ERROR)
def logistic_squared_error(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c (p - y)^2 / 2, delta = (p - y) p (1 - p). Writes: z, row_loss. Scratch: scratch."""
    y = scratch[:ldr]
    one, half = z.dtype.type(1), z.dtype.type(0.5)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            error = p[r] - y[r]
            row_loss[r] += half * (error * error)
            p[r] = error * (p[r] * (one - p[r]))


@loss_of_rows.implementation(SOFTMAX_SQUARED_ERROR)
def softmax_squared_error(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = sum_c e_c^2 / 2 with e = p - y, delta_c = p_c (e_c - sum_k p_k e_k): the Jacobian of softmax times e.

    Writes: z, row_loss. Scratch: scratch.
    """
    y, mean = scratch[:ldr], scratch[ldr : 2 * ldr]
    half = z.dtype.type(0.5)
    row_loss[:] = 0
    mean[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            error = p[r] - y[r]
            row_loss[r] += half * (error * error)
            mean[r] += p[r] * error
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            p[r] *= (p[r] - y[r]) - mean[r]


def summed_squared_error_of(p, labels, targets):
    """sum_c (p - y)^2 / 2."""
    return 0.5 * ((p - indicator(p, labels, targets)) ** 2).sum(axis=1)


SMOOTHING, FOCAL_GAMMA = MappingProxyType({"label_smoothing": 0.1}), MappingProxyType({"focal_gamma": 2.0})
NOT_SMOOTHED = MappingProxyType({"label_smoothing": 0.0})


def smoothing_constants(label_smoothing):
    """What the smoothed losses compute with."""
    return 1 - label_smoothing, label_smoothing


CLASSIFIER_LOSSES = {
    "log_loss": Loss(
        LOG_LOSS, "softmax", True, "log_loss", log_loss_of, NOT_SMOOTHED,
        special_case=lambda label_smoothing: "smoothed_log_loss" if label_smoothing else None,
    ),
    "binary_log_loss": Loss(
        BINARY_LOG_LOSS, "logistic", True, "log_loss", binary_log_loss_of, NOT_SMOOTHED,
        special_case=lambda label_smoothing: "smoothed_binary_log_loss" if label_smoothing else None,
    ),
    "smoothed_log_loss": Loss(
        SMOOTHED_LOG_LOSS, "softmax", True, None, smoothed_log_loss_of, SMOOTHING, smoothing_constants
    ),
    "smoothed_binary_log_loss": Loss(
        SMOOTHED_BINARY_LOG_LOSS, "logistic", True, None, smoothed_binary_log_loss_of, SMOOTHING, smoothing_constants
    ),
    "focal": Loss(
        FOCAL, "softmax", True, "focal", focal_of, FOCAL_GAMMA, lambda focal_gamma: (focal_gamma,),
        special_case=lambda focal_gamma: None if focal_gamma else "log_loss",
    ),
    "binary_focal": Loss(
        BINARY_FOCAL, "logistic", True, "focal", binary_focal_of, FOCAL_GAMMA, lambda focal_gamma: (focal_gamma,),
        special_case=lambda focal_gamma: None if focal_gamma else "binary_log_loss",
    ),
    "logistic_squared_error": Loss(LOGISTIC_SQUARED_ERROR, "logistic", True, "squared_error", summed_squared_error_of),
    "softmax_squared_error": Loss(SOFTMAX_SQUARED_ERROR, "softmax", True, "squared_error", summed_squared_error_of),
}  # fmt: skip
