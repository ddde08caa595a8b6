"""The first half of a training step: forward and backward over the layers of one block of rows.

It writes only the rows of its block, the second half, in ``weights``, only the weights of its block: so blocks run in
any order and on any number of threads. Called by ``epoch`` and ``parts``; serial throughout.

Shapes: a block has ``n`` rows of the batch, ``lo`` the first. The last layer's outputs live transposed, (n_outputs,
ldr), where ldr is n rounded up to whole vectors.
"""

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, LABELS, MATRIX, OUT, RECORDS, ROWS, as_flat, as_read
from ..parallel.partition import boundary
from ..records import unpack, unpack_layout
from ..simd.gemm import NO_C0, product, product_at
from ..simd.reduce import dot
from ..simd.target import LINE_BYTES, VECTOR_BYTES
from ..simd.transpose import prefetch, transpose
from .activations import activate, differentiate, single_output_backward
from .losses import loss_and_delta

LANES = 16  # rows of a transposed block are padded to this: a whole vector of any supported width
BLOCK_ROWS = 256  # most rows that go through the network at once
LARGE_BLOCK_ROWS = 128  # the same in training more than SMALL_WEIGHTS: activations stay in the second cache
SMALL_WEIGHTS = 1 << 14  # (64-100-10, batches of 200: 45 us in blocks of 24 rows, 41 in blocks of 128, 40 all at once)
NARROW = 4  # two to so many outputs: lanes run over rows in the last layer (100-3 would use 3 of 8 lanes otherwise)

TRANSPOSED_VECTORS = 3  # units of columns of a panel of W' in `backward`: the widest tile where registers are few
AHEAD_BYTES = 4096  # of rows between the one that is gathered and the one that is prefetched
GROUP = 8  # weight rows whose squares are summed together; blocks and strips hold whole groups


@kernel
def padded(n):
    """n rounded up to whole LANES, and to no multiple of 64: rows that far apart would collide in the first cache."""
    whole = (n + LANES - 1) // LANES * LANES
    return whole + LANES if whole % 64 == 0 else whole


# Few need it: networks without hidden layers, and predictions for some of the rows.
gather = dispatch_table("gather", ("out", OUT), ("ld_out", INT), ("X", MATRIX), ("rows", ROWS), ("n", INT))
ALL_COLUMNS = 0


