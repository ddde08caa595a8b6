"""Vectors as values against the same operations on arrays, bit by bit."""

import numpy as np
import pytest
from numba import njit

from fastnn.core.simd import vector
from fastnn.core.simd.scalar import fma
from fastnn.core.simd.target import VECTOR_BYTES


def add(x, y, out):
    vector.store_vector(out, 1, vector.load_vector(x, 0) + vector.load_vector(y, 2))


def subtract(x, y, out):
    vector.store_vector(out, 1, vector.load_vector(x, 0) - vector.load_vector(y, 2))


def multiply(x, y, out):
    vector.store_vector(out, 1, vector.load_vector(x, 0) * vector.load_vector(y, 2))


def multiply_add(x, y, out):
    vector.store_vector(out, 1, fma(vector.load_vector(x, 0), vector.load_vector(y, 2), vector.broadcast(x[3])))


def where_nonzero(x, y, out):
    vector.store_vector(out, 1, vector.where_nonzero(vector.load_vector(x, 0), vector.load_vector(y, 2)))


def where_positive(x, y, out):
    a, b = vector.load_vector(x, 0), vector.load_vector(y, 2)
    vector.store_vector(out, 1, vector.where_positive(a, b, a - b))


def zero_if_negative(x, y, out):
    vector.store_vector(out, 1, vector.zero_if_negative(vector.load_vector(x, 0)))


def in_place(x, y, out):
    vector.store_vector(out, 0, vector.load_vector(x, 0))
    vector.store_vector(out, 0, vector.maximum(vector.load_vector(out, 0), vector.load_vector(y, 2)))
    vector.store_vector(out, 1, vector.zero_if_negative(vector.load_vector(out, 0)))
    out[0] = 7


def maximum(x, y, out):
    vector.store_vector(out, 1, vector.maximum(vector.load_vector(x, 0), vector.load_vector(y, 0)))


def like(x, y, out):
    vector.store_vector(out, 1, vector.like(vector.load_vector(x, 0), 0.3) - vector.load_vector(y, 2))


def floats(x, y, out):
    for i in range(x.size - 2):
        out[i] = vector.where_positive(y[i], vector.where_nonzero(x[i], y[i]), x[i]) + vector.like(
            x[i], 0.3
        ) * vector.zero_if_negative(vector.maximum(x[i], y[i]))


@pytest.mark.parametrize(
    "function",
    [
        add,
        subtract,
        multiply,
        multiply_add,
        where_nonzero,
        where_positive,
        zero_if_negative,
        maximum,
        in_place,
        like,
        floats,
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_vectors_are_arrays(function, dtype):
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    x, y = np.random.default_rng(0).normal(0, 1, (2, lanes + 2)).astype(dtype)
    x[:3] = 0.0, -0.0, np.nan
    expected, found = np.full((2, lanes + 3), 7, dtype)
    with np.errstate(invalid="ignore"):
        function(x, y, expected)
    njit(function)(x, y, found)
    np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(dtype).eps if function is multiply_add else 0)
    if function is not floats:
        assert found[0] == 7 and (found[-2:] == 7).all()
