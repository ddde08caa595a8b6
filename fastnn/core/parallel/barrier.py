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
from .partition import ticket

LINE = LINE_BYTES // 8  # int64 in a cache line: what different threads write lies on different ones
# Of ``meeting``: the phase that is open, or OVER; how many of its pieces are done; how many threads have come; and then
# for each piece the phase in which it will be free.
PHASE, DONE, PRESENT, PIECES = 0, LINE, 2 * LINE, 3 * LINE
OVER = -1
PATIENCE = 400  # looks at the phase before a thread takes another's piece: some 10 us
LONG = 1000  # looks from which on a waiting thread lets others have its processor


def meeting_size(n_blocks):
    """int64 that a meeting of so many threads takes (plain Python)."""
    return PIECES + n_blocks * LINE


@kernel
def convene(meeting, n_blocks, phase):
    """Before the parallel loop: ``phase`` is open, all its pieces are free, and nobody is here. Writes: meeting."""
    meeting[DONE] = 0
    meeting[PRESENT] = 0
    for piece in range(n_blocks):
        meeting[PIECES + piece * LINE] = phase
    meeting[PHASE] = phase


@kernel
def come(meeting, n_blocks):
    """A thread comes in. Returns the phase that is open. Writes: meeting."""
    if n_blocks > 1:
        ticket(meeting, PRESENT)
    return look(meeting, PHASE)


@kernel
def next_piece(meeting, phase, block, n_blocks):
    """A piece of this phase for the thread of a block: its own, or one that nobody begins; -1 once the phase is over.

    Writes: meeting.
    """
    if n_blocks == 1 or free_then_taken(meeting, PIECES + block * LINE, phase):
        return block
    looks = 0
    while look(meeting, PHASE) == phase:
        if looks >= PATIENCE or look(meeting, PRESENT) < n_blocks:
            for piece in range(n_blocks):
                at = PIECES + piece * LINE
                if look(meeting, at) == phase and free_then_taken(meeting, at, phase):
                    return piece
        looks += 1
        breathe()
        if looks > LONG:
            give_way()
    return -1


@kernel
def all_done(meeting, n_blocks):
    """A thread has done a piece: whether it was the last one of this phase. Writes: meeting."""
    return n_blocks == 1 or ticket(meeting, DONE) == n_blocks - 1


@kernel
def open_phase(meeting, phase):
    """Whoever was last opens the next phase, or ends the meeting with OVER. Writes: meeting."""
    meeting[DONE] = 0
    publish(meeting, PHASE, phase)


# ------------------------------------------------------------------------------------------------ what processors do


def _pointer(context, builder, sig, args):
    return builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])


def look(words, i):
    """``words[i]``, with all that was written before it was published. Reads: words."""
    return words[i]


@type_callable(look)
def _type_look(context):
    return lambda words, i: types.int64(words, types.int64)


@lower_builtin(look, types.Array, types.Integer)
def _lower_look(context, builder, sig, args):
    return builder.load_atomic(_pointer(context, builder, sig, args), ordering="acquire", align=8)


def publish(words, i, value):
    """``words[i] <- value``: who looks and finds it, finds all that was written before. Writes: words."""
    words[i] = value


@type_callable(publish)
def _type_publish(context):
    return lambda words, i, value: types.void(words, types.int64, types.int64)


@lower_builtin(publish, types.Array, types.Integer, types.Integer)
def _lower_publish(context, builder, sig, args):
    builder.store_atomic(args[2], _pointer(context, builder, sig, args), ordering="release", align=8)
    return context.get_dummy_value()


def free_then_taken(words, i, phase):
    """Whether ``words[i]`` was ``phase``; it is one more then, and no other thread is told so. Writes: words."""
    free = words[i] == phase
    words[i] += free
    return bool(free)


@type_callable(free_then_taken)
def _type_free_then_taken(context):
    return lambda words, i, phase: types.boolean(words, types.int64, types.int64)


@lower_builtin(free_then_taken, types.Array, types.Integer, types.Integer)
def _lower_free_then_taken(context, builder, sig, args):
    after = builder.add(args[2], ir.Constant(ir.IntType(64), 1))
    pointer = _pointer(context, builder, sig, args)
    found = builder.cmpxchg(pointer, args[2], after, "acq_rel", "acquire")
    return builder.extract_value(found, 1)


def breathe():
    """Let the other thread of this core go first for some cycles."""


@type_callable(breathe)
def _type_breathe(context):
    return lambda: types.void()


@lower_builtin(breathe)
def _lower_breathe(context, builder, sig, args):
    emit_breath(builder, PROCESSOR)
    return context.get_dummy_value()


def emit_breath(builder, processor):
    """Emit the instruction with which loops that wait are marked on a processor, if it has one."""
    void, i32 = ir.VoidType(), ir.IntType(32)
    if processor == "x86_64":
        builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, []), "llvm.x86.sse2.pause"), []
        )
    if processor == "aarch64":
        hint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [i32]), "llvm.aarch64.hint")
        builder.call(hint, [ir.Constant(i32, 1)])  # YIELD


def give_way():
    """Let the operating system run another thread on this processor."""


_YIELD = "fastnn_give_way"
_system = ctypes.windll.kernel32.SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield
llvmlite.binding.add_symbol(_YIELD, ctypes.cast(_system, ctypes.c_void_p).value)


@type_callable(give_way)
def _type_give_way(context):
    return lambda: types.void()


@lower_builtin(give_way)
def _lower_give_way(context, builder, sig, args):
    signature = ir.FunctionType(ir.IntType(32), [])
    builder.call(cgutils.get_or_insert_function(builder.module, signature, _YIELD), [])
    return context.get_dummy_value()
