"""Forward and backward over the layers of one block of rows, and the update of one block of weight rows.

These are the two halves of a training step. The first writes only the rows of its block, the second only the weights of
its block, so blocks run in any order and on any number of threads. Called by ``epoch``; serial throughout.

Shapes: a block has ``n`` rows of the batch, ``lo`` the first. The last layer's outputs live transposed, (n_outputs,
ldr), where ldr is n rounded up to whole vectors.
"""

from .activations import activate, activate_output, differentiate
from .family import family
from .gemm import NOWHERE, product, product_at
from .jit import (
    IN,
    INT,
    LABELS,
    MATRIX,
    OUT,
    REAL,
    RECORDS,
    ROWS,
    as_read,
    kernel,
    leaf,
    unpack,
    unpack_layout,
)
from .losses import loss_and_delta
from .microkernel import LINE_BYTES, address_of
from .movement import prefetch, transpose
from .optimizers import GRADIENT, step
from .reductions import dot, sum_squares
from .scalars import fma

LANES = 16  # rows of a transposed block are padded to this: a whole vector of any supported width
BLOCK_ROWS = 256  # most rows that go through the network at once
LARGE_BLOCK_ROWS = 128  # the same in training more than SMALL_WEIGHTS: activations stay in the second cache
SMALL_WEIGHTS = 1 << 14  # (64-100-10, batches of 200: 45 us in blocks of 24 rows, 41 in blocks of 128, 40 all at once)
NARROW = 4  # two to so many outputs: lanes run over rows in the last layer (100-3 would use 3 of 8 lanes otherwise)

# Up to so many outputs lanes run over fan_in in the last layer's gradient, if the batch has MANY_ROWS. (Sums over 256
# rows of 256 x 7 weights: 11.5 us, 16.0 over outputs; 200 rows, 100 x 10: 3.9, 4.8; 10 rows, 30 x 10: .14, .13; Zen 4)
NARROW_GRADIENT, MANY_ROWS = 16, 64
# Weights of a layer from which on they are asked for, with the optimizer's state, while the gradient's tiles compute: a
# core's second cache holds no more. (784-512-512-10, Zen 4: 2.5 % on one core, 4 % on two; nothing for 256 x 256.)
LARGE_LAYER = 1 << 17

AHEAD_BYTES = 4096  # of rows between the one that is gathered and the one that is prefetched
STRIP = 24  # weight rows whose gradient is held in scratch before the optimizer's step, 2 x 12, 3 x 8, 4 x 6, ...
STRIP_ELEMENTS = 4800  # ... or a multiple of that with about so many elements: 19 kB of float32
GROUP = 8  # weight rows whose squares are summed together; blocks and strips hold whole groups


@kernel
def padded(n):
    """n rounded up to whole LANES, and to no multiple of 64: rows that far apart would collide in the first cache."""
    whole = (n + LANES - 1) // LANES * LANES
    return whole + LANES if whole % 64 == 0 else whole


# Few need it: networks without hidden layers, and predictions for some of the rows.
gather = family("gather", ("out", OUT), ("ld_out", INT), ("X", MATRIX), ("rows", ROWS), ("n", INT))
ALL_COLUMNS = 0


