"""The verbs of a training step where X is sparse: rows pass and weights pass."""

from ..nn.sparse_network import forward_backward_sparse, update_weights_sparse
from ..nn.update import update_weights
from ..parallel.partition import ROWS_PASS, begin, record
from ..parallel.stealing import next_item, tile_at
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
    """Verb: gradient and update of a block's share of the weight rows of every layer; then of what others have left.

    A block's queue begins with chunks of the first layer's weight rows, which have about equal numbers of entries. The
    thread's cursors stand, in each row of the batch, behind the last chunk that it has taken: only for one that it
    steals are they looked for.
    """
    first = packed[0]
    layout, plan, buffers, examples = unpack_all(first, like)
    lo, hi = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    batch_rows = rows[lo:hi]
    n = batch_rows.size
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    cursors, stand_at = buffers.offsets[block * n : (block + 1) * n], -1
    bounds = buffers.column_bounds
    n_chunks = (bounds.size - 1) // n_blocks
    for turn in range(n_blocks):
        owner, items_done = (block + turn) % n_blocks, 0
        while True:
            item = next_item(buffers.stealing, owner, n_blocks, items_done)
            if 0 <= item < n_chunks:
                lo, hi = bounds[owner * n_chunks + item], bounds[owner * n_chunks + item + 1]
                if lo < hi:
                    update_weights_sparse(first, batch_rows, cursors, lo == stand_at, lo, hi, workspace)
                    stand_at = hi
            else:
                layer, i0, height = tile_at(layout, plan, buffers, 1, owner, n_blocks, max(item - n_chunks, -1))
                if height == 0:
                    break
                update_weights(first, examples.X, layer, i0, i0 + height, n, n_blocks > 1, 0, 0, workspace)
            items_done += 1
