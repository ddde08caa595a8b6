"""The records that Python passes to compiled code.

The order of the fields is part of their layout in memory. The annotation of a field is its type in compiled code, one
of the kinds of `compile.packing`; REAL numbers and IN, OUT and MATRIX arrays have the network's dtype.
"""

from typing import NamedTuple

import numpy as np

from .compile.packing import IN, INT, INTS, LABELS, MATRIX, NUMBERS, OUT, REAL, ROWS, unpacks


class EncodedData(NamedTuple):
    """The user's data as read-only arrays of one dtype, X dense or sparse. It is not passed to compiled code."""

    X: np.ndarray | None  # (n, n_features), C-contiguous; None when sparse
    csr: tuple | None  # (data, indices, indptr), rows sorted by column; None when dense
    labels: np.ndarray  # int32 (n,): class of each row; size 0 when targets are used
    targets: np.ndarray  # (n, n_outputs); shape (0, 0) when labels are used
    sample_weight: np.ndarray  # (n,); size 0: all ones


class Examples(NamedTuple):
    """``EncodedData`` for compiled code. Sparse X is in CSR: a row's entries are sorted, without duplicates."""

    X: MATRIX  # (n, n_features), C-contiguous; (1, 0) where X is sparse
    values: IN  # (n_entries,); size 0 where X is dense, like the next two
    indices: LABELS  # int32 (n_entries,): column of each entry
    indptr: ROWS  # int64 (n_rows + 1,): first entry of each row
    labels: LABELS  # as in ``EncodedData``
    targets: MATRIX
    sample_weight: IN
    given: MATRIX  # the user's X, where inputs are dropped: X is `Buffers.dropped_input` then; else (1, 0)


class Csr(NamedTuple):
    """A sparse matrix in CSR, as in ``Examples``, for prediction."""

    values: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


class Layout(NamedTuple):
    """Offsets and strides of parameters, activations and deltas.

    Level 0 is the input, level l the output of layer l - 1.
    ``params`` holds W_0 (fan_in, fan_out), b_0, W_1, b_1, ... without padding. Activations and deltas of a level are
    matrices of ``batch_size`` rows whose rows lie ``stride[level]`` elements apart.
    """

    units: INTS  # (n_layers + 1,) units of each level
    stride: INTS  # (n_layers + 1,) leading dimension of each level's activations and deltas
    weight: INTS  # (n_layers,) offset of W in params
    bias: INTS  # (n_layers,) offset of b in params
    activation: INTS  # (n_layers,) id of each layer's activation
    level: INTS  # (n_layers + 1,) offset of each level in ``activations`` (the last level has none)
    delta: INTS  # (n_layers + 1,) offset of each level in ``deltas`` (level 0 has none)
    transposed: INTS  # (n_layers,) offset of W' in ``transposed`` (layer 0 has none)
    squares: INTS  # (n_layers,) offset of the sums of squares of each layer's groups of weight rows


class TrainPlan(NamedTuple):
    """How a network is trained: ids, constants and sizes."""

    n_layers: INT
    n_params: INT
    moment_stride: INT  # elements from one row of the optimizer's state to the next
    batch_size: INT
    max_copied_weights: INT  # layers with fewer weights keep a copy W', see `plan.max_copied_weights`
    n_splits: INT  # number of splits of the first layer's sums over features (split-K), see `plan.n_splits`
    n_shards: INT  # number of shards of a batch, see `plan.n_shards`
    shard_stride: INT  # elements from one shard's gradient to the next
    loss: INT  # id
    solver: INT  # id
    optimizer_id: INT  # the same as ``solver``, or the optimizer whose weights the solver takes averages of
    sink: INT  # id of the function that takes a gradient: the solver, or one of `optimizers.SINKS`
    program: INTS  # ids of the verbs of a step, see `engine.programs`
    advance: INT  # id of the serial work between two phases, see `engine.programs`
    alpha: REAL  # strength of the L2 term
    max_norm: REAL  # gradients are scaled down to this norm; infinity: they are not
    ema_weight: REAL  # 1 - ema_decay, the weight of the present weights in their moving averages; 0: no averages
    dropout: NUMBERS  # (n_layers,): rates of levels 0 .. n_layers - 1; size 0: none
    loss_constants: IN  # constants of the loss, see its row in ``LOSSES``
    optimizer: IN  # constants of the optimizer, see its row in ``OPTIMIZERS``


