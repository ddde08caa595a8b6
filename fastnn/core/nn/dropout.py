"""Dropout: levels of random zeros in the rows pass of a training step.

In training a unit of a level is zero with the level's rate, and divided by 1 - rate otherwise (inverted dropout,
Srivastava et al. 2014), so that the expected sums of the next layer are those of prediction, which drops nothing. The
activations in memory are those after dropout: the next layer and its gradient read them. Whether a unit is dropped is
computed anew in the backward pass, from a counter: seed, step, level, place of the row in the batch, and unit, see
`simd.rng`. So no mask is stored, and results are the same for any number of threads. The user's X stays as it is: where
the input is dropped, the passes read a copy of the batch's rows.

A slope is a function of the activation's value before dropout: that is the value in memory times 1 - rate, where the
unit was kept, and elsewhere the delta is zero.
"""

import numpy as np

from ..compile.jit import kernel
from ..compile.packing import as_flat
from ..records import EARLIER_MASKS, EARLIER_STEPS, SEED, STEPS, unpack, unpack_all
from ..simd.rng import if_kept, substream
from ..simd.scalar import fma
from ..simd.target import LINE_BYTES, VECTOR_BYTES
from ..simd.transpose import prefetch
from ..simd.vector import broadcast, load_vector, store_vector
from .activations import differentiate, differentiate_input
from .layer import backward_data
from .network import DROPPED_BACKWARD, DROPPED_FORWARD, dropped_pass, has_single_output, hidden_forward

RANDOM_WORDS = 2.0**32


@kernel
def mask_key(progress, level):
    """Key of the random numbers of a level in the present step; `substream` makes those of rows. Reads: progress."""
    step = progress[EARLIER_MASKS] + progress[EARLIER_STEPS] + progress[STEPS]
    return substream(substream(np.uint64(progress[SEED]), step), level)


@kernel
def threshold_of(rate):
    """Random words below it drop a unit."""
    return int(rate * RANDOM_WORDS)


@kernel
def drop(packed, level, lo, n, like):
    """A <- A M / (1 - rate), with a mask M of zeros and ones. Writes: activations, rows lo .. lo + n of a level."""
    layout, plan, buffers = unpack(packed, like)
    rate, stride, lanes = plan.dropout[level], layout.stride[level], VECTOR_BYTES // like.itemsize
    if rate > 0:
        of_level, threshold = mask_key(buffers.progress, level), threshold_of(rate)
        scale, activations = broadcast(like.dtype.type(1.0 / (1.0 - rate))), buffers.activations
        for r in range(lo, lo + n):
            key, first = substream(of_level, r), layout.level[level] + r * stride
            for j in range(0, stride, lanes):
                kept = if_kept(load_vector(activations, first + j) * scale, j, key, threshold)
                store_vector(activations, first + j, kept)


@kernel
def drop_input(packed, rows, lo, hi, like):
    """The same for rows lo .. hi of the batch ``rows``, on their way from the user's X into the copy that is read.

    Writes: dropped_input, row_offsets at these rows. Reads: given.
    """
    _, plan, buffers, examples = unpack_all(packed, like)
    given, n_features, rate = as_flat(examples.given), examples.given.shape[1], plan.dropout[0]
    lanes, line = VECTOR_BYTES // like.itemsize, LINE_BYTES // like.itemsize
    of_level, threshold = mask_key(buffers.progress, 0), threshold_of(rate)
    scale = like.dtype.type(1.0 / (1.0 - rate))
    whole, scales = n_features - n_features % lanes, broadcast(scale)
    for r in range(lo, hi):
        key, source, target = substream(of_level, r), rows[r] * n_features, r * n_features
        ahead = rows[min(r + 2, hi - 1)] * n_features
        for j in range(0, n_features, line):
            prefetch(given, ahead + j)
        for j in range(0, whole, lanes):
            kept = if_kept(load_vector(given, source + j) * scales, j, key, threshold)
            store_vector(buffers.dropped_input, target + j, kept)
        for j in range(whole, n_features):
            buffers.dropped_input[target + j] = if_kept(given[source + j] * scale, j, key, threshold)
        buffers.row_offsets[r] = target * like.itemsize


