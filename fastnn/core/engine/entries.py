"""The functions that Python calls: the steps of a call, prediction. The only parallel loops are here.

The number of blocks changes no bit of the result. The threads of a call stay in one loop and wait at a barrier at the
end of each phase, see `programs` and `driver`.

The work of a block is a leaf: Numba would compile a kernel into the parallel loop, and again into the entry around it.
In parallel entries an assignment to a slice becomes a parallel loop too, so only kernels make such assignments.
"""

from numba import prange

from ..compile.jit import entry, leaf
from ..compile.packing import IN, INT, INTS, MATRIX, NUMBERS, OUT, RECORDS, ROWS, as_flat
from ..nn.prediction import predict_rows
from ..nn.sparse_network import predict_rows_sparse
from ..parallel.partition import COUNTERS, NON_FINITE_FLAG, next_rows, reset_counters
from ..records import BATCH, unpack, unpack_pass
from ..simd.spmm import CSR
from .bookkeeping import begin_call
from .driver import run_program


@entry
def train(packed, like, rows, scalars, losses, n_blocks, workspace_size):
    """Run the plan's program for the batches of ``rows``. ``packed`` holds sets of records, see `state.shard_buffers`.

    Writes: params, moments, gradient and the other buffers; losses (n_batches,): the loss of each batch before its
    step. Reads: the examples ``rows``; scalars, SCHEDULED numbers for each step made.
    Returns the number of batches done; fewer than n_batches when a loss is not finite. A batch whose weights sum to
    zero makes no step and has loss 0.
    """
    _, plan, buffers = unpack(packed[0], like)
    begin_call(plan, buffers, n_blocks)
    for block in prange(n_blocks):
        run_program(packed, like, rows, scalars, losses, block, n_blocks, workspace_size)
    return buffers.progress[BATCH]


def _forward(name, predict_rows, kind, group):
    """The entry ``name``, which predicts by the leaf ``predict_rows`` for an X of this kind."""

    def predict_block(packed, params, X, rows, out, wide, memory, counters, first, block, n_blocks):
        """Outputs of one block's share of the rows, then of rows of other blocks that no thread has taken."""
        layout, sizes = unpack_pass(packed, params)
        n_outputs = layout.units[sizes.n_layers]
        n = out.size // n_outputs
        own = memory[block * (sizes.level_size + sizes.workspace_size) :]
        levels, workspace = own[: sizes.level_size], own[sizes.level_size : sizes.level_size + sizes.workspace_size]
        own_wide = wide[block * sizes.wide_size : (block + 1) * sizes.wide_size]
        flag = counters[block * COUNTERS + NON_FINITE_FLAG : block * COUNTERS + NON_FINITE_FLAG + 1]
        start, m = next_rows(counters, block, n_blocks, n, sizes.block_rows)
        while m > 0:
            predict_rows(
                packed, params, X, rows, out[start * n_outputs :], own_wide, levels, workspace, flag, first + start, m
            )
            start, m = next_rows(counters, block, n_blocks, n, sizes.block_rows)

    def forward(packed, params, X, rows, out, wide, memory, counters, first, n_blocks):
        """Outputs of the network for as many rows as ``out`` has: of X from ``first`` on, or of ``X[rows[first:]]``.

        Writes: out (n, n_outputs); counters (n_blocks, COUNTERS), the flag of a block where X may hold NaN or inf.
        Reads: params, X, rows. Scratch: memory (n_blocks * (level_size + workspace_size)), wide (n_blocks * wide_size).
        """
        flat = as_flat(out)
        reset_counters(counters, n_blocks)
        for block in prange(n_blocks):
            predict_block(packed, params, X, rows, flat, wide, memory, counters, first, block, n_blocks)

    # Cached machine code is found by names.
    predict_block.__name__ = predict_block.__qualname__ = f"predict_block_of_{name}"
    forward.__name__ = forward.__qualname__ = name
    arguments = RECORDS, IN, kind, ROWS, NUMBERS, NUMBERS, OUT, INTS, INT, INT, INT
    leaf(*arguments, group=group)(predict_block)
    return entry(forward)


forward = _forward("forward", predict_rows, MATRIX, "predict")
forward_sparse = _forward("forward_sparse", predict_rows_sparse, CSR, "sparse")
