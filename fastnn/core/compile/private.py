"""What is used of Numba's and llvmlite's private parts, and what is done without where one of them has changed.

Nothing else in ``core`` names a private part without a row in TABLE. Numba may rename or drop what it has not promised,
so each part is looked up by name when this module is imported, and methods by their parameters too. What is missing is
done without, one warning says so, and results stay the same bit by bit:

* What is used for one PURPOSE only is left out: code is not kept on disk, say.
* Without the parts that fastnn's own pipelines are built from (OWN) everything is compiled by plain ``numba.njit``,
  which takes longer, and nothing is kept. See `plain` for how leaves are called then.
* Without a BASIC part nothing can be compiled, and the import fails with a sentence that names it.

What cannot be looked up shows when a function is compiled: with a Numba that is not in KNOWN, an exception there leads
to plain ``numba.njit`` too. With one that is, it is a mistake of fastnn's, and is raised.

`numba.njit`, `numba.types`, `numba.config` and llvmlite's ``ir`` and ``binding`` as documented are public: no rows.
"""

import functools
import importlib
import warnings
from typing import NamedTuple

import llvmlite
import llvmlite.binding
import numba
from numba import config

KNOWN = ("0.63", "0.64", "0.65", "0.66", "0.67", "0.68")  # Numbas that fastnn has been tested with

# ----------------------------------------------------------------------------------------------------------- table

BASIC, OWN, PASSES, TYPING = "basic", "own pipelines", "passes", "typing"
CACHE, EXTENSIONS, TARGET, FORKS, THREADS = "cache", "extensions", "target", "forks", "threads"
PURPOSE = {  # what is said where a part is missing
    OWN: "everything is compiled by numba.njit alone, in every process, which takes longer",
    PASSES: "all of Numba's passes run, which takes longer",
    TYPING: "types are resolved anew each time, which takes longer",
    CACHE: "compiled code is not kept, so each process compiles for itself",
    EXTENSIONS: "Numba looks for its extensions before it compiles",
    TARGET: "the processor is described by llvmlite, and compiled code is not kept",
    FORKS: "forks do not wait for what other packages compile",
    THREADS: "the number of threads is set by numba.set_num_threads",
}


