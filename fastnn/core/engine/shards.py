"""Training of networks of few parameters: each thread learns shards of the batch with its own copy of the weights.

A shard is some rows of the batch. One thread computes their forward and backward pass, and the gradient of all
parameters over them. Then every thread adds the gradients of all shards in one order and updates its own copy of the
parameters: all copies are equal, bit by bit. So threads exchange gradients only, and a step has one barrier: a thread
that has updated its weights begins with its shards of the next batch. Gradients of odd and even steps lie in two
places, since another thread may still be adding those of the last step.

Whatever else a thread writes is its own, and does not lie on a cache line next to one that others write: a processor
prefetches the line behind those that it reads, and a thread that writes there waits. (Fits of 20-100-1 with 200 rows,
two cores of Zen 5: 8.4 us a step; 9.5 to 9.7 with the activations and deltas of all rows in one array, or with shared
weights. An epoch of it took 1.10 ms at a time when a cache line needed twice as long from core to core, and 1.53 with
either.)
"""

import math

from ..compile.jit import kernel
from ..nn.layer import Hints, backward_bias, backward_weights
from ..nn.network import copy, forward_backward, has_single_output, single_output_sums
from ..nn.optimizers import step
from ..nn.update import refresh_derived
from ..parallel.barrier import LINE, OVER, release
from ..parallel.partition import boundary
from ..records import BATCH, STEPS, WEIGHT_SUM, unpack, unpack_all
from .bookkeeping import (
    batch_bounds,
    begin_step,
    find_batch,
    penalty,
    prefetch_rows,
    refresh_all_derived,
    rows_loss,
    set_row_offsets,
)
from .programs import START, STEP_THEN_SHARDS, STEPS_OF_SHARDS, advance, work


