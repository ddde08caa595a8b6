"""Blocks by speed: shares that follow what blocks were measured to do, numbers that are drawn once."""

import threading
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import config, njit

from fastnn.core import balance
from fastnn.core.balance import CLOCK, MARKS, PAIR, TOLERANCE

pytestmark = pytest.mark.nojit
GROUP = 8
# name -> what is shared out in a half of a step: rows of (number of items, work of one, quantum)
LOADS = {
    "rows": [(200, 1, PAIR)],
    "weights": [(784, 100, GROUP), (100, 10, GROUP)],
    "deep": [(54, 256, GROUP), (256, 256, GROUP), (256, 256, GROUP), (256, 7, GROUP)],
}
SPEEDS = {"one slow": (1.0, 0.75), "one fast": (1.4, 1.0), "two kinds": (1.0, 1.0, 0.5, 0.5), "alike": (1.0, 1.0, 1.0)}


class Buffers(NamedTuple):
    ends: np.ndarray
    speeds: np.ndarray
    loads: np.ndarray
    clocks: np.ndarray


@njit
def cut_anew(ends, speeds, loads, clocks, half, n_blocks):
    balance.cut_anew(Buffers(ends, speeds, loads, clocks), half, n_blocks)


@njit
def cut(ends, block, n, quantum):
    return balance.cut(ends, block, n, quantum)


@njit
def slowest(ends, speeds, loads):
    return balance.slowest(ends, speeds, loads)


@njit
def next_rows(marks, block, n_blocks, n, most):
    return balance.next_rows(marks, block, n_blocks, n, most)


@njit
def boundary(block, n_blocks, n, quantum):
    return balance.boundary(block, n_blocks, n, quantum)


@njit(nogil=True)
def draw(counters, drawn):
    for i in range(drawn.size):
        drawn[i] = balance.ticket(counters, 1)


@njit
def ticks():
    return balance.ticks()


def make_buffers(n_blocks, loads):
    """As they are before a first step; the second half shares out ``loads``, the first half rows."""
    ends = np.tile(np.arange(1, n_blocks + 1) / n_blocks, 3)
    loads = np.array([(200, 1, PAIR), *loads], dtype=np.int64).reshape(-1)
    return Buffers(ends, np.ones(2 * n_blocks), loads, np.zeros(n_blocks * CLOCK, np.int64))


def work_of(buffers, loads, block, n_blocks):
    ends = buffers.ends[n_blocks : 2 * n_blocks]
    return sum((cut(ends, block + 1, n, q) - cut(ends, block, n, q)) * each for n, each, q in loads)


def step(buffers, loads, speeds, noise=None):
    """One step in which block b does its work at its speed; the time of the slowest."""
    times = []
    for block, speed in enumerate(speeds):
        work = work_of(buffers, loads, block, len(speeds))
        spent = work / speed * (1 if noise is None else noise[block])
        buffers.clocks[block * CLOCK + 2 : block * CLOCK + 4] = 1000 * spent, work
        times.append(spent)
    cut_anew(*buffers, 1, len(speeds))
    return max(times)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 7])
@pytest.mark.parametrize(("n", "quantum"), [(200, 2), (7, 2), (784, 8), (54, 8), (3, 8), (1, 1)])
def test_equal_ends_cut_like_boundaries(n, quantum, n_blocks):
    ends = np.arange(1, n_blocks + 1) / n_blocks
    cuts = [cut(ends, block, n, quantum) for block in range(n_blocks + 1)]
    assert cuts[0] == 0 and cuts[-1] == n
    for block, found in enumerate(cuts):
        assert found == n or found % quantum == 0
        assert abs(found - boundary(block, n_blocks, n, quantum)) <= quantum


@pytest.mark.parametrize("n", [1, 13, 256])
def test_any_ends_cut_into_everything_once(n):
    rng = np.random.default_rng(n)
    for n_blocks in (2, 5, 16):
        ends = np.cumsum(rng.dirichlet(np.full(n_blocks, 0.3)))
        cuts = [cut(ends, block, n, 2) for block in range(n_blocks + 1)]
        assert cuts[0] == 0 and cuts[-1] == n and (np.diff(cuts) >= 0).all()


