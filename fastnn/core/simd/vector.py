"""Vectors as values: 32 bytes of a row, 8 floats or 4 doubles, for passes over rows too short for LLVM's vectorizer.

LLVM runs a loop over 104 floats in steps of 64 and does the rest one by one. Rows of activations and deltas are padded
to whole vectors, and a vector stays in a register while several results are computed from it.

    load_vector(array, i)            the vector array[i : i + lanes]
    store_vector(array, i, vector)   array[i : i + lanes] <- vector
    broadcast(value)                 a vector whose elements are all ``value``
    a + b, a - b, a * b, fma         element by element; only `fma` is fused, and nothing is reordered
    like(a, value)                   ``value`` with the type of a, a float or a vector
    where_nonzero(a, b)              b where a is not zero, else zero; floats or vectors
    where_positive(a, b, c)          b where a is above zero, else c; floats or vectors
    zero_if_negative(a)              a where it is not below zero, else zero; floats or vectors
    maximum(a, b)                    a where b is below it, else b; floats or vectors

In plain Python a vector is an array; elements behind the end of an array are read as zero, and not written.
"""

import inspect
import operator

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, models, register_model, type_callable

from ..compile.jit import kernel
from .llvm import array_data, emit_fma, splat
from .scalar import fma
from .target import VECTOR_BYTES, few_registers, target_features


@kernel
def whole_vectors(n, itemsize):
    """n elements rounded up to whole vectors."""
    lanes = VECTOR_BYTES // itemsize
    return (n + lanes - 1) // lanes * lanes


class Vector(types.Type):
    """Numba's type of a vector of ``real`` elements."""

    def __init__(self, real):
        self.real = real
        super().__init__(name=f"vector({real})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is an LLVM vector."""

    def __init__(self, manager, fe_type):
        element = manager.lookup(fe_type.real).get_value_type()
        super().__init__(manager, fe_type, ir.VectorType(element, VECTOR_BYTES * 8 // fe_type.real.bitwidth))


def load_vector(array, i):
    """The vector that starts at array[i]. Reads: array."""
    vector = np.zeros(VECTOR_BYTES // array.itemsize, array.dtype)
    elements = array[i : i + vector.size]
    vector[: elements.size] = elements
    return vector


def store_vector(array, i, vector):
    """array[i : i + lanes] <- vector. Writes: array."""
    elements = array[i : i + vector.size]
    elements[:] = vector[: elements.size]


def broadcast(value):
    """A vector whose elements are all ``value``."""
    return np.full(VECTOR_BYTES // value.itemsize, value)


def like(a, value):
    """The number ``value`` as a float of a's dtype, or as a vector of it."""
    return a.dtype.type(value)


def where_nonzero(a, b):
    """Elements of b where those of a are not zero, else zero; NaN is not zero."""
    return np.where(a == 0, np.zeros_like(b), b)[()]


def where_positive(a, b, c):
    """Elements of b where those of a are above zero, else of c, also where a is NaN."""
    return np.where(a > 0, b, c)[()]


def zero_if_negative(a):
    """Elements of a that are not below zero, NaN among them, else zero."""
    return np.where(a < 0, np.zeros_like(a), a)[()]


def maximum(a, b):
    """The larger of two elements each, b where one is NaN."""
    return np.where(b < a, a, b)[()]


def _at(context, builder, sig, args):
    """Pointer to the vector at args[1] of the array args[0], and its alignment."""
    vector = context.get_value_type(Vector(sig.args[0].dtype))
    start = builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])
    return builder.bitcast(start, vector.as_pointer()), sig.args[0].dtype.bitwidth // 8


@type_callable(load_vector)
def _type_load(context):
    return lambda array, i: Vector(array.dtype)(array, types.int64)


@lower_builtin(load_vector, types.Array, types.Integer)
def _lower_load(context, builder, sig, args):
    pointer, align = _at(context, builder, sig, args)
    vector = builder.load(pointer, align=align)
    if "avx" not in target_features() or not few_registers():
        return vector
    # If LLVM sees that a selection between zero and a loaded vector is stored to the address of the load, it makes a
    # masked store, which takes AVX processors six times as long (relu on Zen 3: .47 ns an element). The empty assembly
    # hides the load.
    same = ir.FunctionType(vector.type, [vector.type])
    return builder.asm(same, "", "=v,0", [vector], side_effect=False)


@type_callable(store_vector)
def _type_store(context):
    return lambda array, i, vector: types.void(array, types.int64, vector)


@lower_builtin(store_vector, types.Array, types.Integer, Vector)
def _lower_store(context, builder, sig, args):
    pointer, align = _at(context, builder, sig, args)
    builder.store(args[2], pointer, align=align)
    return context.get_dummy_value()


@type_callable(broadcast)
def _type_broadcast(context):
    return lambda value: Vector(value)


@lower_builtin(broadcast, types.Float)
def _lower_broadcast(context, builder, sig, args):
    return splat(builder, context.get_value_type(sig.return_type), args[0])


@type_callable(like)
def _type_like(context):
    return lambda a, value: a(a, types.float64)


@lower_builtin(like, types.Float, types.Float)
@lower_builtin(like, Vector, types.Float)
def _lower_like(context, builder, sig, args):
    is_vector = isinstance(sig.args[0], Vector)
    value = context.cast(builder, args[1], types.float64, sig.args[0].real if is_vector else sig.args[0])
    return splat(builder, args[0].type, value) if is_vector else value


def _elementwise(function, n, kinds, emit):
    """Let compiled code call ``function`` of n values of one type among ``kinds``; ``emit`` emits its code."""

    @type_callable(function)
    def type_function(context):
        def typer(*given):
            if len(set(given)) == 1 and isinstance(given[0], kinds):
                return given[0]

        names = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in "abc"[:n]]
        typer.__signature__ = inspect.Signature(names)
        return typer

    for kind in kinds:

        @lower_builtin(function, *[kind] * n)
        def lower_function(context, builder, sig, args):
            return emit(builder, args[0].type, *args)


def _emit_where_nonzero(builder, kind, a, b):
    zero = ir.Constant(kind, None)
    return builder.select(builder.fcmp_ordered("==", a, zero), zero, b)


def _emit_where_positive(builder, kind, a, b, c):
    return builder.select(builder.fcmp_ordered(">", a, ir.Constant(kind, None)), b, c)


def _emit_zero_if_negative(builder, kind, a):
    zero = ir.Constant(kind, None)
    return builder.select(builder.fcmp_ordered("<", a, zero), zero, a)


def _emit_maximum(builder, kind, a, b):
    return builder.select(builder.fcmp_ordered("<", b, a), a, b)


_elementwise(operator.add, 2, (Vector,), lambda builder, kind, a, b: builder.fadd(a, b))
_elementwise(operator.sub, 2, (Vector,), lambda builder, kind, a, b: builder.fsub(a, b))
_elementwise(operator.mul, 2, (Vector,), lambda builder, kind, a, b: builder.fmul(a, b))
_elementwise(fma, 3, (Vector,), emit_fma)
_elementwise(where_nonzero, 2, (Vector, types.Float), _emit_where_nonzero)
_elementwise(where_positive, 3, (Vector, types.Float), _emit_where_positive)
_elementwise(zero_if_negative, 1, (Vector, types.Float), _emit_zero_if_negative)
_elementwise(maximum, 2, (Vector, types.Float), _emit_maximum)
