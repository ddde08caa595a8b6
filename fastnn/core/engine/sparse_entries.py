"""``epoch`` for sparse input: the functions that Python calls, with the same loops and the same steps.

How many blocks there are changes no bit of the result. First halves are balanced by rows, whatever they hold; the
blocks of the first layer's weight rows come from Python, which knows how full the columns are.
"""

from numba import prange

from ..compile.jit import entry, leaf
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
from ..nn.network import GROUP
from ..nn.sparse_network import learn_rows_sparse, learn_weights_sparse, predict_rows_sparse
from ..nn.update import learn_weights
from ..parallel.barrier import OVER, PHASE, all_done, come, look, next_piece
from ..parallel.partition import MARKS, SUSPECT, boundary, next_rows, unclaimed
from ..records import BATCH
from ..simd.scalar import flush_denormals, restore_denormals
from ..simd.spmm import CSR
from .bookkeeping import NOTHING, batch_bounds, begin_epoch, penalty, refresh, rows_loss
from .entries import begin_phase


@leaf(RECORDS, IN, CSR, LABELS, MATRIX, IN, ROWS, ROWS, INT, INT, INT, group="sparse")
def learn_row_block_sparse(
    packed, like, csr, labels, targets, sample_weight, members, ahead, block, n_blocks, slot_size
):
    """First half of a step for one block: its share of the batch's rows."""
    mode = flush_denormals()
    _, _, buffers = unpack(packed, like)
    lo, hi = boundary(block, n_blocks, members.size, 2), boundary(block + 1, n_blocks, members.size, 2)
    slot = buffers.scratch[block * slot_size : (block + 1) * slot_size]
    learn_rows_sparse(packed, csr, labels, targets, sample_weight, members, lo, hi, ahead, slot)
    restore_denormals(mode)


@leaf(RECORDS, IN, CSR, ROWS, ROWS, INT, INT, REAL, REAL, REAL, INT, group="sparse")
def learn_weight_block_sparse(packed, like, csr, members, bounds, block, n_blocks, alpha, scale, rate, slot_size):
    """Second half of a step for one block: its share of the weight rows of every layer."""
    mode = flush_denormals()
    layout, plan, buffers = unpack(packed, like)
    slot = buffers.scratch[block * slot_size : (block + 1) * slot_size]
    n = members.size
    lo, hi = bounds[block], bounds[block + 1]
    if lo < hi:
        cursors = buffers.offsets[block * n : (block + 1) * n]
        learn_weights_sparse(packed, csr, members, cursors, lo, hi, alpha, scale, rate, slot)
    unread = csr.values.reshape(1, -1)  # a matrix in the place of X, which only a dense first layer reads
    for layer in range(1, plan.n_layers):
        fan_in = layout.units[layer]
        lo, hi = boundary(block, n_blocks, fan_in, GROUP), boundary(block + 1, n_blocks, fan_in, GROUP)
        if lo < hi:
            learn_weights(packed, unread, layer, lo, hi, n, alpha, scale, rate, n_blocks > 1, 0, 0, slot)
    restore_denormals(mode)


@leaf(RECORDS, IN, CSR, ROWS, NUMBERS, NUMBERS, ROWS, INT, INT, INT, group="sparse")
def learn_batches_sparse(packed, like, csr, rows, rates, losses, bounds, thread, n_blocks, slot_size):
    """`epoch.learn_batches` with X in ``csr``; ``bounds`` as in `train_epoch_sparse`."""
    _, plan, buffers, examples = unpack_all(packed, like)
    labels, targets, sample_weight = examples.labels, examples.targets, examples.sample_weight
    meeting, progress, factors = buffers.meeting, buffers.progress, buffers.factors
    dtype = like.dtype
    phase = come(meeting, n_blocks)
    while phase != OVER:
        block = next_piece(meeting, phase, thread, n_blocks)
        if block < 0:
            phase = look(meeting, PHASE)
            continue
        lo, hi = batch_bounds(plan, rows.size, progress[BATCH])
        members = rows[lo:hi]
        if phase % 2 == 0:
            start, end = batch_bounds(plan, rows.size, progress[BATCH] + 1)
            ahead = rows[start:end]
            learn_row_block_sparse(
                packed, like, csr, labels, targets, sample_weight, members, ahead, block, n_blocks, slot_size
            )
        elif phase != NOTHING:
            scale, rate = dtype.type(1.0 / factors[0]), dtype.type(factors[1])
            learn_weight_block_sparse(
                packed, like, csr, members, bounds, block, n_blocks, plan.alpha, scale, rate, slot_size
            )
        if all_done(meeting, n_blocks):
            phase = begin_phase(packed, like, rows, rates, losses, n_blocks, phase)


@entry
def train_epoch_sparse(packed, like, csr, rows, rates, losses, bounds, n_blocks, slot_size):
    """`epoch.train_epoch` with X in ``csr``.

    Reads also: bounds (n_blocks + 1,), the first layer's weight rows of each block. Buffers' ``offsets`` hold cursors.
    """
    _, _, buffers = unpack(packed, like)
    begin_epoch(buffers, n_blocks)
    for block in prange(n_blocks):
        learn_batches_sparse(packed, like, csr, rows, rates, losses, bounds, block, n_blocks, slot_size)
    return buffers.progress[BATCH]


@entry
def loss_and_gradient_sparse(packed, like, csr, rows, weights, alpha, bounds, n_blocks, slot_size):
    """`epoch.loss_and_gradient` with X in ``csr``; ``bounds`` as in `train_epoch_sparse`."""
    _, plan, buffers, examples = unpack_all(packed, like)
    labels, targets, sample_weight = examples.labels, examples.targets, examples.sample_weight
    refresh(packed, like)
    dtype = like.dtype
    scale = dtype.type(1.0 / weights)
    loss = penalty(buffers, alpha)
    for start in range(0, rows.size, plan.batch_size):
        members = rows[start : min(start + plan.batch_size, rows.size)]
        ahead = rows[start + plan.batch_size : min(start + 2 * plan.batch_size, rows.size)]
        n = members.size
        for block in prange(n_blocks):
            learn_row_block_sparse(
                packed, like, csr, labels, targets, sample_weight, members, ahead, block, n_blocks, slot_size
            )
        loss += rows_loss(buffers, 0, n)
        for block in prange(n_blocks):
            learn_weight_block_sparse(
                packed, like, csr, members, bounds, block, n_blocks, alpha, scale, scale, slot_size
            )
        alpha = dtype.type(0)
    return loss / weights


@leaf(RECORDS, IN, CSR, ROWS, NUMBERS, NUMBERS, OUT, INTS, INT, INT, INT, group="sparse")
def predict_block_sparse(packed, params, csr, rows, out, wide, memory, marks, first, block, n_blocks):
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
        predict_rows_sparse(
            packed, params, csr, rows, out[start * n_outputs :], room, levels, slot, flag, first + start, m
        )
        start, m = next_rows(marks, block, n_blocks, n, sizes.block_rows)


@entry
def forward_sparse(packed, params, csr, rows, out, wide, memory, marks, first, n_blocks):
    """`epoch.forward` with X in ``csr``."""
    flat = as_flat(out)
    unclaimed(marks, n_blocks)
    for block in prange(n_blocks):
        predict_block_sparse(packed, params, csr, rows, flat, wide, memory, marks, first, block, n_blocks)
