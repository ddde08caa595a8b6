"""Numba's compiler for what stands inside of others' machine code: less of it, since less is written there.

A kernel is compiled to LLVM that each caller takes in and optimizes as its own, never to machine code: Numba makes
machine code of every function it compiles, but nobody calls a kernel, it is inlined. And neither kernels nor leaves
hold anything that most of Numba's passes over their code look for. (A cold first fit, Zen 3, the fastest of several:
13.0 s of processor time with Numba's own compiler, 12.0 without kernels' machine code; 10.4 and 9.5 with those passes
and without, measured with some code less.)
"""

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager

# What they are for: `with` blocks, closures, branches on None and on types, raise, array expressions, `literally`,
# `literal_unroll`, functions inlined before they are typed, generators.
UNNEEDED = {
    "WithLifting",
    "InlineClosureLikes",
    "RewriteSemanticConstants",
    "DeadBranchPrune",
    "GenericRewrites",
    "RewriteDynamicRaises",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "FindLiterallyCalls",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "InlineOverloads",
    "NopythonRewrites",
    "NoPythonSupportedFeatureValidation",
    "DumpParforDiagnostics",
}


class LeafCompiler(CompilerBase):
    """Numba's compiler without the passes that are `UNNEEDED`."""

    def define_pipelines(self):
        passes = PassManager("fastnn")
        for each, description in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if each.__name__ not in UNNEEDED:
                passes.add_pass(each, description)
        passes.finalize()
        return [passes]


class KernelCompiler(LeafCompiler):
    """The same with an `Ingredient` for the result."""

    def define_pipelines(self):
        self.state.library = Ingredient(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return super().define_pipelines()


class Ingredient(JITCodeLibrary):
    """LLVM of a kernel and of the kernels that it calls, as they were lowered."""

    @property
    def codegen(self):
        return WithoutEnvironments(self._codegen)

    def get_pointer_to_function(self, name):
        """No address, of whatever function."""
        self._ensure_finalized()
        return 0

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout

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
