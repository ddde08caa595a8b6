"""What is serial in a call: bounds and losses of its batches, and the work between two phases."""

import math

from ..compile.jit import kernel
from ..compile.packing import as_flat
from ..nn.update import refresh_derived
from ..parallel.barrier import OVER, release, reset_barrier
from ..parallel.stealing import reset_stealing
from ..records import (
    ALIKE,
    ALPHA,
    BATCH,
    DERIVED,
    EARLIER_STEPS,
    RATE,
    READY,
    SCALE,
    SCHEDULED,
    STEPS,
    VERB,
    WEIGHT_SUM,
    unpack,
    unpack_all,
)
from ..simd.target import LINE_BYTES
from ..simd.transpose import prefetch
from .programs import GRADIENT_OF_BATCHES, START, STEPS_OF_BATCHES, advance


@kernel
def batch_bounds(plan, n, batch):
    """First of n rows that belongs to a batch, and the end; both are n behind the last batch."""
    return min(batch * plan.batch_size, n), min((batch + 1) * plan.batch_size, n)


@kernel
def begin_call(plan, buffers, n_blocks):
    """Reset the barrier to START, the phase before the first batch. Writes: progress, barrier."""
    progress = buffers.progress
    progress[EARLIER_STEPS] += progress[STEPS]
    progress[BATCH] = -1
    progress[VERB] = plan.program.size - 1
    progress[STEPS] = progress[READY] = 0
    reset_barrier(buffers.barrier, n_blocks, START)


@kernel
def end_verb(plan, progress):
    """Go on to the program's next verb; returns the index of the verb that has ended. Writes: progress."""
    done = progress[VERB]
    progress[VERB] = done + 1 if done + 1 < plan.program.size else 0  # no modulo: a division for each phase
    return done


@kernel
def find_batch(plan, buffers, examples, rows, losses):
    """Whether another batch has sample weights that do not sum to zero. Batches before it are skipped, with loss 0.

    Writes: losses of the skipped batches; progress; the sum of the weights in step_scalars.
    """
    progress = buffers.progress
    while progress[BATCH] < losses.size:
        lo, hi = batch_bounds(plan, rows.size, progress[BATCH])
        weights = weight_sum(examples.sample_weight, rows[lo:hi])
        if weights != 0.0:
            buffers.step_scalars[WEIGHT_SUM] = weights
            return True
        losses[progress[BATCH]] = 0.0
        progress[READY] = 0
        progress[BATCH] += 1
    return False


@kernel
def rows_loss(buffers, lo, hi):
    """Sum of the losses of rows lo .. hi in float64: four partial sums, the first with the rest. Reads: row_loss."""
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
    """row_offsets[start + r] <- bytes from the first row of X to row batch_rows[r]. Writes: row_offsets."""
    row = X.shape[1] * X.itemsize
    for r in range(batch_rows.size):
        row_offsets[start + r] = batch_rows[r] * row


@kernel
def advance_row_offsets(row_offsets, batch_size, n):
    """Move the offsets of the next batch's n rows to the place of the present batch's. Writes: row_offsets."""
    for r in range(n):
        row_offsets[r] = row_offsets[batch_size + r]


@kernel
def prefetch_rows(X, rows, first, last):
    """Prefetch columns first .. last of ``rows``."""
    flat = as_flat(X)
    line = LINE_BYTES // X.itemsize
    for r in range(rows.size):
        start = rows[r] * X.shape[1]
        for column in range(first, last, line):
            prefetch(flat, start + column)


@kernel
def refresh_all_derived(packed, like):
    """Compute what is derived from the weights, unless it is up to date. Writes: transposed, squares, progress."""
    layout, plan, buffers = unpack(packed, like)
    if buffers.progress[DERIVED] == 0:
        for layer in range(plan.n_layers):
            refresh_derived(packed, buffers.params, layer, 0, layout.units[layer])
        buffers.progress[DERIVED] = 1


