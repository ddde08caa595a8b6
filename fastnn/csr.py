"""Sparse matrices of SciPy's as arrays that compiled code may follow, SciPy's own included.

SciPy looks at the arrays of a matrix when it is made and not again. Whoever writes into them, or puts others in their
place, may leave indices that lead out of memory, rows that are out of order, and flags that say otherwise. So compiled
code (`core.simd.csr_check`) checks every index once, and the arrays that were checked are those that are used.
Whatever is wrong is one ValueError that says what and where, and what is legal.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from .core.simd.csr_check import BAD_INDEX, BAD_POINTER, UNSORTED, look_through

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)


class Rows(NamedTuple):
    """A sparse matrix by rows. All indices are in bounds; entries of one place add up."""

    data: np.ndarray  # (n_entries,), as the user gave it
    indices: np.ndarray  # int32 or int64 (n_entries,): column of each entry
    indptr: np.ndarray  # int64 (n_rows + 1,): first entry of each row, from 0 to n_entries
    is_sorted: bool  # whether each row's entries stand in the order of their columns

    def part(self, start, stop):
        """Rows from ``start`` up to ``stop``."""
        lo, hi = int(self.indptr[start]), int(self.indptr[stop])
        return Rows(self.data[lo:hi], self.indices[lo:hi], self.indptr[start : stop + 1] - lo, self.is_sorted)

    def in_order(self):
        """The same with sorted rows, a copy where they are not; entries of one place stay in their order."""
        if self.is_sorted or not self.indices.size:
            return self
        rows = np.repeat(np.arange(self.indptr.size - 1, dtype=np.int64), np.diff(self.indptr))
        order = np.argsort(rows * (np.int64(self.indices.max()) + 1) + self.indices, kind="stable")
        return Rows(self.data[order], self.indices[order], self.indptr, True)


def by_rows(X, name="X"):
    """A sparse matrix of SciPy's, by rows.

    Parameters
    ----------
    X : sparse matrix or array
        In CSR form its own arrays are used, where they are as compiled code reads them. It stays as it is.
    name : str
        Of the argument, for messages.

    Raises
    ------
    ValueError
        Where its arrays do not describe a matrix of its shape.
    """
    if X.format not in ("csr", "csc"):
        refuse_corrupt(X, name)
        X = X.tocsr()
    refuse_corrupt(X, name, later=(X.format,))
    rows = _followable(X, name)
    if X.format == "csr":
        return rows
    data = rows.data.astype(_known_to_scipy(rows.data.dtype), copy=False)
    turned = sp.csc_matrix((data, rows.indices, rows.indptr), X.shape).tocsr()
    return Rows(turned.data, turned.indices, turned.indptr.astype(np.int64, copy=False), True)


def refuse_corrupt(X, name="X", later=()):
    """Raise ValueError where SciPy's conversion of a sparse matrix, of any format, would follow indices out of it.

    Of formats named in ``later``, whose indices `by_rows` will look through, only the data are looked at: real numbers
    come through scikit-learn's checks untouched.
    """
    if X.format not in _CHECKS or X.ndim != 2:
        return
    if X.format != "dok" and not isinstance(X.data, np.ndarray):
        _refuse(X, name, f"{name}.data must be an array, got {type(X.data)}.")
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} is a sparse matrix of {X.dtype}.")
    if X.format not in later or X.dtype.kind not in "biuf":
        _CHECKS[X.format](X, name)


def _refuse(X, name, what):
    raise ValueError(f"{name} is not a valid {X.format.upper()} matrix of shape {tuple(X.shape)}: {what}")


def _integers(X, name, field, values):
    """An array of indices as compiled code reads it: int32 or int64, contiguous, aligned; itself where it is so."""
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "iu":
        got = f"shape {values.shape} and dtype {values.dtype}" if isinstance(values, np.ndarray) else type(values)
        _refuse(X, name, f"{name}.{field} must be a 1-D array of integers, got {got}.")
    dtype, flags = values.dtype, values.flags
    if dtype not in (INT32, INT64) or not (flags.c_contiguous and flags.aligned):
        values = np.require(values, dtype if dtype == INT32 else INT64, ["C", "A"])
    view = values.view()
    view.flags.writeable = False
    return view


def _in_bounds(X, name, field, indices, indptr, n, what):
    """`look_through`, whose first finding becomes a message. Returns whether what it looked at is sorted."""
    found = np.zeros(2, np.int64)
    look_through.twin(indices.dtype)(indices, indptr, n, found)
    kind, place = found.tolist()
    if kind == BAD_POINTER:
        before = f"after {indptr[place - 1]}" if place else "as the first element"
        _refuse(
            X,
            name,
            f"{name}.indptr[{place}] is {indptr[place]} {before}, but indptr must start at 0, never fall and end at "
            f"{indices.size} at most, the number of entries.",
        )
    if kind == BAD_INDEX:
        _refuse(X, name, f"{name}.{field}[{place}] is {indices[place]}, but {what} must be from 0 to {n - 1}.")
    return kind != UNSORTED


def _followable(X, name):
    """The arrays of a CSR matrix as `Rows`; of a CSC matrix likewise, its columns in the place of rows."""
    n_major, n_minor = X.shape if X.format == "csr" else X.shape[::-1]
    rows, columns = ("rows", "column indices") if X.format == "csr" else ("columns", "row indices")
    indptr = _integers(X, name, "indptr", X.indptr).astype(np.int64, copy=False)
    indices, data = _integers(X, name, "indices", X.indices), X.data
    if indptr.size != n_major + 1:
        _refuse(X, name, f"{name}.indptr must have {n_major + 1} elements, one more than {rows}, got {indptr.size}.")
    if data.shape != indices.shape:
        _refuse(
            X,
            name,
            f"{name}.data and {name}.indices must have one element for each entry, got shapes {data.shape} and "
            f"{indices.shape}.",
        )
    is_sorted = _in_bounds(X, name, "indices", indices, indptr, n_minor, columns)
    n_entries = int(indptr[-1])
    return Rows(data[:n_entries], indices[:n_entries], indptr, is_sorted)


def _known_to_scipy(dtype):
    """A dtype in which SciPy's conversions take numbers of ``dtype``: none of other byte orders, no float16."""
    return np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize not in (4, 8) else dtype.newbyteorder("=")