@gather.implementation(ALL_COLUMNS)
def gather_rows(out, ld_out, X, rows, n):
    """out[r, :] <- X[rows[r], :] for r < n; further rows are those that will be asked for next.

    Writes: out (n, ld_out), first n_features columns. Reads: X, rows.
    """
    n_features = X.shape[1]
    flat = as_flat(X)
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
    """Z' = (A W + b)' of the last layer, before its activation.

    A single output is a dot product for each row, sixteen partial sums each (lanes over columns would use 1 of 8); two
    to NARROW outputs let lanes run over rows; more let them run over outputs.

    Writes: z (n_outputs, ldr). Reads: params, a. Scratch: scratch (fan_in * ldr or n * stride).
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


@kernel
def keeps_transposed(plan, fan_in, fan_out):
    """Whether a layer keeps W' as well as W for `backward`.

    A single row is multiplied with the rows of W instead: 404 steps of 13-64-64-1 took 1.9 ms with the copy, 1.7
    without (Zen 4). A single column is its own transpose. Many weights are turned when they are needed.
    """
    return plan.batch_size > 1 and fan_out > 1 and fan_in * fan_out < plan.max_copied_weights


@kernel
def multiply_transposed(c, ic, ldc, d, i_d, ldd, w, iw, n, fan_in, fan_out, workspace):
    """C (n, fan_in) = D (n, fan_out) W', a panel of W' at a time.

    Writes: c[ic + r*ldc + i], i < fan_in rounded up to whole units. Reads: d, w. Scratch: slot (width, fan_out).
    """
    lanes = VECTOR_BYTES // workspace.itemsize
    width = TRANSPOSED_VECTORS * lanes
    n_vectors = (fan_in + lanes - 1) // lanes
    n_panels = (n_vectors + TRANSPOSED_VECTORS - 1) // TRANSPOSED_VECTORS
    for panel in range(n_panels):
        first = panel * n_vectors // n_panels * lanes
        columns = min((panel + 1) * n_vectors // n_panels * lanes, fan_in) - first
        transpose(workspace, 0, width, w, iw + first * fan_out, fan_out, columns, fan_out)
        product(c, ic + first, ldc, c, 0, NO_C0, d, i_d, ldd, 1, workspace, 0, width, n, columns, fan_out)


@kernel
def has_single_output(fan_in, fan_out):
    """Whether a layer has one output and goes back through `single_output_backward`; a few weights are not worth it."""
    return fan_out == 1 and fan_in >= LANES


@kernel
def single_output_sums(layout, plan, part):
    """First and end in part_gradients of the sums that `single_output_backward` gathers over a part of the rows.

    Behind them a line and more is left to nobody: the next one is written by another thread.
    """
    end = (part + 1) * plan.shard_stride - 2 * LANES
    return end - 2 * layout.stride[plan.n_layers - 1], end


@kernel
def backward(packed, lo, n, sums, workspace):
    """D_l = (D_{l+1} W') f'(A_l) down to level 1.

    Writes: deltas, rows lo .. lo + n of levels 1 .. n_layers - 1; with one output to sums (2, stride) is added. Reads:
    deltas of level n_layers, activations, transposed or params. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, sums)
    params, deltas = buffers.params, buffers.deltas
    for layer in range(plan.n_layers - 1, 0, -1):
        fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
        stride, above = layout.stride[layer], layout.stride[layer + 1]
        first, level = layout.delta[layer] + lo * stride, layout.level[layer] + lo * stride
        source, weight = layout.delta[layer + 1] + lo * above, layout.weight[layer]
        d, a = deltas[first : first + n * stride], buffers.activations[level : level + n * stride]
        if has_single_output(fan_in, fan_out):
            outer, weights = deltas[source:], params[weight : weight + stride]
            single_output_backward(layout.activation[layer - 1], a, d, outer, above, weights, n, stride, sums)
            continue
        copied = keeps_transposed(plan, fan_in, fan_out)
        if plan.batch_size == 1:
            for i in range(fan_in):
                d[i] = dot(params, weight + i * fan_out, deltas, source, fan_out)
        elif copied or fan_out == 1:
            copy, start = params, weight
            if copied:
                copy, start = buffers.transposed, layout.transposed[layer]
            product(
                deltas, first, stride, deltas, 0, NO_C0,
                deltas, source, above, 1, copy, start, stride, n, fan_in, fan_out,
            )  # fmt: skip
        else:
            multiply_transposed(
                deltas, first, stride, deltas, source, above, params, weight, n, fan_in, fan_out, workspace
            )
        differentiate(layout.activation[layer - 1], a, d)


@leaf(RECORDS, LABELS, MATRIX, IN, ROWS, INT, INT, INT, OUT)
def forward_backward_from(packed, labels, targets, sample_weight, block, first, start, part, workspace):
    """Rest of the first half once level ``first`` of the block's rows is there: forward, loss, backward.

    Writes: activations, deltas, row_loss at rows start .. start + block.size; `single_output_sums` of the part where
    ``plan.n_shards`` says so. Reads: params, transposed, labels, targets, sample_weight at ``block``. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, workspace)
    n_layers = plan.n_layers
    n_outputs, stride = layout.units[n_layers], layout.stride[n_layers]
    n = block.size
    ldr = padded(n)
    params, activations, deltas = buffers.params, buffers.activations, buffers.deltas
    ld = layout.stride[first]
    hidden_forward(
        packed, first, n_layers, params, activations, layout.level[first] + start * ld, ld, activations, start, n
    )
    z, scratch = workspace[: n_outputs * ldr], workspace[n_outputs * ldr :]
    ld = layout.stride[n_layers - 1]
    output_forward(
        packed, n_layers, params, activations, layout.level[n_layers - 1] + start * ld, ld, z, scratch, n, ldr
    )
    row_loss = buffers.row_loss[start : start + n]
    output = layout.activation[n_layers - 1]
    loss_and_delta(plan.loss, output, z, row_loss, labels, targets, sample_weight, block, n_outputs, ldr, scratch)
    transpose(deltas, layout.delta[n_layers] + start * stride, stride, z, 0, ldr, n_outputs, n)
    sums = workspace  # whoever takes no parts takes these sums later, in another order
    if plan.n_shards > 1:
        begin, end = single_output_sums(layout, plan, part)
        sums = buffers.shard_gradients[begin:end]
    backward(packed, start, n, sums, workspace)


@kernel
def split_bounds(layout, plan, split):
    """First feature of a part of the first layer's sums, and the first behind it."""
    n, parts = layout.units[0], plan.n_splits
    return boundary(split, parts, n, GROUP), boundary(split + 1, parts, n, GROUP)


