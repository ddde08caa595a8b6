"""The rows pass of a training step: forward pass, loss and backward pass of some rows of a batch.

It reads the weights, and writes activations, deltas and losses of these rows only, so blocks of rows run in any order
and on any number of threads. The weights pass is in ``update``; each layer's products are in ``layer``.

Shapes: a block has ``n`` rows of the batch; ``lo`` is the first.
"""

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, LABELS, MATRIX, OUT, RECORDS, ROWS, as_flat, as_read
from ..records import unpack, unpack_layout
from ..simd.target import LINE_BYTES
from ..simd.transpose import prefetch, transpose
from ..tuning import BLOCK_ROWS, GATHER_AHEAD_BYTES, LARGE_BLOCK_ROWS, SMALL_WEIGHTS
from .activations import (
    activate,
    differentiate,
    differentiate_input,
    single_output_backward,
    single_output_backward_input,
)
from .layer import LANES, add_splits, backward_data, forward_hidden, forward_input, forward_output, padded
from .losses import loss_and_delta

# Copies rows of X, for networks without hidden layers and for predictions of some rows; else it is not compiled.
gather = dispatch_table("gather", ("out", OUT), ("ld_out", INT), ("X", MATRIX), ("rows", ROWS), ("n", INT))
GATHER_ROWS = 0

# The passes between the first known level and the outputs where units are dropped, see ``dropout``.
dropped_pass = dispatch_table(
    "dropped_pass",
    ("packed", RECORDS), ("first", INT), ("lo", INT), ("n", INT), ("sums", OUT), ("workspace", OUT),
)  # fmt: skip
DROPPED_FORWARD, DROPPED_BACKWARD = range(2)


