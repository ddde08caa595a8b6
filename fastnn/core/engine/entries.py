"""The functions that Python calls: an epoch of mini-batches, loss and gradient of the full batch, prediction.

The only parallel loops are here. A training step has two halves: over blocks of rows, then over blocks of weight rows.
How many blocks there are changes no bit of the result. The threads of an epoch stay in one loop and meet at the end of
each half, see `meeting`; where a batch is learned in parts, once a step, see `parts`.

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
from ..nn.network import first_product, learn_rows, part_bounds
from ..nn.prediction import predict_rows
from ..nn.update import learn_weights
from ..parallel.barrier import OVER, PHASE, all_done, come, look, next_piece, open_phase
from ..parallel.partition import (
    FIRST,
    MARKS,
    PAIR,
    SECOND,
    SUSPECT,
    begin,
    next_rows,
    record,
    share,
    unclaimed,
)
from ..parallel.stealing import next_rows_of, next_strip, offer, unclaim, weight_share
from ..records import ALIKE, BATCH, READY, STEPS
from ..simd.scalar import flush_denormals, restore_denormals
from ..simd.tile import address_of
from .bookkeeping import (
    NOTHING,
    batch_bounds,
    begin_epoch,
    find_batch,
    locate,
    penalty,
    prefetch_rows,
    refresh,
    rows_loss,
)
from .shards import STEP_AND_LEARN, learn_in_parts

PREFETCH_BYTES = 256  # shorter rows are not worth naming one by one


@kernel
def advance(places, batch_size, n):
    """The places of the next batch's n rows become this one's. Writes: places."""
    for r in range(n):
        places[r] = places[batch_size + r]


@kernel
def row_share(buffers, block, n_blocks, n):
    """First of the n rows of the batch that belong to a block in the first half of a step, and the end. Reads: ends."""
    return share(buffers, FIRST, block, n_blocks, n, PAIR)


@kernel
def prefetch_offsets(buffers, offsets, X, ahead, block, n_blocks):
    """Where in X the rows lie that this block will read in the next step, as bytes from the block's own columns.

    In the second half of a step a block reads its share of the columns of all rows; in the next first half it will read
    all columns of its share of the rows. So each of its rows is named once for each share of the columns.

    Writes: offsets (n_rows,). Reads: ahead, the rows of the next batch; ends.
    """
    fan_in = X.shape[1]
    lo, hi = row_share(buffers, block, n_blocks, ahead.size)
    own, _ = weight_share(buffers, block, n_blocks, fan_in)
    k = 0
    for other in range(n_blocks):
        column = weight_share(buffers, other, n_blocks, fan_in)[0] - own
        for r in range(lo, min(hi, lo + offsets.size - k)):
            offsets[k] = (ahead[r] * fan_in + column) * X.itemsize
            k += 1
    offsets[k:] = 0


@leaf(RECORDS, IN, MATRIX, LABELS, MATRIX, IN, ROWS, INT, INT, INT, INT, INT)
def learn_row_block(
    packed, like, X, labels, targets, sample_weight, members, ready, block, thread, n_blocks, slot_size
):
    """First half of a step for one block: its share of the batch's rows.

    With ``ready`` the first layer's sums are there already: see `learn_weight_block`. ``thread`` is the block whose
    thread this is.
    """
    mode = flush_denormals()
    _, _, buffers = unpack(packed, like)
    slot = buffers.scratch[block * slot_size : (block + 1) * slot_size]
    start = begin(n_blocks)
    lo, hi = row_share(buffers, block, n_blocks, members.size)
    if n_blocks > 1 and X.shape[1] * X.itemsize >= PREFETCH_BYTES:
        # The columns that the second half will read of the other blocks' rows, which other cores are reading now.
        first, last = weight_share(buffers, block, n_blocks, X.shape[1])
        prefetch_rows(X, members[:lo], first, last)
        prefetch_rows(X, members[hi:], first, last)
    learn_rows(packed, X, labels, targets, sample_weight, members, lo, hi, ready, 0, slot)
    record(buffers, FIRST, thread, n_blocks, start, hi - lo)
    restore_denormals(mode)


@kernel
def multiply_part(packed, X, split, n, n_blocks):
    """Multiply those of the next batch's n rows with a part of the first layer's weights that nobody has claimed.

    Writes: partial_sums, claims. Reads: params, X, places. Returns the work done: that of all n is one for each weight.
    """
    layout, plan, buffers = unpack(packed, X)
    lo, hi = part_bounds(layout, plan, split)
    done = 0
    start, rows = next_rows_of(buffers.claims, n_blocks, split, n)
    while rows > 0:
        first_product(packed, X, split, start, rows, plan.batch_size)
        done += rows
        start, rows = next_rows_of(buffers.claims, n_blocks, split, n)
    return done * (hi - lo) * layout.units[1] // n


@leaf(RECORDS, IN, INT, INT, INT, INT, REAL, REAL, REAL, MATRIX, ROWS, INT, INT)
def learn_weight_block(packed, like, block, thread, n_blocks, n_rows, alpha, scale, rate, X, ahead, prepare, slot_size):
    """Second half of a step for one block: its share of the weight rows of every layer, then what others have left.

    With ``prepare`` the block then multiplies the next batch, ``ahead``, with its share of the first layer's weights,
    part by part while they are in this core's cache: other cores read them only to help.
    """
    mode = flush_denormals()
    layout, plan, buffers = unpack(packed, like)
    slot = buffers.scratch[block * slot_size : (block + 1) * slot_size]
    start, work = begin(n_blocks), 0
    line, address = 0, 0
    if X.shape[1] * X.itemsize < PREFETCH_BYTES or n_rows == 1:
        lo, hi = row_share(buffers, block, n_blocks, ahead.size)
        prefetch_rows(X, ahead[lo:hi], 0, X.shape[1])
    elif prepare:
        line, address = address_of(as_flat(X), 0), address_of(buffers.places, plan.batch_size)
    elif ahead.size > 0:
        offsets = buffers.offsets[block * plan.batch_size : block * plan.batch_size + n_rows]
        prefetch_offsets(buffers, offsets, X, ahead, block, n_blocks)
        line, address = address_of(as_flat(X), 0), address_of(offsets, 0)
    if prepare:
        each = plan.k_splits // n_blocks
        for split in range(block * each, (block + 1) * each):
            lo, hi = part_bounds(layout, plan, split)
            learn_weights(packed, X, 0, lo, hi, n_rows, alpha, scale, rate, False, line, address, slot)
            offer(buffers.claims, n_blocks, split)
            work += (hi - lo) * layout.units[1] + multiply_part(packed, X, split, ahead.size, n_blocks)
    for turn in range(n_blocks):
        owner, strips = (block + turn) % n_blocks, 0
        layer, i0, n = next_strip(layout, plan, buffers, prepare, owner, n_blocks, strips)
        while n > 0:
            named = address if layer == 0 and turn == 0 else 0
            learn_weights(packed, X, layer, i0, i0 + n, n_rows, alpha, scale, rate, n_blocks > 1, line, named, slot)
            work += n * layout.units[layer + 1]
            strips += 1
            layer, i0, n = next_strip(layout, plan, buffers, prepare, owner, n_blocks, strips)
    for split in range(plan.k_splits if prepare else 0):
        work += multiply_part(packed, X, split, ahead.size, n_blocks)
    record(buffers, SECOND, thread, n_blocks, start, work)
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
        advance(buffers.places, plan.batch_size, hi - lo)
    else:
        locate(buffers.places, 0, examples.X, rows[lo:hi])
    return phase


@kernel
def begin_step(packed, like, rows, rates, losses, n_blocks, phase):
    """Take in the loss of the batch, between the halves of its step, and get ready for the second one.

    Writes: losses, progress, factors, places, claims. Returns ``phase``, or OVER where the loss is not finite.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    progress, weights = buffers.progress, buffers.factors[0]
    batch = progress[BATCH]
    lo, hi = batch_bounds(plan, rows.size, batch)
    losses[batch] = (rows_loss(buffers, 0, hi - lo) + penalty(buffers, plan.alpha)) / weights
    if not math.isfinite(losses[batch]):
        return OVER
    buffers.factors[1] = rates[progress[STEPS]]
    progress[STEPS] += 1
    unclaim(buffers.claims, n_blocks)
    lo, hi = batch_bounds(plan, rows.size, batch + 1)
    # Blocks of whole parts only: a part is on offer, and may be read, once one block has updated all of it.
    parts = plan.k_splits > 1 and plan.k_splits % n_blocks == 0
    progress[READY] = int(parts and lo < hi and progress[ALIKE] != 0)
    if progress[READY]:
        locate(buffers.places, plan.batch_size, examples.X, rows[lo:hi])
    return phase


