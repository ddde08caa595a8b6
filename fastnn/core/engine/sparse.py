"""The verbs of a training step where X is sparse: rows pass and weights pass."""

from ..nn.sparse_network import forward_backward_sparse, update_weights_sparse
from ..nn.update import update_weights
from ..parallel.partition import ROWS_PASS, begin, record
from ..parallel.stealing import next_tile
from ..records import BATCH, unpack_all
from .bookkeeping import batch_bounds
from .dense import row_bounds
from .programs import ROWS_PASS_CSR, WEIGHTS_PASS_CSR, work


@work.implementation(ROWS_PASS_CSR, group="sparse")
def rows_pass_csr(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: forward and backward pass of a block's share of the batch's rows."""
    first = packed[0]
    _, plan, buffers, _ = unpack_all(first, like)
    lo, hi = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    batch_rows = rows[lo:hi]
    lo, hi = batch_bounds(plan, rows.size, buffers.progress[BATCH] + 1)
    ahead, start = rows[lo:hi], begin(n_blocks)
    lo, hi = row_bounds(buffers, block, n_blocks, batch_rows.size)
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    forward_backward_sparse(first, batch_rows, lo, hi, ahead, workspace)
    record(buffers, ROWS_PASS, thread, n_blocks, start, hi - lo)


@work.implementation(WEIGHTS_PASS_CSR, group="sparse")
def weights_pass_csr(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: gradient and update of a block's share of the first layer's weight rows; then tiles of the other layers.

    Tiles of the first layer are not stolen: a block's cursors move through each row of the batch once, in the order of
    the columns.
    """
    first = packed[0]
    layout, plan, buffers, examples = unpack_all(first, like)
    lo, hi = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    batch_rows = rows[lo:hi]
    n = batch_rows.size
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    lo, hi = 0, layout.units[0]
    if n_blocks > 1:
        lo, hi = buffers.column_bounds[block], buffers.column_bounds[block + 1]
    if lo < hi:
        cursors = buffers.offsets[block * n : (block + 1) * n]
        update_weights_sparse(first, batch_rows, cursors, lo, hi, workspace)
    for turn in range(n_blocks):
        owner, tiles_done = (block + turn) % n_blocks, 0
        layer, i0, height = next_tile(layout, plan, buffers, 1, owner, n_blocks, tiles_done)
        while height > 0:
            update_weights(first, examples.X, layer, i0, i0 + height, n, n_blocks > 1, 0, 0, workspace)
            tiles_done += 1
            layer, i0, height = next_tile(layout, plan, buffers, 1, owner, n_blocks, tiles_done)
