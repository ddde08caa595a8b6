"""Numba's compiler for ``core``: less of it, since less is written there, and less of what it keeps.

A kernel is compiled to LLVM that each caller takes in and optimizes as its own, never to machine code: Numba makes
machine code of every function it compiles, but nobody calls a kernel, it is inlined. And neither kernels nor leaves
hold anything that most of Numba's passes over their code look for. (A cold first fit, Zen 3, the fastest of several:
13.0 s of processor time with Numba's own compiler, 12.0 without kernels' machine code; 10.4 and 9.5 with those passes
and without, measured with some code less.)

LLVM optimizes what leaves and entries hold once. Numba lets it do so three times: every function, then the whole for
what can be inlined and need not be counted, then the whole. (11.8 s where it took 14.1, Zen 3, busy minutes, the
fastest of three, for code that is as fast.)
"""

import llvmlite.binding
from llvmlite import ir
from numba import types

from .exclusive import require_room
from .private import CACHE, OWN, PASSES, TYPING, UNNEEDED, Compiler, JITCodeLibrary, PassManager, lacks

COMPILING_BYTES = 64 << 20  # address space wanted before a function is compiled
SHARED = ("linkonce_any", "linkonce_odr", "weak_any", "weak_odr")  # linkages under which the first of a name counts


class Library(JITCodeLibrary):
    """Functions that are not optimized one by one before all of them are."""

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout


class MachineCode(Library):
    """Machine code of a leaf or an entry, kept without what only those who inline a function ask for.

    Numba keeps a function's LLVM too, and the environments (Python's globals) of all functions in it: to load those of
    Numba's own functions imports much of Numba. (A first fit with a warm cache: .17 s of processor time, .09 without.)
    Only code that makes Python objects refers to an environment, and neither leaves nor entries do that inside of a
    function of Numba's.

    Kernels that LLVM has not inlined are the file's own. Numba leaves them to be shared among files by name, and tells
    functions of one name, such as a function that makes kernels gives, apart by a count of the process that compiles:
    two files from two processes may then hold two kernels under one name, and whoever loads both gets one for both.
    """

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        if not lacks(CACHE):
            self.enable_object_caching()

    def _optimize_final_module(self):
        for variable in self._final_module.global_variables:
            if variable.name.startswith("_ZN08NumbaEnv5numba"):
                variable.linkage = "internal"  # so it is left out
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage.name in SHARED:
                function.linkage = "internal"
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)

    def serialize_using_object_code(self):
        """Machine code, and in the place of its LLVM no more than the names by which functions are looked up."""
        name, kind, (machine_code, _) = super().serialize_using_object_code()
        names = ir.Module(name)
        for function in self._get_module_for_linking().functions:
            if not function.is_declaration:
                named = ir.Function(names, ir.FunctionType(ir.VoidType(), ()), function.name)
                ir.IRBuilder(named.append_basic_block()).ret_void()
        return name, kind, (machine_code, llvmlite.binding.parse_assembly(str(names)).as_bitcode())


class KernelLibrary(Library):
    """LLVM of a kernel and of the kernels that it calls, as they were lowered."""

    @property
    def codegen(self):
        return WithoutEnvironments(self._codegen)

    def get_pointer_to_function(self, name):
        """No address, of whatever function."""
        self._ensure_finalized()
        return 0

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class WithoutEnvironments:
    """A code generator that tells no compiled function where its Python globals are: these have none of their own."""

    def __init__(self, codegen):
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    def set_env(self, env_name, env):
        """Do nothing."""


found = {}  # signatures by function and types of operands


class MemoizedTyping:
    """A typing context that keeps what functions give for operands of given types: it is asked the same many times.

    Numba would also compile a kernel anew for each constant that it is called with. (99 functions for a first fit, 86
    without constants. Keeping what operators on numbers give: 11.2 s where it took 13.6, the fastest of five, Zen 3,
    busy minutes.)

    Parameters
    ----------
    context : numba.core.typing.Context
    """

    def __init__(self, context):
        self._context = context

    def __getattr__(self, name):
        return getattr(self._context, name)

    def resolve_function_type(self, function, arguments, keywords):
        """As Numba's."""
        if isinstance(function, types.Dispatcher):
            arguments = tuple(map(types.unliteral, arguments))
        if keywords or not isinstance(function, types.Function):
            return self._context.resolve_function_type(function, arguments, keywords)
        key = function, arguments
        if key not in found:
            found[key] = self._context.resolve_function_type(function, arguments, keywords)
        return found[key]


class EntryCompiler(Compiler):
    """Numba's own compiler, into `MachineCode`; no more than Numba's own from when that has failed, see `private`."""

    library = MachineCode

    def define_pipelines(self):
        require_room(COMPILING_BYTES)
        if lacks(OWN):
            return super().define_pipelines()
        self.state.library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return super().define_pipelines()


class LeafCompiler(EntryCompiler):
    """The same without the passes that are `UNNEEDED`."""

    def define_pipelines(self):
        if not (lacks(OWN) or lacks(TYPING)):
            self.state.typingctx = self.state.targetctx.typing_context = MemoizedTyping(self.state.typingctx)
        pipelines = super().define_pipelines()
        if lacks(OWN) or lacks(PASSES):
            return pipelines
        [whole] = pipelines
        passes = PassManager("fastnn")
        for each, description in whole.passes:
            if each.__name__ not in UNNEEDED:
                passes.add_pass(each, description)
        passes.finalize()
        return [passes]


class KernelCompiler(LeafCompiler):
    """The same into an `KernelLibrary`."""

    library = KernelLibrary