@gather.member(ALL_COLUMNS)
def gather_rows(out, ld_out, X, rows, n):
    """out[r, :] <- X[rows[r], :] for r < n; further rows are those that will be asked for next.

    Writes: out (n, ld_out), first n_features columns. Reads: X, rows.
    """
    n_features = X.shape[1]
    flat = X.reshape(-1)
    line = LINE_BYTES // X.itemsize
    distance = max(1, AHEAD_BYTES // (n_features * X.itemsize))
    if n_features < line:
        for r in range(n):
            first = rows[r] * n_features
            for j in range(n_features):
                out[r * ld_out + j] = flat[first + j]
        return
    for r in range(n):
        ahead = rows[min(r + distance, rows.size - 1)] * n_features
        for start in range(0, n_features, line):
            prefetch(flat, ahead + start)
        row = X[rows[r]]
        target = out[r * ld_out : r * ld_out + n_features]
        for j in range(n_features):
            target[j] = row[j]


@leaf(RECORDS, INT, INT, IN, IN, INT, INT, OUT, INT, INT)
def hidden_forward(packed, first, n_layers, params, x, ix, ldx, activations, lo, n):
    """A_l = f(A_{l-1} W + b) for the hidden levels from ``first + 1`` on; level ``first`` is ``x``, from ``ix`` on.

    Writes: activations, rows lo .. lo + n of levels first + 1 .. n_layers - 1. Reads: params, x.
    """
    layout = unpack_layout(packed, params)
    a, ia, lda = x, ix, ldx
    for layer in range(first, n_layers - 1):
        fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
        stride = layout.stride[layer + 1]
        top = layout.level[layer + 1] + lo * stride
        product(
            activations, top, stride, params, layout.bias[layer], 0,
            a, ia, lda, 1, params, layout.weight[layer], fan_out, n, fan_out, fan_in,
        )  # fmt: skip
        activate(layout.activation[layer], activations[top : top + n * stride])
        a, ia, lda = as_read(activations), top, stride


@leaf(RECORDS, INT, IN, IN, INT, INT, OUT, OUT, INT, INT)
def output_forward(packed, n_layers, params, a, ia, lda, z, scratch, n, ldr):
    """Z' = (A W + b)' of the last layer, and its activation.

    A single output is a dot product for each row, sixteen partial sums each (lanes over columns would use 1 of 8); two
    to NARROW outputs let lanes run over rows; more let them run over outputs.

    Writes: z (n_outputs, ldr). Reads: params, a. Scratch: scratch (fan_in * ldr or n * stride, and 2 ldr).
    """
    layout = unpack_layout(packed, params)
    layer = n_layers - 1
    fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
    weight, bias = layout.weight[layer], layout.bias[layer]
    if fan_out == 1:
        for r in range(n):
            z[r] = params[bias] + dot(a, ia + r * lda, params, weight, fan_in)
    elif fan_out <= NARROW and n >= 8:
        transpose(scratch, 0, ldr, a, ia, lda, n, fan_in)
        for c in range(fan_out):
            z[c * ldr : (c + 1) * ldr] = params[bias + c]
        product(
            z, 0, ldr, z, 0, ldr,
            params, weight, 1, fan_out, scratch, 0, ldr, fan_out, n, fan_in,
        )  # fmt: skip
    else:
        stride = layout.stride[n_layers]
        product(
            scratch, 0, stride, params, bias, 0,
            a, ia, lda, 1, params, weight, fan_out, n, fan_out, fan_in,
        )  # fmt: skip
        transpose(z, 0, ldr, scratch, 0, stride, n, fan_out)
    outputs = z[: fan_out * ldr]
    activate_output(layout.activation[layer], outputs, fan_out, ldr, scratch[:ldr], scratch[ldr : 2 * ldr])


@kernel
def keeps_copy(plan, fan_out):
    """Whether a layer keeps W' as well as W for `backward`.

    A single row is multiplied with the rows of W instead: 404 steps of 13-64-64-1 took 1.9 ms with the copy, 1.7
    without (Zen 4). A single column is its own transpose.
    """
    return plan.batch_size > 1 and fan_out > 1


@kernel
def single_output_backward(activation, d, a, outer, step, weights, n, stride):
    """D (n, stride) = f'(A) * (delta w'), for one output: product and derivative of a few rows while they are at hand.

    Writes: d, columns up to weights.size. Reads: a, outer[r * step] (the outputs' deltas), weights.
    """
    for start in range(0, n, LANES):
        end = min(start + LANES, n)
        for r in range(start, end):
            target, delta = d[r * stride : (r + 1) * stride], outer[r * step]
            for j in range(weights.size):
                target[j] = delta * weights[j]
        differentiate(activation, a[start * stride : end * stride], d[start * stride : end * stride])


@kernel
def backward(layout, plan, buffers, lo, n):
    """D_l = (D_{l+1} W') f'(A_l) down to level 1.

    Writes: deltas, rows lo .. lo + n of levels 1 .. n_layers - 1. Reads: deltas of level n_layers, activations,
    transposed or params.
    """
    params, deltas = buffers.params, buffers.deltas
    for layer in range(plan.n_layers - 1, 0, -1):
        fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
        stride, above = layout.stride[layer], layout.stride[layer + 1]
        first, level = layout.delta[layer] + lo * stride, layout.level[layer] + lo * stride
        source, weight = layout.delta[layer + 1] + lo * above, layout.weight[layer]
        d, a = deltas[first : first + n * stride], buffers.activations[level : level + n * stride]
        if fan_out == 1 and fan_in >= LANES:
            weights = params[weight : weight + fan_in]
            single_output_backward(layout.activation[layer - 1], d, a, deltas[source:], above, weights, n, stride)
            continue
        if plan.batch_size == 1:
            for i in range(fan_in):
                d[i] = dot(params, weight + i * fan_out, deltas, source, fan_out)
        else:
            copy, start = params, weight
            if keeps_copy(plan, fan_out):
                copy, start = buffers.transposed, layout.transposed[layer]
            product(
                deltas, first, stride, buffers.constants, 0, 0,
                deltas, source, above, 1, copy, start, stride, n, fan_in, fan_out,
            )  # fmt: skip
        differentiate(layout.activation[layer - 1], a, d)


@leaf(RECORDS, LABELS, MATRIX, IN, ROWS, INT, INT, OUT)
def learn_from_input(packed, labels, targets, sample_weight, block, first, start, slot):
    """Rest of the first half once level ``first`` of the block's rows is there: forward, loss, backward.

    Writes: activations, deltas, row_loss at rows start .. start + block.size. Reads: params, transposed, labels,
    targets, sample_weight at ``block``. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, slot)
    n_layers = plan.n_layers
    n_outputs, stride = layout.units[n_layers], layout.stride[n_layers]
    n = block.size
    ldr = padded(n)
    params, activations, deltas = buffers.params, buffers.activations, buffers.deltas
    ld = layout.stride[first]
    hidden_forward(
        packed, first, n_layers, params, activations, layout.level[first] + start * ld, ld, activations, start, n
    )
    z, scratch = slot[: n_outputs * ldr], slot[n_outputs * ldr :]
    ld = layout.stride[n_layers - 1]
    output_forward(
        packed, n_layers, params, activations, layout.level[n_layers - 1] + start * ld, ld, z, scratch, n, ldr
    )
    row_loss = buffers.row_loss[start : start + n]
    loss_and_delta(plan.loss, z, row_loss, labels, targets, sample_weight, block, n_outputs, ldr, scratch)
    transpose(deltas, layout.delta[n_layers] + start * stride, stride, z, 0, ldr, n_outputs, n)
    backward(layout, plan, buffers, start, n)


@kernel
def split_start(layout, plan, split):
    """First feature of one of the parts of the first layer's sums; of the one behind the last, how many there are."""
    n, parts = layout.units[0], plan.k_splits
    return (split * n // parts + GROUP // 2) // GROUP * GROUP if split < parts else n


@leaf(RECORDS, MATRIX, INT, INT, INT, INT)
def first_product(packed, X, split, lo, n, at):
    """One part of X W_0, of rows lo .. lo + n of the batch whose places in X begin at ``at``.

    Where ``plan.k_splits`` is 1 the only part is Z_1 = X W_0 + b_0.

    Writes: partial_sums of this part at these rows, or activations of level 1. Reads: params, X, places.
    """
    layout, plan, buffers = unpack(packed, X)
    fan_out, stride = layout.units[1], layout.stride[1]
    first, end = split_start(layout, plan, split), split_start(layout, plan, split + 1)
    z, top, start, bias = buffers.partial_sums, (split * plan.batch_size + lo) * stride, buffers.constants, 0
    if plan.k_splits == 1:
        z, top, start, bias = buffers.activations, layout.level[1] + lo * stride, buffers.params, layout.bias[0]
    product_at(
        z, top, stride, start, bias, 0,
        X.reshape(-1), first, 0, 1, buffers.places, at + lo,
        buffers.params, layout.weight[0] + first * fan_out, fan_out, n, fan_out, end - first,
        0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip


@kernel
def add_parts(layout, plan, buffers, lo, n):
    """Z_1 = b_0 + P_0 + P_1 + ... of rows lo .. lo + n of the batch, added in this order.

    Writes: activations, rows lo .. lo + n of level 1. Reads: partial_sums, params.
    """
    fan_out, stride = layout.units[1], layout.stride[1]
    bias = buffers.params[layout.bias[0] : layout.bias[0] + fan_out]
    for r in range(lo, lo + n):
        top = layout.level[1] + r * stride
        z = buffers.activations[top : top + fan_out]
        for split in range(0, plan.k_splits, 2):
            start = (split * plan.batch_size + r) * stride
            first = buffers.partial_sums[start : start + fan_out]
            start += plan.batch_size * stride
            second = buffers.partial_sums[start : start + fan_out]
            before = bias if split == 0 else z
            for j in range(fan_out):
                z[j] = (before[j] + first[j]) + second[j]


@kernel
def level_one(packed, layout, plan, buffers, X, lo, n, ready):
    """A_1 = f(X W_0 + b_0) of rows lo .. lo + n of the batch, read where they lie in X.

    With ``ready`` the parts of X W_0 are there.

    Writes: activations, rows lo .. lo + n of level 1. Reads: params, X, places.
    """
    if not ready:
        for split in range(plan.k_splits):
            first_product(packed, X, split, lo, n, 0)
    if plan.k_splits > 1:
        add_parts(layout, plan, buffers, lo, n)
    top, stride = layout.level[1] + lo * layout.stride[1], layout.stride[1]
    activate(layout.activation[0], buffers.activations[top : top + n * stride])


@leaf(RECORDS, MATRIX, LABELS, MATRIX, IN, ROWS, INT, INT, INT, OUT)
def learn_rows(packed, X, labels, targets, sample_weight, rows, lo, hi, ready, slot):
    """First half of a step: rows lo .. hi of the batch through the network and back.

    With ``ready`` the parts of the first layer's sums are there.

    Writes: activations, deltas, row_loss at rows lo .. hi. Reads: params, transposed, places or partial_sums, data at
    ``rows``. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, slot)
    ld = layout.stride[0]
    height = BLOCK_ROWS if plan.n_params <= SMALL_WEIGHTS else LARGE_BLOCK_ROWS
    for start in range(lo, hi, height):
        block = rows[start : min(start + height, hi)]
        if plan.n_layers > 1:
            level_one(packed, layout, plan, buffers, X, start, block.size, ready)
        else:
            gather(ALL_COLUMNS, buffers.activations[start * ld :], ld, X, rows[start:hi], block.size)
        first = min(plan.n_layers - 1, 1)
        learn_from_input(packed, labels, targets, sample_weight, block, first, start, slot)


@kernel
def outer_product(g, a, ia, d, first, n, fan_out):
    """G[i, j] = a[ia + i] d[first + j], the gradient of one row: a tile would take longer to begin than to compute.

    Writes: g (n, fan_out). Reads: a, d.
    """
    zero = g.dtype.type(0)
    if fan_out == 1:
        for i in range(n):
            g[i] = fma(a[ia + i], d[first], zero)
        return
    delta = d[first : first + fan_out]
    for i in range(n):
        row, x = g[i * fan_out : (i + 1) * fan_out], a[ia + i]
        for j in range(fan_out):
            row[j] = fma(x, delta[j], zero)


@kernel
def strip_gradient(layout, plan, buffers, X, layer, i0, n, n_rows, shared, line, offsets, g, slot):
    """g <- A' D of weight rows i0 .. i0 + n, summed over the batch in order. Prefetches as `product_at` does.

    The first layer of several reads its A in X.

    Writes: g (n, fan_out) without padding, one unit of room behind it. Reads: activations or X at ``places``, deltas.
    Scratch: slot.
    """
    fan_out = layout.units[layer + 1]
    stride, above = layout.stride[layer], layout.stride[layer + 1]
    level, delta = layout.level[layer] + i0, layout.delta[layer + 1]
    zeros = buffers.constants
    own = address_of(buffers.params, layout.weight[layer] + i0 * fan_out)
    large = layout.units[layer] * fan_out >= LARGE_LAYER
    lines, reach = (address_of(buffers.lines, 0), buffers.lines[plan.batch_size]) if large else (0, 0)
    activations, deltas = buffers.activations, buffers.deltas
    if n_rows == 1:
        if layer == 0 and plan.n_layers > 1:
            outer_product(g, X.reshape(-1), buffers.places[0] // g.itemsize + i0, deltas, delta, n, fan_out)
        else:
            outer_product(g, activations, level, deltas, delta, n, fan_out)
    elif layer == plan.n_layers - 1 and fan_out <= (NARROW_GRADIENT if n_rows >= MANY_ROWS else NARROW):
        ld = padded(n)
        product(slot, 0, ld, zeros, 0, 0, deltas, delta, 1, above, activations, level, stride, fan_out, n, n_rows)
        transpose(g, 0, fan_out, slot, 0, ld, fan_out, n)
    elif layer == 0 and plan.n_layers > 1:
        product_at(
            g, 0, fan_out, zeros, 0, 0, X.reshape(-1), i0, 1, 0, buffers.places, 0,
            deltas, delta, above, n, fan_out, n_rows, line + i0 * g.itemsize, g.itemsize, offsets,
            own, shared, lines, reach,
        )  # fmt: skip
    else:
        product_at(
            g, 0, fan_out, zeros, 0, 0, activations, level, 1, 0 if large else stride,
            buffers.level_rows if large else NOWHERE, layer * plan.batch_size if large else 0,
            deltas, delta, above, n, fan_out, n_rows, 0, 0, 0, own, shared, lines, reach,
        )  # fmt: skip


@kernel
def column_sums(sums, buffers, first, stride, n_rows, width):
    """Sums of the columns of D (n_rows, width): four partial sums, row r in number r % 4, then what is left in order.

    The sums of four rows side by side are one product of a row of ones: four chains of additions instead of one.

    Writes: sums (width,), 4 stride in all as scratch. Reads: deltas from ``first`` on.
    """
    ones, quarter = buffers.constants.size - 1, n_rows // 4
    product(
        sums, 0, 0, buffers.constants, 0, 0, buffers.constants, ones, 0, 0,
        buffers.deltas, first, 4 * stride, 1, 4 * stride, quarter,
    )  # fmt: skip
    for j in range(width):
        sums[j] = (sums[j] + sums[stride + j]) + (sums[2 * stride + j] + sums[3 * stride + j])
    for r in range(4 * quarter, n_rows):
        row = buffers.deltas[first + r * stride : first + r * stride + width]
        for j in range(width):
            sums[j] += row[j]


@leaf(RECORDS, IN, INT, INT, INT)
def follow_weights(packed, params, layer, i0, n):
    """Renew what is derived from weight rows i0 .. i0 + n, i0 a multiple of GROUP: sums of squares, transposed copy.

    Writes: squares, transposed at these rows. Reads: params.
    """
    layout, plan, buffers = unpack(packed, params)
    fan_out = layout.units[layer + 1]
    offset = layout.weight[layer] + i0 * fan_out
    end = offset + n * fan_out
    for group in range((n + GROUP - 1) // GROUP):
        start = offset + group * GROUP * fan_out
        rows = params[start : min(start + GROUP * fan_out, end)]
        buffers.squares[layout.squares[layer] + i0 // GROUP + group] = sum_squares(rows)
    if layer > 0 and keeps_copy(plan, fan_out):
        first = layout.transposed[layer] + i0
        transpose(buffers.transposed, first, layout.stride[layer], params, offset, fan_out, n, fan_out)


@leaf(RECORDS, MATRIX, INT, INT, INT, INT, REAL, REAL, REAL, INT, INT, INT, OUT)
def learn_weights(packed, X, layer, lo, hi, n_rows, alpha, scale, rate, shared, line, offsets, slot):
    """Second half of a step: gradient and update of weight rows lo .. hi of a layer, and of its bias with the last row.

    ``shared`` says whether other threads read these weights.
    With ``offsets != 0`` the gradient's product prefetches, for weight row i, the line at ``line + i * itemsize`` of
    each of the rows whose byte offsets are the n_rows int64 at address ``offsets``.

    Writes: params, moments, transposed, squares of these rows. Reads: activations, deltas, X. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, slot)
    fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
    weight, bias = layout.weight[layer], layout.bias[layer]
    height = max(1, STRIP_ELEMENTS // (STRIP * fan_out)) * STRIP
    room = height * fan_out + LANES
    for i0 in range(lo, hi, height):
        n = min(height, hi - i0)
        strip_gradient(layout, plan, buffers, X, layer, i0, n, n_rows, shared, line, offsets, slot[:room], slot[room:])
        offset, size = weight + i0 * fan_out, n * fan_out
        w = buffers.params[offset : offset + size]
        step(plan.solver, plan, w, slot[:size], buffers.moments, offset, alpha, scale, rate)
        if plan.solver != GRADIENT:
            follow_weights(packed, buffers.params, layer, i0, n)
    if hi == fan_in:
        column_sums(slot, buffers, layout.delta[layer + 1], layout.stride[layer + 1], n_rows, fan_out)
        b = buffers.params[bias : bias + fan_out]
        step(plan.solver, plan, b, slot[:fan_out], buffers.moments, bias, b.dtype.type(0), scale, rate)


def output_scratch_size(units, strides, n_rows):
    """Elements that ``output_forward`` and the transposed outputs of n_rows rows take (plain Python)."""
    ldr = n_rows + 2 * LANES
    return (units[-1] + max(units[-2], strides[-1], 2)) * ldr + 8 * LANES


def scratch_size(units, strides):
    """Elements of one slot of scratch that every function here can work in (plain Python, called once a fit)."""
    rows = output_scratch_size(units, strides, BLOCK_ROWS)
    weights = (STRIP + 1) * max(units[1:]) + 3 * STRIP_ELEMENTS + 4 * max(strides[1:])
    return max(rows, weights + 8 * LANES)
