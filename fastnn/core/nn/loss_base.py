"""What all losses share: the row of the table, the dispatch table, targets and clipped probabilities.

All losses work on a transposed block z (n_outputs, ldr) of activated outputs, with a column for each row of a block,
and overwrite it with the delta dL/d(pre-activation). That is ``p - y`` for the canonical pairs of loss and output
activation. The loss of each row is written to ``row_loss``; ``engine.bookkeeping`` and ``engine.shards`` average over
rows. ``y`` of row r is ``labels[rows[r]]`` or ``targets[rows[r], :]``.

Beside each loss is its ``*_of``: the same value for rows of activated outputs p (n_rows, n_outputs), in NumPy and
float64, for validation data; called by ``scoring``. Labels (n_rows,) are empty where there are targets.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel
from ..compile.packing import IN, INT, LABELS, MATRIX, OUT, ROWS
from ..simd.scalar import by_dtype
from ..simd.vecmath import log
from ..simd.vector import like

NONE = MappingProxyType({})
REALS, NOT_NEGATIVE, POSITIVE = "", ">= 0", "> 0"  # what targets may be


def no_numbers(*hyper_parameters):
    """The constants of a loss whose hyper-parameters only choose the row."""
    return ()


def no_other(*hyper_parameters):
    """The special case of a loss that has none."""
    return None


def all_reals(*hyper_parameters):
    """The domain of a loss that takes all targets."""
    return REALS


def not_negative(*hyper_parameters):
    """The domain of a loss that takes no negative targets."""
    return NOT_NEGATIVE


class Loss(NamedTuple):
    """One row of the table: a loss with its output activation.

    The callables take the hyper-parameters in the order of ``hyper_parameters``.
    """

    id: int  # in compiled code
    output: str  # name of the output activation
    classifier: bool  # True: a loss of the classifier; False: of the regressor
    users_name: str | None  # the estimators' ``loss``; None for a special case of another row
    rows_of: Callable  # (p, labels, targets, *constants) -> float64 (n_rows,), the loss in NumPy
    hyper_parameters: Mapping = NONE  # the estimators' parameters that it depends on, with values for calls without
    constants: Callable = no_numbers  # -> numbers that compiled code finds in ``plan.loss_constants``
    domain: Callable = all_reals  # -> REALS, NOT_NEGATIVE or POSITIVE: the targets for which it is defined
    special_case: Callable = no_other  # -> name of the row that takes its place for these numbers, or None


WITH_SUMS = 32  # losses from this id on are also given the last layer's sums
# Probabilities are clipped this far from 0 and 1, as scikit-learn does in float64; in float32 1 - EPS rounds to 1. With
# a loss clipped at the spacing of float32, training on raw features would stop where scikit-learn goes on.
EPS = 2.0**-52
_bounds = by_dtype(*((dtype(EPS), dtype(1 - EPS)) for dtype in (np.float32, np.float64)))


# Compute the loss of each row, and overwrite the outputs z (n_outputs, ldr) with deltas. ``sums`` are the last layer's
# pre-activations for losses from WITH_SUMS on, and undefined for the others. Writes: z, row_loss.
# Scratch: scratch (2 ldr,).
loss_of_rows = dispatch_table(
    "loss_of_rows",
    ("constants", IN), ("z", OUT), ("sums", IN), ("row_loss", OUT), ("labels", LABELS), ("targets", MATRIX),
    ("rows", ROWS), ("n_outputs", INT), ("ldr", INT), ("scratch", OUT),
)  # fmt: skip


@kernel
def clip(p):
    """Keep a probability within [EPS, 1 - EPS], which is [EPS, 1] in float32; NaN stays."""
    low, high = _bounds(p)
    raised = low if p < low else p
    return high if raised > high else raised


def clipped(p):
    """``clip`` for arrays; float64."""
    return np.clip(p.astype(np.float64), EPS, 1 - EPS)


@kernel
def log1p(t):
    """log(1 + t), accurate also where the magnitude of t is much smaller than 1."""
    one = like(t, 1)
    u = one + t
    return log(u) + (t - (u - one)) / u


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


def indicator(p, labels, targets):
    """Targets, or one-hot rows of labels; float64 of the shape of p."""
    if not labels.size:
        return targets.astype(np.float64)
    y = np.zeros(p.shape)
    y[np.arange(len(p)), labels] = 1
    return y
