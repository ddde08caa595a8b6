"""How everything in ``core`` is compiled, and how machine code is kept between processes.

``@kernel``  a small function that is compiled into each of its callers.
``@leaf``    a function compiled once for each dtype, under a fixed signature and a fixed symbol. Callers hold a call
             to the symbol, not a copy of the code. (Numba links and optimizes a callee anew into every caller on the
             way up: without leaves the first fit took 2.3 times as long.)
`dispatch_table`  leaves of one signature, of which a call chooses one by its id: compiled when first needed.
``@entry``   a function called from Python, as two twins of one source: serial, and parallel over its ``prange`` loops.

In plain Python, and with NUMBA_DISABLE_JIT=1, all three are the functions they decorate.

Leaves and entries are cached on disk, under names that carry a fingerprint: see `cache`.

All of this rests on private parts of Numba: see `private`, also for what becomes of it under a Numba that lacks one.
"""

import functools
import inspect
import types as python_types

import llvmlite.binding
import numba
import numpy as np
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from . import cache, plain
from .announcement import announced
from .cache import MachineCodeCache, fingerprint
from .exclusive import exclusively, one_by_one
from .private import CACHE, EXTENSIONS, OWN, do_without, explanation, is_known, lacks, warn_once


def _compilers():
    """Options that choose the compilers of kernels, leaves and entries; none of them where plain `njit` is all."""
    if not lacks(OWN):
        try:
            from .passes import EntryCompiler, KernelCompiler, LeafCompiler
        except Exception as error:
            if is_known():
                raise
            do_without(OWN, error)
        else:
            return [{"pipeline_class": compiler} for compiler in (KernelCompiler, LeafCompiler, EntryCompiler)]
    return {}, {}, {}


BY_KERNEL_COMPILER, BY_LEAF_COMPILER, BY_ENTRY_COMPILER = _compilers()

# error_model "numpy": the default one raises on a division by zero, which keeps loops from being vectorized
# (Adam on 80,000 weights: 188 us against 20 us). No fastmath: the bits of a result depend on nothing but its inputs.
# Compiled code neither allocates nor keeps arrays: without Numba's run-time there is no counting of references (atomic
# operations for each slice of a buffer), an allocation in a kernel is a compile error, and no process need compile that
# run-time before it runs what it has loaded (13 of the 46 ms of a first fit with a warm cache, Zen 5).
OPTIONS = {"nogil": True, "error_model": "numpy"}
INNER_OPTIONS = {}
if not lacks(OWN):
    OPTIONS["_nrt"] = False
    INNER_OPTIONS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
INNER_OPTIONS = {**OPTIONS, **INNER_OPTIONS}

KERNEL_OPTIONS = {**INNER_OPTIONS, **BY_KERNEL_COMPILER}


def kernel(function):
    """Make ``function`` one that is compiled into each of its callers."""
    dispatcher = njit(**KERNEL_OPTIONS)(function)
    if not (config.DISABLE_JIT or lacks(OWN)):
        _forget.append(dispatcher.overloads.clear)
    return dispatcher


# ------------------------------------------------------------------------------------------ where plain njit is all


_forget = []  # functions that drop what fastnn's own pipelines have compiled
_asked_for = {}  # what `load_leaves` was, in order


def compiled_or_plain(compile_function, *args):
    """Compile; under a Numba that nobody knows by plain `njit` once fastnn's own pipelines have raised an exception."""
    try:
        return compile_function(*args)
    except MemoryError:
        raise
    except Exception as error:
        if is_known() or lacks(OWN):
            raise
        do_without(OWN, error)
    from .passes import found

    found.clear()
    _loaded.clear()
    cache.complaints.append(explanation())
    for forget in _forget:
        forget()
    for request in list(_asked_for):
        for step in _steps(*request):
            step()
    compiled = compile_function(*args)
    warn_once()
    return compiled


# ------------------------------------------------------------------------------------------------- compilation


