"""Sums whose bits do not depend on the width of vectors: a fixed number of partial sums, added in a fixed tree.

Element i belongs to partial sum i % n_partials.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from .llvm import array_data, emit_fma, splat
from .target import loads_masked

SQUARES = 64  # partial sums: four AVX-512 vectors, enough chains to hide the latency of the additions
PRODUCTS = 16  # one AVX-512 register of float32: dot products are short, and independent ones overlap


def _fold(partial):
    """Add the halves of a list until one element is left."""
    while len(partial) > 1:
        half = len(partial) // 2
        partial = [partial[i] + partial[i + half] for i in range(half)]
    return partial[0]


def _emit_fold(builder, vector):
    """Emit the same sum of a vector's elements."""
    undefined, count = ir.Constant(vector.type, ir.Undefined), vector.type.count
    half = count
    while half > 1:
        half //= 2
        mask = ir.Constant(ir.VectorType(ir.IntType(32), count), [(i + half) % count for i in range(count)])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, undefined, mask))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _emit_sum_of_products(context, builder, scalar, n_partials, x, y, n):
    """Emit sum_i x[i] y[i], i < n, for pointers x and y; nothing behind the n-th element is read."""
    vector, i64 = ir.VectorType(scalar, n_partials), ir.IntType(64)
    width = ir.Constant(i64, n_partials)
    align = context.get_abi_sizeof(scalar)
    partial = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * n_partials))

    def add(load):
        first = load(x)
        second = first if y is x else load(y)
        builder.store(emit_fma(builder, vector, first, second, builder.load(partial)), partial)

    whole = builder.mul(builder.sdiv(n, width), width)
    with cgutils.for_range_slice(builder, ir.Constant(i64, 0), whole, width) as (i, _):
        add(lambda base: _emit_load(builder, vector, builder.gep(base, [i]), align))
    left = builder.sub(n, whole)
    with builder.if_then(builder.icmp_signed(">", left, ir.Constant(i64, 0))):
        some = _emit_masked_load if loads_masked() else _emit_narrow_loads
        add(lambda base: some(builder, vector, builder.gep(base, [whole]), left, align))
    return _emit_fold(builder, builder.load(partial))


def _emit_load(builder, vector, pointer, align):
    """Emit a load of a vector at a pointer to its first element."""
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)


def _emit_masked_load(builder, vector, pointer, n, align):
    """Emit a load of the first n elements of a vector; the others are 0."""
    i32 = ir.IntType(32)
    mask_type = ir.VectorType(ir.IntType(1), vector.count)
    name = f"llvm.masked.load.v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}.p0"
    function_type = ir.FunctionType(vector, [vector.as_pointer(), i32, mask_type, vector])
    masked_load = cgutils.get_or_insert_function(builder.module, function_type, name)
    lanes = ir.Constant(ir.VectorType(i32, vector.count), list(range(vector.count)))
    mask = builder.icmp_signed("<", lanes, splat(builder, lanes.type, builder.trunc(n, i32)))
    arguments = [ir.Constant(i32, align), mask, ir.Constant(vector, [0.0] * vector.count)]
    return builder.call(masked_load, [builder.bitcast(pointer, vector.as_pointer()), *arguments])


def _emit_narrow_loads(builder, vector, pointer, n, align):
    """Emit the same load by way of memory, where zeros wait: halves, quarters, ... of a vector as the bits of n say.

    (LLVM would turn a loop into calls of memcpy.)
    """
    i64, memory = ir.IntType(64), cgutils.alloca_once(builder, vector)
    memory.align = 16
    builder.store(ir.Constant(vector, [0.0] * vector.count), memory, align=16)
    start, width = builder.bitcast(memory, vector.element.as_pointer()), vector.count // 2
    while width > 0:
        narrow = ir.VectorType(vector.element, width)
        with builder.if_then(builder.icmp_signed("!=", builder.and_(n, ir.Constant(i64, width)), ir.Constant(i64, 0))):
            done = builder.and_(n, ir.Constant(i64, -2 * width))
            value = _emit_load(builder, narrow, builder.gep(pointer, [done]), align)
            builder.store(value, builder.bitcast(builder.gep(start, [done]), narrow.as_pointer()), align=align)
        width //= 2
    return builder.load(memory, align=16)


def sum_squares(x):
    """Sum of the squares of a flat contiguous array, in its dtype. Reads: x."""
    partial = [x.dtype.type(0)] * SQUARES
    for i in range(x.size):
        partial[i % SQUARES] += x[i] * x[i]
    return _fold(partial)


@type_callable(sum_squares)
def _type_sum_squares(context):
    return lambda x: x.dtype(x) if isinstance(x, types.Array) and x.ndim == 1 else None


@lower_builtin(sum_squares, types.Array)
def _lower_sum_squares(context, builder, sig, args):
    array = context.make_array(sig.args[0])(context, builder, args[0])
    n = builder.extract_value(array.shape, 0)
    scalar = context.get_data_type(sig.return_type)
    data = array.data
    return _emit_sum_of_products(context, builder, scalar, SQUARES, data, data, n)


def dot(x, ix, y, iy, n):
    """Dot product of x[ix : ix + n] and y[iy : iy + n], in their dtype. Reads: x, y."""
    partial = [x.dtype.type(0)] * PRODUCTS
    for i in range(n):
        partial[i % PRODUCTS] += x[ix + i] * y[iy + i]
    return _fold(partial)


@type_callable(dot)
def _type_dot(context):
    def typer(x, ix, y, iy, n):
        return x.dtype(x, types.int64, y, types.int64, types.int64) if x.dtype == y.dtype else None

    return typer


@lower_builtin(dot, types.Array, types.Integer, types.Array, types.Integer, types.Integer)
def _lower_dot(context, builder, sig, args):
    x, ix, y, iy, n = args
    x = builder.gep(array_data(context, builder, sig.args[0], x), [ix])
    y = builder.gep(array_data(context, builder, sig.args[2], y), [iy])
    scalar = context.get_data_type(sig.return_type)
    return _emit_sum_of_products(context, builder, scalar, PRODUCTS, x, y, n)
