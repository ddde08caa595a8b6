"""The look at the indices of a sparse matrix, against a slow one."""

import itertools

import numpy as np
import pytest
from numba import config

from fastnn.core.simd.csr_check import BAD_INDEX, BAD_POINTER, PIECE, SORTED, UNSORTED, look_through

WIDTHS = [np.int32, np.int64]


def looked(indices, indptr, n_columns):
    arrays = [np.ascontiguousarray(indices), np.asarray(indptr, np.int64)]
    for array in arrays:
        array.flags.writeable = False
    found = np.full(2, -7, dtype=np.int64)
    look_through.twin(arrays[0].dtype)(*arrays, n_columns, found)
    return tuple(found.tolist())


def slowly(indices, indptr, n_columns):
    last = 0
    for r, pointer in enumerate(indptr):
        if pointer < last or pointer > len(indices) or (r == 0 and pointer > 0):
            return BAD_POINTER, r
        last = pointer
    for p in range(last):
        if not 0 <= indices[p] < n_columns:
            return BAD_INDEX, p
    rows = [indices[lo:hi] for lo, hi in itertools.pairwise(indptr)]
    return (SORTED if all((row[1:] >= row[:-1]).all() for row in rows) else UNSORTED), 0


@pytest.mark.parametrize("width", WIDTHS, ids=lambda dtype: dtype.__name__)
def test_it_finds_what_a_slow_look_finds(width):
    """Rows of every length from none to all, sorted, with duplicates, out of order, with one flaw anywhere."""
    rng, kinds = np.random.RandomState(0), set()
    for _ in range(600):
        n_rows, n, n_columns = rng.randint(0, 9), rng.randint(0, 40), rng.randint(1, 12)
        indptr = np.concatenate([[0], np.sort(rng.randint(0, n + 1, n_rows))])
        indices = rng.randint(0, n_columns, n).astype(width)
        if rng.rand() < 0.7:
            for lo, hi in itertools.pairwise(indptr):
                indices[lo:hi].sort()
        if n and rng.rand() < 0.3:
            indices[rng.randint(n)] = rng.choice([-1, n_columns, np.iinfo(width).min, np.iinfo(width).max])
        if rng.rand() < 0.2:
            indptr[rng.randint(n_rows + 1)] = rng.choice([-1, 1, n, n + 1, -(2**62), 2**62])
        expected = slowly(indices, indptr, n_columns)
        assert looked(indices, indptr, n_columns) == expected, (indices, indptr, n_columns)
        kinds.add(expected[0])
    assert kinds == {SORTED, UNSORTED, BAD_POINTER, BAD_INDEX}


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="takes minutes in plain Python")
@pytest.mark.parametrize("width", WIDTHS, ids=lambda dtype: dtype.__name__)
def test_pieces_of_a_long_matrix_meet_without_a_gap(width):
    n = 2 * PIECE + 3
    rows, whole = np.array([0, PIECE - 1, PIECE, 2 * PIECE + 1, n]), np.array([0, n])
    rising = np.arange(n).astype(width)
    assert looked(rising, whole, n) == looked(rising, rows, n) == (SORTED, 0)
    assert looked(rising, whole, n - 1) == (BAD_INDEX, n - 1)
    for place in (1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, n - 1):
        fallen = rising.copy()
        fallen[place:] -= width(2)
        fallen[0] = 0
        if place == 1:
            fallen[1] = 0
        expected = SORTED if place in rows or place == 1 else UNSORTED
        assert looked(fallen, rows, n) == (expected, 0), place
        wrong = rising.copy()
        wrong[place] = -1
        assert looked(wrong, rows, n) == (BAD_INDEX, place)


def test_what_lies_behind_the_last_row_is_not_looked_at():
    assert looked(np.array([1, 2, 99, -4], np.int32), [0, 1, 2], 3) == (SORTED, 0)
    assert looked(np.empty(0, np.int32), [0, 0, 0], 0) == (SORTED, 0)
