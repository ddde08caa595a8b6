"""Division of the work among blocks: bounds, rows that are handed out once, atomic counters, the clock."""

import threading
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import config, njit

from fastnn.core.parallel import partition
from fastnn.core.parallel.partition import CLOCK, COUNTERS, ROWS_PASS, WEIGHTS_PASS

pytestmark = pytest.mark.nojit


@njit
def split_point(fractions, block, n, granularity):
    return partition.split_point(fractions, block, n, granularity)


@njit
def next_rows(counters, block, n_blocks, n, most):
    return partition.next_rows(counters, block, n_blocks, n, most)


@njit
def boundary(block, n_blocks, n, granularity):
    return partition.boundary(block, n_blocks, n, granularity)


@njit(nogil=True)
def draw(counters, drawn):
    for i in range(drawn.size):
        drawn[i] = partition.fetch_add(counters, 1)


@njit
def ticks():
    return partition.ticks()


class Clocks(NamedTuple):
    clocks: np.ndarray


@njit
def record(clocks, step_pass, block, n_blocks, start, work):
    partition.record(Clocks(clocks), step_pass, block, n_blocks, start, work)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 7])
@pytest.mark.parametrize(("n", "granularity"), [(200, 2), (7, 2), (784, 8), (54, 8), (3, 8), (1, 1)])
def test_equal_fractions_divide_like_boundaries(n, granularity, n_blocks):
    fractions = np.arange(1, n_blocks + 1) / n_blocks
    bounds = [split_point(fractions, block, n, granularity) for block in range(n_blocks + 1)]
    assert bounds[0] == 0 and bounds[-1] == n
    for block, found in enumerate(bounds):
        assert found == n or found % granularity == 0
        assert abs(found - boundary(block, n_blocks, n, granularity)) <= granularity


@pytest.mark.parametrize("n", [1, 13, 256])
def test_any_fractions_divide_everything_once(n):
    rng = np.random.default_rng(n)
    for n_blocks in (2, 5, 16):
        fractions = np.cumsum(rng.dirichlet(np.full(n_blocks, 0.3)))
        bounds = [split_point(fractions, block, n, 2) for block in range(n_blocks + 1)]
        assert bounds[0] == 0 and bounds[-1] == n and (np.diff(bounds) >= 0).all()


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 8, 100, 1000])
@pytest.mark.parametrize("most", [16, 256])
def test_rows_are_handed_out_once(n, n_blocks, most):
    counters = np.zeros(n_blocks * COUNTERS, np.int64)
    done = np.zeros(n, int)
    asking, turn = list(range(n_blocks)), 0
    while asking:  # in turns; a block that is given nothing does not ask again
        block = asking[turn % len(asking)]
        start, m = next_rows(counters, block, n_blocks, n, most)
        assert 0 <= m <= most
        done[start : start + m] += 1
        if m == 0:
            asking.remove(block)
        turn += 1
    assert (done == 1).all()


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_block_does_its_own_rows_first_and_then_all_others(block):
    """72 rows in three blocks, 16 at a time."""
    counters = np.zeros(3 * COUNTERS, np.int64)
    starts = [next_rows(counters, block, 3, 72, 16) for _ in range(7)]
    order = [24 * ((block + turn) % 3) for turn in range(3)]
    assert [tuple(pair) for pair in starts[:6]] == [part for lo in order for part in ((lo, 16), (lo + 16, 8))]
    assert starts[6][1] == 0


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python draws one after the other")
def test_no_number_is_drawn_twice():
    counters, each = np.zeros(3, np.int64), 200_000
    drawn = [np.zeros(each, np.int64) for _ in range(4)]
    draw(counters, np.zeros(0, np.int64))
    workers = [threading.Thread(target=draw, args=(counters, own)) for own in drawn]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(np.sort(np.concatenate(drawn)), np.arange(4 * each))
    assert counters.tolist() == [0, 4 * each, 0]


@pytest.mark.parametrize(
    ("processor", "instruction"), [("x86_64", "rdtsc"), ("aarch64", "CNTVCT_EL0"), ("riscv64", None)]
)
def test_the_clock_of_other_processors(processor, instruction):
    """Machine code reads the clock that any program may read; for an unknown processor it reads none."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), []), "clock")
    builder = ir.IRBuilder(function.append_basic_block())
    value = partition.emit_ticks(builder, processor)
    builder.ret(value)
    if instruction is None:
        assert value.constant == 0
        return
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(f"{processor}-unknown-linux-gnu").create_target_machine()
    assert instruction.lower() in target.emit_assembly(llvm.parse_assembly(str(module))).lower()


def test_the_clock_goes_forward():
    first = ticks()
    sum(range(10_000))
    assert ticks() > first or first == 0


def test_times_and_work_add_up_until_they_are_read():
    clocks = np.zeros(2 * CLOCK, np.int64)
    for work in (3, 4):
        record(clocks, WEIGHTS_PASS, 1, 2, ticks(), work)
    record(clocks, ROWS_PASS, 0, 1, ticks(), 9)  # a block alone records nothing
    at = CLOCK + 2 * WEIGHTS_PASS
    spent = clocks[at]
    assert clocks[at + 1] == 7
    assert spent > 0 or ticks() == 0
    clocks[at : at + 2] = 0
    assert not clocks.any()