def _cached(source, suffix, **options):
    """A dispatcher for a copy of ``source`` whose cache files are named after ``suffix`` and the fingerprint."""
    parts = source.__code__, source.__globals__, source.__name__, source.__defaults__, source.__closure__
    twin = python_types.FunctionType(*parts)
    twin.__module__ = source.__module__
    twin.__qualname__ = f"{source.__name__}_{suffix}_{fingerprint()}"
    dispatcher = njit(**options)(twin)
    if config.DISABLE_JIT:
        return dispatcher
    if not lacks(CACHE):
        dispatcher._cache = announced(MachineCodeCache(twin), source.__name__)
    if hasattr(dispatcher, "compile"):
        dispatcher.compile = functools.partial(exclusively, compiled_or_plain, dispatcher.compile)
    if not lacks(EXTENSIONS):
        # It would look through all installed packages for such as extend Numba: 2 of the 33 ms of a first fit (Zen 5).
        dispatcher._compilation_chain_init_hook = lambda: None
    return dispatcher


# ---------------------------------------------------------------------------------------------------- leaves


_leaves = {"dense": [], "predict": [], "sparse": []}  # loaders by group, callees before callers
_loaded = set()
dispatch_tables = []  # all that have been made


def compiled_for(function, arguments, real):
    """The dispatcher of ``function``, compiled or loaded for parameters ``arguments`` of a dtype, and its address."""
    signature = tuple(argument(real) for argument in arguments)
    if not lacks(OWN):
        dispatcher = _cached(function, f"leaf_{real}", **BY_LEAF_COMPILER, **INNER_OPTIONS)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
    if lacks(OWN):
        return plain.compiled_for(njit(signature, **OPTIONS)(function), signature)
    library = dispatcher.overloads[signature].library
    return dispatcher, library.get_pointer_to_function(dispatcher.overloads[signature].fndesc.llvm_func_name)


def leaf(*arguments, group="dense"):
    """Compile a function once for each dtype, under the signature ``void(*arguments)``.

    ``arguments`` are kinds of `arguments`, one for each parameter. In compiled code the dtype of a call is that of its
    first argument that has one; integers and arrays are converted to the signature as usual. ``group``
    "sparse" or "predict" is compiled only for those who ask `load_leaves` for it; only entries may call it.
    """

    def decorate(function):
        def symbol(real):
            return f"fastnn_{function.__name__}_{real}_{fingerprint()}{'_c' * lacks(OWN)}"

        @type_callable(function)
        def type_call(context):
            def typer(*given):
                real = next(filter(None, map(real_of, given)), None)
                if real is not None and len(given) == len(arguments):
                    return types.void(*(argument(real) for argument in arguments))

            typer.__signature__ = inspect.signature(function)
            return typer

        @lower_builtin(function, types.VarArg(types.Any))
        def lower_call(context, builder, sig, args):
            real = next(filter(None, map(real_of, sig.args)))
            if lacks(OWN):
                plain.call(context, builder, symbol(real), sig.args, args)
                return context.get_dummy_value()
            function_type = context.call_conv.get_function_type(sig.return_type, sig.args)
            callee = cgutils.get_or_insert_function(builder.module, function_type, symbol(real))
            context.call_conv.call_function(builder, callee, sig.return_type, sig.args, args)
            return context.get_dummy_value()

        @functools.cache
        def load(real):
            dispatcher, address = compiled_for(function, arguments, real)
            llvmlite.binding.add_symbol(symbol(real), address)
            return dispatcher

        function.load, function.group = load, group
        load_with(load, group)
        return function

    return decorate


def load_with(load, group="dense", forget=None):
    """Let `load_leaves` call ``load`` of a dtype, before the leaves that are made later.

    ``forget`` drops what has been loaded, see `compiled_or_plain`.
    """
    _leaves[group].append(load)
    _forget.append(forget or load.cache_clear)


def real_of(numba_type):
    """The floating-point dtype of an argument's type, or None."""
    if isinstance(numba_type, types.Float):
        return numba_type
    if isinstance(numba_type, types.Array):
        return numba_type.dtype if isinstance(numba_type.dtype, types.Float) else None
    if isinstance(numba_type, types.BaseTuple):
        return next(filter(None, map(real_of, numba_type)), None)
    return None


