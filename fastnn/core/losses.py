"""Loss functions and their output deltas, and the table of them.

All work on a transposed block z (n_outputs, ldr) of activated outputs, one column a row of the batch, and turn it in
place into the delta dL/d(pre-activation). For the canonical pairs of loss and output activation that is ``p - y``; the
classifier's squared errors multiply by the derivative of theirs. A row of the table is one such pair; ``users_name`` is
what the estimators call the loss. The value of each row goes to ``row_loss``; scikit-learn's averages over rows are
taken by ``epoch``. Called by ``network``. ``y`` of row r is ``labels[rows[r]]`` or ``targets[rows[r], :]``.
"""

from typing import NamedTuple

import numpy as np

from .jit import IN, INT, LABELS, MATRIX, OUT, ROWS, kernel, leaf
from .scalars import by_dtype
from .vecmath import log


class Loss(NamedTuple):
    """One row of the table: its id in compiled code, the output activation it goes with, and whose loss it is."""

    id: int
    output: str
    classifier: bool
    users_name: str


LOG_LOSS, BINARY_LOG_LOSS, SQUARED_ERROR, POISSON, LOGISTIC_SQUARED_ERROR, SOFTMAX_SQUARED_ERROR = range(6)

LOSSES = {
    "log_loss": Loss(LOG_LOSS, "softmax", classifier=True, users_name="log_loss"),
    "binary_log_loss": Loss(BINARY_LOG_LOSS, "logistic", classifier=True, users_name="log_loss"),
    "squared_error": Loss(SQUARED_ERROR, "identity", classifier=False, users_name="squared_error"),
    "poisson": Loss(POISSON, "exp", classifier=False, users_name="poisson"),
    "logistic_squared_error": Loss(LOGISTIC_SQUARED_ERROR, "logistic", classifier=True, users_name="squared_error"),
    "softmax_squared_error": Loss(SOFTMAX_SQUARED_ERROR, "softmax", classifier=True, users_name="squared_error"),
}


_EPS = (np.finfo(np.float32).eps, np.finfo(np.float64).eps)
_bounds = by_dtype((_EPS[0], np.float32(1) - _EPS[0]), (_EPS[1], np.float64(1) - _EPS[1]))


@kernel
def clip(p):
    """Keep a probability within [eps, 1 - eps], eps the spacing of the dtype at 1; NaN stays."""
    low, high = _bounds(p)
    raised = low if p < low else p
    return high if raised > high else raised


@kernel
def gather_targets(y, targets, rows, c):
    """y[r] <- targets[rows[r], c]. Writes: y (n_rows,)."""
    for r in range(rows.size):
        y[r] = targets[rows[r], c]


@kernel
def gather_indicator(y, labels, targets, rows, c):
    """y[r] <- 1 where the label of row r is c, else 0; the target where there are no labels. Writes: y (n_rows,)."""
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
    """loss_r = -sum_c y log p, delta = p - y. Writes: z, row_loss. Scratch: y (ldr,)."""
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            row_loss[r] -= y[r] * log(clip(p[r]))
            p[r] -= y[r]


@kernel
def binary_log_loss(z, row_loss, labels, targets, rows, n_outputs, ldr, y):
    """loss_r = -sum_c y log p + (1 - y) log(1 - p), delta = p - y. Writes: z, row_loss. Scratch: y (ldr,)."""
    one = z.dtype.type(1)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            q = clip(p[r])
            row_loss[r] -= y[r] * log(q) + (one - y[r]) * log(one - q)
            p[r] -= y[r]


@kernel
def squared_error(z, row_loss, targets, rows, n_outputs, ldr, y):
    """loss_r = sum_c (p - y)^2 / (2 n_outputs), delta = p - y.

    The loss averages over outputs and the delta does not: scikit-learn's convention (its #8349).
    Writes: z, row_loss. Scratch: y (ldr,).
    """
    half = z.dtype.type(0.5) / z.dtype.type(n_outputs)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
        for r in range(rows.size):
            p[r] -= y[r]
            row_loss[r] += half * (p[r] * p[r])


@kernel
def logistic_squared_error(z, row_loss, labels, targets, rows, n_outputs, ldr, y):
    """loss_r = sum_c (p - y)^2 / 2, delta = (p - y) p (1 - p). Writes: z, row_loss. Scratch: y (ldr,)."""
    one, half = z.dtype.type(1), z.dtype.type(0.5)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_indicator(y, labels, targets, rows, c)
        for r in range(rows.size):
            error = p[r] - y[r]
            row_loss[r] += half * (error * error)
            p[r] = error * (p[r] * (one - p[r]))


@kernel
def softmax_squared_error(z, row_loss, labels, targets, rows, n_outputs, ldr, y, mean):
    """loss_r = sum_c e_c^2 / 2 with e = p - y, delta_c = p_c (e_c - sum_k p_k e_k): the Jacobian of softmax times e.

    Writes: z, row_loss. Scratch: y (ldr,), mean (ldr,).
    """
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


@kernel
def poisson(z, row_loss, targets, rows, n_outputs, ldr, y):
    """loss_r = sum_c y log(y / p) - y + p (half the deviance), delta = p - y.

    Writes: z, row_loss. Scratch: y (ldr,).
    """
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


@leaf(INT, OUT, OUT, LABELS, MATRIX, IN, ROWS, INT, INT, OUT)
def loss_and_delta(loss, z, row_loss, labels, targets, sample_weight, rows, n_outputs, ldr, scratch):
    """Loss of each row, and z turned from outputs into deltas.

    Writes: z (n_outputs, ldr), row_loss (n_rows,).
    Reads: labels, targets, sample_weight at ``rows`` (n_rows,).
    Scratch: scratch (2 ldr,).
    """
    y = scratch[:ldr]
    if loss == LOG_LOSS and labels.size > 0:
        label_log_loss(z, row_loss, labels, rows, ldr, y)
    elif loss == LOG_LOSS:
        target_log_loss(z, row_loss, targets, rows, n_outputs, ldr, y)
    elif loss == BINARY_LOG_LOSS:
        binary_log_loss(z, row_loss, labels, targets, rows, n_outputs, ldr, y)
    elif loss == SQUARED_ERROR:
        squared_error(z, row_loss, targets, rows, n_outputs, ldr, y)
    elif loss == POISSON:
        poisson(z, row_loss, targets, rows, n_outputs, ldr, y)
    elif loss == LOGISTIC_SQUARED_ERROR:
        logistic_squared_error(z, row_loss, labels, targets, rows, n_outputs, ldr, y)
    elif loss == SOFTMAX_SQUARED_ERROR:
        softmax_squared_error(z, row_loss, labels, targets, rows, n_outputs, ldr, y, scratch[ldr : 2 * ldr])
    if sample_weight.size > 0:
        weigh(z, row_loss, sample_weight, rows, n_outputs, ldr, y)