@gather.implementation(GATHER_ROWS)
def gather_rows(out, ld_out, X, rows, n):
    """out[r, :] <- X[rows[r], :] for r < n; ``rows`` may go on with those that will be gathered next.

    Writes: out (n, ld_out), first n_features columns. Reads: X, rows.
    """
    n_features = X.shape[1]
    flat = as_flat(X)
    line = LINE_BYTES // X.itemsize
    distance = max(1, GATHER_AHEAD_BYTES // (n_features * X.itemsize))
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


@kernel
def copy(out, a, ia, n):
    """out[i] <- a[ia + i] for i < n. Writes: out. Reads: a."""
    for i in range(n):
        out[i] = a[ia + i]


@leaf(RECORDS, INT, INT, IN, IN, INT, INT, OUT, OUT, INT, INT)
def hidden_forward(packed, first, n_layers, params, x, ix, ldx, activations, inputs, lo, n):
    """A_l = f(A_{l-1} W + b) for the hidden levels after ``first``, whose activations are ``x`` from ``ix`` on.

    Writes: activations, rows lo .. lo + n of levels first + 1 .. n_layers - 1; inputs, if it has
    a size: what they were before their activation. Reads: params, x.
    """
    layout = unpack_layout(packed, params)
    a, ia, lda = x, ix, ldx
    for layer in range(first, n_layers - 1):
        stride = layout.stride[layer + 1]
        top = layout.level[layer + 1] + lo * stride
        end = top + n * stride
        forward_hidden(layout, params, layer, a, ia, lda, activations, top, n)
        if inputs.size > 0:
            copy(inputs[top:end], activations, top, end - top)
        activate(layout.activation[layer], activations[top:end])
        a, ia, lda = as_read(activations), top, stride


@kernel
def has_single_output(fan_in, fan_out):
    """Whether a layer uses `single_output_backward`: it has one output, and enough weights to be worth it."""
    return fan_out == 1 and fan_in >= LANES


@kernel
def single_output_sums(layout, plan, shard):
    """First index and end in shard_gradients of what `single_output_backward` sums over a shard.

    More than a cache line behind them stays unused: another thread writes the next shard.
    """
    end = (shard + 1) * plan.shard_stride - 2 * LANES
    return end - 2 * layout.stride[plan.n_layers - 1], end


@kernel
def backward(packed, lo, n, sums, workspace):
    """D_l = (D_{l+1} W') f'(A_l) down to level 1.

    Writes: deltas, rows lo .. lo + n of levels 1 .. n_layers - 1; with one output it adds to sums (2, stride).
    Reads: deltas of level n_layers, activations, inputs, transposed or params. Scratch: workspace.
    """
    layout, plan, buffers = unpack(packed, sums)
    params, deltas = buffers.params, buffers.deltas
    for layer in range(plan.n_layers - 1, 0, -1):
        activation, stride, above = layout.activation[layer - 1], layout.stride[layer], layout.stride[layer + 1]
        first, level = layout.delta[layer] + lo * stride, layout.level[layer] + lo * stride
        d, a = deltas[first : first + n * stride], buffers.activations[level : level + n * stride]
        # Of the two calls for an activation one finds a function, the other does nothing.
        keeps = buffers.inputs.size > 0
        if layer == plan.n_layers - 1 and has_single_output(layout.units[layer], layout.units[layer + 1]):
            outer, weight = deltas[layout.delta[layer + 1] + lo * above :], layout.weight[layer]
            w = params[weight : weight + stride]
            single_output_backward(activation, a, d, outer, above, w, n, stride, sums)
            if keeps:
                z = buffers.inputs[level : level + n * stride]
                single_output_backward_input(activation, a, z, d, outer, above, w, n, stride, sums)
        else:
            backward_data(packed, layer, lo, n, workspace)
            differentiate(activation, a, d)
            if keeps:
                differentiate_input(activation, a, buffers.inputs[level : level + n * stride], d)


@kernel
def losses_and_deltas(packed, labels, targets, sample_weight, block, start, z, ldr, scratch):
    """Losses of a block's rows, and deltas of the last level, from the sums z (n_outputs, ldr).

    Writes: row_loss, deltas of the last level at rows start .. start + block.size; z. Reads: labels, targets,
    sample_weight at ``block``. Scratch: scratch.
    """
    layout, plan, buffers = unpack(packed, scratch)
    n_layers, n = plan.n_layers, block.size
    n_outputs, stride = layout.units[n_layers], layout.stride[n_layers]
    row_loss = buffers.row_loss[start : start + n]
    output = layout.activation[n_layers - 1]
    loss_and_delta(
        plan.loss, plan.loss_constants, output, z, row_loss, labels, targets, sample_weight, block, n_outputs, ldr,
        scratch,
    )  # fmt: skip
    transpose(buffers.deltas, layout.delta[n_layers] + start * stride, stride, z, 0, ldr, n_outputs, n)


@leaf(RECORDS, LABELS, MATRIX, IN, ROWS, INT, INT, INT, OUT)
def forward_backward_from(packed, labels, targets, sample_weight, block, first, start, shard, workspace):
    """The rows pass of a block whose activations of level ``first`` are known: forward, loss, backward.

    Writes: activations, inputs, deltas, row_loss at rows start .. start + block.size; `single_output_sums` of the shard
    where ``plan.n_shards`` says so. Reads: params, transposed, labels, targets, sample_weight at ``block``. Scratch:
    workspace.
    """
    layout, plan, buffers = unpack(packed, workspace)
    n_layers = plan.n_layers
    n_outputs, n = layout.units[n_layers], block.size
    ldr = padded(n)
    params, activations = buffers.params, buffers.activations
    ld = layout.stride[first]
    at = layout.level[first] + start * ld
    if plan.dropout.size == 0:
        hidden_forward(packed, first, n_layers, params, activations, at, ld, activations, buffers.inputs, start, n)
    else:
        dropped_pass(DROPPED_FORWARD, packed, first, start, n, workspace, workspace)
    z, scratch = workspace[: n_outputs * ldr], workspace[n_outputs * ldr :]
    ld = layout.stride[n_layers - 1]
    forward_output(
        packed, n_layers, params, activations, layout.level[n_layers - 1] + start * ld, ld, z, scratch, n, ldr
    )
    losses_and_deltas(packed, labels, targets, sample_weight, block, start, z, ldr, scratch)
    sums = workspace  # without shards they are not used: the weights pass computes them itself, in another order
    if plan.n_shards > 1:
        begin, end = single_output_sums(layout, plan, shard)
        sums = buffers.shard_gradients[begin:end]
    if plan.dropout.size == 0:
        backward(packed, start, n, sums, workspace)
    else:
        dropped_pass(DROPPED_BACKWARD, packed, first, start, n, sums, workspace)


@kernel
def first_activation(packed, X, lo, n, ready):
    """A_1 = f(X W_0 + b_0) of rows lo .. lo + n of the batch, which are read in X in place.

    With ``ready`` the splits of X W_0 are already computed.

    Writes: activations and inputs, rows lo .. lo + n of level 1; split_sums, unless ``ready``.
    Reads: params, X, row_offsets, split_sums.
    """
    layout, plan, buffers = unpack(packed, X)
    if not ready:
        for split in range(plan.n_splits):
            forward_input(packed, X, split, lo, n, 0)
    stride = layout.stride[1]
    top = layout.level[1] + lo * stride
    z = buffers.activations[top : top + n * stride]
    if plan.n_splits > 1:
        bias = buffers.params[layout.bias[0] : layout.bias[0] + layout.units[1]]
        add_splits(z, bias, buffers.split_sums, lo, n, stride, plan.n_splits, plan.batch_size)
    if buffers.inputs.size > 0:
        copy(buffers.inputs[top : top + n * stride], z, 0, n * stride)
    activate(layout.activation[0], z)


@leaf(RECORDS, MATRIX, LABELS, MATRIX, IN, ROWS, INT, INT, INT, INT, OUT)
def forward_backward(packed, X, labels, targets, sample_weight, rows, lo, hi, ready, shard, workspace):
    """The rows pass of rows lo .. hi of the batch.

    With ``ready`` the splits of the first layer's sums are already computed. If ``plan.n_shards`` is not 1 the rows are
    a shard of the batch, and ``shard`` is the index of its gradient.

    Writes: activations, inputs, deltas, row_loss at rows lo .. hi; `single_output_sums` of the shard.
    Reads: params, transposed, row_offsets or split_sums, data at ``rows``. Scratch: workspace.
    """
    layout, plan, buffers = unpack(packed, workspace)
    ld = layout.stride[0]
    if plan.n_shards > 1:
        begin, end = single_output_sums(layout, plan, shard)
        buffers.shard_gradients[begin:end] = 0
    height = BLOCK_ROWS if plan.n_params <= SMALL_WEIGHTS else LARGE_BLOCK_ROWS
    for start in range(lo, hi, height):
        block = rows[start : min(start + height, hi)]
        if plan.n_layers > 1:
            first_activation(packed, X, start, block.size, ready)
        else:
            gather(GATHER_ROWS, buffers.activations[start * ld :], ld, X, rows[start:hi], block.size)
        first = min(plan.n_layers - 1, 1)
        forward_backward_from(packed, labels, targets, sample_weight, block, first, start, shard, workspace)