def load_leaves(dtype, sparse=False, implementations=frozenset()):
    """Compile, or load from the cache, every leaf for a dtype, those for sparse input and on request others.

    To be called before an entry is: entries hold calls to the leaves' symbols. ``implementations`` is a frozenset of
    (`dispatch_table`, id), and of names of groups.
    """
    real = numba.from_dtype(np.dtype(dtype))
    if (sparse, implementations, real) in _loaded or config.DISABLE_JIT:
        return
    _asked_for[sparse, implementations, real] = None
    one_by_one(_steps(sparse, implementations, real))
    warn_once()


def _steps(sparse, implementations, real):
    """Functions that together load what `load_leaves` is asked for."""
    names = [need for need in implementations if isinstance(need, str)]
    asked = implementations.difference(names)
    needed = {table.groups.get(ident) for table, ident in asked}.union(names, ["sparse"] if sparse else ())
    steps = []
    for group in ("dense", *sorted(needed - {None, "dense"})):
        if (group, real) not in _loaded:
            steps += [functools.partial(load, real) for load in _leaves[group]]
            steps.append(functools.partial(_loaded.add, (group, real)))
    steps += [
        functools.partial(dispatch_table.load_implementation, implementation, real)
        for dispatch_table, implementation in asked
    ]
    return [*steps, functools.partial(_loaded.add, (sparse, implementations, real))]


def all_implementations(sparse=True):
    """What `load_leaves` can be asked for: (table, id) of all functions of all dispatch tables, and the groups.

    Without ``sparse`` those are left out that call leaves for sparse input.
    """
    every = {(table, ident) for table in dispatch_tables for ident in table.implementations}
    return frozenset({"predict"} | {(table, i) for table, i in every if sparse or table.groups[i] != "sparse"})


def callable_leaf(function, dtype):
    """A compiled function of the same parameters that calls the leaf, for tests and benchmarks."""
    load_leaves(dtype, function.group == "sparse", all_implementations())
    names = ", ".join(inspect.signature(function).parameters)
    scope = {"leaf": function}
    exec(f"def {function.__name__}({names}):\n    leaf({names})", scope)
    return njit(**OPTIONS)(scope[function.__name__])


# --------------------------------------------------------------------------------------------------- entries


entries = []  # all that have been made


class Entry:
    """A function that Python calls, compiled on first use for each dtype, serial and parallel.

    Attributes
    ----------
    twins : dict
        Dispatchers made so far, by (dtype name, parallel).
    loops : bool
        Whether there is a loop in it that can run on several threads.
    """

    def __init__(self, py_func):
        self.py_func = py_func
        self.loops = "prange" in py_func.__code__.co_names
        self.twins = {}
        self._found = {}  # the same by what was asked for: the name of a dtype takes 2 us to make
        functools.update_wrapper(self, py_func)

    def twin(self, dtype, parallel=False):
        """The dispatcher for a dtype, running on the calling thread, or its ``prange`` loops on Numba's threads."""
        if (dtype, parallel) in self._found:
            return self._found[dtype, parallel]
        key = (np.dtype(dtype).name, parallel)
        if key not in self.twins:
            exclusively(self._make, key)
        self._found[dtype, parallel] = self.twins[key]
        return self.twins[key]

    def _make(self, key):
        """Make a twin, unless another thread has made it meanwhile."""
        name, parallel = key
        if key not in self.twins:
            suffix = f"{'parallel' if parallel else 'serial'}_{name}"
            options = {**OPTIONS, "parallel": True} if parallel else OPTIONS
            self.twins[key] = _cached(self.py_func, suffix, **BY_ENTRY_COMPILER, **options)


def entry(py_func):
    """Make ``py_func`` an `Entry`, to be called after `load_leaves`."""
    entries.append(Entry(py_func))
    return entries[-1]
