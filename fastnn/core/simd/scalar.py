"""Scalar building blocks with an exact, portable meaning, for the vectorized mathematics and the tiles.

    fma(a, b, c)              a * b + c, rounded once where the target has fused multiply-add, else twice
    horner(x, coefficients)   c0 + x (c1 + x (c2 + ...)), a chain of fma
    select(condition, a, b)   both are computed, one is returned: a branch could stop LLVM's loop vectorizer
    float_to_bits(x), bits_to_float(i, like)    the same bits as int32/float32 or int64/float64
    by_dtype(single, double)  makes a function of x that returns the constant set of x's dtype
    flush_denormals(), restore_denormals(mode)    whether subnormal numbers are zero, for the calling thread

Each is an ordinary Python function on NumPy scalars and arrays; compiled code has the few LLVM instructions that are
emitted here instead. No instruction carries a fast-math flag, so LLVM may neither fuse nor reorder them, and the result
has the same bits in vector loops of any width and in their scalar remainders. The arguments of a call have one dtype:
mixed dtypes are a typing error.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import lower_builtin, type_callable

from .llvm import emit_fma
from .target import PROCESSOR

_BITS = {types.float32: types.int32, types.float64: types.int64}
_BITS_NUMPY = {"float32": np.int32, "float64": np.int64}

# ---------------------------------------------------------------------------------------------- multiply-add


def fma(a, b, c):
    """``a * b + c``. The Python twin keeps extra digits in between and rounds a second time: half an ulp at most."""
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    return a.dtype.type(wide(a) * wide(b) + wide(c))


@type_callable(fma)
def _type_fma(context):
    def typer(a, b, c):
        return a if a in _BITS and a == b == c else None

    return typer


@lower_builtin(fma, types.Float, types.Float, types.Float)
def _lower_fma(context, builder, sig, args):
    return emit_fma(builder, args[0].type, *args)


def horner(x, coefficients):
    """``coefficients[0] + x * (coefficients[1] + x * (...))``."""
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = fma(total, x, coefficient)
    return total


@type_callable(horner)
def _type_horner(context):
    def typer(x, coefficients):
        uniform = isinstance(coefficients, types.UniTuple) and coefficients.dtype == x
        return x if x in _BITS and uniform and len(coefficients) else None

    return typer


@lower_builtin(horner, types.Float, types.UniTuple)
def _lower_horner(context, builder, sig, args):
    x, coefficients = args
    total, *rest = (builder.extract_value(coefficients, i) for i in reversed(range(len(sig.args[1]))))
    for coefficient in rest:
        total = emit_fma(builder, total.type, total, x, coefficient)
    return total


# ---------------------------------------------------------------------------------------------------- choice


def select(condition, a, b):
    """``a if condition else b`` with both sides computed."""
    return np.where(condition, a, b)[()]


@type_callable(select)
def _type_select(context):
    def typer(condition, a, b):
        return a if condition == types.boolean and a in _BITS and a == b else None

    return typer


@lower_builtin(select, types.Boolean, types.Float, types.Float)
def _lower_select(context, builder, sig, args):
    return builder.select(*args)


# ------------------------------------------------------------------------------------------------------ bits


def float_to_bits(x):
    """The bits of ``x`` as a signed integer of its width. The Python twin returns an array: its sums wrap silently."""
    return np.asarray(x).view(_BITS_NUMPY[x.dtype.name])


@type_callable(float_to_bits)
def _type_float_to_bits(context):
    return lambda x: _BITS.get(x)


@lower_builtin(float_to_bits, types.Float)
def _lower_float_to_bits(context, builder, sig, args):
    return builder.bitcast(args[0], context.get_value_type(sig.return_type))


def bits_to_float(i, like):
    """The float with the dtype of ``like`` whose bits are the low bits of the integer ``i``."""
    return np.asarray(i).astype(_BITS_NUMPY[like.dtype.name]).view(like.dtype)[()]


@type_callable(bits_to_float)
def _type_bits_to_float(context):
    def typer(i, like):
        return like if isinstance(i, types.Integer) and like in _BITS else None

    return typer


@lower_builtin(bits_to_float, types.Integer, types.Float)
def _lower_bits_to_float(context, builder, sig, args):
    # Numba widens int32 arithmetic to int64; LLVM narrows the whole chain back through this truncation
    bits = context.cast(builder, args[0], sig.args[0], _BITS[sig.return_type])
    return builder.bitcast(bits, context.get_value_type(sig.return_type))


# -------------------------------------------------------------------------------------- subnormal numbers

_X86_FLUSH = 0x8040  # MXCSR: subnormal results are zero (FZ), and operands (DAZ)
_ARM_FLUSH = 1 << 24  # FPCR: both (FZ)


def flush_denormals():
    """Set the thread's mode that takes numbers below the smallest normal one (1.2e-38, 2.2e-308) as zero.

    Returns the mode before; the caller restores it. Weights without a gradient, those of dead units or of pixels that
    are always dark, fade to subnormal numbers under the L2 term and stay there, and a processor takes a hundred cycles
    over each. (404 rows one by one through 13-64-64-1, Zen 4: 1.2 % of the weights were subnormal after 30 epochs, and
    Adam's step took 2.7 us instead of 1.6.)
    """
    return 0


def restore_denormals(mode):
    """Set the mode that `flush_denormals` returned."""


@type_callable(flush_denormals)
def _type_flush_denormals(context):
    return lambda: types.int64


@type_callable(restore_denormals)
def _type_restore_denormals(context):
    return lambda mode: types.void(types.int64)


def _read_mode(builder):
    """Emit a read of the thread's floating-point mode; returns it as an i64, and the bits to set."""
    i32, i64, byte = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
    if PROCESSOR == "x86_64":
        memory = cgutils.alloca_once(builder, i32)
        read = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte]), "llvm.x86.sse.stmxcsr"
        )
        builder.call(read, [builder.bitcast(memory, byte)])
        return builder.zext(builder.load(memory), i64), _X86_FLUSH
    if PROCESSOR == "aarch64":
        read = cgutils.get_or_insert_function(builder.module, ir.FunctionType(i64, []), "llvm.aarch64.get.fpcr")
        return builder.call(read, []), _ARM_FLUSH
    return ir.Constant(i64, 0), 0


