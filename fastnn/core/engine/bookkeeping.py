"""The batches of an epoch: which rows they have, what their losses add up to, what is there before the first one.

Called by ``epoch``, ``sparse_epoch`` and ``parts``.
"""

from ..compile.jit import kernel
from ..compile.packing import as_flat, unpack
from ..nn.update import refresh_derived
from ..parallel.barrier import reset_barrier
from ..records import BATCH, DERIVED, READY, STEPS
from ..simd.target import LINE_BYTES
from ..simd.transpose import prefetch

NOTHING = 1  # the first phase of an epoch: odd, but without work


@kernel
def batch_bounds(plan, n, batch):
    """First of n rows that belongs to a batch, and the end; twice the end behind the last batch."""
    return min(batch * plan.batch_size, n), min((batch + 1) * plan.batch_size, n)


@kernel
def begin_epoch(buffers, n_blocks):
    """Let threads meet at the end of a phase without work, behind which the first batch begins: no batch is yet there.

    Writes: progress, meeting.
    """
    buffers.progress[BATCH] = -1
    buffers.progress[STEPS] = buffers.progress[READY] = 0
    reset_barrier(buffers.barrier, n_blocks, NOTHING)


@kernel
def find_batch(plan, buffers, examples, rows, losses):
    """Whether there is a next batch whose weights do not sum to zero; those that are skipped have loss 0.

    Writes: losses of those; progress; factors, the sum of the weights.
    """
    progress = buffers.progress
    while progress[BATCH] < losses.size:
        lo, hi = batch_bounds(plan, rows.size, progress[BATCH])
        weights = weight_sum(examples.sample_weight, rows[lo:hi])
        if weights != 0.0:
            buffers.step_scalars[0] = weights
            return True
        losses[progress[BATCH]] = 0.0
        progress[READY] = 0
        progress[BATCH] += 1
    return False


@kernel
def rows_loss(buffers, lo, hi):
    """Sum of the losses of rows lo .. hi in float64: four partial sums, then what is left. Reads: row_loss."""
    loss = buffers.row_loss
    a = b = c = d = 0.0
    whole = hi - (hi - lo) % 4
    for r in range(lo, whole, 4):
        a += loss[r]
        b += loss[r + 1]
        c += loss[r + 2]
        d += loss[r + 3]
    for r in range(whole, hi):
        a += loss[r]
    return (a + b) + (c + d)


@kernel
def penalty(buffers, alpha):
    """scikit-learn's L2 term, ``alpha / 2 sum W^2`` over all weights, biases excepted. Reads: squares."""
    total = 0.0
    if alpha > 0:
        for i in range(buffers.squares.size):
            total += buffers.squares[i]
    return 0.5 * alpha * total


@kernel
def weight_sum(sample_weight, rows):
    """Sum of the weights of a batch, or its number of rows when all are one. Reads: sample_weight, rows."""
    if sample_weight.size == 0:
        return float(rows.size)
    total = 0.0
    for r in range(rows.size):
        total += sample_weight[rows[r]]
    return total


@kernel
def set_row_offsets(row_offsets, start, X, batch_rows):
    """places[start + r] <- how many bytes row members[r] lies behind the first of X. Writes: places. Reads: members."""
    row = X.shape[1] * X.itemsize
    for r in range(batch_rows.size):
        row_offsets[start + r] = batch_rows[r] * row


@kernel
def prefetch_rows(X, rows, first, last):
    """Ask for columns first .. last of ``rows``."""
    flat = as_flat(X)
    line = LINE_BYTES // X.itemsize
    for r in range(rows.size):
        start = rows[r] * X.shape[1]
        for column in range(first, last, line):
            prefetch(flat, start + column)


@kernel
def refresh_all_derived(packed, like):
    """Derive from the weights what training keeps beside them, unless that is there. Writes: transposed, squares."""
    layout, plan, buffers = unpack(packed, like)
    if buffers.progress[DERIVED] == 0:
        for layer in range(plan.n_layers):
            refresh_derived(packed, buffers.params, layer, 0, layout.units[layer])
        buffers.progress[DERIVED] = 1
