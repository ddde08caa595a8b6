"""The three products of a dense layer, and the gradient of its biases, for layers of all shapes.

    forward           Z = A W + b       rows of activations times weights
    backward_data     D W'              deltas back through the weights
    backward_weights  A' D              the gradient of some rows of the weights

Each product has special code for some shapes: one row of a batch, one output, few outputs, many weights.
The first layer reads the rows of X in place. Every sum has one order, whatever code, block or thread computes it. The
products of a sparse first layer are in `simd.spmm`; ``sparse_network`` calls them.

The last layer's outputs live transposed, (n_outputs, ldr), where ldr is the number of rows rounded up by `padded`.
"""

from typing import NamedTuple

from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, MATRIX, OUT, RECORDS, as_flat, as_read
from ..parallel.partition import boundary
from ..records import unpack, unpack_layout
from ..simd.gemm import FEW_REGISTERS, NO_C0, NOWHERE, product, product_at
from ..simd.llvm import address_of
from ..simd.reduce import dot
from ..simd.scalar import fma
from ..simd.target import VECTOR_BYTES
from ..simd.transpose import transpose
from ..simd.vector import load_vector, store_vector, whole_vectors
from ..tuning import (
    LARGE_LAYER,
    LONGEST_DOWN,
    MANY_ROWS,
    NARROW,
    NARROW_GRADIENT,
    SPLIT_GRANULARITY,
    TRANSPOSED_VECTORS,
)

LANES = 16  # rows of a transposed block are padded to multiples of this, which are whole registers on any processor


@kernel
def padded(n):
    """n rounded up to a multiple of LANES that is no multiple of 64: rows that far apart would collide in L1."""
    whole = (n + LANES - 1) // LANES * LANES
    return whole + LANES if whole % 64 == 0 else whole


# ---------------------------------------------------------------------------------------------------------- forward


@kernel
def split_bounds(layout, plan, split):
    """First feature of a split of the first layer's sums (split-K), and the end."""
    n, n_splits = layout.units[0], plan.n_splits
    return boundary(split, n_splits, n, SPLIT_GRANULARITY), boundary(split + 1, n_splits, n, SPLIT_GRANULARITY)


@leaf(RECORDS, MATRIX, INT, INT, INT, INT)
def forward_input(packed, X, split, lo, n, at):
    """One split of X W_0, of rows lo .. lo + n of the batch; the batch's row offsets begin at ``at``.

    Where ``plan.n_splits`` is 1 the only split is Z_1 = X W_0 + b_0.

    Writes: split_sums of this split at these rows, or activations of level 1. Reads: params, X, row_offsets.
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
def add_splits(z, bias, sums, lo, n, stride, n_splits, batch_size):
    """Z_1 = b_0 + P_0 + P_1 + ... of rows lo .. lo + n of the batch, added in this order.

    Writes: z (n, stride), the columns of bias. Reads: sums (n_splits, batch_size, stride), bias.
    """
    for r in range(n):
        row = z[r * stride : r * stride + bias.size]
        for split in range(0, n_splits, 2):
            start = (split * batch_size + lo + r) * stride
            first = sums[start : start + bias.size]
            start += batch_size * stride
            second = sums[start : start + bias.size]
            before = bias if split == 0 else row
            for j in range(bias.size):
                row[j] = (before[j] + first[j]) + second[j]


@kernel
def forward_hidden(layout, params, layer, a, ia, lda, z, top, n):
    """Z = A W + b of a hidden layer after the first. Writes: z from ``top`` on. Reads: params, a."""
    fan_in, fan_out, stride = layout.units[layer], layout.units[layer + 1], layout.stride[layer + 1]
    product(
        z, top, stride, params, layout.bias[layer], 0,
        a, ia, lda, 1, params, layout.weight[layer], fan_out, n, fan_out, fan_in,
    )  # fmt: skip


@leaf(RECORDS, INT, IN, IN, INT, INT, OUT, OUT, INT, INT)
def forward_output(packed, n_layers, params, a, ia, lda, z, scratch, n, ldr):
    """Z' = (A W + b)' of the last layer, before its activation.

    A single output is a dot product for each row, with sixteen partial sums (a product with lanes over outputs would
    use 1 of 8). With two to NARROW outputs of at least 8 rows lanes run over rows, else over outputs.

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


