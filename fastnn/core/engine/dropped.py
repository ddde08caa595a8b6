"""The verbs of a training step where entries of a dense X are dropped: they go to a copy of the batch's rows."""

from ..nn.dropout import drop_input
from ..nn.network import forward_backward
from ..parallel.partition import ROWS_PASS, begin, record
from ..records import BATCH, unpack_all
from .bookkeeping import batch_bounds
from .dense import row_bounds
from .programs import ROWS_PASS_DROPPED, WEIGHTS_PASS_DENSE, WEIGHTS_PASS_DROPPED, work


@work.implementation(ROWS_PASS_DROPPED)
def rows_pass_dropped(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: copy a block's share of the batch's rows with dropout, and their forward and backward pass."""
    first = packed[0]
    _, plan, buffers, examples = unpack_all(first, like)
    lo, hi = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    batch_rows = rows[lo:hi]
    workspace = buffers.scratch[block * workspace_size : (block + 1) * workspace_size]
    start = begin(n_blocks)
    lo, hi = row_bounds(buffers, block, n_blocks, batch_rows.size)
    drop_input(first, batch_rows, lo, hi, workspace)
    forward_backward(
        first, examples.X, examples.labels, examples.targets, examples.sample_weight, batch_rows, lo, hi, 0, 0,
        workspace,
    )  # fmt: skip
    record(buffers, ROWS_PASS, thread, n_blocks, start, hi - lo)


@work.implementation(WEIGHTS_PASS_DROPPED)
def weights_pass_dropped(packed, like, rows, n_batches, block, thread, n_blocks, workspace_size):
    """Verb: as `dense.weights_pass`, which need not prefetch rows of the next batch: those that it reads are copies."""
    _, plan, buffers, _ = unpack_all(packed[0], like)
    _, end = batch_bounds(plan, rows.size, buffers.progress[BATCH])
    work(WEIGHTS_PASS_DENSE, packed, like, rows[:end], n_batches, block, thread, n_blocks, workspace_size)