# ---- formats that SciPy turns into CSR, by compiled code that looks at nothing ---------------------------------------
def _check_coo(X, name):
    for field, n, what in zip(("row", "col"), X.shape, ("row indices", "column indices"), strict=True):
        indices = _integers(X, name, field, getattr(X, field))
        if np.shape(X.data) != indices.shape:
            _refuse(X, name, f"{name}.data has shape {np.shape(X.data)}, but {name}.{field} {indices.shape}.")
        _in_bounds(X, name, field, indices, np.array([0, indices.size], dtype=np.int64), n, what)


def _check_bsr(X, name):
    indptr = _integers(X, name, "indptr", X.indptr).astype(np.int64, copy=False)
    indices, blocks = _integers(X, name, "indices", X.indices), np.shape(X.data)
    if (
        len(blocks) != 3
        or blocks[0] != indices.size
        or 0 in blocks[1:]
        or any(n % size for n, size in zip(X.shape, blocks[1:], strict=True))
    ):
        _refuse(
            X,
            name,
            f"{name}.data has shape {blocks}, but must hold {indices.size} blocks, one for each of {name}.indices, "
            "whose sizes divide the shape.",
        )
    n_rows, n_columns = (n // size for n, size in zip(X.shape, blocks[1:], strict=True))
    if indptr.size != n_rows + 1:
        _refuse(X, name, f"{name}.indptr must have {n_rows + 1} elements, one more than rows of blocks.")
    _in_bounds(X, name, "indices", indices, indptr, n_columns, "columns of blocks")


def _check_lil(X, name):
    shapes = [np.shape(X.rows), np.shape(X.data)]
    if shapes != [(X.shape[0],)] * 2:
        _refuse(X, name, f"{name}.rows and {name}.data must hold {X.shape[0]} lists, got shapes {shapes}.")
    for row, (columns, values) in enumerate(zip(X.rows, X.data, strict=True)):
        if not isinstance(columns, list) or not isinstance(values, list) or len(columns) != len(values):
            _refuse(X, name, f"{name}.rows[{row}] and {name}.data[{row}] must be lists of the same length.")
        if not _within(columns, X.shape[1]):
            _refuse(X, name, f"{name}.rows[{row}] must hold column indices, from 0 to {X.shape[1] - 1}.")


def _check_dia(X, name):
    offsets, diagonals = _integers(X, name, "offsets", X.offsets), np.shape(X.data)
    if len(diagonals) != 2 or diagonals[0] != offsets.size:
        _refuse(X, name, f"{name}.data has shape {diagonals}, but must hold {offsets.size} rows, as many as offsets.")


def _check_dok(X, name):
    keys = X.keys()
    for key in keys:
        if not (isinstance(key, tuple) and len(key) == 2 and all(map(_within, zip(key), X.shape))):
            _refuse(X, name, f"it has a key {key!r}, but keys must be pairs of indices within the shape.")


def _within(indices, n):
    """Whether Python's or NumPy's numbers are in 0 .. n - 1."""
    try:
        return not indices or (min(indices) >= 0 and max(indices) < n)
    except TypeError:  # they are not even numbers
        return False


_CHECKS = {
    "csr": _followable,
    "csc": _followable,
    "coo": _check_coo,
    "bsr": _check_bsr,
    "lil": _check_lil,
    "dia": _check_dia,
    "dok": _check_dok,
}
