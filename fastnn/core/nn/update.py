"""The second half of a training step: the gradient of one block of weight rows, their step, what is derived from them.

The first half, in ``network``, has left the activations and deltas of the whole batch. Called by ``epoch``,
``sparse_epoch`` and ``parts``.
"""

from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, MATRIX, OUT, RECORDS, as_flat, as_read
from ..records import unpack
from ..simd.gemm import FEW_REGISTERS, NO_C0, NOWHERE, product, product_at
from ..simd.reduce import sum_squares
from ..simd.scalar import fma
from ..simd.target import LONGEST_DOWN, VECTOR_BYTES
from ..simd.tile import address_of
from ..simd.transpose import transpose
from ..simd.vector import load_vector, store_vector, whole_vectors
from .network import (
    BLOCK_ROWS,
    GROUP,
    LANES,
    NARROW,
    keeps_transposed,
    output_scratch_size,
    padded,
)
from .optimizers import step

TILE_ROWS = 24  # weight rows whose gradient is held in scratch before the optimizer's step, 2 x 12, 3 x 8, 4 x 6, ...
# ... or, of up to so many outputs, a multiple of that with about so many elements: 82 kB of float32. (Epochs of
# 784-30-10 with batches of 10, Zen 4, one core: 34.0 ms; 35.2 with a quarter of it, which is enough for wider layers.)
TILE_OUTPUTS, TILE_ELEMENTS = 128, 20480
# The same for more outputs where tiles are narrow: deltas are read from the third cache for each strip. (Zen 3,
# gradients of 784-512-512-10, the fastest of nine: 66 GFLOP/s, 59 with strips of STRIP rows.)
WIDE_TILE_ELEMENTS = 49152 if FEW_REGISTERS else 0
# Up to so many outputs lanes run over fan_in in the last layer's gradient, if the batch has MANY_ROWS. (Sums over 256
# rows of 256 x 7 weights: 11.5 us, 16.0 over outputs; 200 rows, 100 x 10: 3.9, 4.8; 10 rows, 30 x 10: .14, .13; Zen 4)
NARROW_GRADIENT, MANY_ROWS = 16, 64
# Weights of a layer from which on they are asked for, with the optimizer's state, while the gradient's tiles compute: a
# core's second cache holds no more. (784-512-512-10, Zen 4: 2.5 % on one core, 4 % on two; nothing for 256 x 256.)
LARGE_LAYER = 1 << 17


