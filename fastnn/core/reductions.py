"""Sums whose bits do not depend on the host's vectors: sixteen partial sums, combined in one fixed tree.

Element i belongs to partial sum i % 16 while sixteen are left; the rest is added in order at the end.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from .microkernel import array_data, emit_fma

PARTIALS = 16


def sum_squares(x):
    """Sum of the squares of a flat contiguous array, in its dtype. Reads: x."""
    partial = [x.dtype.type(0)] * PARTIALS
    whole = x.size // PARTIALS * PARTIALS
    for i in range(whole):
        partial[i % PARTIALS] += x[i] * x[i]
    count = PARTIALS
    while count > 1:
        count //= 2
        partial = [partial[i] + partial[i + count] for i in range(count)]
    total = partial[0]
    for i in range(whole, x.size):
        total += x[i] * x[i]
    return total


@type_callable(sum_squares)
def _type_sum_squares(context):
    return lambda x: x.dtype(x) if isinstance(x, types.Array) and x.ndim == 1 else None


@lower_builtin(sum_squares, types.Array)
def _lower_sum_squares(context, builder, sig, args):
    scalar = context.get_data_type(sig.return_type)
    vector, i64 = ir.VectorType(scalar, PARTIALS), ir.IntType(64)
    array = context.make_array(sig.args[0])(context, builder, args[0])
    data = array_data(context, builder, sig.args[0], args[0])
    n = builder.extract_value(array.shape, 0)
    width = ir.Constant(i64, PARTIALS)
    whole = builder.mul(builder.sdiv(n, width), width)
    align = context.get_abi_sizeof(scalar)
    partial = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * PARTIALS))
    with cgutils.for_range_slice(builder, ir.Constant(i64, 0), whole, width) as (i, _):
        pointer = builder.bitcast(builder.gep(data, [i]), vector.as_pointer())
        values = builder.load(pointer, align=align)
        builder.store(emit_fma(builder, vector, values, values, builder.load(partial)), partial)
    total = _tree(builder, builder.load(partial), PARTIALS)
    rest = cgutils.alloca_once_value(builder, total)
    with cgutils.for_range_slice(builder, whole, n, ir.Constant(i64, 1)) as (i, _):
        value = builder.load(builder.gep(data, [i]))
        builder.store(emit_fma(builder, scalar, value, value, builder.load(rest)), rest)
    return builder.load(rest)


def _tree(builder, vector, count):
    """Add the halves of a vector until one element is left."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    while count > 1:
        count //= 2
        mask = ir.Constant(ir.VectorType(ir.IntType(32), PARTIALS), [(i + count) % PARTIALS for i in range(PARTIALS)])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, undefined, mask))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
