"""Where the threads of one parallel loop meet, over and over, without leaving it.

Work comes in phases, each of ``n_blocks`` pieces. Thread b does piece b, then waits until all pieces are done. The
thread that is done last does what is serial and opens the next phase: nobody waits for a particular thread. A meeting
of two takes .09 us in good and .27 in bad minutes; leaving a parallel loop and entering the next instead 1.5 and 4.8
in the same ones (Zen 3; a step of 784-50-10, with two meetings, takes some 200).

A piece that its own thread has not begun after `PATIENCE` looks, another one takes: it has been put to sleep, or
it never came, since nested parallel loops run on one thread, one block after the other. So no number of threads
hangs, and a single one does all pieces of all phases.

In plain Python there is one thread, and each of these functions does what it says.
"""

import ctypes
import os

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..compile.jit import kernel
from ..simd.target import LINE_BYTES, PROCESSOR
from ..simd.tile import array_data
from .partition import fetch_add

LINE = LINE_BYTES // 8  # int64 in a cache line: what different threads write lies on different ones
# Of ``barrier``: the phase that is open, or OVER; how many of its pieces are done; how many threads have come; and then
# for each piece the phase in which it will be free.
PHASE, DONE, ARRIVED, BLOCKS = 0, LINE, 2 * LINE, 3 * LINE
OVER = -1
PATIENCE = 400  # looks at the phase before a thread takes another's piece: some 10 us
SPINS_BEFORE_YIELD = 1000  # looks from which on a waiting thread lets others have its processor


def barrier_size(n_blocks):
    """int64 that a meeting of so many threads takes (plain Python)."""
    return BLOCKS + n_blocks * LINE


@kernel
def reset_barrier(barrier, n_blocks, phase):
    """Before the parallel loop: ``phase`` is open, all its pieces are free, and nobody is here. Writes: meeting."""
    barrier[DONE] = 0
    barrier[ARRIVED] = 0
    for piece in range(n_blocks):
        barrier[BLOCKS + piece * LINE] = phase
    barrier[PHASE] = phase


@kernel
def arrive(barrier, n_blocks):
    """A thread comes in. Returns the phase that is open. Writes: meeting."""
    if n_blocks > 1:
        fetch_add(barrier, ARRIVED)
    return load_acquire(barrier, PHASE)


@kernel
def next_block(barrier, phase, block, n_blocks):
    """A piece of this phase for the thread of a block: its own, or one that nobody begins; -1 once the phase is over.

    Writes: meeting.
    """
    if n_blocks == 1 or compare_exchange(barrier, BLOCKS + block * LINE, phase):
        return block
    looks = 0
    while load_acquire(barrier, PHASE) == phase:
        if looks >= PATIENCE or load_acquire(barrier, ARRIVED) < n_blocks:
            for piece in range(n_blocks):
                at = BLOCKS + piece * LINE
                if load_acquire(barrier, at) == phase and compare_exchange(barrier, at, phase):
                    return piece
        looks += 1
        spin_pause()
        if looks > SPINS_BEFORE_YIELD:
            yield_processor()
    return -1


@kernel
def is_last(barrier, n_blocks):
    """A thread has done a piece: whether it was the last one of this phase. Writes: meeting."""
    return n_blocks == 1 or fetch_add(barrier, DONE) == n_blocks - 1


@kernel
def release(barrier, phase):
    """Whoever was last opens the next phase, or ends the meeting with OVER. Writes: meeting."""
    barrier[DONE] = 0
    store_release(barrier, PHASE, phase)


# ------------------------------------------------------------------------------------------------ what processors do


def _pointer(context, builder, sig, args):
    return builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])


def load_acquire(words, i):
    """``words[i]``, with all that was written before it was published. Reads: words."""
    return words[i]


@type_callable(load_acquire)
def _type_load_acquire(context):
    return lambda words, i: types.int64(words, types.int64)


@lower_builtin(load_acquire, types.Array, types.Integer)
def _lower_load_acquire(context, builder, sig, args):
    return builder.load_atomic(_pointer(context, builder, sig, args), ordering="acquire", align=8)


def store_release(words, i, value):
    """``words[i] <- value``: who looks and finds it, finds all that was written before. Writes: words."""
    words[i] = value


@type_callable(store_release)
def _type_store_release(context):
    return lambda words, i, value: types.void(words, types.int64, types.int64)


@lower_builtin(store_release, types.Array, types.Integer, types.Integer)
def _lower_store_release(context, builder, sig, args):
    builder.store_atomic(args[2], _pointer(context, builder, sig, args), ordering="release", align=8)
    return context.get_dummy_value()


def compare_exchange(words, i, phase):
    """Whether ``words[i]`` was ``phase``; it is one more then, and no other thread is told so. Writes: words."""
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
    """Let the other thread of this core go first for some cycles."""


@type_callable(spin_pause)
def _type_spin_pause(context):
    return lambda: types.void()


@lower_builtin(spin_pause)
def _lower_spin_pause(context, builder, sig, args):
    emit_spin_pause(builder, PROCESSOR)
    return context.get_dummy_value()


def emit_spin_pause(builder, processor):
    """Emit the instruction with which loops that wait are marked on a processor, if it has one."""
    void, i32 = ir.VoidType(), ir.IntType(32)
    if processor == "x86_64":
        builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, []), "llvm.x86.sse2.pause"), []
        )
    if processor == "aarch64":
        hint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [i32]), "llvm.aarch64.hint")
        builder.call(hint, [ir.Constant(i32, 1)])  # YIELD


def yield_processor():
    """Let the operating system run another thread on this processor."""


_YIELD = "fastnn_give_way"
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
