"""The weights pass of a training step: tile by tile the gradient, the optimizer's step, and what is derived from W.

The rows pass, in ``network``, has written the activations and deltas of the whole batch.
"""

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, MATRIX, OUT, RECORDS
from ..records import unpack
from ..simd.gemm import FEW_REGISTERS
from ..simd.reduce import sum_squares
from ..simd.transpose import transpose
from ..simd.vector import whole_vectors
from ..tuning import (
    BLOCK_ROWS,
    FEW_REGISTERS_TILE_ELEMENTS,
    NARROW_GRADIENT,
    SPLIT_GRANULARITY,
    TILE_ELEMENTS,
    TILE_OUTPUTS,
    TILE_ROWS,
)
from .layer import (
    LANES,
    Hints,
    backward_bias,
    backward_weights,
    keeps_transposed,
    output_scratch_size,
    row_distance,
)
from .optimizers import STORE_SCALED, step

GROUP = SPLIT_GRANULARITY  # weight rows whose squares are summed together; blocks and tiles hold whole groups
WIDE_TILE_ELEMENTS = FEW_REGISTERS_TILE_ELEMENTS if FEW_REGISTERS else 0


# What follows a sink that keeps the gradient of weight rows i0 .. i0 + n of a layer; the id is the sink's.
after_sink = dispatch_table("after_sink", ("packed", RECORDS), ("like", IN), ("layer", INT), ("i0", INT), ("n", INT))


@leaf(RECORDS, IN, INT, INT, INT)
def refresh_derived(packed, params, layer, i0, n):
    """Compute what is derived from weight rows i0 .. i0 + n: sums of squares, transposed copy. i0 % GROUP must be 0.

    Writes: squares, transposed at these rows. Reads: params.
    """
    layout, plan, buffers = unpack(packed, params)
    fan_out = layout.units[layer + 1]
    offset = layout.weight[layer] + i0 * fan_out
    sum_groups(layout, buffers, params, layer, i0, n)
    if layer > 0 and keeps_transposed(plan, layout.units[layer], fan_out):
        first = layout.transposed[layer] + i0
        transpose(buffers.transposed, first, layout.stride[layer], params, offset, fan_out, n, fan_out)


@kernel
def sum_groups(layout, buffers, values, layer, i0, n):
    """Sums of squares of weight rows i0 .. i0 + n of ``values``, laid out like the parameters. Writes: squares."""
    fan_out = layout.units[layer + 1]
    offset = layout.weight[layer] + i0 * fan_out
    end = offset + n * fan_out
    for group in range((n + GROUP - 1) // GROUP):
        start = offset + group * GROUP * fan_out
        rows = values[start : min(start + GROUP * fan_out, end)]
        buffers.squares[layout.squares[layer] + i0 // GROUP + group] = sum_squares(rows)


@after_sink.implementation(STORE_SCALED)
def sum_squares_of_gradient(packed, like, layer, i0, n):
    """Sums of squares of the stored gradient, for its norm; the update computes those of the weights again.

    Writes: squares at these rows. Reads: gradient.
    """
    layout, _, buffers = unpack(packed, like)
    sum_groups(layout, buffers, buffers.gradient, layer, i0, n)


@kernel
def tile_height(fan_out, itemsize):
    """Weight rows of one tile of a layer with so many outputs."""
    elements = TILE_ELEMENTS if fan_out <= TILE_OUTPUTS else WIDE_TILE_ELEMENTS
    return max(1, elements // (TILE_ROWS * whole_vectors(fan_out, itemsize))) * TILE_ROWS


@kernel
def step_weights(packed, layer, i0, n, g):
    """Pass the gradient of weight rows i0 .. i0 + n to the plan's sink.

    Writes: params and moments of these rows, then squares and transposed; or gradient, where the sink keeps it.
    Reads: g.
    """
    layout, plan, buffers = unpack(packed, g)
    fan_out = layout.units[layer + 1]
    offset = layout.weight[layer] + i0 * fan_out
    step(plan.sink, packed, buffers.params[offset : offset + n * fan_out], g[: n * fan_out], offset, 1)
    if plan.sink == plan.solver:
        refresh_derived(packed, buffers.params, layer, i0, n)
    else:
        after_sink(plan.sink, packed, g, layer, i0, n)


@kernel
def step_bias(packed, layer, n_rows, workspace):
    """Gradient of a layer's bias, passed to the sink.

    Writes: params and moments of the bias, or gradient. Reads: deltas. Scratch: workspace.
    """
    layout, plan, buffers = unpack(packed, workspace)
    bias, fan_out = layout.bias[layer], layout.units[layer + 1]
    backward_bias(packed, layer, 0, n_rows, workspace)
    step(plan.sink, packed, buffers.params[bias : bias + fan_out], workspace[:fan_out], bias, 0)


@leaf(RECORDS, MATRIX, INT, INT, INT, INT, INT, INT, INT, OUT)
def update_weights(packed, X, layer, lo, hi, n_rows, shared, line, offsets, workspace):
    """Gradient and update of weight rows lo .. hi of a layer; with the last row also of its bias.

    ``shared``, ``line`` and ``offsets`` are those of `layer.Hints`.

    Writes: what `step_weights` and `step_bias` write of these rows. Reads: activations, deltas, X. Scratch: workspace.
    """
    layout = unpack(packed, workspace)[0]
    fan_out, itemsize = layout.units[layer + 1], workspace.itemsize
    height, ld = tile_height(fan_out, itemsize), row_distance(fan_out, n_rows, itemsize)
    size = height * whole_vectors(fan_out, itemsize) + LANES
    hints = Hints(shared, line, offsets)
    for i0 in range(lo, hi, height):
        n = min(height, hi - i0)
        backward_weights(packed, X, layer, i0, n, 0, n_rows, hints, workspace[:size], ld, workspace[size:])
        step_weights(packed, layer, i0, n, workspace)
    if hi == layout.units[layer]:
        step_bias(packed, layer, n_rows, workspace)


def scratch_size(units, strides):
    """Elements of a workspace that is large enough for both passes (plain Python, called once a fit)."""
    rows = output_scratch_size(units, strides, BLOCK_ROWS)
    narrow = TILE_ELEMENTS + 2 * LANES * NARROW_GRADIENT  # a transposed tile of the last layer
    weights = (TILE_ROWS + 5) * max(strides[1:]) + max(TILE_ELEMENTS + narrow, WIDE_TILE_ELEMENTS)
    return max(rows, weights + 8 * LANES)
