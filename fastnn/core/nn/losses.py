"""Loss functions and their output deltas, and the table of them.

All work on a transposed block z (n_outputs, ldr) of activated outputs, with a column for each row of the batch, and
overwrite it with the delta dL/d(pre-activation). That is ``p - y`` for the canonical pairs of loss and output
activation; the classifier's squared errors multiply it by the activation's derivative. A row of the table ``LOSSES`` is
one such pair. The loss of each row is written to ``row_loss``; ``engine.bookkeeping`` and ``engine.shards`` average
over rows. ``y`` of row r is ``labels[rows[r]]`` or ``targets[rows[r], :]``. Called by ``network``.

Beside each loss is its ``*_of``: the same value for rows of activated outputs p (n_rows, n_outputs), in NumPy and
float64, for validation data; called by ``scoring``. Labels (n_rows,) are empty where there are targets.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, LABELS, MATRIX, OUT, ROWS
from ..simd.scalar import by_dtype
from ..simd.vecmath import exp, log
from ..simd.vector import like
from .activations import activate_output

NONE = MappingProxyType({})


class Loss(NamedTuple):
    """One row of the table: a loss with its output activation."""

    id: int  # in compiled code
    output: str  # name of the output activation
    classifier: bool  # whether it is a loss of the classifier or of the regressor
    users_name: str  # the estimators' ``loss``
    rows_of: Callable  # (p, labels, targets, *constants) -> float64 (n_rows,), the loss in NumPy
    hyper_parameters: Mapping = NONE  # the estimators' parameters that it depends on, each with a default
    constants: Callable = tuple  # (*hyper-parameters) -> numbers that compiled code finds in ``plan.loss_constants``
    least: float = -math.inf  # smallest target for which it is defined


LOG_LOSS, BINARY_LOG_LOSS, SQUARED_ERROR, POISSON, LOGISTIC_SQUARED_ERROR, SOFTMAX_SQUARED_ERROR = range(6)
# Probabilities are clipped this far from 0 and 1, in float32 too, as scikit-learn does in float64. With a loss clipped
# at the spacing of float32, training on raw features would stop where scikit-learn goes on.
EPS = 2.0**-52
_bounds = by_dtype(*((dtype(EPS), dtype(1 - EPS)) for dtype in (np.float32, np.float64)))
_largest_logit = by_dtype(*(dtype(np.log((1 - EPS) / EPS)) for dtype in (np.float32, np.float64)))
_is_float64 = by_dtype(False, True)


# Compute the loss of each row, and overwrite the outputs z (n_outputs, ldr) with deltas. ``sums`` are the last layer's
# pre-activations for BINARY_LOG_LOSS, and undefined for the others. Writes: z, row_loss. Scratch: scratch (2 ldr,).
loss_of_rows = dispatch_table(
    "loss_of_rows",
    ("constants", IN), ("z", OUT), ("sums", IN), ("row_loss", OUT), ("labels", LABELS), ("targets", MATRIX),
    ("rows", ROWS), ("n_outputs", INT), ("ldr", INT), ("scratch", OUT),
)  # fmt: skip


@kernel
def clip(p):
    """Keep a probability within [EPS, 1 - EPS]; NaN stays."""
    low, high = _bounds(p)
    raised = low if p < low else p
    return high if raised > high else raised


def clipped(p):
    """``clip`` for arrays; float64."""
    return np.clip(p.astype(np.float64), EPS, 1 - EPS)


@kernel
def gather_targets(y, targets, rows, c):
    """y[r] <- targets[rows[r], c]. Writes: y (n_rows,)."""
    for r in range(rows.size):
        y[r] = targets[rows[r], c]


@kernel
def gather_indicator(y, labels, targets, rows, c):
    """y[r] <- 1 where the label of row r is c, else 0; without labels the target. Writes: y (n_rows,)."""
    if labels.size == 0:
        gather_targets(y, targets, rows, c)
    else:
        one, zero = y.dtype.type(1), y.dtype.type(0)
        for r in range(rows.size):
            y[r] = one if labels[rows[r]] == c else zero


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


def indicator(p, labels, targets):
    """Targets, or one-hot rows of labels; float64 of the shape of p."""
    if not labels.size:
        return targets.astype(np.float64)
    y = np.zeros(p.shape)
    y[np.arange(len(p)), labels] = 1
    return y


def log_loss_of(p, labels, targets):
    """-log p[y_r], or -sum_c y log p."""
    if labels.size:
        return -np.log(clipped(p[np.arange(len(p)), labels]))
    return -(targets * np.log(clipped(p))).sum(axis=1)


@kernel
def softplus(s):
    """log(1 + exp(s)), accurate also where exp(s) is much smaller or larger than 1."""
    zero, one = like(s, 0), like(s, 1)
    t = exp(s if s < zero else -s)
    u = one + t
    return (zero if s < zero else s) + (log(u) + (t - (u - one)) / u)


@loss_of_rows.implementation(BINARY_LOG_LOSS)
def binary_log_loss(constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch):
    """loss_r = -sum_c (y log p + (1 - y) log(1 - p)), delta = p - y, where p = 1 / (1 + exp(-s)) of the sum s.

    In float64 p is clipped to [EPS, 1 - EPS] as in scikit-learn: on raw features the line search of L-BFGS depends on
    its roundings. (Breast cancer, 240 seeds: accuracy .846 from s, .854 from p, scikit-learn .854.) In float32 p has
    too few digits near 1, so log p = -softplus(-s) and log(1 - p) = -softplus(s), with s clipped accordingly.

    Writes: z, row_loss. Reads: sums. Scratch: scratch.
    """
    y = scratch[:ldr]
    one, most = z.dtype.type(1), _largest_logit(z[0])
    row_loss[:] = 0
    for c in range(n_outputs):
        p, s = z[c * ldr : (c + 1) * ldr], sums[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        if _is_float64(z[0]):
            for r in range(rows.size):
                q = clip(p[r])
                row_loss[r] -= y[r] * log(q) + (one - y[r]) * log(one - q)
        else:
            for r in range(rows.size):
                raised = -most if s[r] < -most else s[r]
                logit = most if raised > most else raised
                row_loss[r] += softplus(logit) - y[r] * logit
        for r in range(rows.size):
            p[r] -= y[r]


def binary_log_loss_of(p, labels, targets):
    """-sum_c (y log p + (1 - y) log(1 - p))."""
    y, q = indicator(p, labels, targets), clipped(p)
    return -(y * np.log(q) + (1 - y) * np.log1p(-q)).sum(axis=1)


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
    return summed_squared_error_of(p, labels, targets) / p.shape[1]


def summed_squared_error_of(p, labels, targets):
    """sum_c (p - y)^2 / 2."""
    return 0.5 * ((p - indicator(p, labels, targets)) ** 2).sum(axis=1)


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


LOSSES = {
    "log_loss": Loss(LOG_LOSS, "softmax", True, "log_loss", log_loss_of),
    "binary_log_loss": Loss(BINARY_LOG_LOSS, "logistic", True, "log_loss", binary_log_loss_of),
    "squared_error": Loss(SQUARED_ERROR, "identity", False, "squared_error", squared_error_of),
    "poisson": Loss(POISSON, "exp", False, "poisson", poisson_of, least=0.0),
    "logistic_squared_error": Loss(LOGISTIC_SQUARED_ERROR, "logistic", True, "squared_error", summed_squared_error_of),
    "softmax_squared_error": Loss(SOFTMAX_SQUARED_ERROR, "softmax", True, "squared_error", summed_squared_error_of),
}


@kernel
def weigh(z, row_loss, sample_weight, rows, n_outputs, ldr, w):
    """Multiply the loss and the delta of each row by its weight. Writes: z, row_loss. Scratch: w (ldr,)."""
    for r in range(rows.size):
        w[r] = sample_weight[rows[r]]
        row_loss[r] *= w[r]
    for c in range(n_outputs):
        d = z[c * ldr : (c + 1) * ldr]
        for r in range(rows.size):
            d[r] *= w[r]


@leaf(INT, IN, INT, OUT, OUT, LABELS, MATRIX, IN, ROWS, INT, INT, OUT)
def loss_and_delta(loss, constants, output, z, row_loss, labels, targets, sample_weight, rows, n_outputs, ldr, scratch):
    """Compute the loss of each row, and overwrite the last layer's sums z with deltas.

    ``loss`` and ``output`` are the ids of the loss and of the output activation.

    Writes: z (n_outputs, ldr), row_loss (n_rows,).
    Reads: labels, targets, sample_weight at ``rows`` (n_rows,).
    Scratch: scratch ((n_outputs + 2) * ldr,).
    """
    size, sums = n_outputs * ldr, scratch[2 * ldr :]
    if loss == BINARY_LOG_LOSS:
        for i in range(size):
            sums[i] = z[i]
    activate_output(output, z[:size], n_outputs, ldr, scratch[:ldr], scratch[ldr : 2 * ldr])
    loss_of_rows(loss, constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch)
    if sample_weight.size > 0:
        weigh(z, row_loss, sample_weight, rows, n_outputs, ldr, scratch[:ldr])
