"""Sums whose bits do not depend on the host's vectors: sixty-four partial sums, combined in one fixed tree.

Element i belongs to partial sum i % 64.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from .microkernel import emit_fma, splat

PARTIALS = 64  # four AVX-512 vectors: enough chains to hide the latency of the additions


def sum_squares(x):
    """Sum of the squares of a flat contiguous array, in its dtype. Reads: x, and up to 63 elements behind it."""
    partial = [x.dtype.type(0)] * PARTIALS
    for i in range(x.size):
        partial[i % PARTIALS] += x[i] * x[i]
    count = PARTIALS
    while count > 1:
        count //= 2
        partial = [partial[i] + partial[i + count] for i in range(count)]
    return partial[0]


@type_callable(sum_squares)
def _type_sum_squares(context):
    return lambda x: x.dtype(x) if isinstance(x, types.Array) and x.ndim == 1 else None


@lower_builtin(sum_squares, types.Array)
def _lower_sum_squares(context, builder, sig, args):
    scalar = context.get_data_type(sig.return_type)
    vector, i64 = ir.VectorType(scalar, PARTIALS), ir.IntType(64)
    array = context.make_array(sig.args[0])(context, builder, args[0])
    n = builder.extract_value(array.shape, 0)
    zeros, width = ir.Constant(vector, [0.0] * PARTIALS), ir.Constant(i64, PARTIALS)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), PARTIALS), list(range(PARTIALS)))
    align = context.get_abi_sizeof(scalar)
    partial = cgutils.alloca_once_value(builder, zeros)

    def add(i, mask=None):
        pointer = builder.bitcast(builder.gep(array.data, [i]), vector.as_pointer())
        values = builder.load(pointer, align=align)
        if mask is not None:
            values = builder.select(mask, values, zeros)
        builder.store(emit_fma(builder, vector, values, values, builder.load(partial)), partial)

    whole = builder.mul(builder.sdiv(n, width), width)
    with cgutils.for_range_slice(builder, ir.Constant(i64, 0), whole, width) as (i, _):
        add(i)
    left = builder.sub(n, whole)
    with builder.if_then(builder.icmp_signed(">", left, ir.Constant(i64, 0))):
        add(whole, builder.icmp_signed("<", lanes, splat(builder, lanes.type, builder.trunc(left, ir.IntType(32)))))
    return _tree(builder, builder.load(partial))


def _tree(builder, vector):
    """Add the halves of a vector until one element is left."""
    undefined, count = ir.Constant(vector.type, ir.Undefined), PARTIALS
    while count > 1:
        count //= 2
        mask = ir.Constant(ir.VectorType(ir.IntType(32), PARTIALS), [(i + count) % PARTIALS for i in range(PARTIALS)])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, undefined, mask))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
