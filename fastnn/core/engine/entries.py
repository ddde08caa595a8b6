"""The functions that Python calls: an epoch of mini-batches, loss and gradient of the full batch, prediction.

The only parallel loops are here. A training step has two halves: over blocks of rows, then over blocks of weight rows.
How many blocks there are changes no bit of the result. The threads of an epoch stay in one loop and meet at the end of
each half, see `barrier`; where a batch is learned in parts, once a step, see `parts`.

What a block does is a leaf: Numba would compile it anew into the parallel loop and again into the entry around it (a
first fit took 12.2 s so, 8.9 s with leaves). In parallel entries an assignment to a slice becomes a parallel loop too:
such work is left to kernels.
"""

import math

from numba import prange

from ..compile.jit import entry, kernel, leaf
from ..compile.packing import (
    IN,
    INT,
    INTS,
    LABELS,
    MATRIX,
    NUMBERS,
    OUT,
    REAL,
    RECORDS,
    ROWS,
    as_flat,
    unpack,
    unpack_all,
    unpack_pass,
)
from ..nn.network import first_layer_product, forward_backward, split_bounds
from ..nn.prediction import predict_rows
from ..nn.update import update_weights
from ..parallel.barrier import OVER, PHASE, arrive, is_last, load_acquire, next_block, release
from ..parallel.partition import (
    COUNTERS,
    NON_FINITE_FLAG,
    ROW_GRANULARITY,
    ROWS_PASS,
    WEIGHTS_PASS,
    begin,
    next_rows,
    record,
    reset_counters,
    share,
)
from ..parallel.stealing import next_rows_of_split, next_tile, publish, reset_stealing, weight_bounds
from ..records import ALIKE, BATCH, READY, STEPS
from ..simd.scalar import flush_denormals, restore_denormals
from ..simd.tile import address_of
from .bookkeeping import (
    NOTHING,
    batch_bounds,
    begin_epoch,
    find_batch,
    penalty,
    prefetch_rows,
    refresh_all_derived,
    rows_loss,
    set_row_offsets,
)
from .shards import STEP_THEN_SHARDS, train_in_shards

PREFETCH_BYTES = 256  # shorter rows are not worth naming one by one


@kernel
def advance(row_offsets, batch_size, n):
    """The places of the next batch's n rows become this one's. Writes: places."""
    for r in range(n):
        row_offsets[r] = row_offsets[batch_size + r]


@kernel
def row_bounds(buffers, block, n_blocks, n):
    """First of the n rows of the batch that belong to a block in the first half of a step, and the end. Reads: ends."""
    return share(buffers, ROWS_PASS, block, n_blocks, n, ROW_GRANULARITY)


@kernel
def prefetch_offsets(buffers, offsets, X, ahead, block, n_blocks):
    """Where in X the rows lie that this block will read in the next step, as bytes from the block's own columns.

    In the second half of a step a block reads its share of the columns of all rows; in the next first half it will read
    all columns of its share of the rows. So each of its rows is named once for each share of the columns.

    Writes: offsets (n_rows,). Reads: ahead, the rows of the next batch; ends.
    """
    fan_in = X.shape[1]
    lo, hi = row_bounds(buffers, block, n_blocks, ahead.size)
    own, _ = weight_bounds(buffers, block, n_blocks, fan_in)
    k = 0
    for other in range(n_blocks):
        column = weight_bounds(buffers, other, n_blocks, fan_in)[0] - own
        for r in range(lo, min(hi, lo + offsets.size - k)):
            offsets[k] = (ahead[r] * fan_in + column) * X.itemsize
            k += 1
    offsets[k:] = 0


@leaf(RECORDS, IN, MATRIX, LABELS, MATRIX, IN, ROWS, INT, INT, INT, INT, INT)
def rows_pass(
    packed, like, X, labels, targets, sample_weight, batch_rows, ready, block, thread, n_blocks, workspace_size
):
    """First half of a step for one block: its share of the batch's rows.

    With ``ready`` the first layer's sums are there already: see `weights_pass`. ``thread`` is the block whose
    thread this is.
    """
    mode = flush_denormals()
    _, _, buffers = unpack(packed, like)
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    start = begin(n_blocks)
    lo, hi = row_bounds(buffers, block, n_blocks, batch_rows.size)
    if n_blocks > 1 and X.shape[1] * X.itemsize >= PREFETCH_BYTES:
        # The columns that the second half will read of the other blocks' rows, which other cores are reading now.
        first, last = weight_bounds(buffers, block, n_blocks, X.shape[1])
        prefetch_rows(X, batch_rows[:lo], first, last)
        prefetch_rows(X, batch_rows[hi:], first, last)
    forward_backward(packed, X, labels, targets, sample_weight, batch_rows, lo, hi, ready, 0, workspace)
    record(buffers, ROWS_PASS, thread, n_blocks, start, hi - lo)
    restore_denormals(mode)


