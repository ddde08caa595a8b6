"""The records that travel from Python into compiled code.

Their field order is part of the compiled code's view of memory. A field's annotation is its type in compiled code, one
of the kinds of `compile.packing`; REAL numbers and IN, OUT and MATRIX arrays have the network's dtype.
"""

from typing import NamedTuple

import numpy as np

from .compile.packing import IN, INT, INTS, LABELS, MATRIX, NUMBERS, OUT, REAL, ROWS, unpacks


class EncodedData(NamedTuple):
    """What is learned from: read-only arrays of one dtype, X either dense or sparse. It stays in Python."""

    X: np.ndarray | None  # (n, n_features), C-contiguous; None when sparse
    csr: tuple | None  # (data, indices, indptr), rows sorted by column; None when dense
    labels: np.ndarray  # int32 (n,): class of each row; size 0 when targets are used
    targets: np.ndarray  # (n, n_outputs); shape (0, 0) when labels are used
    sample_weight: np.ndarray  # (n,); size 0: all ones


class Examples(NamedTuple):
    """The same for compiled code: X dense, or sparse by rows, each row's entries sorted by column, duplicates added."""

    X: MATRIX  # (n, n_features), C-contiguous; (1, 0) where X is sparse
    values: IN  # (n_entries,); size 0 where X is dense, as the two that follow
    indices: LABELS  # int32 (n_entries,): column of each entry
    indptr: ROWS  # int64 (n_rows + 1,): first entry of each row
    labels: LABELS  # as in ``EncodedData``
    targets: MATRIX
    sample_weight: IN


class Csr(NamedTuple):
    """A sparse matrix by rows, as in ``Examples``, for prediction."""

    values: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


class Layout(NamedTuple):
    """Where everything lies. Level 0 is the input, level l the output of layer l - 1.

    ``params`` holds W_0 (fan_in, fan_out), b_0, W_1, b_1, ... without padding. Activations and deltas of a level are
    matrices of ``batch`` rows whose rows lie ``stride[level]`` elements apart.
    """

    units: INTS  # (n_layers + 1,) units of each level
    stride: INTS  # (n_layers + 1,) leading dimension of each level's activations and deltas
    weight: INTS  # (n_layers,) offset of W in params
    bias: INTS  # (n_layers,) offset of b in params
    activation: INTS  # (n_layers,) id of each layer's activation
    level: INTS  # (n_layers + 1,) offset of each level in ``activations``
    delta: INTS  # (n_layers + 1,) offset of each level in ``deltas`` (level 0 has none)
    transposed: INTS  # (n_layers,) offset of W' in ``transposed`` (layer 0 has none)
    squares: INTS  # (n_layers,) offset of each layer's groups of weight rows in ``squares``


class TrainPlan(NamedTuple):
    """What is computed: ids, constants and sizes."""

    n_layers: INT
    n_params: INT
    moment_stride: INT  # elements from one row of the optimizer's state to the next
    batch_size: INT
    max_copied_weights: INT  # layers of fewer keep a copy W', see `plan.max_copied_weights`
    n_splits: INT  # parts of the first layer's sums over features (split-K), see `plan.n_splits`
    n_shards: INT  # parts of a batch whose gradients are computed apart, see `plan.n_shards`
    shard_stride: INT  # elements from one shard's gradient to the next
    loss: INT  # id
    solver: INT  # id
    sink: INT  # id of what is done with a gradient: the solver's, or one of `optimizers.SINKS`
    program: INTS  # verbs of a step, see `programs`
    advance: INT  # id of what is serial between two phases
    alpha: REAL  # strength of the L2 term
    loss_constants: IN  # the constants of the loss, those of its row in ``LOSSES``
    optimizer: IN  # the constants of the optimizer, those of its row in ``OPTIMIZERS``


