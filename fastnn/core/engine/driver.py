"""The driver: the loop in which a thread goes from phase to phase, the same for every program.

The imports of the modules that define verbs fill the dispatch tables.
"""

from ..compile.jit import leaf
from ..compile.packing import IN, INT, NUMBERS, RECORD_SETS, ROWS
from ..parallel.barrier import OVER, PHASE, arrive, is_last, load_acquire, next_block
from ..records import VERB, unpack
from ..simd.scalar import flush_denormals, restore_denormals
from . import dense, dropped, shards, sparse  # noqa: F401
from .programs import START, advance, work


@leaf(RECORD_SETS, IN, ROWS, NUMBERS, NUMBERS, INT, INT, INT)
def run_program(packed, like, rows, scalars, losses, thread, n_blocks, workspace_size):
    """One thread's work in a call: its block of each phase, and blocks that no other thread begins.

    Writes: as `entries.train`. Reads: progress and step_scalars, which change only between two phases, but for the
    losses of shards.
    """
    mode = flush_denormals()
    first = packed[0]
    _, plan, buffers = unpack(first, like)
    program, barrier = plan.program, buffers.barrier
    phase = arrive(barrier, n_blocks)
    while phase != OVER:
        block = next_block(barrier, phase, thread, n_blocks)
        if block < 0:
            phase = load_acquire(barrier, PHASE)
            continue
        if phase != START:
            verb = program[buffers.progress[VERB]]
            work(verb, packed, like, rows, losses.size, block, thread, n_blocks, workspace_size)
        if is_last(barrier, n_blocks):
            advance(plan.advance, first, like, rows, scalars, losses, n_blocks, phase)
            phase = load_acquire(barrier, PHASE)
    restore_denormals(mode)
