"""The table of loss functions, and the pass from the last layer's sums to losses of rows and deltas.

A row of ``LOSSES`` is a pair of a loss and an output activation: those of the classifier are in
``classification_losses``, those of the regressor in ``regression_losses``, what they share in ``loss_base``. Called by
``network`` and ``sparse_network``.
"""

from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, LABELS, MATRIX, OUT, ROWS
from .activations import activate_output
from .classification_losses import CLASSIFIER_LOSSES
from .loss_base import WITH_SUMS, loss_of_rows
from .regression_losses import REGRESSOR_LOSSES

LOSSES = {**CLASSIFIER_LOSSES, **REGRESSOR_LOSSES}


def special_case(loss, estimator):
    """Name in ``LOSSES`` of the row that computes a loss with the parameters of an estimator."""
    row = LOSSES[loss]
    return row.special_case(*(getattr(estimator, name) for name in row.hyper_parameters)) or loss


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
    if loss >= WITH_SUMS:
        for i in range(size):
            sums[i] = z[i]
    activate_output(output, z[:size], n_outputs, ldr, scratch[:ldr], scratch[ldr : 2 * ldr])
    loss_of_rows(loss, constants, z, sums, row_loss, labels, targets, rows, n_outputs, ldr, scratch)
    if sample_weight.size > 0:
        weigh(z, row_loss, sample_weight, rows, n_outputs, ldr, scratch[:ldr])