@kernel
def multiply_split(packed, X, split, n, n_blocks):
    """Multiply those of the next batch's n rows with a part of the first layer's weights that nobody has claimed.

    Writes: partial_sums, claims. Reads: params, X, places. Returns the work done: that of all n is one for each weight.
    """
    layout, plan, buffers = unpack(packed, X)
    lo, hi = split_bounds(layout, plan, split)
    done = 0
    start, rows = next_rows_of_split(buffers.stealing, n_blocks, split, n)
    while rows > 0:
        first_layer_product(packed, X, split, start, rows, plan.batch_size)
        done += rows
        start, rows = next_rows_of_split(buffers.stealing, n_blocks, split, n)
    return done * (hi - lo) * layout.units[1] // n


@leaf(RECORDS, IN, INT, INT, INT, INT, REAL, REAL, REAL, MATRIX, ROWS, INT, INT)
def weights_pass(packed, like, block, thread, n_blocks, n_rows, alpha, scale, rate, X, ahead, prepare, workspace_size):
    """Second half of a step for one block: its share of the weight rows of every layer, then what others have left.

    With ``prepare`` the block then multiplies the next batch, ``ahead``, with its share of the first layer's weights,
    part by part while they are in this core's cache: other cores read them only to help.
    """
    mode = flush_denormals()
    layout, plan, buffers = unpack(packed, like)
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    start, work = begin(n_blocks), 0
    line, address = 0, 0
    if X.shape[1] * X.itemsize < PREFETCH_BYTES or n_rows == 1:
        lo, hi = row_bounds(buffers, block, n_blocks, ahead.size)
        prefetch_rows(X, ahead[lo:hi], 0, X.shape[1])
    elif prepare:
        line, address = address_of(as_flat(X), 0), address_of(buffers.row_offsets, plan.batch_size)
    elif ahead.size > 0:
        offsets = buffers.offsets[block * plan.batch_size : block * plan.batch_size + n_rows]
        prefetch_offsets(buffers, offsets, X, ahead, block, n_blocks)
        line, address = address_of(as_flat(X), 0), address_of(offsets, 0)
    if prepare:
        each = plan.n_splits // n_blocks
        for split in range(block * each, (block + 1) * each):
            lo, hi = split_bounds(layout, plan, split)
            update_weights(packed, X, 0, lo, hi, n_rows, alpha, scale, rate, False, line, address, workspace)
            publish(buffers.stealing, n_blocks, split)
            work += (hi - lo) * layout.units[1] + multiply_split(packed, X, split, ahead.size, n_blocks)
    for turn in range(n_blocks):
        owner, tiles_done = (block + turn) % n_blocks, 0
        layer, i0, n = next_tile(layout, plan, buffers, prepare, owner, n_blocks, tiles_done)
        while n > 0:
            named = address if layer == 0 and turn == 0 else 0
            update_weights(
                packed, X, layer, i0, i0 + n, n_rows, alpha, scale, rate, n_blocks > 1, line, named, workspace
            )
            work += n * layout.units[layer + 1]
            tiles_done += 1
            layer, i0, n = next_tile(layout, plan, buffers, prepare, owner, n_blocks, tiles_done)
    for split in range(plan.n_splits if prepare else 0):
        work += multiply_split(packed, X, split, ahead.size, n_blocks)
    record(buffers, WEIGHTS_PASS, thread, n_blocks, start, work)
    restore_denormals(mode)