class Pass(NamedTuple):
    """How rows go through a network to its outputs, some at a time."""

    n_layers: INT
    by_columns: INT  # 1: X is handed over transposed, (n_features, n)
    block_rows: INT  # most rows that go through at once
    level_size: INT  # elements of the activations of so many rows
    workspace_size: INT  # elements of scratch beside them
    wide_size: INT  # float64 elements for the outputs of so many rows
    output: INT  # id of the output activation
    columns: INTS  # where rows are prefetched: bytes from the first column of X to each; else of size 0
    ahead: INTS  # bytes from a row of X to the lines that are prefetched while it is read; size 0: none are


# Of ``Buffers.progress``: batches done in this call; steps made in it; whether the first layer's sums of this batch are
# there; whether what is derived from the weights is there; whether threads are about alike in speed.
BATCH, STEPS, READY, DERIVED, ALIKE = range(5)

# Of ``Buffers.step_scalars``: the sum of the weights of the batch whose rows are learned; then what the present step
# needs, of which the last SCHEDULED are a schedule's (see `schedules`): one divided by the sum of its rows' weights,
# the strength of its L2 term, the learning rate, the decay of weights, and Adam's two corrections of its moments.
WEIGHT_SUM, SCALE, ALPHA, RATE, DECAY, FIRST_CORRECTION, SECOND_CORRECTION = range(7)
SCHEDULED = 4


class Buffers(NamedTuple):
    """The only arrays that compiled code may write, all flat."""

    params: OUT  # weights and biases
    moments: OUT  # n_moments rows of optimizer state, ``moment_stride`` apart
    gradient: OUT  # (n_params,) where the sink stores or adds gradients, else of size 0
    transposed: OUT  # W' of the layers that keep a copy (`network.keeps_transposed`), for the backward pass
    activations: OUT  # levels 0 .. n_layers - 1 of one batch
    inputs: OUT  # what hidden activations were applied to, where one keeps that, at the same places; else of size 0
    deltas: OUT  # levels 1 .. n_layers of one batch
    row_loss: OUT  # (batch_size,) loss of each row of the batch, weighted
    squares: OUT  # sum of squares of each group of rows of each W
    one: OUT  # (1,): a one
    split_sums: OUT  # (n_splits, batch_size, stride[1]): parts of X W_0, where there are several
    shard_gradients: OUT  # (2, n_shards, shard_stride), where there are shards: parameters, `single_output_sums`
    row_offsets: INTS  # (2 batch_size,): bytes from X's first row to each row of the batch, then of the next
    offsets: INTS  # (n_blocks * batch_size,): where the next batch's rows lie, for prefetching; or cursors
    column_bounds: INTS  # (n_blocks + 1,), where X is sparse: weight rows of the first layer that each block updates
    level_rows: INTS  # (n_layers, batch_size), bytes from a level's first row to each; or of size 0
    prefetch_lines: INTS  # see `state.prefetch_lines_of`
    fractions: NUMBERS  # (2, n_blocks): how much of either pass the blocks up to and with each one do
    clocks: INTS  # (n_blocks, CLOCK): what blocks recorded since that was last read, see `partition.record`
    stealing: INTS  # which tiles of the weights pass have somebody who does them, see `stealing`
    barrier: INTS  # where threads wait for each other, see `barrier.reset_barrier`
    progress: INTS  # (5,): where training stands, by the numbers above
    step_scalars: NUMBERS  # (7,): by the numbers above; further on, see `shards.loss_place`
    scratch: OUT  # workspaces of equal size, one for each block


def unpack(packed, like):
    """Layout, plan and buffers out of what `pack` made of them; ``like`` is any array of the network's dtype."""
    return packed[:3]


def unpack_all(packed, like):
    """Layout, plan, buffers and examples out of what `pack` made of them; ``like`` as for `unpack`."""
    return packed


def unpack_pass(packed, like):
    """Layout and pass out of what `pack` made of them; ``like`` as for `unpack`."""
    return packed


def unpack_layout(packed, like):
    """Layout alone, which comes first in all that `pack` makes; ``like`` as for `unpack`."""
    return packed[0]


unpacks(unpack, Layout, TrainPlan, Buffers)
unpacks(unpack_all, Layout, TrainPlan, Buffers, Examples)
unpacks(unpack_pass, Layout, Pass)
unpacks(unpack_layout, Layout)
