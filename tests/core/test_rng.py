"""The compiled generator and shuffle against NumPy's RandomState; random bits of a counter against the reference."""

import numpy as np
import pytest
from numba import njit

import reference_dropout
from fastnn.core.simd.rng import N_WORDS, if_kept, shuffle, substream
from fastnn.core.simd.target import VECTOR_BYTES
from fastnn.core.simd.vector import load_vector, store_vector


def quick(rng):
    _, key, used, *_ = rng.get_state()
    own = (key, np.empty(N_WORDS, np.uint32), np.array([used]))
    return lambda rows: shuffle.twin(rows.dtype)(rows, *own)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 1198, 20_000])
def test_permutations_are_numpys(n):
    """Several in a row, from a fresh state and from one that is partly used up."""
    for drawn in (0, 5):
        rng = np.random.RandomState(n)
        rng.randint(0, 2**32, drawn, dtype=np.uint32)
        permute = quick(rng)
        expected, rows = np.arange(n), np.arange(n)
        for _ in range(3):
            rng.shuffle(expected)
            permute(rows)
            np.testing.assert_array_equal(rows, expected)


own_key = getattr(substream, "py_func", substream)  # a kernel is for compiled callers


def dropped(values, key, threshold, out):
    """Whole vectors, then the rest one by one."""
    lanes = VECTOR_BYTES // values.itemsize
    for i in range(0, values.size - lanes + 1, lanes):
        store_vector(out, i, if_kept(load_vector(values, i), i, key, threshold))
    for i in range(values.size - values.size % lanes, values.size):
        out[i] = if_kept(values[i], i, key, threshold)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999999999999])
def test_random_bits_of_a_counter_are_those_of_the_reference(dtype, rate):
    key = np.uint64(0)
    with np.errstate(over="ignore"):
        for number in (12345678901, 3, 2, 1):
            assert own_key(key, number) == reference_dropout.substream(key, number)
            key = own_key(key, number)
    values, threshold = np.arange(1, 54, dtype=dtype), int(rate * 2.0**32)
    found, plain = np.full((2, values.size), 7, dtype)
    njit(dropped)(values, key, threshold, found)
    dropped(values, key, threshold, plain)
    np.testing.assert_array_equal(found, plain)
    seed, step, level, row, rows = 2**31 - 2, 12345, 2, 9, 40
    with np.errstate(over="ignore"):
        key = own_key(own_key(own_key(np.uint64(seed), step), level), row)
    njit(dropped)(values, key, threshold, found)
    factors = reference_dropout.factors(seed, step, level, rows, values.size, rate)[row] > 0
    np.testing.assert_array_equal(found, values * factors)