@kernel
def begin_batch(packed, like, rows, losses, phase):
    """Get ready for the next batch whose weights do not sum to zero; the others have loss 0.

    Writes: losses of those; progress, factors, places. Returns ``phase``, or OVER where no batch is left.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    if not find_batch(plan, buffers, examples, rows, losses):
        return OVER
    lo, hi = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    if buffers.progress[READY]:
        advance(buffers.row_offsets, plan.batch_size, hi - lo)
    else:
        set_row_offsets(buffers.row_offsets, 0, examples.X, rows[lo:hi])
    return phase


@kernel
def begin_step(packed, like, rows, rates, losses, n_blocks, phase):
    """Take in the loss of the batch, between the halves of its step, and get ready for the second one.

    Writes: losses, progress, factors, places, claims. Returns ``phase``, or OVER where the loss is not finite.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    progress, weights = buffers.progress, buffers.step_scalars[0]
    batch = progress[BATCH]
    lo, hi = batch_bounds(plan, rows.size, batch)
    losses[batch] = (rows_loss(buffers, 0, hi - lo) + penalty(buffers, plan.alpha)) / weights
    if not math.isfinite(losses[batch]):
        return OVER
    buffers.step_scalars[1] = rates[progress[STEPS]]
    progress[STEPS] += 1
    reset_stealing(buffers.stealing, n_blocks)
    lo, hi = batch_bounds(plan, rows.size, batch + 1)
    # Blocks of whole parts only: a part is on offer, and may be read, once one block has updated all of it.
    parts = plan.n_splits > 1 and plan.n_splits % n_blocks == 0
    progress[READY] = int(parts and lo < hi and progress[ALIKE] != 0)
    if progress[READY]:
        set_row_offsets(buffers.row_offsets, plan.batch_size, examples.X, rows[lo:hi])
    return phase


@kernel
def begin_phase(packed, like, rows, rates, losses, n_blocks, done):
    """Open what follows a phase that is done: even phases are first halves, odd ones second halves of steps.

    Writes: progress, factors, places, claims, losses, meeting; transposed, squares. Returns the phase that is open now.
    """
    _, _, buffers = unpack(packed, like)
    if done == NOTHING:
        refresh_all_derived(packed, like)
    if done % 2 == 0:
        phase = begin_step(packed, like, rows, rates, losses, n_blocks, done + 1)
    else:
        buffers.progress[BATCH] += 1
        phase = begin_batch(packed, like, rows, losses, done + 1)
    release(buffers.barrier, phase)
    return phase