# ---------------------------------------------------------------------------------------------------- backward, data


@kernel
def keeps_transposed(plan, fan_in, fan_out):
    """Whether a layer keeps a copy W' beside W for `backward_data`.

    A batch of one row is multiplied by the rows of W instead: 404 steps of 13-64-64-1 took 1.9 ms with the copy, 1.7
    without (Zen 4). A single column is its own transpose. Large W are transposed on the fly.
    """
    return plan.batch_size > 1 and fan_out > 1 and fan_in * fan_out < plan.max_copied_weights


@kernel
def multiply_transposed(c, ic, ldc, d, i_d, ldd, w, iw, n, fan_in, fan_out, workspace):
    """C (n, fan_in) = D (n, fan_out) W', a panel of W' at a time.

    Writes: c[ic + r*ldc + i], i < fan_in rounded up to whole vectors. Reads: d, w. Scratch: workspace (fan_out, width).
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
def backward_data(packed, layer, lo, n, workspace):
    """D_l = D_{l+1} W' of rows lo .. lo + n of the batch, not yet multiplied by the derivative of the activation.

    Writes: deltas of level l = ``layer`` at these rows. Reads: deltas of level l + 1, transposed or params.
    Scratch: workspace.
    """
    layout, plan, buffers = unpack(packed, workspace)
    params, deltas = buffers.params, buffers.deltas
    fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
    stride, above = layout.stride[layer], layout.stride[layer + 1]
    first, source = layout.delta[layer] + lo * stride, layout.delta[layer + 1] + lo * above
    weight, copied = layout.weight[layer], keeps_transposed(plan, fan_in, fan_out)
    if plan.batch_size == 1:
        for i in range(fan_in):
            deltas[first + i] = dot(params, weight + i * fan_out, deltas, source, fan_out)
    elif copied or fan_out == 1:
        copy, start = params, weight
        if copied:
            copy, start = buffers.transposed, layout.transposed[layer]
        product(
            deltas, first, stride, deltas, 0, NO_C0,
            deltas, source, above, 1, copy, start, stride, n, fan_in, fan_out,
        )  # fmt: skip
    else:
        multiply_transposed(deltas, first, stride, deltas, source, above, params, weight, n, fan_in, fan_out, workspace)


# ------------------------------------------------------------------------------------------------- backward, weights


class Hints(NamedTuple):
    """What `backward_weights` may prefetch; no result depends on it."""

    shared: bool  # whether other threads have read the weights, which are updated next
    line: int  # address from which ``offsets`` count
    offsets: int  # address of int64, one for each row of the batch: bytes to what is read next; 0: no hints


@leaf(OUT, IN, INT, IN, INT, INT, INT)
def outer_product(g, a, ia, d, first, n, fan_out):
    """G[i, j] = a[ia + i] d[first + j], the gradient of a batch of one row, where a tile would not pay.

    Zero is added to each, as tiles do: -0 becomes 0.

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
def close_rows(g, width, ld, n):
    """Close the gaps between rows of ``width`` elements ``ld`` apart. Writes: g (n, width), and a vector after it."""
    if ld > width:
        for r in range(1, n):
            for j in range(0, width, VECTOR_BYTES // g.itemsize):
                store_vector(g, r * width + j, load_vector(g, r * ld + j))


@kernel
def row_distance(fan_out, n_rows, itemsize):
    """Distance of the rows of a gradient during the product: whole vectors where that is faster."""
    return whole_vectors(fan_out, itemsize) if FEW_REGISTERS and n_rows > LONGEST_DOWN else fan_out


@kernel
def backward_weights(packed, X, layer, i0, n, r0, n_rows, hints, g, ld, workspace):
    """g <- A' D of weight rows i0 .. i0 + n, summed in order over n_rows rows of the batch from r0 on.

    A of the first layer is X, except in a network of one layer. With ``hints.offsets`` the product of weight row i
    prefetches the lines at ``hints.line + i * itemsize`` plus each of the offsets at address ``hints.offsets``.

    Writes: g (n, fan_out) without padding; during the product its rows lie ``ld`` apart, with a vector of padding at
    the end. Reads: activations or X at ``row_offsets``, deltas. Scratch: workspace.
    """
    layout, plan, buffers = unpack(packed, workspace)
    fan_out = layout.units[layer + 1]
    stride, above = layout.stride[layer], layout.stride[layer + 1]
    level, delta = layout.level[layer] + r0 * stride + i0, layout.delta[layer + 1] + r0 * above
    own = address_of(buffers.params, layout.weight[layer] + i0 * fan_out)
    large = layout.units[layer] * fan_out >= LARGE_LAYER
    lines, extent = 0, 0
    if large:
        lines, extent = address_of(buffers.prefetch_lines, 0), buffers.prefetch_lines[buffers.prefetch_lines.size - 1]
    activations, deltas = buffers.activations, buffers.deltas
    if n_rows == 1:
        a, ia = as_read(activations), level
        if layer == 0 and plan.n_layers > 1:
            a, ia = as_flat(X), buffers.row_offsets[r0] // g.itemsize + i0
        outer_product(g, a, ia, deltas, delta, n, fan_out)
    elif layer == plan.n_layers - 1 and fan_out <= (NARROW_GRADIENT if n_rows >= MANY_ROWS else NARROW):
        ldr = padded(n)
        product(
            workspace, 0, ldr, workspace, 0, NO_C0,
            deltas, delta, 1, above, activations, level, stride, fan_out, n, n_rows,
        )  # fmt: skip
        transpose(g, 0, fan_out, workspace, 0, ldr, fan_out, n)
    elif layer == 0 and plan.n_layers > 1:
        product_at(
            g, 0, ld, g, 0, NO_C0, as_flat(X), i0, 1, 0, buffers.row_offsets, r0,
            deltas, delta, above, n, fan_out, n_rows, hints.line + i0 * g.itemsize, g.itemsize, hints.offsets,
            own, hints.shared, lines, extent,
        )  # fmt: skip
        close_rows(g, fan_out, ld, n)
    else:
        product_at(
            g, 0, ld, g, 0, NO_C0, activations, level, 1, 0 if large else stride,
            buffers.level_rows if large else NOWHERE, layer * plan.batch_size if large else 0,
            deltas, delta, above, n, fan_out, n_rows, 0, 0, 0, own, hints.shared, lines, extent,
        )  # fmt: skip
        close_rows(g, fan_out, ld, n)


@kernel
def backward_bias(packed, layer, r0, n_rows, workspace):
    """Sums of the columns of D: row r counts in partial sum r % 4; the last n_rows % 4 rows are added in order.

    The four partial sums are one product of a row of ones and rows of D, four of them side by side: four chains of
    additions instead of one. One to three rows need no product. (13-64-64-1 with batches of one row takes .82 to .86 of
    the time that it took with it, Zen 3.)

    Writes: workspace (fan_out,); 4 stride elements in all as scratch. Reads: deltas of the layer's outputs, n_rows rows
    from r0 on.
    """
    layout, _, buffers = unpack(packed, workspace)
    width, stride = layout.units[layer + 1], layout.stride[layer + 1]
    sums, deltas, first = workspace, buffers.deltas, layout.delta[layer + 1] + r0 * stride
    quarter = n_rows // 4
    if quarter == 0 and n_rows > 0:
        for j in range(0, width, VECTOR_BYTES // sums.itemsize):
            total = load_vector(deltas, first + j)
            for r in range(1, n_rows):
                total = total + load_vector(deltas, first + r * stride + j)
            store_vector(sums, j, total)
        return
    product(sums, 0, 0, sums, 0, NO_C0, buffers.one, 0, 0, 0, deltas, first, 4 * stride, 1, 4 * stride, quarter)
    for j in range(0, width, VECTOR_BYTES // sums.itemsize):
        pair = load_vector(sums, j) + load_vector(sums, stride + j)
        total = pair + (load_vector(sums, 2 * stride + j) + load_vector(sums, 3 * stride + j))
        for r in range(4 * quarter, n_rows):
            total = total + load_vector(deltas, first + r * stride + j)
        store_vector(sums, j, total)


def output_scratch_size(units, strides, n_rows):
    """Elements of scratch for the transposed outputs of n_rows rows, `forward_output` and the loss (plain Python)."""
    ldr = n_rows + 2 * LANES
    return (units[-1] + max(units[-2], strides[-1], units[-1] + 2)) * ldr + 8 * LANES