@leaf(RECORDS, MATRIX, INT, INT, INT, INT)
def first_layer_product(packed, X, split, lo, n, at):
    """One part of X W_0, of rows lo .. lo + n of the batch whose places in X begin at ``at``.

    Where ``plan.n_splits`` is 1 the only part is Z_1 = X W_0 + b_0.

    Writes: partial_sums of this part at these rows, or activations of level 1. Reads: params, X, places.
    """
    layout, plan, buffers = unpack(packed, X)
    fan_out, stride = layout.units[1], layout.stride[1]
    first, end = split_bounds(layout, plan, split)
    z, top, ldc0 = buffers.split_sums, (split * plan.batch_size + lo) * stride, NO_C0
    if plan.n_splits == 1:
        z, top, ldc0 = buffers.activations, layout.level[1] + lo * stride, 0
    product_at(
        z, top, stride, buffers.params, layout.bias[0], ldc0,
        as_flat(X), first, 0, 1, buffers.row_offsets, at + lo,
        buffers.params, layout.weight[0] + first * fan_out, fan_out, n, fan_out, end - first,
        0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip


@kernel
def add_splits(z, bias, sums, lo, n, stride, n_parts, batch_size):
    """Z_1 = b_0 + P_0 + P_1 + ... of rows lo .. lo + n of the batch, added in this order.

    Writes: z (n, stride), the columns of bias. Reads: sums (n_parts, batch_size, stride), bias.
    """
    for r in range(n):
        row = z[r * stride : r * stride + bias.size]
        for part in range(0, n_parts, 2):
            start = (part * batch_size + lo + r) * stride
            first = sums[start : start + bias.size]
            start += batch_size * stride
            second = sums[start : start + bias.size]
            before = bias if part == 0 else row
            for j in range(bias.size):
                row[j] = (before[j] + first[j]) + second[j]


@kernel
def first_activation(packed, X, lo, n, ready):
    """A_1 = f(X W_0 + b_0) of rows lo .. lo + n of the batch, read where they lie in X.

    With ``ready`` the parts of X W_0 are there.

    Writes: activations, rows lo .. lo + n of level 1. Reads: params, X, places.
    """
    layout, plan, buffers = unpack(packed, X)
    if not ready:
        for split in range(plan.n_splits):
            first_layer_product(packed, X, split, lo, n, 0)
    stride = layout.stride[1]
    top = layout.level[1] + lo * stride
    z = buffers.activations[top : top + n * stride]
    if plan.n_splits > 1:
        bias = buffers.params[layout.bias[0] : layout.bias[0] + layout.units[1]]
        add_splits(z, bias, buffers.split_sums, lo, n, stride, plan.n_splits, plan.batch_size)
    activate(layout.activation[0], z)


@leaf(RECORDS, MATRIX, LABELS, MATRIX, IN, ROWS, INT, INT, INT, INT, OUT)
def forward_backward(packed, X, labels, targets, sample_weight, rows, lo, hi, ready, part, workspace):
    """First half of a step: rows lo .. hi of the batch through the network and back.

    With ``ready`` the parts of the first layer's sums are there. ``part`` is where the gradient goes, if
    ``plan.n_shards`` says that these rows are a part of the batch.

    Writes: activations, deltas, row_loss at rows lo .. hi; `single_output_sums` of the part.
    Reads: params, transposed, places or partial_sums, data at ``rows``. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, workspace)
    ld = layout.stride[0]
    if plan.n_shards > 1:
        begin, end = single_output_sums(layout, plan, part)
        buffers.shard_gradients[begin:end] = 0
    height = BLOCK_ROWS if plan.n_params <= SMALL_WEIGHTS else LARGE_BLOCK_ROWS
    for start in range(lo, hi, height):
        block = rows[start : min(start + height, hi)]
        if plan.n_layers > 1:
            first_activation(packed, X, start, block.size, ready)
        else:
            gather(ALL_COLUMNS, buffers.activations[start * ld :], ld, X, rows[start:hi], block.size)
        first = min(plan.n_layers - 1, 1)
        forward_backward_from(packed, labels, targets, sample_weight, block, first, start, part, workspace)


def output_scratch_size(units, strides, n_rows):
    """Elements that the transposed outputs of n_rows rows, `output_forward` and losses take (plain Python)."""
    ldr = n_rows + 2 * LANES
    return (units[-1] + max(units[-2], strides[-1], units[-1] + 2)) * ldr + 8 * LANES
