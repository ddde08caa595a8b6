"""The barrier: every block of every phase is done once, in order, by any number of threads, early, late or absent."""

import threading
import time

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import config, njit

from fastnn.core.parallel import barrier
from fastnn.core.parallel.barrier import ARRIVED, BLOCKS, DONE, OVER, PHASE, barrier_size

pytestmark = pytest.mark.nojit
needs_compiler = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has one thread")


@njit
def reset_barrier(words, n_blocks, phase):
    barrier.reset_barrier(words, n_blocks, phase)


@njit
def arrive(words, n_blocks):
    return barrier.arrive(words, n_blocks)


@njit(nogil=True)
def next_block(words, phase, block, n_blocks):
    return barrier.next_block(words, phase, block, n_blocks)


@njit(nogil=True)
def run_phases(words, block, n_blocks, done, order):
    """The loop of one thread over len(done) phases: counts each block, and adds 100 where a phase begins too early."""
    phase = barrier.arrive(words, n_blocks)
    n = 0
    while phase != OVER:
        taken = barrier.next_block(words, phase, block, n_blocks)
        if taken < 0:
            phase = barrier.load_acquire(words, PHASE)
            continue
        for other in range(n_blocks):
            if phase > 0 and done[phase - 1, other] != 1:
                done[phase, taken] += 100
        done[phase, taken] += 1
        order[n] = phase * n_blocks + taken
        n += 1
        if barrier.is_last(words, n_blocks):
            phase = phase + 1 if phase + 1 < len(done) else OVER
            barrier.release(words, phase)
    return n


@njit(nogil=True)
def take_all(words, taken):
    """Try to take every word once; ``taken`` says which ones were given."""
    for i in range(taken.size):
        taken[i] = barrier.compare_exchange(words, i, 7)


def run_threads(n_blocks, n_phases, blocks, late=()):
    """Run the loop on a Python thread for each of ``blocks``: counts of the blocks, and the order of each thread."""
    words = np.zeros(barrier_size(n_blocks), np.int64)
    reset_barrier(words, n_blocks, 0)
    done = np.zeros((n_phases, n_blocks), np.int64)
    orders = [np.full(done.size, -1) for _ in blocks]

    def run(block, order):
        if block in late:
            time.sleep(0.02)
        run_phases(words, block, n_blocks, done, order)

    run_phases(np.full(barrier_size(1), OVER), 0, 1, done, orders[0])  # compiles
    threads = [threading.Thread(target=run, args=pair) for pair in zip(blocks, orders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it waits for ever"
    assert words[PHASE] == OVER
    return done, [order[order >= 0] for order in orders]


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 8])
def test_one_thread_does_everything(n_blocks):
    for block in range(n_blocks):
        done, (order,) = run_threads(n_blocks, 5, [block])
        assert (done == 1).all()
        np.testing.assert_array_equal(order // n_blocks, np.repeat(np.arange(5), n_blocks))
        assert (order[::n_blocks] % n_blocks == block).all()  # its own block first


@needs_compiler
@pytest.mark.parametrize("late", [(), (0,), (1,)], ids=["together", "first late", "second late"])
@pytest.mark.parametrize("n_blocks", [2, 3, 4])
@pytest.mark.parametrize("absent", [0, 1])
def test_threads_share_every_phase(n_blocks, absent, late):
    done, orders = run_threads(n_blocks, 2000, range(n_blocks - absent), late)
    assert (done == 1).all()
    everything = np.sort(np.concatenate(orders))
    np.testing.assert_array_equal(everything, np.arange(2000 * n_blocks))
    for order in orders:
        assert (np.diff(order // n_blocks) >= 0).all()


@needs_compiler
@pytest.mark.parametrize("stuck", [0, 1])
def test_a_block_that_no_thread_begins_is_taken(stuck):
    """Both threads have arrived, and one of them is put to sleep before its block."""
    words = np.zeros(barrier_size(2), np.int64)
    reset_barrier(words, 2, 0)
    assert arrive(words, 2) == arrive(words, 2) == 0
    assert words[ARRIVED] == 2
    awake = 1 - stuck
    assert [next_block(words, 0, awake, 2) for _ in range(2)] == [awake, stuck]


@needs_compiler
def test_a_thread_that_arrives_in_an_old_phase_is_given_nothing():
    words = np.zeros(barrier_size(2), np.int64)
    reset_barrier(words, 2, 0)
    words[PHASE] = 3
    words[BLOCKS::8] = 3
    assert next_block(words, 2, 0, 2) == -1
    assert next_block(words, 3, 0, 2) == 0


@needs_compiler
def test_no_word_is_given_twice():
    words = np.full(200_000, 7)
    taken = [np.zeros(words.size, np.bool_) for _ in range(4)]
    take_all(words[:0], taken[0][:0])
    threads = [threading.Thread(target=take_all, args=(words, own)) for own in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (np.sum(taken, axis=0) == 1).all() and (words == 8).all()


def test_a_barrier_can_be_over_before_it_begins():
    words = np.ones(barrier_size(2), np.int64)
    reset_barrier(words, 2, OVER)
    assert arrive(words, 2) == OVER and words[DONE] == 0


@pytest.mark.parametrize(("processor", "instruction"), [("x86_64", "pause"), ("aarch64", "isb"), ("riscv64", None)])
def test_the_spin_wait_hint_of_each_processor(processor, instruction):
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "wait")
    builder = ir.IRBuilder(function.append_basic_block())
    barrier.emit_spin_pause(builder, processor)
    builder.ret_void()
    if instruction is None:
        assert len(function.blocks[0].instructions) == 1
        return
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(f"{processor}-unknown-linux-gnu").create_target_machine()
    assert instruction in target.emit_assembly(llvm.parse_assembly(str(module))).lower()
