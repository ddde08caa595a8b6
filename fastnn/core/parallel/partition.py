"""Division of the work among the blocks of a parallel loop, one block for each thread.

Cores are not equally fast: some processors have fast and slow ones, and a virtual core slows down while its neighbour
on the same physical core is busy with another guest (two of one Zen 3 server: 444 and 569 us for equal halves of a step
of 784-100-10, and the other way round a minute later). So each pass of a training step, which ends at a barrier, is
divided by the measured speed of each block. A block that has predicted its own rows takes rows of the others; the
weights pass has work stealing too, see ``parallel.stealing``. No bit of a result depends on which block has which rows.
Blocks record their times here; ``load_balance`` reads them and sets the fractions.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..compile.jit import kernel
from ..simd.llvm import array_data
from ..simd.target import PROCESSOR

ROWS_PASS, WEIGHTS_PASS = 0, 1  # the passes of a step
ROW_GRANULARITY = 2  # the rows pass divides a batch into pairs of rows
# int64 of each block in the ``counters`` of a prediction, a cache line: how often rows were taken from it, and whether
# it has seen a row that may not be finite; the rest is unused.
COUNTERS, NON_FINITE_FLAG = 8, 1
CLOCK = 8  # int64 of each block in ``clocks``, a cache line: ticks and work of either pass; the rest is unused


def ticks():
    """Time in a unit that all cores share; 0 where no such clock can be read in a few cycles."""
    return 0


@type_callable(ticks)
def _type_ticks(context):
    return lambda: types.int64


@lower_builtin(ticks)
def _lower_ticks(context, builder, sig, args):
    return emit_ticks(builder, PROCESSOR)


def emit_ticks(builder, processor):
    """Emit a read of the processor's clock; zero for a processor that is not known."""
    i64, module = ir.IntType(64), builder.module
    if processor == "x86_64":
        read = cgutils.get_or_insert_function(module, ir.FunctionType(i64, []), "llvm.readcyclecounter")
        return builder.call(read, [])
    if processor == "aarch64":  # by name: the cycle counter of some LLVM versions is one that only the system may read
        signature = ir.FunctionType(i64, [ir.MetaDataType()])
        read = cgutils.get_or_insert_function(module, signature, "llvm.read_volatile_register.i64")
        return builder.call(read, [module.add_metadata(["cntvct_el0"])])
    return ir.Constant(i64, 0)


def fetch_add(counters, i):
    """Add one to ``counters[i]`` and return the value before, atomically. Writes: counters."""
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
    """First of the n items of a block; blocks are multiples of ``granularity``, as equal as possible."""
    return min(n, (block * n // n_blocks + granularity // 2) // granularity * granularity) if block < n_blocks else n


@kernel
def split_point(fractions, block, n, granularity):
    """First of the n items of a block, a multiple of ``granularity``, by cumulative ``fractions``. Reads: fractions."""
    if block == 0 or block >= fractions.size:
        return 0 if block == 0 else n
    return min(n, int(fractions[block - 1] * n / granularity + 0.5) * granularity)


@kernel
def share(buffers, step_pass, block, n_blocks, n, granularity):
    """First of the n items of a block in a pass of a step, and the end. Reads: fractions."""
    if n_blocks == 1:
        return 0, n
    fractions = buffers.fractions[step_pass * n_blocks : (step_pass + 1) * n_blocks]
    return split_point(fractions, block, n, granularity), split_point(fractions, block + 1, n, granularity)


@kernel
def reset_counters(counters, n_blocks):
    """Make all rows of all blocks available. Writes: counters."""
    for block in range(n_blocks):
        counters[block * COUNTERS] = 0


@kernel
def next_rows(counters, block, n_blocks, n, most):
    """First, and number, of the next rows of n for a block: its own first, then those of others; in the end 0 rows.

    At most ``most`` rows at a time, from the front of what is left of one block. Writes: counters.
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
    """The time when a block begins its pass; 0 for a block alone, which saves 11 ns (a read of the clock, Zen 3)."""
    return ticks() if n_blocks > 1 else 0


@kernel
def record(buffers, step_pass, block, n_blocks, start, work):
    """Add the ticks since ``start`` and the ``work`` of a block's pass to its clocks, which `LoadBalance` reads.

    Writes: clocks of the block.
    """
    if n_blocks > 1:
        buffers.clocks[block * CLOCK + 2 * step_pass] += ticks() - start
        buffers.clocks[block * CLOCK + 2 * step_pass + 1] += work
