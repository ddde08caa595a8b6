"""Leaves where plain njit is all, see `private`: as C functions, which public parts of Numba make and call.

Linked into their callers, as Numba does by itself, all leaves of a first fit took 113 s to compile. As C functions,
whose addresses callers find as they find those of leaves, they take less; arrays are told by address and shape.
"""

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils

_functions = []  # Numba frees the code of those that nobody holds


def compiled_for(dispatcher, parameters):
    """A compiled function, and the address of a C function that calls it. ``parameters`` are their Numba types."""
    names, kinds, given = [], [], []
    for i, parameter in enumerate(parameters):
        names.append(f"x{i}")
        if isinstance(parameter, types.Array):
            shape = [f"n{i}_{axis}" for axis in range(parameter.ndim)]
            names += shape
            kinds += [types.CPointer(parameter.dtype)] + [types.intp] * parameter.ndim
            given.append(f"carray(x{i}, ({', '.join(shape)},))")
        else:
            kinds.append(parameter)
            given.append(f"x{i}")
    scope = {"carray": numba.carray, "function": dispatcher}
    exec(f"def call({', '.join(names)}):\n    function({', '.join(given)})", scope)
    _functions.append(numba.cfunc(types.void(*kinds))(scope["call"]))
    return dispatcher, _functions[-1].address


def call(context, builder, callee, parameters, args):
    """Emit a call of such a C function, which is given by a symbol or, as a number, by its address."""
    values = []
    for parameter, value in zip(parameters, args, strict=True):
        if isinstance(parameter, types.Array):
            array = context.make_array(parameter)(context, builder, value)
            values.append(builder.bitcast(array.data, context.get_value_type(types.CPointer(parameter.dtype))))
            values += [builder.extract_value(array.shape, axis) for axis in range(parameter.ndim)]
        else:
            values.append(value)
    function_type = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    if isinstance(callee, str):
        callee = cgutils.get_or_insert_function(builder.module, function_type, callee)
    else:
        callee = builder.inttoptr(callee, function_type.as_pointer())
    builder.call(callee, values)
