"""Prediction: rows go through the network in blocks, so memory is bounded by the block and not by their number."""

import numpy as np

from .core.epoch import forward as forward_dense
from .core.network import BLOCK_ROWS, scratch_size
from .core.sparse import as_csr
from .core.sparse_epoch import forward_sparse
from .core.sparse_network import sparse_scratch_size
from .plan import ROOM, make_layout, without_input
from .threads import runner, threads_for

NO_ROWS = np.empty(0, np.int64)


def forward(layout, plan, params, data, *, rows=None, n_threads):
    """Activated outputs of the network.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
    params : ndarray of shape (n_params,)
    data : EncodedData
        Only X is looked at.
    rows : ndarray of int64, optional
        Rows of X to predict; all by default.
    n_threads : int

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
    """
    sparse = data.X is None
    X = as_csr(data.csr) if sparse else data.X
    n = len(rows) if rows is not None else X.indptr.size - 1 if sparse else len(X)
    units = [int(u) for u in layout.units]
    block = min(BLOCK_ROWS, max(n, 1))
    own = make_layout(units, params.dtype, block)
    own.activation[:] = layout.activation
    products = layout.units[:-1] * layout.units[1:]
    if sparse:
        own = without_input(own)
        products[0] = X.values.size // max(X.indptr.size - 1, 1) * layout.units[1]
    n_threads = min(threads_for(2.0 * n * products.sum(), n_threads), -(-n // 8) or 1)
    level_size = int(own.stride[int(sparse) : -1].sum()) * block + ROOM
    size = sparse_scratch_size if sparse else scratch_size
    slot_size = size(units, [int(s) for s in own.stride])
    out = np.empty((n, units[-1]), params.dtype)
    levels = np.empty(n_threads * level_size, params.dtype)
    scratch = np.empty(n_threads * slot_size, params.dtype)
    rows = NO_ROWS if rows is None else rows
    sizes = (n_threads, level_size, slot_size)
    entry = forward_sparse if sparse else forward_dense
    arrays = (read_only(params), X, rows, out, levels, scratch)
    runner(entry, params.dtype, n_threads, sparse)(own, plan.n_layers, *arrays, *sizes)
    return out


def read_only(array):
    """A view of the same memory that nobody can write through, so that compiled code meets one type."""
    view = array.view()
    view.flags.writeable = False
    return view
