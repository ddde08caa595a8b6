"""Dispatch tables: implementations with one signature, of which compiled code chooses one by its id.

Losses, activations, optimizers and the engine's verbs are implementations. A network needs few of them, and only these
are compiled (all together took 3 of 8 s of leaves). A table holds the addresses of compiled implementations by id, for
one dtype. Callers find the table by its symbol, so their machine code can be cached.
"""

import inspect

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from . import plain
from .cache import fingerprint
from .jit import compiled_for, dispatch_tables, load_with, real_of
from .private import OWN, lacks

MAX_IMPLEMENTATIONS = 64


def dispatch_table(name, *parameters):
    """Make a table of functions that take ``parameters``, pairs of a name and one of the kinds in `packing`.

    Returns the function that compiled code calls, with the id as first argument; an id without implementation does
    nothing. Its attribute ``implementation(id, group=None)`` is the decorator of the implementations, which stay plain
    Python functions. ``group`` names leaves that the implementation calls and that are not always loaded, see
    `jit.leaf`.
    """
    names, kinds = [n for n, _ in parameters], [kind for _, kind in parameters]
    implementations, groups, tables, dispatchers = {}, {}, {}, {}

    def call(implementation, *arguments):
        if implementation in implementations:
            implementations[implementation](*arguments)

    def symbol(real):
        return f"fastnn_family_{name}_{real}_{fingerprint()}{'_c' * lacks(OWN)}"

    def implementation(ident, group=None):
        if not 0 <= ident < MAX_IMPLEMENTATIONS or ident in implementations:
            raise ValueError(f"{name}: id {ident} is taken, or not below {MAX_IMPLEMENTATIONS}.")

        def decorate(function):
            implementations[ident], groups[ident] = function, group
            return function

        return decorate

    def table(real):
        if real not in tables:
            tables[real] = np.zeros(MAX_IMPLEMENTATIONS, np.int64)
            llvmlite.binding.add_symbol(symbol(real), tables[real].ctypes.data)
        return tables[real]

    def load_table(real):
        """Make the table for a dtype, before any caller is compiled or loaded. Returns the loaded dispatchers."""
        table(real)
        return [dispatcher for (_, other), dispatcher in dispatchers.items() if other == real]

    def load_implementation(ident, real):
        if ident in implementations and (ident, real) not in dispatchers:
            dispatchers[ident, real], table(real)[ident] = compiled_for(implementations[ident], kinds, real)

    def forget():
        tables.clear()
        dispatchers.clear()

    call.__name__ = call.__qualname__ = name
    call.__signature__ = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("implementation", *names)]
    )
    call.implementation, call.implementations, call.groups = implementation, implementations, groups
    call.load, call.load_implementation, call.group = load_table, load_implementation, "dense"

    _declare(call, kinds, symbol)
    load_with(load_table, forget=forget)
    dispatch_tables.append(call)
    return call


def _declare(call, kinds, symbol):
    """Let compiled code call a table: it looks up the address under the id, and calls what is there."""

    @type_callable(call)
    def type_call(context):
        def typer(*given):
            real = next(filter(None, map(real_of, given)), None)
            if real is not None and len(given) == 1 + len(kinds):
                return types.void(types.int64, *(kind(real) for kind in kinds))

        typer.__signature__ = call.__signature__
        return typer

    @lower_builtin(call, types.VarArg(types.Any))
    def lower_call(context, builder, sig, args):
        real = next(filter(None, map(real_of, sig.args)))
        i64, found = ir.IntType(64), builder.module.globals.get(symbol(real))
        addresses = found or declare_table(builder.module, symbol(real), llvmlite.binding.get_process_triple())
        address = builder.load(builder.gep(addresses, [ir.Constant(i64, 0), args[0]]))
        with builder.if_then(builder.icmp_unsigned("!=", address, ir.Constant(i64, 0))):
            if lacks(OWN):
                plain.call(context, builder, address, sig.args[1:], args[1:])
            else:
                function_type = context.call_conv.get_function_type(sig.return_type, sig.args[1:])
                callee = builder.inttoptr(address, function_type.as_pointer())
                context.call_conv.call_function(builder, callee, sig.return_type, sig.args[1:], args[1:])
        return context.get_dummy_value()


def declare_table(module, name, triple):
    """Declare a table that lies outside of a module compiled for LLVM's target ``triple``.

    64-bit Windows on ARM reaches a variable by its distance from the code, at most 4 GB, and the heap may be farther
    away. As a variable of a DLL it is reached through its address, which lies beside the code.
    """
    table = ir.GlobalVariable(module, ir.ArrayType(ir.IntType(64), MAX_IMPLEMENTATIONS), name)
    architecture, *system = triple.lower().split("-")
    if architecture in ("aarch64", "arm64") and "windows" in system:
        table.storage_class = "dllimport"
    return table
