"""Claims of pieces of a step's second half: each piece once, whoever asks, and parts only once they are on offer."""

from typing import NamedTuple

import numpy as np
import pytest
from numba import njit

from fastnn.core.nn import update
from fastnn.core.nn.update import STRIP
from fastnn.core.parallel import stealing
from fastnn.core.parallel.stealing import claims_size

pytestmark = pytest.mark.nojit


class Layout(NamedTuple):
    units: np.ndarray


class Plan(NamedTuple):
    n_layers: int


class Shared(NamedTuple):
    params: np.ndarray
    ends: np.ndarray
    claims: np.ndarray


@njit
def next_strip(units, params, ends, words, first_layer, owner, n_blocks, done):
    shared = Shared(params, ends, words)
    return stealing.next_strip(Layout(units), Plan(units.size - 1), shared, first_layer, owner, n_blocks, done)


@njit
def next_rows_of(words, n_blocks, part, n):
    return stealing.next_rows_of(words, n_blocks, part, n)


@njit
def unclaim(words, n_blocks):
    stealing.unclaim(words, n_blocks)


@njit
def offer(words, n_blocks, part):
    stealing.offer(words, n_blocks, part)


@njit
def is_open(words, piece):
    return stealing.is_open(words, piece)


@njit
def strip_height(fan_out, itemsize):
    return update.strip_height(fan_out, itemsize)


class Step:
    """The second half of a step of a network, without the work."""

    def __init__(self, units, n_blocks, ends=None):
        self.units, self.n_blocks = np.array(units), n_blocks
        self.ends = np.tile(np.arange(1, n_blocks + 1) / n_blocks if ends is None else ends, 2)
        self.params = np.zeros(1, np.float32)
        self.claims = np.full(claims_size(n_blocks, 4), 99)
        self.had = dict.fromkeys(range(n_blocks), 0)
        unclaim(self.claims, n_blocks)

    def claim(self, owner, first_layer=0):
        given = self.units, self.params, self.ends, self.claims
        strip = next_strip(*given, first_layer, owner, self.n_blocks, self.had[owner])
        self.had[owner] += 1
        return strip


@pytest.mark.parametrize("first_layer", [0, 1])
@pytest.mark.parametrize("n_blocks", [1, 2, 3, 7])
@pytest.mark.parametrize("units", [(784, 100, 10), (54, 256, 256, 7), (3, 2, 1), (1100, 1), (20, 700, 9)])
def test_each_weight_row_is_claimed_once_whoever_asks(units, n_blocks, first_layer):
    rng = np.random.default_rng(n_blocks)
    for ends in (None, np.cumsum(rng.dirichlet(np.full(n_blocks, 0.5)))):
        step = Step(units, n_blocks, ends=ends)
        taken = [np.zeros(n, int) for n in units[:-1]]
        open_blocks = list(range(n_blocks))
        while open_blocks:
            owner = open_blocks[rng.integers(len(open_blocks))]
            assert is_open(step.claims, owner)
            layer, i0, n = step.claim(owner, first_layer)
            if n == 0:
                assert not is_open(step.claims, owner)
                assert step.claim(owner, first_layer)[2] == 0
                open_blocks.remove(owner)
            else:
                assert i0 % 8 == 0
                taken[layer][i0 : i0 + n] += 1
        for layer, times in enumerate(taken):
            assert (times == (layer >= first_layer)).all()


def test_a_share_is_claimed_in_strips_only_where_somebody_could_help():
    units = (784, 100, 10)
    assert Step(units, 1).claim(0) == (0, 0, 784)  # alone
    layer, i0, n = Step(units, 2).claim(1)
    assert (layer, i0) == (0, 392)
    assert n % STRIP == 0 and 392 / 5 < n <= strip_height(100, 4)


@pytest.mark.parametrize("n_blocks", [1, 2])
@pytest.mark.parametrize("n", [1, 48, 95, 100, 127, 128, 200, 1000])
def test_each_row_of_the_next_batch_is_claimed_once(n, n_blocks):
    words = np.zeros(claims_size(n_blocks, 2), np.int64)
    unclaim(words, n_blocks)
    offer(words, n_blocks, 1)
    end, pieces = 0, []
    while True:
        start, rows = next_rows_of(words, n_blocks, 1, n)
        if rows == 0:
            break
        assert start == end
        end, pieces = start + rows, [*pieces, rows]
    assert end == n
    assert not is_open(words, n_blocks + 1) and not is_open(words, n_blocks)
    assert (len(pieces) > 1) == (n_blocks > 1 and n >= 128)
    assert len(pieces) == 1 or min(pieces) >= 48
    assert next_rows_of(words, n_blocks, 0, n)[1] == 0  # the other part is not on offer
    offer(words, n_blocks, 0)
    assert next_rows_of(words, n_blocks, 0, n)[0] == 0  # and as it was


def test_parts_are_open_only_while_they_are_on_offer():
    words = np.full(claims_size(3, 2), 5)
    unclaim(words, 3)
    assert [is_open(words, piece) for piece in range(5)] == [True, True, True, False, False]
    offer(words, 3, 1)
    assert [is_open(words, piece) for piece in range(5)] == [True, True, True, False, True]
    unclaim(words, 3)
    assert not is_open(words, 4)