@pytest.mark.parametrize("speeds", SPEEDS.values(), ids=SPEEDS)
@pytest.mark.parametrize("loads", LOADS.values(), ids=LOADS)
def test_shares_follow_speeds(loads, speeds):
    buffers = make_buffers(len(speeds), loads)
    first = step(buffers, loads, speeds)
    for _ in range(60):
        last = step(buffers, loads, speeds)
    largest = max(each * quantum for _, each, quantum in loads)
    best = sum(n * each for n, each, _ in loads) / sum(speeds)
    assert last <= first
    assert last <= TOLERANCE * best + largest / min(speeds)


@pytest.mark.parametrize("loads", LOADS.values(), ids=LOADS)
def test_noise_and_single_interruptions_move_nothing(loads):
    buffers = make_buffers(2, loads)
    before = buffers.ends[2:4].copy()
    rng = np.random.default_rng(0)
    for i in range(300):
        noise = rng.normal(1, 0.01, 2)
        if i % 40 == 20:
            noise[i % 3 % 2] *= 100
        step(buffers, loads, (1.0, 1.0), noise)
    np.testing.assert_array_equal(buffers.ends[2:4], before)


def test_a_block_that_stood_still_gets_its_share_again():
    loads = LOADS["rows"]
    buffers = make_buffers(2, loads)
    for _ in range(200):
        step(buffers, loads, (1.0, 0.001))
    assert 0 < work_of(buffers, loads, 1, 2) < 40
    for _ in range(200):
        step(buffers, loads, (1.0, 1.0))
    assert abs(work_of(buffers, loads, 1, 2) - 100) <= 6


@pytest.mark.parametrize("seed", range(5))
def test_shares_too_coarse_for_the_speeds_are_left_alone(seed):
    """A share is two groups of 8 rows: a third, for a block 3 % faster than others, takes half as long again."""
    loads = [(256, 256, GROUP)]
    buffers = make_buffers(16, loads)
    rng = np.random.default_rng(seed)
    speeds = rng.uniform(0.95, 1.05, 16)
    even = step(buffers, loads, speeds)
    for _ in range(100):
        assert step(buffers, loads, speeds, rng.normal(1, 0.02, 16)) <= 1.1 * even
    assert slowest(buffers.ends[16:32], speeds, buffers.loads[3:]) == pytest.approx(even)


@pytest.mark.parametrize(
    "clocks", [(0, 0, 0, 0), (50, 7, 0, 0), (0, 7, 0, 7)], ids=["nothing", "one block", "no clock"]
)
def test_without_two_times_nothing_is_learnt(clocks):
    buffers = make_buffers(2, LOADS["rows"])
    buffers.clocks[2:4], buffers.clocks[CLOCK + 2 : CLOCK + 4] = clocks[:2], clocks[2:]
    before = [array.copy() for array in buffers]
    cut_anew(*buffers, 1, 2)
    for array, expected in zip(buffers, before, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 8, 100, 1000])
@pytest.mark.parametrize("most", [16, 256])
def test_rows_are_handed_out_once(n, n_blocks, most):
    marks = np.zeros(n_blocks * MARKS, np.int64)
    done = np.zeros(n, int)
    asking, turn = list(range(n_blocks)), 0
    while asking:  # in turns; who is given nothing asks no more
        block = asking[turn % len(asking)]
        start, m = next_rows(marks, block, n_blocks, n, most)
        assert 0 <= m <= most
        done[start : start + m] += 1
        if m == 0:
            asking.remove(block)
        turn += 1
    assert (done == 1).all()


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_block_does_its_own_rows_first_and_then_all_others(block):
    """Of 72 rows in three shares, 16 at a time."""
    marks = np.zeros(3 * MARKS, np.int64)
    starts = [next_rows(marks, block, 3, 72, 16) for _ in range(7)]
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
    """Machine code for them reads the clock that any program may read; none that is not known is read."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), []), "clock")
    builder = ir.IRBuilder(function.append_basic_block())
    value = balance.emit_ticks(builder, processor)
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