@leaf(RECORDS, IN, ROWS, NUMBERS, NUMBERS, INT, INT, INT)
def run_batches(packed, like, rows, rates, losses, thread, n_blocks, workspace_size):
    """What one thread does of the steps of an epoch: in each half its block, and blocks that nobody else begins.

    Writes: as `train_epoch`. Reads: progress and factors, which stay what they are while a phase is open.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    X, labels, targets, sample_weight = examples.X, examples.labels, examples.targets, examples.sample_weight
    barrier, progress, step_scalars = buffers.barrier, buffers.progress, buffers.step_scalars
    dtype = like.dtype
    phase = arrive(barrier, n_blocks)
    while phase != OVER:
        block = next_block(barrier, phase, thread, n_blocks)
        if block < 0:
            phase = load_acquire(barrier, PHASE)
            continue
        ready = progress[READY]
        lo, hi = batch_bounds(plan, rows.size, progress[BATCH])
        if phase % 2 == 0:
            batch_rows = rows[lo:hi]
            rows_pass(
                packed,
                like,
                X,
                labels,
                targets,
                sample_weight,
                batch_rows,
                ready,
                block,
                thread,
                n_blocks,
                workspace_size,
            )
        elif phase != NOTHING:
            scale, rate = dtype.type(1.0 / step_scalars[0]), dtype.type(step_scalars[1])
            start, end = batch_bounds(plan, rows.size, progress[BATCH] + 1)
            ahead = rows[start:end]
            weights_pass(
                packed, like, block, thread, n_blocks, hi - lo, plan.alpha, scale, rate, X, ahead, ready, workspace_size
            )
        if is_last(barrier, n_blocks):
            phase = begin_phase(packed, like, rows, rates, losses, n_blocks, phase)


@entry
def train_epoch(packed, like, rows, rates, losses, n_blocks, workspace_size):
    """One optimizer step for each mini-batch of ``rows``. ``packed`` holds sets of records, see `state.shard_buffers`.

    Writes: params, moments and the other buffers; losses (n_batches,): the loss of each batch before its step.
    Reads: the examples ``rows``; rates (n_batches,), one for each step made.
    Returns the number of batches done; fewer than n_batches when a loss is not finite. A batch whose weights sum to
    zero makes no step and has loss 0.
    """
    first = packed[0]
    _, plan, buffers = unpack(first, like)
    begin_epoch(buffers, n_blocks)
    for block in prange(n_blocks):
        if plan.n_shards > 1:
            train_in_shards(STEP_THEN_SHARDS, packed, like, rows, rates, losses, block, n_blocks, workspace_size)
        else:
            run_batches(first, like, rows, rates, losses, block, n_blocks, workspace_size)
    return buffers.progress[BATCH]


@entry
def loss_and_gradient(packed, like, rows, weights, alpha, n_blocks, workspace_size):
    """What ``rows`` add to the full batch's loss and gradient, ``plan.batch_size`` rows at a time.

    ``weights`` is the sum of all rows' weights; ``alpha`` is the plan's in one call for each gradient and 0 in the
    others.

    Writes: moments, to which the gradient is added; activations, deltas, row_loss, scratch.
    Reads: params, transposed, squares; the examples ``rows``.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    X, labels, targets, sample_weight = examples.X, examples.labels, examples.targets, examples.sample_weight
    refresh_all_derived(packed, like)
    dtype = like.dtype
    scale = dtype.type(1.0 / weights)
    loss = penalty(buffers, alpha)
    for start in range(0, rows.size, plan.batch_size):
        batch_rows = rows[start : min(start + plan.batch_size, rows.size)]
        ahead = rows[start + plan.batch_size : min(start + 2 * plan.batch_size, rows.size)]
        n = batch_rows.size
        set_row_offsets(buffers.row_offsets, 0, X, batch_rows)
        for block in prange(n_blocks):
            rows_pass(
                packed, like, X, labels, targets, sample_weight, batch_rows, 0, block, block, n_blocks, workspace_size
            )
        loss += rows_loss(buffers, 0, n)
        reset_stealing(buffers.stealing, n_blocks)
        for block in prange(n_blocks):
            weights_pass(packed, like, block, block, n_blocks, n, alpha, scale, scale, X, ahead, 0, workspace_size)
        alpha = dtype.type(0)
    return loss / weights


@leaf(RECORDS, IN, MATRIX, ROWS, NUMBERS, NUMBERS, OUT, INTS, INT, INT, INT, group="predict")
def predict_block(packed, params, X, rows, out, wide, memory, counters, first, block, n_blocks):
    """Outputs of one block's share of the rows, then of what other blocks have not begun yet of theirs."""
    layout, sizes = unpack_pass(packed, params)
    n_outputs = layout.units[sizes.n_layers]
    n = out.size // n_outputs
    own = memory[block * (sizes.level_size + sizes.workspace_size) :]
    levels, workspace = own[: sizes.level_size], own[sizes.level_size : sizes.level_size + sizes.workspace_size]
    room = wide[block * sizes.wide_size : (block + 1) * sizes.wide_size]
    flag = counters[block * COUNTERS + NON_FINITE_FLAG : block * COUNTERS + NON_FINITE_FLAG + 1]
    start, m = next_rows(counters, block, n_blocks, n, sizes.block_rows)
    while m > 0:
        predict_rows(packed, params, X, rows, out[start * n_outputs :], room, levels, workspace, flag, first + start, m)
        start, m = next_rows(counters, block, n_blocks, n, sizes.block_rows)


@entry
def forward(packed, params, X, rows, out, wide, memory, counters, first, n_blocks):
    """Outputs of the network for as many rows as ``out`` has: of X from ``first`` on, or of ``X[rows[first:]]``.

    Writes: out (n, n_outputs); marks (n_blocks, MARKS), SUSPECT of a block where X may hold NaN or inf. Reads: params,
    X, rows. Scratch: memory (n_blocks * (level_size + slot_size)), wide (n_blocks * wide_size).
    """
    flat = as_flat(out)
    reset_counters(counters, n_blocks)
    for block in prange(n_blocks):
        predict_block(packed, params, X, rows, flat, wide, memory, counters, first, block, n_blocks)
