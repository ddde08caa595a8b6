"""What compiled code says to LLVM and Numba says not: multiply-add, addresses, prefetches, vectors of one value."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from .target import has_fma

L1, L2 = 3, 2  # LLVM's locality argument of a prefetch into each cache


def emit_fma(builder, vector, a, b, c):
    """Emit a * b + c on values of LLVM type ``vector``, fused where the target can."""
    if not has_fma():
        return builder.fadd(builder.fmul(a, b), c)
    scalar = vector.element if isinstance(vector, ir.VectorType) else vector
    width = f"v{vector.count}" if isinstance(vector, ir.VectorType) else ""
    name = f"llvm.fma.{width}{'f32' if isinstance(scalar, ir.FloatType) else 'f64'}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    return builder.call(function, [a, b, c])


def array_data(context, builder, array_type, value):
    """Pointer to the first element of an array value."""
    return context.make_array(array_type)(context, builder, value).data


def emit_prefetch(builder, address, cache):
    """Emit a prefetch into ``cache``, L1 or L2, of the line at an address given as an integer."""
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    function_type = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    read, keep, data = (ir.Constant(i32, value) for value in (0, cache, 1))
    builder.call(function, [builder.inttoptr(address, byte), read, keep, data])


def splat(builder, vector, value):
    """Emit a vector of type ``vector`` whose elements all are ``value``."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def address_of(array, i):
    """Address of ``array[i]`` as an integer; 0 in plain Python, where nothing is prefetched."""
    return 0


@type_callable(address_of)
def _type_address_of(context):
    return lambda array, i: types.int64(array, types.int64)


@lower_builtin(address_of, types.Array, types.Integer)
def _lower_address_of(context, builder, sig, args):
    element = builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])
    return builder.ptrtoint(element, ir.IntType(64))


def word_at(address, i):
    """The i-th int64 at an address; 0 in plain Python, where there are no addresses."""
    return 0


@type_callable(word_at)
def _type_word_at(context):
    return lambda address, i: types.int64(types.int64, types.int64)


@lower_builtin(word_at, types.Integer, types.Integer)
def _lower_word_at(context, builder, sig, args):
    words = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
    return builder.load(builder.gep(words, [args[1]]), align=8)


def prefetch_for_write(address):
    """Get the cache line at an address into this core's cache for writing, by storing the word that is there.

    A store to a line that another core has read waits until that core's copy is invalid, and later stores wait behind
    it. No other thread may write the word meanwhile.
    """


@type_callable(prefetch_for_write)
def _type_prefetch_for_write(context):
    return lambda address: types.void(types.int64)


@lower_builtin(prefetch_for_write, types.Integer)
def _lower_prefetch_for_write(context, builder, sig, args):
    word = ir.IntType(32)
    pointer = builder.inttoptr(args[0], word.as_pointer())
    # Atomic, since the compiler would drop plain ones.
    value = builder.load_atomic(pointer, ordering="monotonic", align=4)
    builder.store_atomic(value, pointer, ordering="monotonic", align=4)
    return context.get_dummy_value()
