"""Units as values: 32 bytes of a row, 8 floats or 4 doubles, for passes over rows too short for LLVM's vectorizer.

LLVM cuts a loop over 104 floats into steps of 64, and what is left goes one by one. Rows of activations and deltas are
whole units long, and what is made of a unit stays in a register however many results it has.

    load_unit(array, i)          the unit array[i : i + lanes]
    store_unit(array, i, unit)   the way back
    spread(value)                a unit whose elements are all ``value``
    a + b, a - b, a * b, fma     element by element; no operation is fused or reordered but where `fma` says so
    like(a, value)               ``value`` as what a is, a float or a unit
    where_nonzero(a, b)          b where a is not zero, else zero; floats or units
    positive(a)                  a where it is not below zero, else zero; floats or units
    larger(a, b)                 a where b is below it, else b; floats or units

Outside of compiled code a unit is an array; what lies behind the end of an array is read as zero, and not written.
"""

import inspect
import operator

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, models, register_model, type_callable

from ..compile.jit import kernel
from .scalar import fma
from .target import UNIT_BYTES, few_registers, target_features
from .tile import array_data, emit_fma, splat


@kernel
def whole_units(n, itemsize):
    """n elements rounded up to whole units."""
    unit = UNIT_BYTES // itemsize
    return (n + unit - 1) // unit * unit


class UnitType(types.Type):
    """A unit of elements of one dtype."""

    def __init__(self, real):
        self.real = real
        super().__init__(name=f"unit({real})")


@register_model(UnitType)
class UnitModel(models.PrimitiveModel):
    """A vector of LLVM."""

    def __init__(self, manager, unit):
        element = manager.lookup(unit.real).get_value_type()
        super().__init__(manager, unit, ir.VectorType(element, UNIT_BYTES * 8 // unit.real.bitwidth))


def load_unit(array, i):
    """The unit that starts at array[i]. Reads: array."""
    unit = np.zeros(UNIT_BYTES // array.itemsize, array.dtype)
    elements = array[i : i + unit.size]
    unit[: elements.size] = elements
    return unit


def store_unit(array, i, unit):
    """The unit becomes array[i : i + lanes]. Writes: array."""
    elements = array[i : i + unit.size]
    elements[:] = unit[: elements.size]


def spread(value):
    """A unit whose elements are all ``value``."""
    return np.full(UNIT_BYTES // value.itemsize, value)


def like(a, value):
    """The number ``value`` as a float of a's dtype, or as a unit of it."""
    return a.dtype.type(value)


def where_nonzero(a, b):
    """Elements of b where those of a are not zero, else zero; NaN is not zero."""
    return np.where(a == 0, np.zeros_like(b), b)[()]


def positive(a):
    """Elements of a that are not below zero, NaN among them, else zero."""
    return np.where(a < 0, np.zeros_like(a), a)[()]


def larger(a, b):
    """The larger of two elements each, b where one is NaN."""
    return np.where(b < a, a, b)[()]


def _at(context, builder, sig, args):
    """Pointer to the unit at args[1] of the array args[0], and its alignment."""
    unit = context.get_value_type(UnitType(sig.args[0].dtype))
    start = builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])
    return builder.bitcast(start, unit.as_pointer()), sig.args[0].dtype.bitwidth // 8


@type_callable(load_unit)
def _type_load(context):
    return lambda array, i: UnitType(array.dtype)(array, types.int64)


@lower_builtin(load_unit, types.Array, types.Integer)
def _lower_load(context, builder, sig, args):
    pointer, align = _at(context, builder, sig, args)
    unit = builder.load(pointer, align=align)
    if "avx" not in target_features() or not few_registers():
        return unit
    # What is chosen between zero and what was loaded from the same place would be stored under a mask, which takes AVX
    # processors six times as long (relu on Zen 3: .47 ns an element): LLVM is not to know where a unit comes from.
    same = ir.FunctionType(unit.type, [unit.type])
    return builder.asm(same, "", "=v,0", [unit], side_effect=False)


@type_callable(store_unit)
def _type_store(context):
    return lambda array, i, unit: types.void(array, types.int64, unit)


@lower_builtin(store_unit, types.Array, types.Integer, UnitType)
def _lower_store(context, builder, sig, args):
    pointer, align = _at(context, builder, sig, args)
    builder.store(args[2], pointer, align=align)
    return context.get_dummy_value()


@type_callable(spread)
def _type_spread(context):
    return lambda value: UnitType(value)


@lower_builtin(spread, types.Float)
def _lower_spread(context, builder, sig, args):
    return splat(builder, context.get_value_type(sig.return_type), args[0])


@type_callable(like)
def _type_like(context):
    return lambda a, value: a(a, types.float64)


@lower_builtin(like, types.Float, types.Float)
@lower_builtin(like, UnitType, types.Float)
def _lower_like(context, builder, sig, args):
    unit = isinstance(sig.args[0], UnitType)
    value = context.cast(builder, args[1], types.float64, sig.args[0].real if unit else sig.args[0])
    return splat(builder, args[0].type, value) if unit else value


def _elementwise(function, n, kinds, emit):
    """Let compiled code call ``function`` of n values of one type among ``kinds``; ``emit`` makes its code."""

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


def _emit_positive(builder, kind, a):
    zero = ir.Constant(kind, None)
    return builder.select(builder.fcmp_ordered("<", a, zero), zero, a)


def _emit_larger(builder, kind, a, b):
    return builder.select(builder.fcmp_ordered("<", b, a), a, b)


_elementwise(operator.add, 2, (UnitType,), lambda builder, kind, a, b: builder.fadd(a, b))
_elementwise(operator.sub, 2, (UnitType,), lambda builder, kind, a, b: builder.fsub(a, b))
_elementwise(operator.mul, 2, (UnitType,), lambda builder, kind, a, b: builder.fmul(a, b))
_elementwise(fma, 3, (UnitType,), emit_fma)
_elementwise(where_nonzero, 2, (UnitType, types.Float), _emit_where_nonzero)
_elementwise(positive, 1, (UnitType, types.Float), _emit_positive)
_elementwise(larger, 2, (UnitType, types.Float), _emit_larger)
