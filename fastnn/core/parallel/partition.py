"""How work is divided among the blocks of a parallel loop, one for each thread.

Cores are not equally fast: some processors have fast and slow ones, and a virtual core slows down while its neighbour
on the same physical core is busy with another guest (two of one Zen 3 server: 444 and 569 us for equal halves of a step
of 784-100-10, and the other way round a minute later). So the two halves of a training step, which meet at their ends,
are cut in shares that follow how fast each block has lately been, and a block that has predicted its own rows takes
over from the others; in second halves too, see ``stealing``. Which rows a block has changes no bit of a result. Blocks
record their times here; who reads them, and sets the shares, is ``shares``.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..compile.jit import kernel
from ..simd.target import PROCESSOR
from ..simd.tile import array_data

ROWS_PASS, WEIGHTS_PASS = 0, 1  # halves of a step
ROW_GRANULARITY = 2  # rows of a batch stay together in twos
# int64 of each block in ``counters`` of a prediction, a cache line: how often its rows were taken, whether it has seen
# a row that may not be finite; the rest unused.
COUNTERS, NON_FINITE_FLAG = 8, 1
CLOCK = 8  # int64 of each block in ``clocks``, a cache line: ticks and work of either half, the rest unused


def ticks():
    """Time in some unit that all processors share; 0 where there is no such clock to be read in a few cycles."""
    return 0


@type_callable(ticks)
def _type_ticks(context):
    return lambda: types.int64


@lower_builtin(ticks)
def _lower_ticks(context, builder, sig, args):
    return emit_ticks(builder, PROCESSOR)


def emit_ticks(builder, processor):
    """Emit reading the clock of a processor."""
    i64, module = ir.IntType(64), builder.module
    if processor == "x86_64":
        read = cgutils.get_or_insert_function(module, ir.FunctionType(i64, []), "llvm.readcyclecounter")
        return builder.call(read, [])
    if processor == "aarch64":  # by name: some LLVM's cycle counter is one there that only the system may read
        signature = ir.FunctionType(i64, [ir.MetaDataType()])
        read = cgutils.get_or_insert_function(module, signature, "llvm.read_volatile_register.i64")
        return builder.call(read, [module.add_metadata(["cntvct_el0"])])
    return ir.Constant(i64, 0)


def fetch_add(counters, i):
    """``counters[i]``, which is then one more: no two threads are given the same."""
    counters[i] += 1
    return counters[i] - 1


@type_callable(fetch_add)
def _type_fetch_add(context):
    return lambda counters, i: types.int64(counters, types.int64)


@lower_builtin(fetch_add, types.Array, types.Integer)
def _lower_fetch_add(context, builder, sig, args):
    counter = builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])
    return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "acq_rel")


@kernel
def boundary(block, n_blocks, n, granularity):
    """First of the n items that belong to a block, blocks of whole quanta as equal as they can be."""
    return min(n, (block * n // n_blocks + granularity // 2) // granularity * granularity) if block < n_blocks else n


@kernel
def split_point(fractions, block, n, granularity):
    """First of the n items that belong to a block, in whole quanta: `boundary` by speed. Reads: ends."""
    if block == 0 or block >= fractions.size:
        return 0 if block == 0 else n
    return min(n, int(fractions[block - 1] * n / granularity + 0.5) * granularity)


@kernel
def share(buffers, half, block, n_blocks, n, granularity):
    """First of the n items that belong to a block in a half of a step, and the end. Reads: ends."""
    if n_blocks == 1:
        return 0, n
    fractions = buffers.fractions[half * n_blocks : (half + 1) * n_blocks]
    return split_point(fractions, block, n, granularity), split_point(fractions, block + 1, n, granularity)


@kernel
def reset_counters(counters, n_blocks):
    """Let all rows of all blocks be to do. Writes: marks."""
    for block in range(n_blocks):
        counters[block * COUNTERS] = 0


@kernel
def next_rows(counters, block, n_blocks, n, most):
    """First, and number, of the next rows of n for a block: of its own while there are, then of others'; at last 0.

    They come ``most`` at a time, from the front of what belongs to one block. Writes: marks.
    """
    start = m = turn = 0
    while m <= 0 and turn < n_blocks:
        owner = (block + turn) % n_blocks
        lo, hi = boundary(owner, n_blocks, n, 8), boundary(owner + 1, n_blocks, n, 8)
        start = lo + fetch_add(counters, owner * COUNTERS) * most
        m = min(most, hi - start)
        turn += 1
    return start, max(m, 0)


@kernel
def begin(n_blocks):
    """When a block begins its half of a step; reading the clock takes 11 ns (Zen 3), which a block alone need not."""
    return ticks() if n_blocks > 1 else 0


@kernel
def record(buffers, half, block, n_blocks, start, work):
    """Add how long a block has taken for its half of a step, from ``start`` to now, to what was not read yet.

    Writes: clocks of the block.
    """
    if n_blocks > 1:
        buffers.clocks[block * CLOCK + 2 * half] += ticks() - start
        buffers.clocks[block * CLOCK + 2 * half + 1] += work
