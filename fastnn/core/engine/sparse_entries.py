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
from ..nn.sparse_network import forward_backward_sparse, predict_rows_sparse, update_weights_sparse
from ..nn.update import update_weights
from ..parallel.barrier import OVER, PHASE, arrive, is_last, load_acquire, next_block
from ..parallel.partition import COUNTERS, NON_FINITE_FLAG, boundary, next_rows, reset_counters
from ..records import BATCH
from ..simd.scalar import flush_denormals, restore_denormals
from ..simd.spmm import CSR
from .bookkeeping import NOTHING, batch_bounds, begin_epoch, penalty, refresh_all_derived, rows_loss
from .entries import begin_phase


@leaf(RECORDS, IN, CSR, LABELS, MATRIX, IN, ROWS, ROWS, INT, INT, INT, group="sparse")
def rows_pass_sparse(
    packed, like, csr, labels, targets, sample_weight, batch_rows, ahead, block, n_blocks, workspace_size
):
    """First half of a step for one block: its share of the batch's rows."""
    mode = flush_denormals()
    _, _, buffers = unpack(packed, like)
    lo, hi = boundary(block, n_blocks, batch_rows.size, 2), boundary(block + 1, n_blocks, batch_rows.size, 2)
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    forward_backward_sparse(packed, csr, labels, targets, sample_weight, batch_rows, lo, hi, ahead, workspace)
    restore_denormals(mode)


@leaf(RECORDS, IN, CSR, ROWS, ROWS, INT, INT, REAL, REAL, REAL, INT, group="sparse")
def weights_pass_sparse(packed, like, csr, batch_rows, bounds, block, n_blocks, alpha, scale, rate, workspace_size):
    """Second half of a step for one block: its share of the weight rows of every layer."""
    mode = flush_denormals()
    layout, plan, buffers = unpack(packed, like)
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    n = batch_rows.size
    lo, hi = bounds[block], bounds[block + 1]
    if lo < hi:
        cursors = buffers.offsets[block * n : (block + 1) * n]
        update_weights_sparse(packed, csr, batch_rows, cursors, lo, hi, alpha, scale, rate, workspace)
    unread = csr.values.reshape(1, -1)  # a matrix in the place of X, which only a dense first layer reads
    for layer in range(1, plan.n_layers):
        fan_in = layout.units[layer]
        lo, hi = boundary(block, n_blocks, fan_in, GROUP), boundary(block + 1, n_blocks, fan_in, GROUP)
        if lo < hi:
            update_weights(packed, unread, layer, lo, hi, n, alpha, scale, rate, n_blocks > 1, 0, 0, workspace)
    restore_denormals(mode)


@leaf(RECORDS, IN, CSR, ROWS, NUMBERS, NUMBERS, ROWS, INT, INT, INT, group="sparse")
def run_batches_sparse(packed, like, csr, rows, rates, losses, bounds, thread, n_blocks, workspace_size):
    """`epoch.run_batches` with X in ``csr``; ``bounds`` as in `train_epoch_sparse`."""
    _, plan, buffers, examples = unpack_all(packed, like)
    labels, targets, sample_weight = examples.labels, examples.targets, examples.sample_weight
    barrier, progress, step_scalars = buffers.barrier, buffers.progress, buffers.step_scalars
    dtype = like.dtype
    phase = arrive(barrier, n_blocks)
    while phase != OVER:
        block = next_block(barrier, phase, thread, n_blocks)
        if block < 0:
            phase = load_acquire(barrier, PHASE)
            continue
        lo, hi = batch_bounds(plan, rows.size, progress[BATCH])
        batch_rows = rows[lo:hi]
        if phase % 2 == 0:
            start, end = batch_bounds(plan, rows.size, progress[BATCH] + 1)
            ahead = rows[start:end]
            rows_pass_sparse(
                packed, like, csr, labels, targets, sample_weight, batch_rows, ahead, block, n_blocks, workspace_size
            )
        elif phase != NOTHING:
            scale, rate = dtype.type(1.0 / step_scalars[0]), dtype.type(step_scalars[1])
            weights_pass_sparse(
                packed, like, csr, batch_rows, bounds, block, n_blocks, plan.alpha, scale, rate, workspace_size
            )
        if is_last(barrier, n_blocks):
            phase = begin_phase(packed, like, rows, rates, losses, n_blocks, phase)


@entry
def train_epoch_sparse(packed, like, csr, rows, rates, losses, bounds, n_blocks, workspace_size):
    """`epoch.train_epoch` with X in ``csr``.

    Reads also: bounds (n_blocks + 1,), the first layer's weight rows of each block. Buffers' ``offsets`` hold cursors.
    """
    _, _, buffers = unpack(packed, like)
    begin_epoch(buffers, n_blocks)
    for block in prange(n_blocks):
        run_batches_sparse(packed, like, csr, rows, rates, losses, bounds, block, n_blocks, workspace_size)
    return buffers.progress[BATCH]


@entry
def loss_and_gradient_sparse(packed, like, csr, rows, weights, alpha, bounds, n_blocks, workspace_size):
    """`epoch.loss_and_gradient` with X in ``csr``; ``bounds`` as in `train_epoch_sparse`."""
    _, plan, buffers, examples = unpack_all(packed, like)
    labels, targets, sample_weight = examples.labels, examples.targets, examples.sample_weight
    refresh_all_derived(packed, like)
    dtype = like.dtype
    scale = dtype.type(1.0 / weights)
    loss = penalty(buffers, alpha)
    for start in range(0, rows.size, plan.batch_size):
        batch_rows = rows[start : min(start + plan.batch_size, rows.size)]
        ahead = rows[start + plan.batch_size : min(start + 2 * plan.batch_size, rows.size)]
        n = batch_rows.size
        for block in prange(n_blocks):
            rows_pass_sparse(
                packed, like, csr, labels, targets, sample_weight, batch_rows, ahead, block, n_blocks, workspace_size
            )
        loss += rows_loss(buffers, 0, n)
        for block in prange(n_blocks):
            weights_pass_sparse(
                packed, like, csr, batch_rows, bounds, block, n_blocks, alpha, scale, scale, workspace_size
            )
        alpha = dtype.type(0)
    return loss / weights


@leaf(RECORDS, IN, CSR, ROWS, NUMBERS, NUMBERS, OUT, INTS, INT, INT, INT, group="sparse")
def predict_block_sparse(packed, params, csr, rows, out, wide, memory, counters, first, block, n_blocks):
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
        predict_rows_sparse(
            packed, params, csr, rows, out[start * n_outputs :], room, levels, workspace, flag, first + start, m
        )
        start, m = next_rows(counters, block, n_blocks, n, sizes.block_rows)


@entry
def forward_sparse(packed, params, csr, rows, out, wide, memory, counters, first, n_blocks):
    """`epoch.forward` with X in ``csr``."""
    flat = as_flat(out)
    reset_counters(counters, n_blocks)
    for block in prange(n_blocks):
        predict_block_sparse(packed, params, csr, rows, flat, wide, memory, counters, first, block, n_blocks)