@kernel
def differentiate_level(packed, level, lo, n, workspace):
    """D <- D M / (1 - rate) f' of rows lo .. lo + n of a level, with the mask of `drop`.

    Writes: deltas at these rows. Reads: activations, inputs. Scratch: workspace (stride,).
    """
    layout, plan, buffers = unpack(packed, workspace)
    rate, stride, lanes = plan.dropout[level], layout.stride[level], VECTOR_BYTES // workspace.itemsize
    of_level, threshold = mask_key(buffers.progress, level), threshold_of(rate)
    scale, keep = broadcast(workspace.dtype.type(1.0 / (1.0 - rate))), broadcast(workspace.dtype.type(1.0 - rate))
    activation, values = layout.activation[level - 1], workspace[:stride]
    for r in range(lo, lo + n):
        key, a, d = substream(of_level, r), layout.level[level] + r * stride, layout.delta[level] + r * stride
        row = buffers.deltas[d : d + stride]
        for j in range(0, stride, lanes):
            store_vector(values, j, load_vector(buffers.activations, a + j) * keep)
            store_vector(row, j, if_kept(load_vector(row, j) * scale, j, key, threshold))
        differentiate(activation, values, row)
        if buffers.inputs.size > 0:
            differentiate_input(activation, values, buffers.inputs[a : a + stride], row)


@kernel
def add_single_output_sums(packed, level, lo, n, sums):
    """Add A' delta and the sums of the columns of D to ``sums``, for a layer with one output above ``level``.

    Writes: sums (2, stride). Reads: activations, deltas at rows lo .. lo + n.
    """
    layout, _, buffers = unpack(packed, sums)
    stride, above, lanes = layout.stride[level], layout.stride[level + 1], VECTOR_BYTES // sums.itemsize
    for r in range(lo, lo + n):
        delta = broadcast(buffers.deltas[layout.delta[level + 1] + r * above])
        a, d = layout.level[level] + r * stride, layout.delta[level] + r * stride
        for j in range(0, stride, lanes):
            store_vector(sums, j, fma(delta, load_vector(buffers.activations, a + j), load_vector(sums, j)))
            store_vector(sums, stride + j, load_vector(sums, stride + j) + load_vector(buffers.deltas, d + j))


@dropped_pass.implementation(DROPPED_FORWARD)
def forward_dropped(packed, first, lo, n, sums, workspace):
    """Forward pass from level ``first``, whose activations are known but for its dropout, to the last hidden level.

    Writes: activations, inputs, rows lo .. lo + n of these levels. Reads: params.
    """
    layout, plan, buffers = unpack(packed, workspace)
    drop(packed, first, lo, n, workspace)
    for level in range(first + 1, plan.n_layers):
        ld, a, z = layout.stride[level - 1], buffers.activations, buffers.inputs
        at = layout.level[level - 1] + lo * ld
        hidden_forward(packed, level - 1, level + 1, buffers.params, a, at, ld, a, z, lo, n)
        drop(packed, level, lo, n, workspace)


@dropped_pass.implementation(DROPPED_BACKWARD)
def backward_dropped(packed, first, lo, n, sums, workspace):
    """D_l = (D_{l+1} W') M_l / (1 - rate_l) f'(A_l) down to level 1; see `network.backward`.

    Writes: deltas, rows lo .. lo + n of levels 1 .. n_layers - 1; in shards, with one output, it adds to sums.
    Reads: deltas of level n_layers, activations, inputs, transposed or params. Scratch: workspace.
    """
    layout, plan, _ = unpack(packed, workspace)
    last = plan.n_layers - 1
    for level in range(last, 0, -1):
        backward_data(packed, level, lo, n, workspace)
        differentiate_level(packed, level, lo, n, workspace)
        if plan.n_shards > 1 and level == last and has_single_output(layout.units[last], layout.units[last + 1]):
            add_single_output_sums(packed, level, lo, n, sums)