def _write_mode(builder, mode):
    """Emit a write of the thread's floating-point mode."""
    i32, i64, byte = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
    if PROCESSOR == "x86_64":
        memory = cgutils.alloca_once(builder, i32)
        builder.store(builder.trunc(mode, i32), memory)
        write = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte]), "llvm.x86.sse.ldmxcsr"
        )
        builder.call(write, [builder.bitcast(memory, byte)])
    elif PROCESSOR == "aarch64":
        write = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [i64]), "llvm.aarch64.set.fpcr"
        )
        builder.call(write, [mode])


@lower_builtin(flush_denormals)
def _lower_flush_denormals(context, builder, sig, args):
    mode, bits = _read_mode(builder)
    _write_mode(builder, builder.or_(mode, ir.Constant(mode.type, bits)))
    return mode


@lower_builtin(restore_denormals, types.Integer)
def _lower_restore_denormals(context, builder, sig, args):
    _write_mode(builder, args[0])
    return context.get_dummy_value()


# ------------------------------------------------------------------------------------------------- constants


def by_dtype(single, double):
    """
    Make a function of ``x`` that returns ``single`` for float32 and ``double`` for float64, by its type alone.

    Both are scalars, or tuples of them, perhaps nested; compiled code sees their values as constants.
    """

    def constants(x):
        return single if x.dtype == np.float32 else double

    values = {types.float32: single, types.float64: double}

    @type_callable(constants)
    def type_constants(context):
        return lambda x: context.resolve_value_type(values[x]) if x in values else None

    @lower_builtin(constants, types.Float)
    def lower_constants(context, builder, sig, args):
        return context.get_constant_generic(builder, sig.return_type, values[sig.args[0]])

    return constants
