"""Prediction: rows go through the network in blocks, so memory is bounded by the block and not by their number."""

import numpy as np

from .core.epoch import forward as compiled_forward
from .core.network import BLOCK_ROWS, scratch_size
from .plan import ROOM, make_layout
from .threads import call, threads_for

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
    X = data.X
    n = len(X) if rows is None else len(rows)
    units = [int(u) for u in layout.units]
    block = min(BLOCK_ROWS, max(n, 1))
    own = make_layout(units, params.dtype, block)
    own.activation[:] = layout.activation
    n_threads = min(threads_for(2.0 * n * (layout.units[:-1] * layout.units[1:]).sum(), n_threads), -(-n // 8) or 1)
    level_size = int(own.stride[:-1].sum()) * block + ROOM
    slot_size = scratch_size(units, [int(s) for s in own.stride])
    out = np.empty((n, units[-1]), params.dtype)
    levels = np.empty(n_threads * level_size, params.dtype)
    scratch = np.empty(n_threads * slot_size, params.dtype)
    rows = NO_ROWS if rows is None else rows
    sizes = (n_threads, level_size, slot_size)
    call(
        compiled_forward,
        params.dtype,
        n_threads,
        own,
        plan.n_layers,
        read_only(params),
        X,
        rows,
        out,
        levels,
        scratch,
        *sizes,
    )
    return out


def read_only(array):
    """A view of the same memory that nobody can write through, so that compiled code meets one type."""
    view = array.view()
    view.flags.writeable = False
    return view