@kernel
def begin_phase(packed, like, rows, rates, losses, n_blocks, done):
    """Open what follows a phase that is done: even phases are first halves, odd ones second halves of steps.

    Writes: progress, factors, places, claims, losses, meeting; transposed, squares. Returns the phase that is open now.
    """
    _, _, buffers = unpack(packed, like)
    if done == NOTHING:
        refresh(packed, like)
    if done % 2 == 0:
        phase = begin_step(packed, like, rows, rates, losses, n_blocks, done + 1)
    else:
        buffers.progress[BATCH] += 1
        phase = begin_batch(packed, like, rows, losses, done + 1)
    open_phase(buffers.meeting, phase)
    return phase


@leaf(RECORDS, IN, ROWS, NUMBERS, NUMBERS, INT, INT, INT)
def learn_batches(packed, like, rows, rates, losses, thread, n_blocks, slot_size):
    """What one thread does of the steps of an epoch: in each half its block, and blocks that nobody else begins.

    Writes: as `train_epoch`. Reads: progress and factors, which stay what they are while a phase is open.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    X, labels, targets, sample_weight = examples.X, examples.labels, examples.targets, examples.sample_weight
    meeting, progress, factors = buffers.meeting, buffers.progress, buffers.factors
    dtype = like.dtype
    phase = come(meeting, n_blocks)
    while phase != OVER:
        block = next_piece(meeting, phase, thread, n_blocks)
        if block < 0:
            phase = look(meeting, PHASE)
            continue
        ready = progress[READY]
        lo, hi = batch_bounds(plan, rows.size, progress[BATCH])
        if phase % 2 == 0:
            members = rows[lo:hi]
            learn_row_block(
                packed, like, X, labels, targets, sample_weight, members, ready, block, thread, n_blocks, slot_size
            )
        elif phase != NOTHING:
            scale, rate = dtype.type(1.0 / factors[0]), dtype.type(factors[1])
            start, end = batch_bounds(plan, rows.size, progress[BATCH] + 1)
            ahead = rows[start:end]
            learn_weight_block(
                packed, like, block, thread, n_blocks, hi - lo, plan.alpha, scale, rate, X, ahead, ready, slot_size
            )
        if all_done(meeting, n_blocks):
            phase = begin_phase(packed, like, rows, rates, losses, n_blocks, phase)


@entry
def train_epoch(packed, like, rows, rates, losses, n_blocks, slot_size):
    """One optimizer step for each mini-batch of ``rows``. ``packed`` holds sets of records, see `state.own_weights`.

    Writes: params, moments and the other buffers; losses (n_batches,): the loss of each batch before its step.
    Reads: the examples ``rows``; rates (n_batches,), one for each step made.
    Returns the number of batches done; fewer than n_batches when a loss is not finite. A batch whose weights sum to
    zero makes no step and has loss 0.
    """
    first = packed[0]
    _, plan, buffers = unpack(first, like)
    begin_epoch(buffers, n_blocks)
    for block in prange(n_blocks):
        if plan.row_splits > 1:
            learn_in_parts(STEP_AND_LEARN, packed, like, rows, rates, losses, block, n_blocks, slot_size)
        else:
            learn_batches(first, like, rows, rates, losses, block, n_blocks, slot_size)
    return buffers.progress[BATCH]


@entry
def loss_and_gradient(packed, like, rows, weights, alpha, n_blocks, slot_size):
    """What ``rows`` add to the full batch's loss and gradient, ``plan.batch_size`` rows at a time.

    ``weights`` is the sum of all rows' weights; ``alpha`` is the plan's in one call for each gradient and 0 in the
    others.

    Writes: moments, to which the gradient is added; activations, deltas, row_loss, scratch.
    Reads: params, transposed, squares; the examples ``rows``.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    X, labels, targets, sample_weight = examples.X, examples.labels, examples.targets, examples.sample_weight
    refresh(packed, like)
    dtype = like.dtype
    scale = dtype.type(1.0 / weights)
    loss = penalty(buffers, alpha)
    for start in range(0, rows.size, plan.batch_size):
        members = rows[start : min(start + plan.batch_size, rows.size)]
        ahead = rows[start + plan.batch_size : min(start + 2 * plan.batch_size, rows.size)]
        n = members.size
        locate(buffers.places, 0, X, members)
        for block in prange(n_blocks):
            learn_row_block(
                packed, like, X, labels, targets, sample_weight, members, 0, block, block, n_blocks, slot_size
            )
        loss += rows_loss(buffers, 0, n)
        unclaim(buffers.claims, n_blocks)
        for block in prange(n_blocks):
            learn_weight_block(packed, like, block, block, n_blocks, n, alpha, scale, scale, X, ahead, 0, slot_size)
        alpha = dtype.type(0)
    return loss / weights


