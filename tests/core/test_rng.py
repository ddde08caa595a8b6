"""The compiled generator and shuffle against NumPy's RandomState."""

import numpy as np
import pytest

from fastnn.core.simd.rng import N_WORDS, shuffle


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