@work.implementation(STEP_THEN_SHARDS)
def step_then_shards(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: update the block's own copy of the parameters by the last batch, then learn its shards of the next batch.

    ``packed`` holds a set of records for each block.
    """
    _, _, own = unpack(packed[block], like)
    workspace, progress = own.scratch[:workspace_size], own.progress
    if progress[STEPS] > 0:
        update_by_shards(packed[block], progress[STEPS] - 1, workspace)
    elif block > 0:
        copy_parameters(packed[block], packed[0], workspace)
    if progress[BATCH] < n_batches:
        shards_of_block(packed[block], rows, progress[BATCH], progress[STEPS], block, n_blocks, workspace)


@advance.implementation(STEPS_OF_SHARDS)
def advance_shards(packed, like, rows, scalars, losses, n_blocks, done):
    """Add up the loss of the batch that has been learned, and release the phase of the next one.

    The phase behind the last batch only updates the weights.

    Writes: losses, progress, step_scalars, barrier; before the first batch transposed, squares.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    progress, phase, batch = buffers.progress, done + 1, buffers.progress[BATCH]
    if done == START:
        refresh_all_derived(packed, like)
    elif batch == losses.size:
        phase = OVER
    else:
        loss = shards_loss(plan, buffers) + penalty(buffers, plan.alpha)
        losses[batch] = loss / buffers.step_scalars[WEIGHT_SUM]
        if math.isfinite(losses[batch]):
            begin_step(plan, buffers, scalars)
        else:
            phase = OVER
    if phase != OVER:
        progress[BATCH] += 1
        if not find_batch(plan, buffers, examples, rows, losses) and progress[STEPS] == 0:
            phase = OVER
    release(buffers.barrier, phase)


@kernel
def shards_of_block(packed, rows, batch, n_steps, block, n_blocks, workspace):
    """Learn a block's shards of a batch, after ``n_steps`` steps.

    Writes: shard_gradients of the shards; their losses in step_scalars; row_offsets, activations, deltas, row_loss at
    their rows. Reads: params, transposed, the examples ``rows``. Scratch: workspace.
    """
    _, plan, buffers, examples = unpack_all(packed, workspace)
    X, n_shards = examples.X, plan.n_shards
    lo, hi = batch_bounds(plan, rows.size, batch)
    start, end = batch_bounds(plan, rows.size, batch + 1)
    batch_rows, ahead = rows[lo:hi], rows[start:end]
    for shard in range(boundary(block, n_blocks, n_shards, 1), boundary(block + 1, n_blocks, n_shards, 1)):
        lo, hi = shard_rows(shard, n_shards, ahead.size)
        prefetch_rows(X, ahead[lo:hi], 0, X.shape[1])
        lo, hi = shard_rows(shard, n_shards, batch_rows.size)
        set_row_offsets(buffers.row_offsets, lo, X, batch_rows[lo:hi])
        shard_gradient(packed, examples, batch_rows, first_shard(plan, n_steps) + shard, lo, hi, workspace)
        buffers.step_scalars[loss_index(shard)] = rows_loss(buffers, lo, hi)


@kernel
def shard_rows(shard, n_shards, n):
    """First of a batch's n rows that belongs to a shard, and the end."""
    return boundary(shard, n_shards, n, 4), boundary(shard + 1, n_shards, n, 4)


@kernel
def first_shard(plan, n_steps):
    """Index in ``shard_gradients`` of a batch's first shard, after ``n_steps`` steps."""
    return n_steps % 2 * plan.n_shards


def step_scalars_size(n_shards):
    """Number of float64 in ``step_scalars``, for batches of ``n_shards`` shards (plain Python)."""
    return 2 * (1 + n_shards) * LINE


@kernel
def loss_index(shard):
    """Index of a shard's loss in ``step_scalars``: two cache lines from those of others, and from what all read."""
    return 2 * (1 + shard) * LINE


@kernel
def shards_loss(plan, buffers):
    """Sum of the losses of the batch's rows, shard by shard. Reads: step_scalars."""
    total = 0.0
    for shard in range(plan.n_shards):
        total += buffers.step_scalars[loss_index(shard)]
    return total


@kernel
def copy_parameters(packed, source, like):
    """Copy the parameters and their state from ``source``. Writes: params, moments, transposed, squares."""
    _, _, own = unpack(packed, like)
    _, _, other = unpack(source, like)
    copy(own.params, other.params, 0, own.params.size)
    copy(own.moments, other.moments, 0, own.moments.size)
    copy(own.transposed, other.transposed, 0, own.transposed.size)
    copy(own.squares, other.squares, 0, own.squares.size)


@kernel
def shard_gradient(packed, examples, batch_rows, shard, lo, hi, workspace):
    """Rows pass for rows lo .. hi of the batch, and the gradient of all parameters over these rows.

    ``shard`` is the index of the gradient. Writes: shard_gradients there, and a vector behind it; activations, deltas,
    row_loss at these rows. Reads: params, transposed, row_offsets, data at ``batch_rows``. Scratch: workspace.
    """
    X, weights = examples.X, examples.sample_weight
    forward_backward(packed, X, examples.labels, examples.targets, weights, batch_rows, lo, hi, 0, shard, workspace)
    layout, plan, buffers = unpack(packed, workspace)
    gradient = buffers.shard_gradients[shard * plan.shard_stride : (shard + 1) * plan.shard_stride]
    begin, end = single_output_sums(layout, plan, shard)
    sums = buffers.shard_gradients[begin:end]
    last, n = plan.n_layers - 1, hi - lo
    single = has_single_output(layout.units[last], layout.units[last + 1])
    # Layers in this order: a product writes beyond the end of its layer, where the next layer's gradient is written.
    for layer in range(plan.n_layers):
        fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
        W, b = gradient[layout.weight[layer] :], gradient[layout.bias[layer] :]
        if single and layer == last:
            copy(W, sums, 0, fan_in)
        else:
            backward_weights(packed, X, layer, 0, fan_in, lo, n, Hints(False, 0, 0), W, fan_out, workspace)
        if single and layer == last - 1:
            copy(b, sums, layout.stride[last], fan_out)
        else:
            backward_bias(packed, layer, lo, n, workspace)
            copy(b, workspace, 0, fan_out)


@kernel
def update_by_shards(packed, n_steps, workspace):
    """Add the gradients of all shards, after ``n_steps`` steps, and update all parameters, layer by layer.

    Writes: params, moments, transposed, squares. Reads: shard_gradients, step_scalars. Scratch: workspace.
    """
    layout, plan, buffers = unpack(packed, workspace)
    params, first = buffers.params, first_shard(plan, n_steps)
    for layer in range(plan.n_layers):
        weight, bias, fan_out = layout.weight[layer], layout.bias[layer], layout.units[layer + 1]
        g = workspace[: bias - weight]
        add_shards(plan, buffers, first, weight, g)
        step(plan.solver, packed, params[weight:bias], g, weight, 1)
        refresh_derived(packed, params, layer, 0, layout.units[layer])
        g = workspace[:fan_out]
        add_shards(plan, buffers, first, bias, g)
        step(plan.solver, packed, params[bias : bias + fan_out], g, bias, 0)


@kernel
def add_shards(plan, buffers, index, start, g):
    """g <- sum over the shards, in order, of the gradients of g.size parameters from ``start`` on.

    ``index`` is that of the first shard in shard_gradients.

    Writes: g. Reads: shard_gradients.
    """
    for shard in range(0, plan.n_shards, 2):
        first = (index + shard) * plan.shard_stride + start
        second = first + plan.shard_stride
        a, b = buffers.shard_gradients[first : first + g.size], buffers.shard_gradients[second : second + g.size]
        if shard == 0:
            for i in range(g.size):
                g[i] = a[i] + b[i]
        else:
            for i in range(g.size):
                g[i] = (g[i] + a[i]) + b[i]
