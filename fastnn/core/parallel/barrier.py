"""A reusable barrier between the phases of one parallel loop, whose threads stay in the loop.

A phase has ``n_blocks`` blocks of work. Thread b does block b, then waits until all blocks are done. The thread that
finishes last does the serial work and releases the next phase, so no thread waits for a particular other one. A barrier
of two threads takes .09 us in good and .27 in bad minutes; leaving a parallel loop and entering the next takes 1.5 and
4.8 us in the same minutes (Zen 3; a step of 784-50-10, with two barriers, takes some 200).

If a thread has not begun its block after `PATIENCE` polls, another thread takes the block. The first one is not
scheduled, or it never arrives, because nested parallel loops run on one thread, one block after the other. So the loop
ends with any number of threads, and a single thread does all blocks of all phases.

In plain Python there is one thread, and the bodies of these functions are run as they stand.
"""

import ctypes
import os

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..compile.jit import kernel
from ..simd.llvm import array_data
from ..simd.target import APART_BYTES, PROCESSOR
from ..tuning import PATIENCE, SPINS_BEFORE_YIELD
from .partition import fetch_add

LINE = APART_BYTES // 8  # int64 in a cache line; words that different threads write lie on different lines
# Layout of ``barrier``: the current phase, or OVER; the number of its blocks that are done; the number of threads that
# have arrived; then for each block the phase in which it can be taken next.
PHASE, DONE, ARRIVED, BLOCKS = 0, LINE, 2 * LINE, 3 * LINE
OVER = -1


def barrier_size(n_blocks):
    """Number of int64 in a barrier of ``n_blocks`` blocks (plain Python)."""
    return BLOCKS + n_blocks * LINE


@kernel
def reset_barrier(barrier, n_blocks, phase):
    """Set the barrier to the start of ``phase``, before the parallel loop. Writes: barrier."""
    barrier[DONE] = 0
    barrier[ARRIVED] = 0
    for other in range(n_blocks):
        barrier[BLOCKS + other * LINE] = phase
    barrier[PHASE] = phase


@kernel
def arrive(barrier, n_blocks):
    """Count a thread that enters the loop. Returns the current phase. Writes: barrier."""
    if n_blocks > 1:
        fetch_add(barrier, ARRIVED)
    return load_acquire(barrier, PHASE)


@kernel
def next_block(barrier, phase, block, n_blocks):
    """A block of this phase for thread ``block``: its own, or one that no thread begins; -1 once the phase is over.

    Writes: barrier.
    """
    if n_blocks == 1 or compare_exchange(barrier, BLOCKS + block * LINE, phase):
        return block
    polls = 0
    while load_acquire(barrier, PHASE) == phase:
        if polls >= PATIENCE or load_acquire(barrier, ARRIVED) < n_blocks:
            for other in range(n_blocks):
                word = BLOCKS + other * LINE
                if load_acquire(barrier, word) == phase and compare_exchange(barrier, word, phase):
                    return other
        polls += 1
        spin_pause()
        if polls > SPINS_BEFORE_YIELD:
            yield_processor()
    return -1


@kernel
def is_last(barrier, n_blocks):
    """Count a block that is done; returns whether it was the last one of this phase. Writes: barrier."""
    return n_blocks == 1 or fetch_add(barrier, DONE) == n_blocks - 1


@kernel
def release(barrier, phase):
    """Let the threads go on to the next phase, or leave with OVER; the last thread calls this. Writes: barrier."""
    barrier[DONE] = 0
    store_release(barrier, PHASE, phase)


# ------------------------------------------------------------------------------------------------ processor primitives


def _pointer(context, builder, sig, args):
    return builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])


def load_acquire(words, i):
    """``words[i]``, and with it all that was written before the `store_release` of this value. Reads: words."""
    return words[i]


@type_callable(load_acquire)
def _type_load_acquire(context):
    return lambda words, i: types.int64(words, types.int64)


@lower_builtin(load_acquire, types.Array, types.Integer)
def _lower_load_acquire(context, builder, sig, args):
    return builder.load_atomic(_pointer(context, builder, sig, args), ordering="acquire", align=8)


def store_release(words, i, value):
    """``words[i] <- value``: a `load_acquire` that reads it sees all that was written before. Writes: words."""
    words[i] = value


@type_callable(store_release)
def _type_store_release(context):
    return lambda words, i, value: types.void(words, types.int64, types.int64)


@lower_builtin(store_release, types.Array, types.Integer, types.Integer)
def _lower_store_release(context, builder, sig, args):
    builder.store_atomic(args[2], _pointer(context, builder, sig, args), ordering="release", align=8)
    return context.get_dummy_value()


def compare_exchange(words, i, phase):
    """If ``words[i]`` is ``phase``, add one to it and return True, to one thread only; else False. Writes: words."""
    free = words[i] == phase
    words[i] += free
    return bool(free)


@type_callable(compare_exchange)
def _type_compare_exchange(context):
    return lambda words, i, phase: types.boolean(words, types.int64, types.int64)


@lower_builtin(compare_exchange, types.Array, types.Integer, types.Integer)
def _lower_compare_exchange(context, builder, sig, args):
    after = builder.add(args[2], ir.Constant(ir.IntType(64), 1))
    pointer = _pointer(context, builder, sig, args)
    found = builder.cmpxchg(pointer, args[2], after, "acq_rel", "acquire")
    return builder.extract_value(found, 1)


def spin_pause():
    """Pause for some cycles, so that the core's other hardware thread runs faster."""


@type_callable(spin_pause)
def _type_spin_pause(context):
    return lambda: types.void()


@lower_builtin(spin_pause)
def _lower_spin_pause(context, builder, sig, args):
    emit_spin_pause(builder, PROCESSOR)
    return context.get_dummy_value()


def emit_spin_pause(builder, processor):
    """Emit a short wait for spin-wait loops, if the processor has one.

    On ARM64 that is ISB, which refills the pipeline: some tens of cycles, as PAUSE takes on x86-64. YIELD, the hint for
    such loops, does nothing on most ARM64 cores.
    """
    void, i32 = ir.VoidType(), ir.IntType(32)
    if processor == "x86_64":
        builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, []), "llvm.x86.sse2.pause"), []
        )
    if processor == "aarch64":
        isb = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [i32]), "llvm.aarch64.isb")
        builder.call(isb, [ir.Constant(i32, 15)])  # SY, the only kind there is


def yield_processor():
    """Let the operating system run another thread on this processor."""


_YIELD = "fastnn_yield"
_system = ctypes.windll.kernel32.SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield
llvmlite.binding.add_symbol(_YIELD, ctypes.cast(_system, ctypes.c_void_p).value)


@type_callable(yield_processor)
def _type_yield_processor(context):
    return lambda: types.void()


@lower_builtin(yield_processor)
def _lower_yield_processor(context, builder, sig, args):
    signature = ir.FunctionType(ir.IntType(32), [])
    builder.call(cgutils.get_or_insert_function(builder.module, signature, _YIELD), [])
    return context.get_dummy_value()
