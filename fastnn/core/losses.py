"""Loss functions and their output deltas, and the table of them.

All work on a transposed block z (n_outputs, ldr) of activated outputs, one column a row of the batch, and turn it in
place into the delta dL/d(pre-activation). With the canonical pairs of the table that is ``p - y`` for every loss. The
value of each row goes to ``row_loss``; scikit-learn's averages over rows are taken by ``epoch``.
Called by ``network``. ``y`` of row r is ``labels[rows[r]]`` or ``targets[rows[r], :]``.
"""

from typing import NamedTuple

import numpy as np

from .jit import IN, INT, LABELS, MATRIX, OUT, ROWS, kernel, leaf
from .scalars import by_dtype
from .vecmath import log


class Loss(NamedTuple):
    """One row of the table: its id in compiled code and the output activation it goes with."""

    id: int
    output: str
    classifier: bool


LOG_LOSS, BINARY_LOG_LOSS, SQUARED_ERROR, POISSON = range(4)

LOSSES = {
    "log_loss": Loss(LOG_LOSS, "softmax", classifier=True),
    "binary_log_loss": Loss(BINARY_LOG_LOSS, "logistic", classifier=True),
    "squared_error": Loss(SQUARED_ERROR, "identity", classifier=False),
    "poisson": Loss(POISSON, "exp", classifier=False),
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
def binary_log_loss(z, row_loss, targets, rows, n_outputs, ldr, y):
    """loss_r = -sum_c y log p + (1 - y) log(1 - p), delta = p - y. Writes: z, row_loss. Scratch: y (ldr,)."""
    one = z.dtype.type(1)
    row_loss[:] = 0
    for c in range(n_outputs):
        p = z[c * ldr : (c + 1) * ldr]
        gather_targets(y, targets, rows, c)
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
    Scratch: scratch (ldr,).
    """
    if loss == LOG_LOSS and labels.size > 0:
        label_log_loss(z, row_loss, labels, rows, ldr, scratch)
    elif loss == LOG_LOSS:
        target_log_loss(z, row_loss, targets, rows, n_outputs, ldr, scratch)
    elif loss == BINARY_LOG_LOSS:
        binary_log_loss(z, row_loss, targets, rows, n_outputs, ldr, scratch)
    elif loss == SQUARED_ERROR:
        squared_error(z, row_loss, targets, rows, n_outputs, ldr, scratch)
    elif loss == POISSON:
        poisson(z, row_loss, targets, rows, n_outputs, ldr, scratch)
    if sample_weight.size > 0:
        weigh(z, row_loss, sample_weight, rows, n_outputs, ldr, scratch)
