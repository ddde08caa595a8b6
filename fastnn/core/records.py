"""The NamedTuples that travel from Python into compiled code.

They stand together, and apart from all code, because their field order is part of the compiled code's view of memory
and Numba's cache does not know it: the fingerprint of ``cache`` covers this file.
"""

from typing import NamedTuple

import numpy as np


class EncodedData(NamedTuple):
    """What is learned from: read-only arrays of one dtype, X either dense or sparse."""

    X: np.ndarray | None  # (n, n_features), C-contiguous; None when sparse
    csr: tuple | None  # (data, indices, indptr), rows sorted by column; None when dense
    labels: np.ndarray  # int32 (n,): class of each row; size 0 when targets are used
    targets: np.ndarray  # (n, n_outputs); shape (0, 0) when labels are used
    sample_weight: np.ndarray  # (n,); size 0: all ones


class Examples(NamedTuple):
    """The part of ``EncodedData`` that travels with the records below; read-only."""

    X: np.ndarray  # (n, n_features), C-contiguous; (0, 0) where X is sparse, and travels by itself
    labels: np.ndarray  # as in ``EncodedData``
    targets: np.ndarray
    sample_weight: np.ndarray


class Csr(NamedTuple):
    """A sparse matrix by rows, each row's entries sorted by column; read-only, duplicates add up."""

    values: np.ndarray  # (n_entries,) of the network's dtype
    indices: np.ndarray  # int32 (n_entries,): column of each entry
    indptr: np.ndarray  # int64 (n_rows + 1,): first entry of each row


class Layout(NamedTuple):
    """Where everything lies. Level 0 is the input, level l the output of layer l - 1; arrays are int64.

    ``params`` holds W_0 (fan_in, fan_out), b_0, W_1, b_1, ... without padding. Activations and deltas of a level are
    matrices of ``batch`` rows whose rows lie ``stride[level]`` elements apart.
    """

    units: np.ndarray  # (n_layers + 1,) units of each level
    stride: np.ndarray  # (n_layers + 1,) leading dimension of each level's activations and deltas
    weight: np.ndarray  # (n_layers,) offset of W in params
    bias: np.ndarray  # (n_layers,) offset of b in params
    activation: np.ndarray  # (n_layers,) id of each layer's activation
    level: np.ndarray  # (n_layers + 1,) offset of each level in ``activations``
    delta: np.ndarray  # (n_layers + 1,) offset of each level in ``deltas`` (level 0 has none)
    transposed: np.ndarray  # (n_layers,) offset of W' in ``transposed`` (layer 0 has none)
    squares: np.ndarray  # (n_layers,) offset of each layer's groups of weight rows in ``squares``


class TrainPlan(NamedTuple):
    """What is computed: ids and hyper-parameters. Counts are int64, reals have the network's dtype."""

    n_layers: np.int64
    n_params: np.int64
    moment_stride: np.int64  # elements from one row of the optimizer's state to the next
    batch_size: np.int64
    max_copied_weights: np.int64  # layers of fewer keep a copy W', see `plan.max_copied_weights`
    n_splits: np.int64  # parts of the first layer's sums over features, summed apart: see `plan.n_splits`
    n_shards: np.int64  # parts of a batch whose gradients are computed apart: see `plan.n_shards`
    shard_stride: np.int64  # elements from one part's gradient to the next
    loss: np.int64
    solver: np.int64
    alpha: np.floating
    momentum: np.floating
    nesterov: np.int64
    beta_1: np.floating
    beta_2: np.floating
    one_minus_beta_1: np.floating  # 1 - beta_1 and 1 - beta_2, subtracted before they are rounded: in float32
    one_minus_beta_2: np.floating  # 1 - 0.999 is 5e-5 off, and Adam's steps with it
    rho: np.floating
    one_minus_rho: np.floating  # 1 - rho, rounded once as they are
    epsilon: np.floating


class Pass(NamedTuple):
    """How rows go through a network to its outputs, some at a time; arrays are int64."""

    n_layers: np.int64
    by_columns: np.int64  # 1: X is handed over transposed, (n_features, n)
    block_rows: np.int64  # most rows that go through at once
    level_size: np.int64  # elements of the activations of so many rows
    workspace_size: np.int64  # elements of scratch beside them
    wide_size: np.int64  # float64 elements for the outputs of so many rows
    output: np.int64  # id of the output activation
    columns: np.ndarray  # where rows are prefetched: bytes from the first column of X to each; else of size 0
    ahead: np.ndarray  # bytes from a row of X to the lines that are prefetched while it is read; size 0: none are


# Of ``Buffers.progress``: batches done in this call; steps made in it; whether the first layer's sums of this batch are
# there; whether what is derived from the weights is there; whether threads are about alike in speed.
BATCH, STEPS, READY, DERIVED, ALIKE = range(5)


class Buffers(NamedTuple):
    """The only arrays that compiled code may write: flat, and of the network's dtype where nothing else is said."""

    params: np.ndarray  # weights and biases
    moments: np.ndarray  # n_moments rows of optimizer state, ``moment_stride`` apart
    transposed: np.ndarray  # W' of the layers that keep a copy (`network.keeps_transposed`), for the backward pass
    activations: np.ndarray  # levels 0 .. n_layers - 1 of one batch
    deltas: np.ndarray  # levels 1 .. n_layers of one batch
    row_loss: np.ndarray  # (batch_size,) loss of each row of the batch, weighted
    squares: np.ndarray  # sum of squares of each group of rows of each W
    one: np.ndarray  # (1,): a one
    split_sums: np.ndarray  # (k_splits, batch_size, stride[1]): parts of X W_0, where there are several
    shard_gradients: (
        np.ndarray
    )  # (2, row_splits, gradient_stride), where there are parts: parameters, `single_output_sums`
    row_offsets: (
        np.ndarray
    )  # int64 (2 batch_size,): bytes from X's first row to each row of the batch, then of the next
    offsets: np.ndarray  # int64 (n_blocks * batch_size,): where the next batch's rows lie, for prefetching
    level_rows: np.ndarray  # int64 (n_layers, batch_size), bytes from a level's first row to each; or of size 0
    prefetch_lines: np.ndarray  # int64: see `state.prefetch_lines_of`
    fractions: np.ndarray  # float64 (2, n_blocks): shares of either half of a step up to and with each block
    clocks: np.ndarray  # int64 (n_blocks, CLOCK): what blocks recorded since that was last read: `balance.record`
    stealing: np.ndarray  # int64: which pieces of a second half have somebody who does them, see `stealing`
    barrier: np.ndarray  # int64: where threads meet, see `barrier.reset_barrier`
    progress: np.ndarray  # int64 (5,): where training stands, by the numbers above
    step_scalars: (
        np.ndarray
    )  # float64: weights' sum of a batch, its step's rate and sum; further on, see `parts.loss_place`
    scratch: np.ndarray  # slots of equal size, one per block
