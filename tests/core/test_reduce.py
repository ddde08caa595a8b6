"""Sums with a fixed number of partial sums: the same bits with and without masked loads, and nothing read behind."""

import numpy as np
import pytest
from numba import config, njit

from fastnn.core.simd import reduce
from fastnn.core.simd.target import has_fma

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="compares ways to compile")

SIZES = [*range(40), 47, 48, 49, 63, 64, 65, 79, 100, 127, 128, 129, 191, 200]


@pytest.fixture(scope="module")
def ways():
    """Sum of squares and dot product, compiled with masked loads and with narrow ones."""

    def made(masked):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reduce, "loads_masked", lambda: masked)
            squares = njit(lambda x: reduce.sum_squares(x))
            dot = njit(lambda x, ix, y, iy, n: reduce.dot(x, ix, y, iy, n))
            for dtype in (np.float32, np.float64):
                squares(np.ones(1, dtype)), dot(np.ones(1, dtype), 0, np.ones(1, dtype), 0, 1)
            return squares, dot

    return made(True), made(False)


def numbers(n, seed, dtype):
    """n numbers of very different size, zeros of both signs among them, and NaN on both sides of them."""
    rng = np.random.default_rng(seed)
    x = np.full(n + 67, np.nan, dtype)
    x[3 : 3 + n] = rng.standard_normal(n) * 2.0 ** rng.integers(-140, 40, n)
    x[3 : 3 + n : 7] *= 0
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_ways_to_load_give_the_same_bits(ways, dtype):
    (squares, dot), (narrow_squares, narrow_dot) = ways
    for n in SIZES:
        x, y = numbers(n, n, dtype), numbers(n, n + 1000, dtype)
        inner = x[3 : 3 + n].copy()
        pairs = [(squares(inner), narrow_squares(inner)), (dot(x, 3, y, 3, n), narrow_dot(x, 3, y, 3, n))]
        for one, other in pairs:
            assert not np.isnan(one)
            assert np.array(one, dtype).tobytes() == np.array(other, dtype).tobytes(), n


@pytest.mark.skipif(not has_fma(), reason="the definition below rounds once")
@pytest.mark.parametrize("n", [5, 16, 21, 64, 90])
def test_each_way_adds_in_the_order_that_is_promised(ways, n):
    """float32 products are exact in float64, so that rounding once is adding there and rounding to float32."""
    x, y = (np.random.default_rng(seed).standard_normal(n).astype(np.float32) for seed in (n, n + 1))
    for n_partials, values, found in (
        (reduce.SQUARES, x, [squares(x) for squares, _ in ways]),
        (reduce.PRODUCTS, y, [dot(x, 0, y, 0, n) for _, dot in ways]),
    ):
        partial = np.zeros(n_partials, np.float32)
        for i in range(n):
            partial[i % n_partials] = np.float64(x[i]) * np.float64(values[i]) + np.float64(partial[i % n_partials])
        while partial.size > 1:
            partial = partial[: partial.size // 2] + partial[partial.size // 2 :]
        assert found == [partial[0]] * 2
