"""Prediction: rows go through the network in blocks, so memory does not grow with their number.

X is read once and never copied as a whole. Compiled code reads X in place if it can. X of another dtype, order or index
type is converted by NumPy some rows at a time, on several Python threads; each takes the rows that it has converted
through the network while they are in its cache. (NumPy converts 60000 x 784 numbers from float64 in 15 ms, from uint8
in 5 on one core of a Zen 4; the network takes 46 on two.)
"""

import functools
import itertools
import operator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from .core.compile.packing import pack
from .core.engine.entries import forward as forward_dense
from .core.engine.entries import forward_sparse
from .core.nn.layer import LANES, output_scratch_size
from .core.parallel.partition import COUNTERS, NON_FINITE_FLAG
from .core.records import Layout, Pass
from .core.simd.spmm import as_csr
from .core.simd.target import LINE_BYTES, few_registers
from .core.tuning import BLOCK_ROWS, PREDICTION_AHEAD_ROWS, PREDICTION_BLOCK_BYTES, PREFETCH_BYTES
from .csr import by_rows
from .plan import implementations_of
from .spec import PADDING, NetworkSpec, make_layout, without_input
from .threads import runner, share, threads_for

AT_ONCE_BYTES = 1 << 22  # less is converted as a whole: Python threads take 0.25 ms to start
CONVERTED_BYTES = 1 << 19  # of rows that are converted at a time: they stay in L2
CONVERTED_ENTRIES = 1 << 18  # the same for entries of sparse rows; more of them, since calls cost more than entries
CALL_FLOPS = 5e9  # work of one compiled call, about 0.1 s on one core: Python sees Ctrl-C between calls

NO_ROWS = np.empty(0, np.int64)


class Prepared(NamedTuple):
    """The records of a network for compiled calls, and the sizes of their buffers."""

    layout: Layout  # kept alive: ``packed`` holds addresses
    sizes: Pass
    packed: object
    memory: int  # elements of activations and workspace for each thread
    wide: int  # float64 elements for each thread
    implementations: frozenset  # see `plan.implementations_of`


layout_of = functools.lru_cache(maxsize=256)(functools.partial(NetworkSpec.layout, n_rows=1))


