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

from ..compile.dispatch import family
from ..compile.jit import kernel
from ..compile.packing import IN, INT, NUMBERS, RECORD_SETS, ROWS, unpack, unpack_all
from ..nn.network import from_one, learn_rows, one_output_sums
from ..nn.optimizers import step
from ..nn.update import column_sums, follow_weights, strip_gradient
from ..parallel.barrier import LINE, OVER, PHASE, all_done, come, look, next_piece, open_phase
from ..parallel.partition import boundary
from ..records import BATCH, STEPS
from ..simd.scalar import flush_denormals, restore_denormals
from .bookkeeping import NOTHING, batch_bounds, find_batch, locate, penalty, prefetch_rows, refresh, rows_loss


@kernel
def copy(out, a, ia, n):
    """out[i] <- a[ia + i] for i < n. Writes: out. Reads: a."""
    for i in range(n):
        out[i] = a[ia + i]


# Few networks need it: those that learn a batch in parts.
learn_in_parts = family(
    "learn_in_parts",
    ("packed", RECORD_SETS), ("like", IN), ("rows", ROWS), ("rates", NUMBERS), ("losses", NUMBERS), ("thread", INT),
    ("n_blocks", INT), ("slot_size", INT),
)  # fmt: skip
STEP_AND_LEARN = 0


@learn_in_parts.member(STEP_AND_LEARN)
def step_and_learn(packed, like, rows, rates, losses, thread, n_blocks, slot_size):
    """What one thread does of an epoch: in each phase the last batch's step, then its parts of the next batch.

    ``packed`` holds a set of records for each block. Writes: as `epoch.train_epoch`.
    """
    mode = flush_denormals()
    first = packed[0]
    _, _, buffers = unpack(first, like)
    meeting, progress = buffers.meeting, buffers.progress
    phase = come(meeting, n_blocks)
    while phase != OVER:
        block = next_piece(meeting, phase, thread, n_blocks)
        if block < 0:
            phase = look(meeting, PHASE)
            continue
        if phase != NOTHING:
            _, _, own = unpack(packed[block], like)
            slot = own.scratch[:slot_size]
            if progress[STEPS] > 0:
                make_step(packed[block], progress[STEPS] - 1, slot)
            elif block > 0:
                take_over(packed[block], first, slot)
            if progress[BATCH] < losses.size:
                learn_block(packed[block], rows, progress[BATCH], progress[STEPS], block, n_blocks, slot)
        if all_done(meeting, n_blocks):
            phase = begin_next(first, like, rows, rates, losses, phase)
    restore_denormals(mode)


@kernel
def begin_next(packed, like, rows, rates, losses, done):
    """Take in the losses of the batch that is learned, and open the phase of the next one; the last has only its step.

    Writes: losses, progress, factors, meeting; before the first batch transposed, squares. Returns the phase.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    progress, factors = buffers.progress, buffers.factors
    phase, batch = done + 1, progress[BATCH]
    if done == NOTHING:
        refresh(packed, like)
    elif batch == losses.size:
        phase = OVER
    else:
        losses[batch] = (parts_loss(plan, buffers) + penalty(buffers, plan.alpha)) / factors[0]
        if math.isfinite(losses[batch]):
            factors[1], factors[2] = rates[progress[STEPS]], factors[0]
            progress[STEPS] += 1
        else:
            phase = OVER
    if phase != OVER:
        progress[BATCH] += 1
        if not find_batch(plan, buffers, examples, rows, losses) and progress[STEPS] == 0:
            phase = OVER
    open_phase(buffers.meeting, phase)
    return phase


@kernel
def learn_block(packed, rows, batch, made, block, n_blocks, slot):
    """A block's parts of a batch, behind so many steps.

    Writes: part_gradients of the parts, on the side of the next step; factors, their losses; places, activations,
    deltas, row_loss at their rows. Reads: params, transposed, the examples ``rows``. Scratch: slot.
    """
    _, plan, buffers, examples = unpack_all(packed, slot)
    X, parts = examples.X, plan.row_splits
    lo, hi = batch_bounds(plan, rows.size, batch)
    start, end = batch_bounds(plan, rows.size, batch + 1)
    members, ahead = rows[lo:hi], rows[start:end]
    for part in range(boundary(block, n_blocks, parts, 1), boundary(block + 1, n_blocks, parts, 1)):
        lo, hi = part_rows(part, parts, ahead.size)
        prefetch_rows(X, ahead[lo:hi], 0, X.shape[1])
        lo, hi = part_rows(part, parts, members.size)
        locate(buffers.places, lo, X, members[lo:hi])
        learn_part(packed, examples, members, side(plan, made) + part, lo, hi, slot)
        buffers.factors[loss_place(part)] = rows_loss(buffers, lo, hi)


@kernel
def part_rows(part, parts, n):
    """First of a batch's n rows that belongs to a part, and the end."""
    return boundary(part, parts, n, 4), boundary(part + 1, parts, n, 4)