@kernel
def begin_step(plan, buffers, scalars):
    """Set the step scalars of the next step, for a batch whose loss is known. Writes: step_scalars, progress."""
    step_scalars, row = buffers.step_scalars, SCHEDULED * buffers.progress[STEPS]
    step_scalars[SCALE] = 1.0 / step_scalars[WEIGHT_SUM]
    step_scalars[ALPHA] = plan.alpha
    for i in range(SCHEDULED):
        step_scalars[RATE + i] = scalars[row + i]
    buffers.progress[STEPS] += 1


@kernel
def begin_weights(packed, like, rows, n_blocks):
    """Prepare the weights pass: decide whether it computes the first product of the next batch ahead (READY).

    Writes: progress, row_offsets.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    progress = buffers.progress
    lo, hi = batch_bounds(plan, rows.size, progress[BATCH] + 1)
    # Blocks must have whole splits: a split is published, and may be read, once one block has updated all of it.
    splits = plan.n_splits > 1 and plan.n_splits % n_blocks == 0
    progress[READY] = int(splits and lo < hi and progress[ALIKE] != 0)
    if progress[READY]:
        set_row_offsets(buffers.row_offsets, plan.batch_size, examples.X, rows[lo:hi])


@kernel
def begin_rows(packed, like, rows):
    """Prepare the rows pass. Writes: row_offsets."""
    _, plan, buffers, examples = unpack_all(packed, like)
    lo, hi = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    if buffers.progress[READY]:
        advance_row_offsets(buffers.row_offsets, plan.batch_size, hi - lo)
    else:
        set_row_offsets(buffers.row_offsets, 0, examples.X, rows[lo:hi])


@advance.implementation(STEPS_OF_BATCHES)
def advance_steps(packed, like, rows, scalars, losses, n_blocks, done):
    """Release the next phase of a step, or of the next batch's step; end the call where a loss is not finite.

    A batch whose weights sum to zero makes no step.

    Writes: losses, progress, step_scalars, row_offsets, stealing, barrier; before the first batch transposed, squares.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    progress, phase = buffers.progress, done + 1
    ended = end_verb(plan, progress)
    if done == START:
        refresh_all_derived(packed, like)
    reset_stealing(buffers.stealing, n_blocks)
    if ended == plan.program.size - 1:
        progress[BATCH] += 1
        if find_batch(plan, buffers, examples, rows, losses):
            begin_rows(packed, like, rows)
        else:
            phase = OVER
    elif ended == 0:
        batch = progress[BATCH]
        lo, hi = batch_bounds(plan, rows.size, batch)
        loss = rows_loss(buffers, 0, hi - lo) + penalty(buffers, plan.alpha)
        losses[batch] = loss / buffers.step_scalars[WEIGHT_SUM]
        if math.isfinite(losses[batch]):
            begin_step(plan, buffers, scalars)
            begin_weights(packed, like, rows, n_blocks)
        else:
            phase = OVER
    release(buffers.barrier, phase)


@advance.implementation(GRADIENT_OF_BATCHES)
def advance_gradient(packed, like, rows, scalars, losses, n_blocks, done):
    """`advance_steps` where gradients and losses of all batches are added up: the last of ``losses`` is the sum of all.

    The first batch adds the L2 term, if ALPHA is not zero; the others do not.

    Writes: losses, progress, step_scalars, row_offsets, stealing, barrier; transposed, squares.
    """
    _, plan, buffers = unpack(packed, like)
    progress, phase = buffers.progress, done + 1
    if done == START:
        refresh_all_derived(packed, like)
    if end_verb(plan, progress) == plan.program.size - 1:
        progress[BATCH] += 1
        if progress[BATCH] > 0:
            buffers.step_scalars[ALPHA] = 0.0
        if progress[BATCH] < losses.size:
            begin_rows(packed, like, rows)
        else:
            phase = OVER
    else:
        batch = progress[BATCH]
        lo, hi = batch_bounds(plan, rows.size, batch)
        before = losses[batch - 1] if batch > 0 else penalty(buffers, like.dtype.type(buffers.step_scalars[ALPHA]))
        losses[batch] = before + rows_loss(buffers, 0, hi - lo)
        reset_stealing(buffers.stealing, n_blocks)
        begin_weights(packed, like, rows, n_blocks)
    release(buffers.barrier, phase)
