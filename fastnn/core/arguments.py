"""What compiled functions are handed: the kinds of parameters that `leaf` takes, and records packed into one array."""

import functools
import itertools

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import lower_builtin, type_callable

from .records import Buffers, Examples, Layout, Pass, TrainPlan


def OUT(real):
    """A flat array that the leaf writes."""
    return types.Array(real, 1, "C")


def IN(real):
    """A flat array that the leaf reads."""
    return types.Array(real, 1, "C", readonly=True)


def MATRIX(real):
    """A C-contiguous matrix that the leaf reads."""
    return types.Array(real, 2, "C", readonly=True)


def ROWS(real):
    """A flat array of int64 that the leaf reads."""
    return types.Array(types.int64, 1, "C", readonly=True)


def LABELS(real):
    """A flat array of int32 that the leaf reads."""
    return types.Array(types.int32, 1, "C", readonly=True)


def INTS(real):
    """A flat array of int64 that the leaf writes."""
    return types.Array(types.int64, 1, "C")


def NUMBERS(real):
    """A flat array of float64 that the leaf writes, whatever the network's dtype."""
    return types.Array(types.float64, 1, "C")


def INT(real):
    """A count, an offset, a stride or an id."""
    return types.int64


def REAL(real):
    """A scalar of the network's dtype."""
    return real


def _record(cls, field):
    """The type of a NamedTuple whose field ``name`` has the type ``field(name, real)``."""
    return lambda real: types.BaseTuple.from_types([field(name, real) for name in cls._fields], cls)


def RECORDS(real):
    """What `pack` made of records; the leaf takes them out with `unpack`, `unpack_pass` or `unpack_layout`.

    As parameters of their own they would be 250 words, pushed at each call. Kernels, too, take this array where LLVM
    may not inline them. (Epochs of 2-3-1 take 8 % less so, of 13-64-64-1 with batches of one 10 %; Zen 4.)
    """
    return INTS(real)


_COUNTS = (
    "n_layers", "n_params", "moment_stride", "batch_size", "k_splits", "row_splits", "gradient_stride",
    "loss", "solver", "nesterov",
)  # fmt: skip
_WHOLE_NUMBERS = ("places", "offsets", "level_rows", "lines", "clocks", "meeting", "progress")
_NUMBERS = ("ends", "factors")
LAYOUT = _record(Layout, lambda name, real: types.Array(types.int64, 1, "C"))
PLAN = _record(TrainPlan, lambda name, real: types.int64 if name in _COUNTS else real)
PASS = _record(
    Pass, lambda name, real: types.Array(types.int64, 1, "C") if name in ("columns", "ahead") else types.int64
)
BUFFERS = _record(
    Buffers,
    lambda name, real: OUT(types.int64 if name in _WHOLE_NUMBERS else types.float64 if name in _NUMBERS else real),
)
EXAMPLES = _record(Examples, lambda name, real: {"labels": LABELS, "sample_weight": IN}.get(name, MATRIX)(real))


def as_read(array):
    """The same array under its read-only type: variables that hold now a buffer, now the user's data, have one type."""
    return array


@type_callable(as_read)
def _type_as_read(context):
    return lambda array: array.copy(readonly=True)


@lower_builtin(as_read, types.Array)
def _lower_as_read(context, builder, sig, args):
    return impl_ret_borrowed(context, builder, sig.return_type, args[0])


def pack(*records):
    """Put records into one array: Numba takes .13 us to receive an array or a field, 5 us for all that a call needs.

    The array holds addresses: the records, whose arrays are C-contiguous, must outlive it. With NUMBA_DISABLE_JIT the
    records themselves are returned.
    """
    if config.DISABLE_JIT:
        return records
    words = []
    for value in (field for record in records for field in record):
        if isinstance(value, np.ndarray):
            words += [value.__array_interface__["data"][0], *value.shape]
        else:
            words.append(np.float64(value).view(np.int64) if isinstance(value, np.floating) else value)
    return np.array(words, dtype=np.int64)


def unpack(packed, like):
    """Layout, plan and buffers out of what `pack` made of them; ``like`` is any array of the network's dtype."""
    return packed[:3]


def unpack_all(packed, like):
    """Layout, plan, buffers and examples out of what `pack` made of them; ``like`` as for `unpack`."""
    return packed


def unpack_pass(packed, like):
    """Layout and pass out of what `pack` made of them; ``like`` as for `unpack`."""
    return packed


def unpack_layout(packed, like):
    """Layout alone, which comes first in all that `pack` makes; ``like`` as for `unpack`."""
    return packed[0]


def _unpacks(function, *kinds):
    """Compile ``function`` to code that makes records of these kinds out of packed words."""

    @type_callable(function)
    def type_function(context):
        def typer(packed, like):
            records = [kind(like.dtype) for kind in kinds]
            return types.Tuple(records) if len(kinds) > 1 else records[0]

        return typer

    @lower_builtin(function, types.Array, types.Array)
    def lower_function(context, builder, sig, args):
        words = context.make_array(sig.args[0])(context, builder, args[0]).data
        positions = itertools.count()

        def next_word():
            return builder.load(builder.gep(words, [ir.Constant(ir.IntType(64), next(positions))]))

        def make(kind):
            if isinstance(kind, types.Integer):
                return next_word()
            if isinstance(kind, types.Float):
                return context.cast(builder, builder.bitcast(next_word(), ir.DoubleType()), types.float64, kind)
            itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
            data, shape, strides = next_word(), [next_word() for _ in range(kind.ndim)], [itemsize]
            for length in shape[:0:-1]:
                strides.insert(0, builder.mul(length, strides[0]))
            fields = {
                "data": builder.inttoptr(data, context.get_data_type(kind.dtype).as_pointer()),
                "shape": cgutils.pack_array(builder, shape),
                "strides": cgutils.pack_array(builder, strides),
                "itemsize": itemsize,
                "nitems": functools.reduce(builder.mul, shape),
            }
            # Value by value: Numba's own way goes through memory, and each of fifteen `unpack` took .04 s to compile.
            model, array = context.data_model_manager[kind], ir.Constant(context.get_value_type(kind), None)
            for name, value in fields.items():
                array = builder.insert_value(array, value, model.get_field_position(name))
            return array

        def record(kind):
            return context.make_tuple(builder, kind, [make(field) for field in kind])

        if len(kinds) == 1:
            return record(sig.return_type)
        return context.make_tuple(builder, sig.return_type, [record(kind) for kind in sig.return_type])


_unpacks(unpack, LAYOUT, PLAN, BUFFERS)
_unpacks(unpack_all, LAYOUT, PLAN, BUFFERS, EXAMPLES)
_unpacks(unpack_pass, LAYOUT, PASS)
_unpacks(unpack_layout, LAYOUT)
