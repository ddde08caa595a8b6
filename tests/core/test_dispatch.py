"""Families of leaves: chosen by id, compiled when asked for."""

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import config

from fastnn.core.compile import jit
from fastnn.core.compile.dispatch import declare_table, dispatch_table
from fastnn.core.compile.packing import OUT, REAL
from fastnn.core.engine.programs import (
    GRADIENT_OF_BATCHES,
    ROWS_PASS_DENSE,
    STEPS_OF_BATCHES,
    WEIGHTS_PASS_DENSE,
    advance,
    work,
)
from fastnn.core.nn.activations import (
    ACTIVATIONS,
    activate,
    activate_output,
    differentiate,
    differentiate_input,
    outputs_of_sums,
    single_output_backward,
    single_output_backward_input,
)
from fastnn.core.nn.losses import LOSSES, loss_of_rows
from fastnn.core.nn.network import GATHER_ROWS, gather
from fastnn.core.nn.optimizers import ADD, OPTIMIZERS, step
from fastnn.plan import implementations_of, make_plan


@pytest.fixture
def apart(monkeypatch):
    """Families made in a test are known to nobody else."""
    dispatch_tables = list(jit.dispatch_tables)
    for module in ("jit", "dispatch"):
        monkeypatch.setattr(f"fastnn.core.compile.{module}.dispatch_tables", dispatch_tables)
    monkeypatch.setitem(jit._leaves, "dense", list(jit._leaves["dense"]))
    monkeypatch.setattr(jit, "_loaded", set())


@pytest.fixture
def scaled(apart):
    made = dispatch_table("scaled_in_a_test", ("x", OUT), ("factor", REAL))

    @made.implementation(3)
    def times(x, factor):
        for i in range(x.size):
            x[i] *= factor

    @made.implementation(5)
    def plus(x, factor):
        for i in range(x.size):
            x[i] += factor

    return made


@pytest.mark.nojit
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_member_of_the_id_is_called(scaled, dtype):
    call = scaled if config.DISABLE_JIT else jit.callable_leaf(scaled, dtype)
    x = np.arange(3, dtype=dtype)
    call(3, x, dtype(2))
    np.testing.assert_array_equal(x, [0, 2, 4])
    call(5, x, dtype(2))
    np.testing.assert_array_equal(x, [2, 4, 6])
    call(4, x, dtype(2))  # nobody's
    np.testing.assert_array_equal(x, [2, 4, 6])


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_members_are_compiled_on_request_only(apart):
    alone = dispatch_table("alone_in_a_test", ("x", OUT))

    @alone.implementation(0)
    def zero(x):
        x[:] = 0

    @alone.implementation(1)
    def one(x):
        x[:] = 1

    jit.load_leaves(np.float32)
    real = jit.numba.from_dtype(np.dtype(np.float32))
    assert alone.load(real) == []
    for _ in range(2):
        jit.load_leaves(np.float32, implementations=frozenset({(alone, 1)}))
        assert [dispatcher.py_func.__name__ for dispatcher in alone.load(real)] == ["one"]


@pytest.mark.nojit
@pytest.mark.parametrize("ident", [3, -1, 64])
def test_an_id_is_given_once(scaled, ident):
    with pytest.raises(ValueError, match=f"id {ident} is taken, or not below 64"):
        scaled.implementation(ident)


@pytest.mark.nojit
@pytest.mark.parametrize("solver", [*OPTIMIZERS, "lbfgs"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", [name for name, row in ACTIVATIONS.items() if row.hidden])
def test_a_plan_names_all_that_it_needs(activation, loss, solver):
    output = LOSSES[loss].output
    names = dict(hidden_activation=activation, out_activation=output, loss=loss, solver=solver)
    layout, plan = make_plan(units=(3, 2, 2), dtype=np.float32, batch_size=4, **names)
    no_hidden_layer = make_plan(units=(3, 2), dtype=np.float32, batch_size=4, **names)
    hidden, output = ACTIVATIONS[activation].id, ACTIVATIONS[output].id
    optimizer = ADD if solver == "lbfgs" else OPTIMIZERS[solver].id
    predicting = {(activate, hidden), (outputs_of_sums, output)}
    assert implementations_of(layout) == predicting | {"predict", (gather, GATHER_ROWS)}
    one_output = make_plan(units=(3, 2, 1), dtype=np.float32, batch_size=4, **names)
    verbs = {(work, verb) for verb in (ROWS_PASS_DENSE, WEIGHTS_PASS_DENSE)}
    verbs |= {(advance, GRADIENT_OF_BATCHES if solver == "lbfgs" else STEPS_OF_BATCHES)}
    every_network = {(activate_output, output), (loss_of_rows, LOSSES[loss].id), (step, optimizer)} | verbs
    keeps = ACTIVATIONS[activation].keeps_input
    training = every_network | {(activate, hidden), (differentiate_input if keeps else differentiate, hidden)}
    last = single_output_backward_input if keeps else single_output_backward
    assert implementations_of(layout, plan) == training
    assert implementations_of(*one_output) == training | {(last, hidden)}
    assert implementations_of(*no_hidden_layer) == every_network | {(gather, GATHER_ROWS)}
    assert LOSSES[loss].id in loss_of_rows.implementations and optimizer in step.implementations


@pytest.mark.parametrize(
    ("triple", "by_its_address"),
    [
        ("aarch64-pc-windows-msvc", True),
        ("arm64-pc-windows-msvc", True),
        ("x86_64-pc-windows-msvc", False),
        ("aarch64-unknown-linux-gnu", False),
        ("arm64-apple-macosx12", False),
    ],
)
def test_a_table_far_from_the_code_is_reached_on_windows_on_arm(triple, by_its_address):
    module = ir.Module()
    module.triple = triple
    i64 = ir.IntType(64)
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(i64, [i64]), "third").append_basic_block())
    table = declare_table(module, "fastnn_table", triple)
    builder.ret(builder.load(builder.gep(table, [ir.Constant(i64, 0), ir.Constant(i64, 3)])))
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(reloc="default", codemodel="jitdefault", jit=True)
    assembly = machine.emit_assembly(llvm.parse_assembly(str(module)))
    assert "fastnn_table" in assembly
    assert ("__imp_fastnn_table" in assembly) == by_its_address
