"""The verbs of a training step where X is dense: rows and weights pass; the update by stored gradients, for any X."""

import math

from ..compile.jit import kernel
from ..compile.packing import as_flat
from ..nn.layer import forward_input, split_bounds
from ..nn.network import forward_backward
from ..nn.optimizers import step
from ..nn.update import refresh_derived, update_weights
from ..parallel.partition import ROW_GRANULARITY, ROWS_PASS, WEIGHTS_PASS, begin, record, share
from ..parallel.stealing import next_rows_of_split, next_tile, publish, weight_bounds
from ..records import ALPHA, BATCH, READY, SCALE, VERB, unpack, unpack_all
from ..simd.llvm import address_of
from ..simd.reduce import sum_squares
from ..tuning import PREFETCH_BYTES
from .bookkeeping import batch_bounds, prefetch_rows
from .programs import (
    CLIPPED_STEPS,
    ROWS_PASS_DENSE,
    STEPS_OF_BATCHES,
    UPDATE,
    WEIGHTS_PASS_DENSE,
    advance,
    work,
)


@kernel
def row_bounds(buffers, block, n_blocks, n):
    """First of the n rows of the batch that belong to a block in the rows pass, and the end. Reads: fractions."""
    return share(buffers, ROWS_PASS, block, n_blocks, n, ROW_GRANULARITY)


@kernel
def prefetch_offsets(buffers, offsets, X, ahead, block, n_blocks):
    """Set the offsets of what this block will read of X in the next rows pass, in bytes from the block's own columns.

    In the weights pass a block reads its share of the columns of all rows; in the next rows pass it will read all
    columns of its share of the rows. So each of its rows has one offset for each block's share of the columns.

    Writes: offsets (n_rows,). Reads: ahead, the rows of the next batch; fractions.
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


@work.implementation(ROWS_PASS_DENSE)
def rows_pass(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: forward and backward pass of a block's share of the batch's rows.

    With READY the weights pass has computed the first layer's splits already: see `weights_pass`.
    """
    first = packed[0]
    _, plan, buffers, examples = unpack_all(first, like)
    X, progress = examples.X, buffers.progress
    lo, hi = batch_bounds(plan, rows.size, progress[BATCH])
    batch_rows = rows[lo:hi]
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    start = begin(n_blocks)
    lo, hi = row_bounds(buffers, block, n_blocks, batch_rows.size)
    if n_blocks > 1 and X.shape[1] * X.itemsize >= PREFETCH_BYTES:
        # The weights pass of this block will read these columns of the other blocks' rows.
        left, right = weight_bounds(buffers, block, n_blocks, X.shape[1])
        prefetch_rows(X, batch_rows[:lo], left, right)
        prefetch_rows(X, batch_rows[hi:], left, right)
    forward_backward(
        first, X, examples.labels, examples.targets, examples.sample_weight, batch_rows, lo, hi, progress[READY], 0,
        workspace,
    )  # fmt: skip
    record(buffers, ROWS_PASS, thread, n_blocks, start, hi - lo)


@kernel
def multiply_split(packed, X, split, n, n_blocks):
    """Multiply rows of the next batch by one split of the first layer's weights, as long as there are rows to take.

    Returns the work done: for all n rows of the batch it is the number of the split's weights.

    Writes: split_sums, stealing. Reads: params, X, row_offsets.
    """
    layout, plan, buffers = unpack(packed, X)
    lo, hi = split_bounds(layout, plan, split)
    done = 0
    start, n_rows = next_rows_of_split(buffers.stealing, n_blocks, split, n)
    while n_rows > 0:
        forward_input(packed, X, split, start, n_rows, plan.batch_size)
        done += n_rows
        start, n_rows = next_rows_of_split(buffers.stealing, n_blocks, split, n)
    return done * (hi - lo) * layout.units[1] // n


