"""Units as values against the same operations on arrays, bit by bit."""

import numpy as np
import pytest
from numba import njit

from fastnn.core import units
from fastnn.core.host import UNIT_BYTES
from fastnn.core.scalars import fma


def add(x, y, out):
    units.store_unit(out, 1, units.load_unit(x, 0) + units.load_unit(y, 2))


def subtract(x, y, out):
    units.store_unit(out, 1, units.load_unit(x, 0) - units.load_unit(y, 2))


def multiply(x, y, out):
    units.store_unit(out, 1, units.load_unit(x, 0) * units.load_unit(y, 2))


def multiply_add(x, y, out):
    units.store_unit(out, 1, fma(units.load_unit(x, 0), units.load_unit(y, 2), units.spread(x[3])))


def where_nonzero(x, y, out):
    units.store_unit(out, 1, units.where_nonzero(units.load_unit(x, 0), units.load_unit(y, 2)))


def positive(x, y, out):
    units.store_unit(out, 1, units.positive(units.load_unit(x, 0)))


def in_place(x, y, out):
    units.store_unit(out, 0, units.load_unit(x, 0))
    units.store_unit(out, 0, units.larger(units.load_unit(out, 0), units.load_unit(y, 2)))
    units.store_unit(out, 1, units.positive(units.load_unit(out, 0)))
    out[0] = 7


def larger(x, y, out):
    units.store_unit(out, 1, units.larger(units.load_unit(x, 0), units.load_unit(y, 0)))


def like(x, y, out):
    units.store_unit(out, 1, units.like(units.load_unit(x, 0), 0.3) - units.load_unit(y, 2))


def floats(x, y, out):
    for i in range(x.size - 2):
        out[i] = units.where_nonzero(x[i], y[i]) + units.like(x[i], 0.3) * units.positive(units.larger(x[i], y[i]))


@pytest.mark.parametrize(
    "function", [add, subtract, multiply, multiply_add, where_nonzero, positive, larger, in_place, like, floats]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_units_are_arrays(function, dtype):
    lanes = UNIT_BYTES // np.dtype(dtype).itemsize
    x, y = np.random.default_rng(0).normal(0, 1, (2, lanes + 2)).astype(dtype)
    x[:3] = 0.0, -0.0, np.nan
    expected, found = np.full((2, lanes + 3), 7, dtype)
    with np.errstate(invalid="ignore"):
        function(x, y, expected)
    njit(function)(x, y, found)
    np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(dtype).eps if function is multiply_add else 0)
    if function is not floats:
        assert found[0] == 7 and (found[-2:] == 7).all()
