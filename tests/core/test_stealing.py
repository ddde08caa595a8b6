"""Work stealing in the weights pass: each tile is taken once by any thread, and splits only once they are published."""

from typing import NamedTuple

import numpy as np
import pytest
from numba import njit

from fastnn.core.nn import update
from fastnn.core.nn.update import TILE_ROWS
from fastnn.core.parallel import stealing
from fastnn.core.parallel.stealing import stealing_size

pytestmark = pytest.mark.nojit


class Layout(NamedTuple):
    units: np.ndarray


class Plan(NamedTuple):
    n_layers: int


class Shared(NamedTuple):
    params: np.ndarray
    fractions: np.ndarray
    stealing: np.ndarray


@njit
def next_tile(units, params, fractions, words, first_layer, owner, n_blocks, done):
    shared = Shared(params, fractions, words)
    return stealing.next_tile(Layout(units), Plan(units.size - 1), shared, first_layer, owner, n_blocks, done)


@njit
def next_rows_of_split(words, n_blocks, split, n):
    return stealing.next_rows_of_split(words, n_blocks, split, n)


@njit
def reset_stealing(words, n_blocks):
    stealing.reset_stealing(words, n_blocks)


@njit
def publish(words, n_blocks, split):
    stealing.publish(words, n_blocks, split)


@njit
def may_have_work(words, queue):
    return stealing.may_have_work(words, queue)


@njit
def tile_height(fan_out, itemsize):
    return update.tile_height(fan_out, itemsize)


class Step:
    """The weights pass of a network, without the work."""

    def __init__(self, units, n_blocks, fractions=None):
        self.units, self.n_blocks = np.array(units), n_blocks
        self.fractions = np.tile(np.arange(1, n_blocks + 1) / n_blocks if fractions is None else fractions, 2)
        self.params = np.zeros(1, np.float32)
        self.work = np.full(stealing_size(n_blocks, 4), 99)
        self.had = dict.fromkeys(range(n_blocks), 0)
        reset_stealing(self.work, n_blocks)

    def next_tile(self, owner, first_layer=0):
        given = self.units, self.params, self.fractions, self.work
        tile_index = next_tile(*given, first_layer, owner, self.n_blocks, self.had[owner])
        self.had[owner] += 1
        return tile_index


@pytest.mark.parametrize("first_layer", [0, 1])
@pytest.mark.parametrize("n_blocks", [1, 2, 3, 7])
@pytest.mark.parametrize("units", [(784, 100, 10), (54, 256, 256, 7), (3, 2, 1), (1100, 1), (20, 700, 9)])
def test_each_weight_row_is_taken_once_by_any_thread(units, n_blocks, first_layer):
    rng = np.random.default_rng(n_blocks)
    for fractions in (None, np.cumsum(rng.dirichlet(np.full(n_blocks, 0.5)))):
        step = Step(units, n_blocks, fractions=fractions)
        taken = [np.zeros(n, int) for n in units[:-1]]
        open_blocks = list(range(n_blocks))
        while open_blocks:
            owner = open_blocks[rng.integers(len(open_blocks))]
            assert may_have_work(step.work, owner)
            layer, i0, n = step.next_tile(owner, first_layer)
            if n == 0:
                assert not may_have_work(step.work, owner)
                assert step.next_tile(owner, first_layer)[2] == 0
                open_blocks.remove(owner)
            else:
                assert i0 % 8 == 0
                taken[layer][i0 : i0 + n] += 1
        for layer, times in enumerate(taken):
            assert (times == (layer >= first_layer)).all()


def test_a_block_alone_takes_its_rows_as_one_tile():
    units = (784, 100, 10)
    assert Step(units, 1).next_tile(0) == (0, 0, 784)  # alone
    layer, i0, n = Step(units, 2).next_tile(1)
    assert (layer, i0) == (0, 392)
    assert n % TILE_ROWS == 0 and 392 / 5 < n <= tile_height(100, 4)


@pytest.mark.parametrize("n_blocks", [1, 2])
@pytest.mark.parametrize("n", [1, 48, 95, 100, 127, 128, 200, 1000])
def test_each_row_of_the_next_batch_is_taken_once(n, n_blocks):
    words = np.zeros(stealing_size(n_blocks, 2), np.int64)
    reset_stealing(words, n_blocks)
    publish(words, n_blocks, 1)
    end, chunks = 0, []
    while True:
        start, rows = next_rows_of_split(words, n_blocks, 1, n)
        if rows == 0:
            break
        assert start == end
        end, chunks = start + rows, [*chunks, rows]
    assert end == n
    assert not may_have_work(words, n_blocks + 1) and not may_have_work(words, n_blocks)
    assert (len(chunks) > 1) == (n_blocks > 1 and n >= 128)
    assert len(chunks) == 1 or min(chunks) >= 48
    assert next_rows_of_split(words, n_blocks, 0, n)[1] == 0  # the other split is not published
    publish(words, n_blocks, 0)
    assert next_rows_of_split(words, n_blocks, 0, n)[0] == 0  # and is then


def test_splits_are_open_only_once_they_are_published():
    words = np.full(stealing_size(3, 2), 5)
    reset_stealing(words, 3)
    assert [may_have_work(words, queue) for queue in range(5)] == [True, True, True, False, False]
    publish(words, 3, 1)
    assert [may_have_work(words, queue) for queue in range(5)] == [True, True, True, False, True]
    reset_stealing(words, 3)
    assert not may_have_work(words, 4)