class Part(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    module : str
    owner : str
        A class, a function or an object of the module; "" for the module itself.
    attribute : str
        What the owner has: ``name`` of an attribute, which methods of a class may set, or which a function may set as a
        global variable; ``name(parameters)`` of what takes these parameters first; "" for the owner itself.
    purpose : str
        One of the names above.
    """

    module: str
    owner: str
    attribute: str
    purpose: str

    def __str__(self):
        return ".".join(filter(None, (self.module, self.owner, self.attribute.partition("(")[0])))


def _parts(module, owner, members, purpose):
    """A row for each of several members, which are separated by semicolons."""
    return [Part(module, owner, attribute.strip(), purpose) for attribute in members.split(";")]


TABLE = (
    # Types and operations of fastnn's own are defined with these: `packing`, and all of simd. What they are called with
    # is not checked: a new name of a parameter is no reason to refuse.
    *_parts("numba.extending", "", "lower_builtin; type_callable; register_jitable", BASIC),
    *_parts("numba.extending", "", "infer_getattr; lower_getattr_generic; register_model; models", BASIC),
    *_parts("numba.core.datamodel.models", "", "PrimitiveModel", BASIC),
    *_parts("numba.core.datamodel.models", "StructModel", "get_field_position", BASIC),
    *_parts("numba.core.typing.templates", "", "AttributeTemplate", BASIC),
    *_parts("numba.core.imputils", "", "impl_ret_borrowed", BASIC),
    *_parts("numba.np.numpy_support", "", "as_dtype", BASIC),
    *_parts("numba.core.cgutils", "", "alloca_once; alloca_once_value; for_range_slice", BASIC),
    *_parts("numba.core.cgutils", "", "get_or_insert_function; pack_array", BASIC),
    *_parts("numba.core.base", "BaseContext", "cast; data_model_manager; get_abi_sizeof; get_constant", BASIC),
    *_parts("numba.core.base", "BaseContext", "get_constant_generic; get_data_type; get_dummy_value", BASIC),
    *_parts("numba.core.base", "BaseContext", "get_value_type; make_array; make_tuple; populate_array", BASIC),
    *_parts("llvmlite.ir", "Type", "as_pointer", BASIC),
    # A library of fastnn's own: `passes`.
    *_parts("numba.core.codegen", "JITCodeLibrary", "; codegen; _codegen; _final_module; _finalized", OWN),
    *_parts("numba.core.codegen", "JITCodeLibrary", "__init__(self, codegen, name)", OWN),
    *_parts("numba.core.codegen", "JITCodeLibrary", "_optimize_functions(self, ll_module)", OWN),
    *_parts("numba.core.codegen", "JITCodeLibrary", "_optimize_final_module(self)", OWN),
    *_parts("numba.core.codegen", "JITCodeLibrary", "_finalize_final_module(self)", OWN),
    *_parts("numba.core.codegen", "JITCodeLibrary", "_finalize_dynamic_globals(self); _ensure_finalized(self)", OWN),
    *_parts("numba.core.codegen", "JITCodeLibrary", "get_pointer_to_function(self, name)", OWN),
    *_parts("numba.core.codegen", "JITCPUCodegen", "_data_layout; _module_pass_manager(self)", OWN),
    *_parts("numba.core.codegen", "JITCPUCodegen", "set_env(self, env_name, env)", OWN),
    # The pipelines that fill it: `passes`, and the options by which `jit` asks for them.
    *_parts("numba.core.compiler", "Compiler", "; define_pipelines(self)", OWN),
    *_parts("numba.core.compiler", "CompilerBase", "state; library; targetctx; func_id", OWN),
    *_parts("numba.core.decorators", "", "jit(signature_or_function, locals, cache, pipeline_class)", OWN),
    *_parts("numba.core.cpu", "CPUTargetOptions", "_nrt; no_cpython_wrapper; no_cfunc_wrapper", OWN),
    # Leaves are called by address: `jit` and `dispatch`.
    *_parts("numba.core.dispatcher", "Dispatcher", "compile(self, sig); disable_compile(self); overloads", OWN),
    *_parts("numba.core.compiler", "CompileResult", "library; fndesc", OWN),
    *_parts("numba.core.funcdesc", "FunctionDescriptor", "llvm_func_name", OWN),
    *_parts("numba.core.cpu", "CPUContext", "call_conv; codegen(self)", OWN),
    *_parts("numba.core.callconv", "CPUCallConv", "get_function_type(self, restype, argtypes)", OWN),
    *_parts("numba.core.callconv", "CPUCallConv", "call_function(self, builder, callee, resty, argtys, args)", OWN),
    # Passes that are left out, and what they are for: `with` blocks, closures, branches on None and on types, raise,
    # array expressions, `literally`, `literal_unroll`, functions inlined before they are typed, generators, and when a
    # variable is used for the last time, which matters where references are counted.
    *_parts("numba.core.compiler_machinery", "PassManager", "__init__(self, pipeline_name); passes", PASSES),
    *_parts("numba.core.compiler_machinery", "PassManager", "add_pass(self, pss, description); finalize(self)", PASSES),
    *_parts("numba.core.untyped_passes", "", "WithLifting; InlineClosureLikes; RewriteSemanticConstants", PASSES),
    *_parts("numba.core.untyped_passes", "", "DeadBranchPrune; GenericRewrites; RewriteDynamicRaises", PASSES),
    *_parts("numba.core.untyped_passes", "", "MakeFunctionToJitFunction; InlineInlinables; FindLiterallyCalls", PASSES),
    *_parts("numba.core.untyped_passes", "", "LiteralUnroll; LiteralPropagationSubPipelinePass", PASSES),
    *_parts("numba.core.typed_passes", "", "InlineOverloads; NopythonRewrites; IRLegalization", PASSES),
    *_parts("numba.core.typed_passes", "", "NoPythonSupportedFeatureValidation; DumpParforDiagnostics", PASSES),
    # Memoized typing.
    *_parts("numba.core.compiler", "CompilerBase", "typingctx", TYPING),
    *_parts("numba.core.base", "BaseContext", "typing_context", TYPING),
    *_parts("numba.core.typing.context", "BaseContext", "resolve_function_type(self, func, args, kws)", TYPING),
    # Machine code on disk: `cache`, and what `passes` makes of it.
    *_parts("numba.core.dispatcher", "Dispatcher", "_cache", CACHE),
    *_parts("numba.core.caching", "NullCache", "load_overload(self, sig, target_context)", CACHE),
    *_parts("numba.core.caching", "NullCache", "save_overload(self, sig, cres)", CACHE),
    *_parts("numba.core.compiler", "CompileResult", "_reduce(self); _rebuild(cls, target_context); lifted", CACHE),
    *_parts("numba.core.serialize", "", "dumps(obj)", CACHE),
    *_parts("numba.core.codegen", "JITCodeLibrary", "has_dynamic_globals; enable_object_caching(self)", CACHE),
    *_parts("numba.core.codegen", "JITCodeLibrary", "serialize_using_object_code(self)", CACHE),
    *_parts("numba.core.codegen", "JITCodeLibrary", "_get_module_for_linking(self)", CACHE),
    *_parts("numba.misc.appdirs", "AppDirs", "user_cache_dir", CACHE),
    # What surrounds a compilation or a call.
    *_parts("numba.core.dispatcher", "Dispatcher", "_compilation_chain_init_hook(self)", EXTENSIONS),
    *_parts("numba.core.registry", "cpu_target", "target_context", TARGET),
    *_parts("numba.core.cpu", "CPUContext", "codegen(self)", TARGET),
    *_parts("numba.core.codegen", "JITCPUCodegen", "_tm_features; target_data; magic_tuple(self)", TARGET),
    *_parts("numba.core.compiler_lock", "global_compiler_lock", "_lock", FORKS),
    *_parts("llvmlite.binding.ffi", "lib", "_lock", FORKS),
    *_parts("llvmlite.binding.ffi", "_LLVMLock", "_lock", FORKS),
    *_parts("numba.np.ufunc.parallel", "_load_threading_functions", "_set_num_threads", THREADS),
)
UNNEEDED = {part.attribute for part in TABLE if part.module.endswith("_passes")}

# --------------------------------------------------------------------------------------------------------- look-up

_NOTHING = object()


def _owner(part):
    module = importlib.import_module(part.module)
    return getattr(module, part.owner) if part.owner else module


def is_there(part):
    """Whether Numba has a part, as the table says."""
    try:
        owner = _owner(part)
    except (ImportError, AttributeError):
        return False
    name, _, parameters = part.attribute.partition("(")
    if not name:
        return True
    found = getattr(owner, name, _NOTHING)
    if parameters:
        return found is not _NOTHING and _takes(found, parameters.rstrip(")").split(", "))
    return found is not _NOTHING or name in _named(owner)


@functools.cache
def _named(owner):
    """All attributes and global variables that a function, or the methods of a class, read or set."""
    functions = [f for c in owner.__mro__ for f in vars(c).values()] if isinstance(owner, type) else [owner]
    return {name for f in functions if hasattr(f, "__code__") for name in f.__code__.co_names}


def _takes(function, parameters):
    """Whether a function's first parameters are these."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    return code is not None and list(code.co_varnames[: code.co_argcount][: len(parameters)]) == parameters


def _missing():
    """The parts that are not there.

    Raises
    ------
    ImportError
        When one of them is basic.
    """
    missing = [part for part in TABLE if not is_there(part)]
    basic = ", ".join(str(part) for part in missing if part.purpose == BASIC)
    if basic:
        raise ImportError(
            f"fastnn cannot work with Numba {numba.__version__} and llvmlite {llvmlite.__version__}: {basic} is not "
            f"there, or is not what it was. fastnn has been tested with Numba {KNOWN[0]} to {KNOWN[-1]}."
        )
    return missing


def _part(module, name):
    """A part, or None where it is missing."""
    return getattr(importlib.import_module(module), name) if is_there(Part(module, "", name, "")) else None


# ----------------------------------------------------------------------------------------------------------- state


class _State:
    """What this process does without.

    Attributes
    ----------
    lacking : set of str
        Purposes.
    reasons : list of str
        Names of missing parts, and exceptions.
    warned : bool
    """

    def __init__(self, missing):
        self.lacking, self.reasons, self.warned = set(), [], False
        for part in missing:
            self.lacking.add(part.purpose)
            if part._replace(attribute="") not in missing or not part.attribute:  # else its owner is named
                self.reasons.append(str(part))


_state = _State(_missing())


def lacks(purpose):
    """Whether the parts for a purpose cannot be used."""
    lacking = _state.lacking
    return bool(lacking) and (purpose in lacking or (purpose == CACHE and (OWN in lacking or TARGET in lacking)))


def is_known():
    """Whether an exception in a compilation is no doing of a new Numba's."""
    return not _state.lacking and numba.__version__.startswith(tuple(f"{version}." for version in KNOWN))


def do_without(purpose, error):
    """Use the parts for a purpose no more, because of an exception."""
    _state.lacking.add(purpose)
    _state.reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def warn_once():
    """Say, once in a process, what this process does without."""
    if _state.lacking and not _state.warned:
        _state.warned = True
        warnings.warn(explanation(), RuntimeWarning, stacklevel=3)


def explanation():
    """What this process does without, and why; "" for nothing."""
    if not _state.lacking:
        return ""
    lacking = {OWN} if OWN in _state.lacking else _state.lacking
    first, *others = dict.fromkeys(_state.reasons)
    reasons = first + (f" and {len(others)} more" if others else "")
    return (
        f"fastnn does not know Numba {numba.__version__} with llvmlite {llvmlite.__version__} ({reasons}). "
        f"Results are the same, but {'; '.join(PURPOSE[purpose] for purpose in PURPOSE if purpose in lacking)}."
    )


# ----------------------------------------------------------------------------------------------------------- parts

AppDirs = _part("numba.misc.appdirs", "AppDirs")
CompileResult = _part("numba.core.compiler", "CompileResult")
Compiler = _part("numba.core.compiler", "Compiler")
JITCodeLibrary = _part("numba.core.codegen", "JITCodeLibrary")
NullCache = _part("numba.core.caching", "NullCache") or object
PassManager = _part("numba.core.compiler_machinery", "PassManager")
cpu_target = _part("numba.core.registry", "cpu_target")
dumps = _part("numba.core.serialize", "dumps")
global_compiler_lock = _part("numba.core.compiler_lock", "global_compiler_lock")
_ffi = _part("llvmlite.binding", "ffi")
_threads = _part("numba.np.ufunc", "parallel")


def _codegen():
    return cpu_target.target_context.codegen()


def target_features():
    """LLVM's text of the processor's features that Numba compiles for."""
    if not lacks(TARGET):
        return _codegen()._tm_features
    if config.CPU_FEATURES is not None:
        return config.CPU_FEATURES
    try:
        return llvmlite.binding.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM cannot tell
        return ""


@functools.cache
def target_data():
    """LLVM's description of how types lie in memory."""
    if not lacks(TARGET):
        return _codegen().target_data
    return llvmlite.binding.Target.from_default_triple().create_target_machine().target_data


def target_description():
    """What tells processors apart for which machine code differs."""
    if not lacks(TARGET):
        return _codegen().magic_tuple()
    cpu = config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
    return llvmlite.binding.get_process_triple(), cpu, target_features()


def locks():
    """The locks that Numba and llvmlite take while they compile, those that are there."""
    owners = global_compiler_lock, getattr(getattr(_ffi, "lib", None), "_lock", None)
    return [owner._lock for owner in owners if hasattr(owner, "_lock")]


def thread_setter():
    """The function that sets the number of threads: of C where there is one, without Python around it."""
    return getattr(_threads, "_set_num_threads", numba.set_num_threads)