@functools.lru_cache(maxsize=256)
def _prepared(units, activation, dtype, sparse, by_columns, gathered, n_rows):
    """`Prepared` for blocks of at most ``n_rows`` rows. (It takes 60 us, a row of 784-100-10 takes 10.)

    ``by_columns`` says whether X is passed transposed, ``gathered`` whether rows of X are selected by index: then the
    buffer needs room for level 0.
    """
    input_copied = by_columns or gathered
    widths = make_layout(units, dtype, 1).stride[int(sparse) : -1]
    row_bytes = int(widths.sum()) * dtype.itemsize
    height = min(n_rows, max(16, PREDICTION_BLOCK_BYTES // max(row_bytes, 1) // 16 * 16))
    layout = make_layout(units, dtype, height)
    layout.activation[:] = activation
    if not input_copied:
        layout = without_input(layout)
    strides = [int(stride) for stride in layout.stride]
    level_size = sum(strides[0 if input_copied else 1 : -1]) * height + PADDING
    workspace_size = output_scratch_size(
        [0 if sparse else units[0], *units[1:]], [*strides[:-1], strides[-1] + 2], height
    )
    columns = ahead = np.empty(0, np.int64)
    if not (sparse or input_copied) and units[0] * dtype.itemsize >= PREFETCH_BYTES and height > PREDICTION_AHEAD_ROWS:
        if not few_registers():  # narrow tiles prefetch the next block's rows, at equal distances, without a table
            columns = dtype.itemsize * np.arange(units[0], dtype=np.int64)
        rows_ahead = height if few_registers() else PREDICTION_AHEAD_ROWS
        ahead = rows_ahead * units[0] * dtype.itemsize + LINE_BYTES * np.arange(units[0], dtype=np.int64)
    wide_size = (units[-1] + 2) * (height + 2 * LANES) + PADDING
    counts = (len(units) - 1, by_columns, height, level_size, workspace_size, wide_size, activation[-1])
    sizes = Pass(*(np.int64(count) for count in counts), columns, ahead)
    return Prepared(
        layout, sizes, pack(layout, sizes), level_size + workspace_size, wide_size, implementations_of(layout)
    )


def forward(layout, plan, params, data, *, rows=None, n_threads):
    """Activated outputs of the network for encoded data, in float64.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
    params : ndarray of shape (n_params,)
    data : EncodedData
        Only X is used; it holds no NaN or inf.
    rows : ndarray of int64, optional
        Rows of X to predict; all by default.
    n_threads : int

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
    """
    X = as_csr(data.csr) if data.X is None else data.X
    n = len(rows) if rows is not None else X.indptr.size - 1 if data.X is None else len(X)
    out = np.empty((n, int(layout.units[-1])))
    Prediction(layout, params, sparse=data.X is None, gathered=rows is not None).fill(out, X, rows, n_threads)
    return out


def predict(layout, params, X, *, n_threads):
    """Activated outputs of the network in float64, for numbers that need not be finite.

    Parameters
    ----------
    layout : Layout
    params : ndarray of shape (n_params,)
    X : ndarray or SciPy sparse matrix of shape (n, n_features)
        Of any real dtype, memory order or sparse format.
    n_threads : int

    Returns
    -------
    out : ndarray of shape (n, n_outputs)
    suspect : bool
        Whether X, or X converted to the dtype of ``params``, may hold NaN or inf. It is also True where weights are so
        large that sums of finite rows overflow, or are not finite.
    """
    if X.shape[1] != layout.units[0]:  # compiled code does not check it
        raise ValueError(f"X has {X.shape[1]} features, but the network takes {layout.units[0]}.")
    run, X = (_predict_sparse, by_rows(X)) if sp.issparse(X) else (_predict_dense, X)
    n = X.indptr.size - 1 if run is _predict_sparse else len(X)
    out = np.empty((n, int(layout.units[-1])))
    return out, run(layout, params, X, out, n_threads)


def _predict_dense(layout, params, X, out, n_threads):
    by_columns = not X.flags.c_contiguous and abs(X.strides[0]) < abs(X.strides[1])
    source = X.T if by_columns else X
    own = Prediction(layout, params, by_columns=by_columns)
    if X.dtype == params.dtype and source.flags.c_contiguous and source.flags.aligned:
        return own.fill(out, read_only(source), None, n_threads)
    n, n_features = X.shape
    small = X.size * params.itemsize <= AT_ONCE_BYTES
    height = n if small else min(n, max(16, CONVERTED_BYTES // (n_features * params.itemsize)))

    def convert():
        buffer = np.empty(height * n_features, params.dtype)

        def rows(start):
            m = min(height, n - start)
            block = buffer[: m * n_features].reshape((n_features, m) if by_columns else (m, n_features))
            some = X[start : start + m]
            with np.errstate(over="ignore"):
                np.copyto(block, some.T if by_columns else some, casting="unsafe")
            return read_only(block), start, start + m

        return rows

    return own.fill_converted(out, convert, range(0, n, height), n_threads)


def _predict_sparse(layout, params, X, out, n_threads):
    own = Prediction(layout, params, sparse=True)
    if X.data.dtype == params.dtype and X.indices.dtype == np.int32 and X.is_sorted:
        return own.fill(out, as_csr((X.data, X.indices, X.indptr)), None, n_threads)
    cuts = np.searchsorted(X.indptr, np.arange(CONVERTED_ENTRIES, X.data.size, CONVERTED_ENTRIES, dtype=np.int64))
    bounds = sorted({0, *cuts.tolist(), len(out)})

    def convert():
        def rows(bound):
            some = X.part(*bound).in_order()
            with np.errstate(over="ignore"):
                values = some.data.astype(params.dtype)
            return as_csr((values, some.indices, some.indptr)), *bound

        return rows

    return own.fill_converted(out, convert, list(itertools.pairwise(bounds)), n_threads)


class Prediction:
    """A network with its weights, which fills float64 arrays of outputs.

    Parameters
    ----------
    layout : Layout
    params : ndarray of shape (n_params,)
    sparse, by_columns, gathered : bool
        Whether X is a ``Csr``; is transposed; has its rows selected by index.
    """

    def __init__(self, layout, params, *, sparse=False, by_columns=False, gathered=False):
        self.sparse = sparse
        self.params = read_only(params)
        self.units, activation = tuple(layout.units.tolist()), tuple(layout.activation.tolist())
        self._key = (self.units, activation, params.dtype, sparse, by_columns, gathered)
        self._entry = forward_sparse if sparse else forward_dense

    def _row_flops(self, X):
        first = X.values.size / max(X.indptr.size - 1, 1) if self.sparse else self.units[0]
        return 1.0 + 2.0 * (first * self.units[1] + sum(map(operator.mul, self.units[1:-1], self.units[2:])))

    def fill(self, out, X, rows, n_threads):
        """Fill ``out`` for all rows of X, or for ``rows``; X is read in place. Returns whether X is suspect."""
        n, flops = len(out), self._row_flops(X)
        n_threads = min(threads_for(n * flops, n_threads), -(-n // 8) or 1)
        prepared = _prepared(*self._key, BLOCK_ROWS if n > 16 else 16 if n > 1 else 1)
        memory, wide = np.empty(n_threads * prepared.memory, self.params.dtype), np.empty(n_threads * prepared.wide)
        counters = np.zeros(n_threads * COUNTERS, np.int64)
        rows = NO_ROWS if rows is None else rows
        run = runner(self._entry, self.params.dtype, n_threads, self.sparse, prepared.implementations)
        step = max(1, int(CALL_FLOPS / flops))
        for first in range(0, n, step):
            some = out[first : first + step]
            run(prepared.packed, self.params, X, rows, some, wide, memory, counters, first, n_threads)
        return 1 in counters[NON_FINITE_FLAG::COUNTERS].tolist()

    def fill_converted(self, out, convert, items, n_threads):
        """Fill ``out`` for the rows of each item: ``convert()(item)`` is ``(X, start, stop)``. Returns as `fill`."""
        if len(items) == 1:
            return self.fill(out, convert()(items[0])[0], None, n_threads)
        prepared = _prepared(*self._key, BLOCK_ROWS)
        run = runner(self._entry, self.params.dtype, 1, self.sparse, prepared.implementations)
        flags = []

        def worker():
            rows, counters = convert(), np.zeros(COUNTERS, np.int64)
            memory, wide = np.empty(prepared.memory, self.params.dtype), np.empty(prepared.wide)
            flags.append(counters)

            def work(item):
                X, start, stop = rows(item)
                run(prepared.packed, self.params, X, NO_ROWS, out[start:stop], wide, memory, counters, 0, 1)

            return work

        share(worker, items, min(n_threads, len(items)))
        return any(counters[NON_FINITE_FLAG] for counters in flags)


def read_only(array):
    """A read-only view of the same memory, so that compiled code gets one type."""
    view = array.view()
    view.flags.writeable = False
    return view