@work.implementation(WEIGHTS_PASS_DENSE)
def weights_pass(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: gradient and update of a block's share of the weight rows of every layer; then tiles of other blocks.

    With READY the block first updates its splits of the first layer's weights, and multiplies the next batch by each
    split while that is in this core's cache: another core reads these weights only if it steals rows of a split.
    """
    first = packed[0]
    layout, plan, buffers, examples = unpack_all(first, like)
    X, ready = examples.X, buffers.progress[READY]
    begin_batch, end_batch = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    _, end_next = batch_bounds(plan, rows.size, buffers.progress[BATCH] + 1)
    n_rows, ahead = end_batch - begin_batch, rows[end_batch:end_next]
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    start, done = begin(n_blocks), 0
    line, address = 0, 0
    if X.shape[1] * X.itemsize < PREFETCH_BYTES or n_rows == 1:
        lo, hi = row_bounds(buffers, block, n_blocks, ahead.size)
        prefetch_rows(X, ahead[lo:hi], 0, X.shape[1])
    elif ready:
        line, address = address_of(as_flat(X), 0), address_of(buffers.row_offsets, plan.batch_size)
    elif ahead.size > 0:
        offsets = buffers.offsets[block * plan.batch_size : block * plan.batch_size + n_rows]
        prefetch_offsets(buffers, offsets, X, ahead, block, n_blocks)
        line, address = address_of(as_flat(X), 0), address_of(offsets, 0)
    if ready:
        each = plan.n_splits // n_blocks
        for split in range(block * each, (block + 1) * each):
            lo, hi = split_bounds(layout, plan, split)
            update_weights(first, X, 0, lo, hi, n_rows, False, line, address, workspace)
            publish(buffers.stealing, n_blocks, split)
            done += (hi - lo) * layout.units[1] + multiply_split(first, X, split, ahead.size, n_blocks)
    for turn in range(n_blocks):
        owner, tiles_done = (block + turn) % n_blocks, 0
        layer, i0, n = next_tile(layout, plan, buffers, ready, owner, n_blocks, tiles_done)
        while n > 0:
            hints = address if layer == 0 and turn == 0 else 0
            update_weights(first, X, layer, i0, i0 + n, n_rows, n_blocks > 1, line, hints, workspace)
            done += n * layout.units[layer + 1]
            tiles_done += 1
            layer, i0, n = next_tile(layout, plan, buffers, ready, owner, n_blocks, tiles_done)
    for split in range(plan.n_splits if ready else 0):
        done += multiply_split(first, X, split, ahead.size, n_blocks)
    record(buffers, WEIGHTS_PASS, thread, n_blocks, start, done)


@work.implementation(UPDATE)
def update(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: update a block's share of the weights by the stored gradient; then tiles of other blocks.

    Writes: params, moments, transposed, squares. Reads: gradient.
    """
    first = packed[0]
    layout, plan, buffers = unpack(first, like)
    for turn in range(n_blocks):
        owner, tiles_done = (block + turn) % n_blocks, 0
        layer, i0, n = next_tile(layout, plan, buffers, 0, owner, n_blocks, tiles_done)
        while n > 0:
            fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
            start = layout.weight[layer] + i0 * fan_out
            stop = start + n * fan_out
            step(plan.solver, first, buffers.params[start:stop], buffers.gradient[start:stop], start, 1)
            refresh_derived(first, buffers.params, layer, i0, n)
            if i0 + n == fan_in:
                start = layout.bias[layer]
                stop = start + fan_out
                step(plan.solver, first, buffers.params[start:stop], buffers.gradient[start:stop], start, 0)
            tiles_done += 1
            layer, i0, n = next_tile(layout, plan, buffers, 0, owner, n_blocks, tiles_done)


@kernel
def gradient_norm(layout, plan, buffers):
    """Euclidean norm of the stored gradient of all parameters: squares of groups and biases, added up in float64.

    Reads: squares, which are those of the weights' gradient, and gradient.
    """
    total = 0.0
    for group in range(buffers.squares.size):
        total += buffers.squares[group]
    for layer in range(plan.n_layers):
        start = layout.bias[layer]
        total += sum_squares(buffers.gradient[start : start + layout.units[layer + 1]])
    return math.sqrt(total)


@advance.implementation(CLIPPED_STEPS)
def advance_clipped(packed, like, rows, scalars, losses, n_blocks, done):
    """The serial work of a step by stored gradients; before the update their norm is clipped to ``plan.max_norm``.

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch. Stored gradients hold the L2 term, and are divided.

    Writes: SCALE and ALPHA in step_scalars, and as `bookkeeping.advance_steps`.
    """
    layout, plan, buffers = unpack(packed, like)
    if buffers.progress[VERB] == plan.program.size - 2:  # UPDATE is next
        norm = gradient_norm(layout, plan, buffers)
        buffers.step_scalars[SCALE] = min(1.0, plan.max_norm / (norm + 1e-6))
        buffers.step_scalars[ALPHA] = 0.0
    advance(STEPS_OF_BATCHES, packed, like, rows, scalars, losses, n_blocks, done)