@kernel
def side(plan, made):
    """The first of the gradients of parts behind so many steps."""
    return made % 2 * plan.row_splits


def factors_size(n_parts):
    """float64 that ``factors`` takes where a batch has so many parts (plain Python)."""
    return 2 * (1 + n_parts) * LINE


@kernel
def loss_place(part):
    """Where in ``factors`` the loss of a part is: two lines from those of other parts, and from what all read."""
    return 2 * (1 + part) * LINE


@kernel
def parts_loss(plan, buffers):
    """Sum of the losses of the batch's rows, part by part. Reads: factors."""
    total = 0.0
    for part in range(plan.row_splits):
        total += buffers.factors[loss_place(part)]
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
def learn_part(packed, examples, members, part, lo, hi, slot):
    """First half of a step for rows lo .. hi of the batch, and the gradient of all parameters over them.

    ``part`` is where that goes. Writes: part_gradients there, one unit behind it; activations, deltas, row_loss at
    these rows. Reads: params, transposed, places, data at ``members``. Scratch: slot.
    """
    X, weights = examples.X, examples.sample_weight
    learn_rows(packed, X, examples.labels, examples.targets, weights, members, lo, hi, 0, part, slot)
    layout, plan, buffers = unpack(packed, slot)
    gradient = buffers.part_gradients[part * plan.gradient_stride : (part + 1) * plan.gradient_stride]
    begin, end = one_output_sums(layout, plan, part)
    sums = buffers.part_gradients[begin:end]
    last, n = plan.n_layers - 1, hi - lo
    single = from_one(layout.units[last], layout.units[last + 1])
    # In order: what a layer's products write behind its end is where the next one writes.
    for layer in range(plan.n_layers):
        fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
        W, b = gradient[layout.weight[layer] :], gradient[layout.bias[layer] :]
        if single and layer == last:
            copy(W, sums, 0, fan_in)
        else:
            strip_gradient(packed, X, layer, 0, fan_in, lo, n, False, 0, 0, W, fan_out, slot)
        if single and layer == last - 1:
            copy(b, sums, layout.stride[last], fan_out)
        else:
            above = layout.stride[layer + 1]
            first = layout.delta[layer + 1] + lo * above
            column_sums(slot, buffers.deltas, buffers.one, first, above, n, fan_out)
            copy(b, slot, 0, fan_out)


@kernel
def make_step(packed, made, slot):
    """Add the gradients of all parts and make the step of all parameters, behind so many, one layer after the other.

    Writes: params, moments, transposed, squares. Reads: part_gradients, factors. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, slot)
    params, moments, first_part = buffers.params, buffers.moments, side(plan, made)
    scale, rate = slot.dtype.type(1.0 / buffers.factors[2]), slot.dtype.type(buffers.factors[1])
    for layer in range(plan.n_layers):
        weight, bias, fan_out = layout.weight[layer], layout.bias[layer], layout.units[layer + 1]
        g = slot[: bias - weight]
        add_parts_of(plan, buffers, first_part, weight, g)
        step(plan.solver, packed, params[weight:bias], g, moments, weight, plan.alpha, scale, rate)
        follow_weights(packed, params, layer, 0, layout.units[layer])
        g = slot[:fan_out]
        add_parts_of(plan, buffers, first_part, bias, g)
        b = params[bias : bias + fan_out]
        step(plan.solver, packed, b, g, moments, bias, b.dtype.type(0), scale, rate)


@kernel
def add_parts_of(plan, buffers, first_part, start, g):
    """g <- sum over the parts of their gradients of g.size parameters from ``start`` on, in this order.

    Writes: g. Reads: part_gradients.
    """
    for part in range(0, plan.row_splits, 2):
        first = (first_part + part) * plan.gradient_stride + start
        second = first + plan.gradient_stride
        a, b = buffers.part_gradients[first : first + g.size], buffers.part_gradients[second : second + g.size]
        if part == 0:
            for i in range(g.size):
                g[i] = a[i] + b[i]
        else:
            for i in range(g.size):
                g[i] = (g[i] + a[i]) + b[i]