@leaf(RECORDS, IN, MATRIX, ROWS, NUMBERS, NUMBERS, OUT, INTS, INT, INT, INT, group="predict")
def predict_block(packed, params, X, rows, out, wide, memory, marks, first, block, n_blocks):
    """Outputs of one block's share of the rows, then of what other blocks have not begun yet of theirs."""
    layout, sizes = unpack_pass(packed, params)
    n_outputs = layout.units[sizes.n_layers]
    n = out.size // n_outputs
    own = memory[block * (sizes.level_size + sizes.slot_size) :]
    levels, slot = own[: sizes.level_size], own[sizes.level_size : sizes.level_size + sizes.slot_size]
    room = wide[block * sizes.wide_size : (block + 1) * sizes.wide_size]
    flag = marks[block * MARKS + SUSPECT : block * MARKS + SUSPECT + 1]
    start, m = next_rows(marks, block, n_blocks, n, sizes.block_rows)
    while m > 0:
        predict_rows(packed, params, X, rows, out[start * n_outputs :], room, levels, slot, flag, first + start, m)
        start, m = next_rows(marks, block, n_blocks, n, sizes.block_rows)


@entry
def forward(packed, params, X, rows, out, wide, memory, marks, first, n_blocks):
    """Outputs of the network for as many rows as ``out`` has: of X from ``first`` on, or of ``X[rows[first:]]``.

    Writes: out (n, n_outputs); marks (n_blocks, MARKS), SUSPECT of a block where X may hold NaN or inf. Reads: params,
    X, rows. Scratch: memory (n_blocks * (level_size + slot_size)), wide (n_blocks * wide_size).
    """
    flat = as_flat(out)
    unclaimed(marks, n_blocks)
    for block in prange(n_blocks):
        predict_block(packed, params, X, rows, flat, wide, memory, marks, first, block, n_blocks)