@leaf(OUT, IN, INT, IN, INT, INT, INT)
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
def tile_gradient(packed, X, layer, i0, n, r0, n_rows, shared, line, offsets, g, ld, workspace):
    """g <- A' D of weight rows i0 .. i0 + n, summed in order over n_rows rows of the batch from r0 on.

    Prefetches as `product_at` does. The first layer of several reads its A in X.

    Writes: g (n, fan_out) without padding; meanwhile its rows lie ``ld`` apart, and a unit of room behind them.
    Reads: activations or X at ``row_offsets``, deltas. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, workspace)
    fan_out = layout.units[layer + 1]
    stride, above = layout.stride[layer], layout.stride[layer + 1]
    level, delta = layout.level[layer] + r0 * stride + i0, layout.delta[layer + 1] + r0 * above
    own = address_of(buffers.params, layout.weight[layer] + i0 * fan_out)
    large = layout.units[layer] * fan_out >= LARGE_LAYER
    prefetch_lines, reach = (
        (address_of(buffers.prefetch_lines, 0), buffers.prefetch_lines[buffers.prefetch_lines.size - 1])
        if large
        else (0, 0)
    )
    activations, deltas = buffers.activations, buffers.deltas
    if n_rows == 1:
        a, ia = as_read(activations), level
        if layer == 0 and plan.n_layers > 1:
            a, ia = as_flat(X), buffers.row_offsets[r0] // g.itemsize + i0
        outer_product(g, a, ia, deltas, delta, n, fan_out)
    elif layer == plan.n_layers - 1 and fan_out <= (NARROW_GRADIENT if n_rows >= MANY_ROWS else NARROW):
        ldr = padded(n)
        product(
            workspace,
            0,
            ldr,
            workspace,
            0,
            NO_C0,
            deltas,
            delta,
            1,
            above,
            activations,
            level,
            stride,
            fan_out,
            n,
            n_rows,
        )
        transpose(g, 0, fan_out, workspace, 0, ldr, fan_out, n)
    elif layer == 0 and plan.n_layers > 1:
        product_at(
            g, 0, ld, g, 0, NO_C0, as_flat(X), i0, 1, 0, buffers.row_offsets, r0,
            deltas, delta, above, n, fan_out, n_rows, line + i0 * g.itemsize, g.itemsize, offsets,
            own, shared, prefetch_lines, reach,
        )  # fmt: skip
        close_rows(g, fan_out, ld, n)
    else:
        product_at(
            g, 0, ld, g, 0, NO_C0, activations, level, 1, 0 if large else stride,
            buffers.level_rows if large else NOWHERE, layer * plan.batch_size if large else 0,
            deltas, delta, above, n, fan_out, n_rows, 0, 0, 0, own, shared, prefetch_lines, reach,
        )  # fmt: skip
        close_rows(g, fan_out, ld, n)


@kernel
def close_rows(g, width, ld, n):
    """Rows of a matrix move together, from ``ld`` apart to ``width``. Writes: g (n, width), a unit behind it."""
    if ld > width:
        for r in range(1, n):
            for j in range(0, width, VECTOR_BYTES // g.itemsize):
                store_vector(g, r * width + j, load_vector(g, r * ld + j))


@kernel
def column_sums(sums, deltas, one, first, stride, n_rows, width):
    """Sums of the columns of D (n_rows, width): four partial sums, row r in number r % 4, then what is left in order.

    The sums of four rows side by side are one product of a row of ones: four chains of additions instead of one. One
    to three rows need none. (13-64-64-1 row by row takes .82 to .86 of the time that it took with it, Zen 3.)

    Writes: sums (width,), 4 stride in all as scratch. Reads: deltas from ``first`` on; one (1,), which is one.
    """
    quarter = n_rows // 4
    if quarter == 0 and n_rows > 0:
        for j in range(0, width, VECTOR_BYTES // sums.itemsize):
            total = load_vector(deltas, first + j)
            for r in range(1, n_rows):
                total = total + load_vector(deltas, first + r * stride + j)
            store_vector(sums, j, total)
        return
    product(sums, 0, 0, sums, 0, NO_C0, one, 0, 0, 0, deltas, first, 4 * stride, 1, 4 * stride, quarter)
    for j in range(0, width, VECTOR_BYTES // sums.itemsize):
        pair = load_vector(sums, j) + load_vector(sums, stride + j)
        total = pair + (load_vector(sums, 2 * stride + j) + load_vector(sums, 3 * stride + j))
        for r in range(4 * quarter, n_rows):
            total = total + load_vector(deltas, first + r * stride + j)
        store_vector(sums, j, total)


@leaf(RECORDS, IN, INT, INT, INT)
def refresh_derived(packed, params, layer, i0, n):
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
    if layer > 0 and keeps_transposed(plan, layout.units[layer], fan_out):
        first = layout.transposed[layer] + i0
        transpose(buffers.transposed, first, layout.stride[layer], params, offset, fan_out, n, fan_out)


@kernel
def tile_height(fan_out, itemsize):
    """Weight rows of one strip of a layer with so many outputs."""
    elements = TILE_ELEMENTS if fan_out <= TILE_OUTPUTS else WIDE_TILE_ELEMENTS
    return max(1, elements // (TILE_ROWS * whole_vectors(fan_out, itemsize))) * TILE_ROWS


@leaf(RECORDS, MATRIX, INT, INT, INT, INT, INT, INT, INT, OUT)
def update_weights(packed, X, layer, lo, hi, n_rows, shared, line, offsets, workspace):
    """Second half of a step: gradient and update of weight rows lo .. hi of a layer, and of its bias with the last row.

    ``shared`` says whether other threads read these weights.
    With ``offsets != 0`` the gradient's product prefetches, for weight row i, the line at ``line + i * itemsize`` of
    each of the rows whose byte offsets are the n_rows int64 at address ``offsets``.

    Writes: params, moments, transposed, squares of these rows. Reads: activations, deltas, X. Scratch: slot.
    """
    layout, plan, buffers = unpack(packed, workspace)
    fan_in, fan_out = layout.units[layer], layout.units[layer + 1]
    weight, bias = layout.weight[layer], layout.bias[layer]
    whole = whole_vectors(fan_out, workspace.itemsize)
    height = tile_height(fan_out, workspace.itemsize)
    room = height * whole + LANES
    ld = whole if FEW_REGISTERS and n_rows > LONGEST_DOWN else fan_out
    for i0 in range(lo, hi, height):
        n = min(height, hi - i0)
        offset, size = weight + i0 * fan_out, n * fan_out
        tile_gradient(packed, X, layer, i0, n, 0, n_rows, shared, line, offsets, workspace[:room], ld, workspace[room:])
        w = buffers.params[offset : offset + size]
        step(plan.sink, packed, w, workspace[:size], offset, 1)
        if plan.sink == plan.solver:
            refresh_derived(packed, buffers.params, layer, i0, n)
    if hi == fan_in:
        first, above = layout.delta[layer + 1], layout.stride[layer + 1]
        column_sums(workspace, buffers.deltas, buffers.one, first, above, n_rows, fan_out)
        step(plan.sink, packed, buffers.params[bias : bias + fan_out], workspace[:fan_out], bias, 0)


def scratch_size(units, strides):
    """Elements of one slot of scratch that every function here can work in (plain Python, called once a fit)."""
    rows = output_scratch_size(units, strides, BLOCK_ROWS)
    narrow = TILE_ELEMENTS + 2 * LANES * NARROW_GRADIENT  # a strip of the last layer's, outputs by rows
    weights = (TILE_ROWS + 5) * max(strides[1:]) + max(TILE_ELEMENTS + narrow, WIDE_TILE_ELEMENTS)
    return max(rows, weights + 8 * LANES)
