"""Steps of networks of few parameters: every thread learns parts of the batch, and has weights of its own.

A part of the rows goes forth and back on one thread, which also computes the gradient of all parameters over it. Then
each thread adds the gradients of all parts, in one order, and makes the whole step on its own weights: all have the
same ones, bit by bit. So threads exchange nothing but gradients, and meet once a step: who has made it begins with the
next parts. Their gradients lie on the other of two sides, for another thread may still be adding the last ones.

Whatever else a thread writes is its own, and no neighbour of what others write: a processor fetches the line behind
those that it reads, and whoever was writing there waits. (Fits of 20-100-1 with 200 rows, two cores of Zen 5: 8.4 us
a step so, 9.5 to 9.7 with the activations and deltas of all rows in one array or with weights in common. Epochs in
minutes in which a line took twice as long from one of the same two cores to the other: 1.10 ms so, 1.53 with those.)

Called by ``epoch``.
"""

import math

from ..compile.jit import kernel
from ..nn.layer import Hints, backward_bias, backward_weights
from ..nn.network import forward_backward, has_single_output, single_output_sums
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


@kernel
def copy(out, a, ia, n):
    """out[i] <- a[ia + i] for i < n. Writes: out. Reads: a."""
    for i in range(n):
        out[i] = a[ia + i]


@work.implementation(STEP_THEN_SHARDS)
def step_then_shards(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """The last batch's step on a block's own weights, then its shards of the next batch.

    ``packed`` holds a set of records for each block.
    """
    _, _, own = unpack(packed[block], like)
    workspace, progress = own.scratch[:workspace_size], own.progress
    if progress[STEPS] > 0:
        make_step(packed[block], progress[STEPS] - 1, workspace)
    elif block > 0:
        take_over(packed[block], packed[0], workspace)
    if progress[BATCH] < n_batches:
        shards_of_block(packed[block], rows, progress[BATCH], progress[STEPS], block, n_blocks, workspace)


@advance.implementation(STEPS_OF_SHARDS)
def advance_shards(packed, like, rows, scalars, losses, n_blocks, done):
    """Take in the losses of the batch that is learned, and open the phase of the next one; the last has only its step.

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
def shards_of_block(packed, rows, batch, made, block, n_blocks, workspace):
    """A block's parts of a batch, behind so many steps.

    Writes: part_gradients of the parts, on the side of the next step; factors, their losses; places, activations,
    deltas, row_loss at their rows. Reads: params, transposed, the examples ``rows``. Scratch: slot.
    """
    _, plan, buffers, examples = unpack_all(packed, workspace)
    X, parts = examples.X, plan.n_shards
    lo, hi = batch_bounds(plan, rows.size, batch)
    start, end = batch_bounds(plan, rows.size, batch + 1)
    batch_rows, ahead = rows[lo:hi], rows[start:end]
    for part in range(boundary(block, n_blocks, parts, 1), boundary(block + 1, n_blocks, parts, 1)):
        lo, hi = shard_rows(part, parts, ahead.size)
        prefetch_rows(X, ahead[lo:hi], 0, X.shape[1])
        lo, hi = shard_rows(part, parts, batch_rows.size)
        set_row_offsets(buffers.row_offsets, lo, X, batch_rows[lo:hi])
        shard_gradient(packed, examples, batch_rows, side(plan, made) + part, lo, hi, workspace)
        buffers.step_scalars[loss_place(part)] = rows_loss(buffers, lo, hi)


@kernel
def shard_rows(part, parts, n):
    """First of a batch's n rows that belongs to a part, and the end."""
    return boundary(part, parts, n, 4), boundary(part + 1, parts, n, 4)


@kernel
def side(plan, made):
    """The first of the gradients of parts behind so many steps."""
    return made % 2 * plan.n_shards


def step_scalars_size(n_parts):
    """float64 that ``step_scalars`` takes where a batch has so many parts (plain Python)."""
    return 2 * (1 + n_parts) * LINE


@kernel
def loss_place(part):
    """Where in ``step_scalars`` the loss of a part is: two lines from those of other parts, and from what all read."""
    return 2 * (1 + part) * LINE


@kernel
def shards_loss(plan, buffers):
    """Sum of the losses of the batch's rows, part by part. Reads: factors."""
    total = 0.0
    for part in range(plan.n_shards):
        total += buffers.step_scalars[loss_place(part)]
    return total


@kernel
def take_over(packed, source, like):
    """The weights of ``source`` become those of ``packed``. Writes: params, moments, transposed, squares."""
    _, _, own = unpack(packed, like)
    _, _, other = unpack(source, like)
    copy(own.params, other.params, 0, own.params.size)
    copy(own.moments, other.moments, 0, own.moments.size)
    copy(own.transposed, other.transposed, 0, own.transposed.size)
    copy(own.squares, other.squares, 0, own.squares.size)


@kernel
def shard_gradient(packed, examples, batch_rows, part, lo, hi, workspace):
    """First half of a step for rows lo .. hi of the batch, and the gradient of all parameters over them.

    ``part`` is where that goes. Writes: part_gradients there, one unit behind it; activations, deltas, row_loss at
    these rows. Reads: params, transposed, places, data at ``batch_rows``. Scratch: slot.
    """
    X, weights = examples.X, examples.sample_weight
    forward_backward(packed, X, examples.labels, examples.targets, weights, batch_rows, lo, hi, 0, part, workspace)
    layout, plan, buffers = unpack(packed, workspace)
    gradient = buffers.shard_gradients[part * plan.shard_stride : (part + 1) * plan.shard_stride]
    begin, end = single_output_sums(layout, plan, part)
    sums = buffers.shard_gradients[begin:end]
    last, n = plan.n_layers - 1, hi - lo
    single = has_single_output(layout.units[last], layout.units[last + 1])
    # In order: what a layer's products write behind its end is where the next one writes.
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
def make_step(packed, made, workspace):
    """Add the gradients of all parts and make the step of all parameters, behind so many, one layer after the other.

    Writes: params, moments, transposed, squares. Reads: part_gradients, factors. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, workspace)
    params, first_part = buffers.params, side(plan, made)
    for layer in range(plan.n_layers):
        weight, bias, fan_out = layout.weight[layer], layout.bias[layer], layout.units[layer + 1]
        g = workspace[: bias - weight]
        add_shards(plan, buffers, first_part, weight, g)
        step(plan.solver, packed, params[weight:bias], g, weight, 1)
        refresh_derived(packed, params, layer, 0, layout.units[layer])
        g = workspace[:fan_out]
        add_shards(plan, buffers, first_part, bias, g)
        step(plan.solver, packed, params[bias : bias + fan_out], g, bias, 0)


@kernel
def add_shards(plan, buffers, first_part, start, g):
    """g <- sum over the parts of their gradients of g.size parameters from ``start`` on, in this order.

    Writes: g. Reads: part_gradients.
    """
    for part in range(0, plan.n_shards, 2):
        first = (first_part + part) * plan.shard_stride + start
        second = first + plan.shard_stride
        a, b = buffers.shard_gradients[first : first + g.size], buffers.shard_gradients[second : second + g.size]
        if part == 0:
            for i in range(g.size):
                g[i] = a[i] + b[i]
        else:
            for i in range(g.size):
                g[i] = (g[i] + a[i]) + b[i]