class Pass(NamedTuple):
    """How a network predicts: rows go through it in blocks."""

    n_layers: INT
    by_columns: INT  # 1: X is passed transposed, (n_features, n)
    block_rows: INT  # most rows of a block
    level_size: INT  # elements of the activations of a block
    workspace_size: INT  # elements of the workspace of a block
    wide_size: INT  # float64 elements for the outputs of a block
    output: INT  # id of the output activation
    columns: INTS  # where rows are prefetched: bytes from the first column of X to each; else of size 0
    ahead: INTS  # bytes from a row of X to the lines that are prefetched while it is read; size 0: no prefetches


# Indices in ``Buffers.progress``.
BATCH = 0  # batches done in this call
STEPS = 1  # steps made in it
READY = 2  # whether the first layer's splits of the batch are computed ahead
DERIVED = 3  # whether what is derived from the weights is up to date
ALIKE = 4  # whether threads have similar speeds
VERB = 5  # index of the program's verb that is being done
EARLIER_STEPS = 6  # steps of the optimizer before this call
SEED = 7  # of dropout
EARLIER_MASKS = 8  # steps that were made with this seed before the first of the optimizer
N_PROGRESS = 9

# Indices in ``Buffers.step_scalars``; these eight lie on one cache line. The last SCHEDULED come from a schedule.
WEIGHT_SUM = 0  # sum of the sample weights of the current batch
SCALE = 1  # 1 / WEIGHT_SUM of the current step
ALPHA = 2  # strength of the L2 term
RATE = 3  # learning rate
DECAY = 4  # rate times strength of the decoupled weight decay
FIRST_CORRECTION, SECOND_CORRECTION, MIXING = 5, 6, 7  # of an optimizer, see `corrections`
SCHEDULED = 5


class Buffers(NamedTuple):
    """The arrays that a training step writes, all flat. (A call also writes the losses of its batches.)"""

    params: OUT  # weights and biases
    moments: OUT  # n_moments rows of optimizer state, ``moment_stride`` apart
    gradient: OUT  # (n_params,) where the sink stores or adds gradients, else of size 0
    transposed: OUT  # W' of the layers that keep a copy (`layer.keeps_transposed`), for the backward pass
    activations: OUT  # levels 1 .. n_layers - 1 of one batch; without hidden layers, of dense X, level 0
    inputs: OUT  # pre-activations at the same offsets, where an activation keeps its input; else of size 0
    deltas: OUT  # levels 1 .. n_layers of one batch
    dropped_input: OUT  # (batch_size, n_features): the rows of X of one batch after dropout, where inputs are dropped
    row_loss: OUT  # (batch_size,) loss of each row of the batch, times its sample weight
    squares: OUT  # sum of squares of each group of rows of each W; with clipping, until UPDATE, of its gradient
    one: OUT  # (1,): 1.0, for `layer.backward_bias`
    split_sums: OUT  # (n_splits, batch_size, stride[1]): the splits of X W_0, where n_splits > 1
    shard_gradients: OUT  # (2, n_shards, shard_stride), where n_shards > 1; ends with `single_output_sums`
    row_offsets: INTS  # (2 batch_size,): bytes from X's first row to each row of the batch, then of the next
    offsets: INTS  # (n_blocks * batch_size,): offsets of the next batch's rows for prefetches; sparse X: cursors
    column_bounds: INTS  # (n_chunks + 1,), sparse X: bounds of the chunks of the first layer's weight rows
    level_rows: INTS  # (n_layers, batch_size), bytes from a level's first row to each, for large layers; else size 0
    prefetch_lines: INTS  # see `state.prefetch_lines_of`
    fractions: NUMBERS  # (2, n_blocks): cumulative fractions of the blocks in either pass
    clocks: INTS  # (n_blocks, CLOCK): ticks and work of each block since the last reading, see `partition.record`
    stealing: INTS  # queues of tiles and of splits' rows in the weights pass, see `parallel.stealing`
    barrier: INTS  # see `parallel.barrier`
    progress: INTS  # (N_PROGRESS,): by the indices above
    step_scalars: NUMBERS  # by the indices above; then the losses of shards, see `shards.loss_index`
    scratch: OUT  # workspaces of equal size, one for each block


def unpack(packed, like):
    """Layout, plan and buffers from the array that `pack` made; ``like`` is any array of the network's dtype."""
    return packed[:3]


def unpack_all(packed, like):
    """Layout, plan, buffers and examples, as `unpack`."""
    return packed


def unpack_pass(packed, like):
    """Layout and pass, as `unpack`."""
    return packed


def unpack_layout(packed, like):
    """Layout only, which is first in every packed array, as `unpack`."""
    return packed[0]


unpacks(unpack, Layout, TrainPlan, Buffers)
unpacks(unpack_all, Layout, TrainPlan, Buffers, Examples)
unpacks(unpack_pass, Layout, Pass)
unpacks(unpack_layout, Layout)
