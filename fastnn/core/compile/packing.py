"""Arguments of compiled functions: the kinds of parameters that `leaf` takes, and records packed into one array."""

import functools
import struct

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_builtin, lower_getattr_generic, register_model, type_callable
from numba.np.numpy_support import as_dtype


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


def RECORDS(real):
    """Records packed by `pack`; the leaf unpacks them by one of the functions that `unpacks` compiles."""
    return INTS(real)


def RECORD_SETS(real):
    """Several sets of records packed by `pack_sets`, each as in `RECORDS`."""
    return types.Array(types.int64, 2, "C")


class View(types.Type):
    """Type of a record inside the array that `pack` makes: a field is read from there when it is used.

    In compiled code it is one address. (Records as tuples of all their fields, 250 words, took 1 to 2 of the 12 s in
    which the leaves of a first fit were compiled in slow minutes of Zen 3, and 2 to 9 % of an epoch of 2-3-1 or of
    13-64-64-1 with batches of one row.)

    Parameters
    ----------
    cls : NamedTuple class
    real : Numba's type of the network's dtype
    start : int
        Words before the record.

    Attributes
    ----------
    fields : dict
        Type and first word of each field, by its name.
    end : int
        Words up to the end of the record.
    """

    def __init__(self, cls, real, start):
        self.fields, self.end = {}, start
        for name in cls._fields:
            kind = cls.__annotations__[name](real)
            self.fields[name] = (kind, self.end)
            self.end += 1 + kind.ndim if isinstance(kind, types.Array) else 1  # an array: its address and shape
        super().__init__(f"View({cls.__name__}, {real}, {start})")


def _views(real, *records):
    """Views of records that lie one behind the other."""
    views = []
    for cls in records:
        views.append(View(cls, real, views[-1].end if views else 0))
    return views


@register_model(View)
class _ViewModel(models.PrimitiveModel):
    def __init__(self, manager, view):
        super().__init__(manager, view, ir.IntType(64).as_pointer())


@infer_getattr
class _ViewFields(AttributeTemplate):
    key = View

    def generic_resolve(self, view, name):
        return view.fields[name][0] if name in view.fields else None


@lower_getattr_generic(View)
def _lower_field(context, builder, view, words, name):
    kind, start = view.fields[name]

    def word(i):
        value = builder.load(builder.gep(words, [ir.Constant(ir.IntType(64), start + i)]))
        # Records do not change while compiled code runs, so LLVM may load a word once for several uses.
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    if isinstance(kind, types.Integer):
        return word(0)
    if isinstance(kind, types.Float):
        return context.cast(builder, builder.bitcast(word(0), ir.DoubleType()), types.float64, kind)
    pointer = context.get_data_type(kind.dtype).as_pointer()
    shape = [word(1 + axis) for axis in range(kind.ndim)]
    return _contiguous(context, builder, kind, builder.inttoptr(word(0), pointer), shape)


def _contiguous(context, builder, kind, data, shape):
    """Emit a C-contiguous array of type ``kind`` with this address and shape."""
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [itemsize]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(length, strides[0]))
    values = {
        "data": data,
        "shape": cgutils.pack_array(builder, shape),
        "strides": cgutils.pack_array(builder, strides),
        "itemsize": itemsize,
        "nitems": functools.reduce(builder.mul, shape),
    }
    # Field by field: Numba's own code goes through memory, which takes longer to compile.
    model, array = context.data_model_manager[kind], ir.Constant(context.get_value_type(kind), None)
    for field, value in values.items():
        array = builder.insert_value(array, value, model.get_field_position(field))
    return array


def as_flat(array):
    """A flat view of a C-contiguous array. (Numba's `reshape` takes .12 s to compile.)"""
    return array.reshape(-1)


@type_callable(as_flat)
def _type_as_flat(context):
    return lambda array: types.Array(array.dtype, 1, "C", readonly=not array.mutable)


@lower_builtin(as_flat, types.Array)
def _lower_as_flat(context, builder, sig, args):
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return _contiguous(context, builder, sig.return_type, array.data, [array.nitems])


def as_read(array):
    """The array with its read-only type, for variables that hold either a buffer or the user's data."""
    return array


@type_callable(as_read)
def _type_as_read(context):
    return lambda array: array.copy(readonly=True)


@lower_builtin(as_read, types.Array)
def _lower_as_read(context, builder, sig, args):
    return impl_ret_borrowed(context, builder, sig.return_type, args[0])


def pack(*records):
    """Pack records into one array: Numba takes .13 us for each array or field of an argument, 5 us for all of a call.

    The array holds addresses of the records' arrays, which are C-contiguous and must outlive it. With NUMBA_DISABLE_JIT
    the records themselves are returned.

    Raises
    ------
    TypeError
        When the type of a field is not its annotation. (NumPy's integers have 32 bits on some systems.)
    """
    if config.DISABLE_JIT:
        return records
    real, words = None, []
    for record in records:
        for name, value, (n_axes, dtype) in zip(record._fields, record, _kinds(type(record)), strict=True):
            found = getattr(value, "dtype", None)
            if dtype is None:  # float32 or float64, the same throughout
                dtype = real = real or (SINGLE if found == SINGLE else DOUBLE)
            fits = found is not None and found == dtype and value.ndim == n_axes
            if fits and n_axes:
                # The address takes 0.8 us: no one reads that of an empty array.
                address = value.__array_interface__["data"][0] if value.size else 0
                fits = value.flags.c_contiguous and address % dtype.itemsize == 0
                words += [address, *value.shape]
            elif fits:
                words.append(value if dtype is WHOLE else struct.unpack("q", struct.pack("d", value))[0])
            if not fits:
                raise TypeError(f"{type(record).__name__}.{name} must be {_described(n_axes, dtype)}, got {value!r}.")
    return np.array(words, dtype=np.int64)


WHOLE, SINGLE, DOUBLE = map(np.dtype, (np.int64, np.float32, np.float64))


@functools.cache
def _kinds(cls):
    """Number of axes, 0 for a scalar, and dtype, None for the network's dtype, of each field of a record."""
    kinds = []
    for name in cls._fields:
        single, double = (cls.__annotations__[name](real) for real in (types.float32, types.float64))
        n_axes = single.ndim if isinstance(single, types.Array) else 0
        kinds.append((n_axes, as_dtype(single.dtype if n_axes else single) if single == double else None))
    return kinds


def _described(n_axes, dtype):
    return f"a C-contiguous, aligned array of {dtype} with {n_axes} axes" if n_axes else f"a NumPy scalar of {dtype}"


def pack_sets(sets):
    """Pack several sets of the same records into one array; set i is row i."""
    packed = [pack(*records) for records in sets]
    return packed if config.DISABLE_JIT else np.stack(packed)


def unpacks(function, *records):
    """Compile ``function(packed, like)`` to code that returns a `View` of each of these records."""

    @type_callable(function)
    def type_function(context):
        def typer(packed, like):
            views = _views(like.dtype, *records)
            return types.Tuple(views) if len(views) > 1 else views[0]

        return typer

    @lower_builtin(function, types.Array, types.Array)
    def lower_function(context, builder, sig, args):
        words = context.make_array(sig.args[0])(context, builder, args[0]).data
        return context.make_tuple(builder, sig.return_type, [words] * len(records)) if len(records) > 1 else words
