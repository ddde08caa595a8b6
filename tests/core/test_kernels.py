"""Activations, losses, optimizers and the sum of squares, each compiled and as plain Python, against float64.

Every case runs one leaf in arrays that are NaN wherever the leaf must not write, and returns what it wrote and what it
must not have touched. Run as a script, the file saves what all cases return, in the mode that the environment asks for.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

import reference
from fastnn.core import records
from fastnn.core.compile.packing import pack
from fastnn.core.nn import activation_loops, activations, losses, optimizers
from fastnn.core.simd import reduce
from fastnn.plan import make_plan
from fastnn.state import make_buffers, new_state
from kernel_calls import (
    DTYPES,
    LOSS_CASES,
    PADDING,
    SIZES,
    by_dtype,
    call_loss,
    compiled,
    compiled_only,
    loss_constants,
    loss_data,
    read_only,
    surroundings,
    within,
)


# ---- activations: (name, size) -> {what: (result, expected, absolute tolerance)}, surroundings -----------------------
def hidden_values(size, dtype):
    z = np.random.default_rng(size).normal(0, 3, size).astype(dtype)
    z[: min(size, 6)] = np.array([0.0, -0.0, 40, -40, 1e-3, -1e-3], dtype)[: min(size, 6)]
    return z


def hidden_case(name, size, dtype):
    z = hidden_values(size, dtype)
    outer, a = within(z)
    compiled(activations.activate, dtype)(activations.ACTIVATIONS[name].id, a)
    twin = reference.ACTIVATIONS[name]
    wide = z.astype(float)
    around = [surroundings(outer)]
    outer, d = within(np.random.default_rng(1).normal(0, 1, size).astype(dtype))
    expected = twin.pull(wide, a.astype(float), d.astype(float))
    row, value = activations.ACTIVATIONS[name], read_only(a.copy())
    if row.keeps_input:
        compiled(activations.differentiate_input, dtype)(row.id, value, read_only(z.copy()), d)
    else:
        compiled(activations.differentiate, dtype)(row.id, value, d)
    around.append(surroundings(outer))
    return {"value": (a, twin.value(wide), 0), "delta": (d, expected, 4)}, np.concatenate(around)


def output_case(name, n_outputs, ldr, dtype):
    logits = np.random.default_rng(n_outputs).normal(0, 4, (n_outputs, ldr)).astype(dtype)
    outer, z = within(logits.ravel())
    largest, total = np.full((2, ldr), np.nan, dtype)
    compiled(activations.activate_output, dtype)(activations.ACTIVATIONS[name].id, z, n_outputs, ldr, largest, total)
    expected = output_values(name, logits.astype(float).T).T.ravel()
    return {"value": (z, expected, 0)}, surroundings(outer)


def output_values(name, logits):
    return reference.OUTPUTS[name](logits) if name in reference.OUTPUTS else reference.ACTIVATIONS[name].value(logits)


def float64_case(name, n_outputs, n, dtype):
    ldr = -(-n // 16) * 16
    logits = np.random.default_rng(n_outputs).normal(0, 4, (n_outputs, ldr)).astype(dtype)
    logits[:, n:] = np.nan
    outer, out = within(np.full(n * n_outputs, np.nan))
    wide = np.full((n_outputs + 2) * ldr, np.nan)
    ident = activations.ACTIVATIONS[name].id
    compiled(activations.outputs_of_sums, dtype)(ident, read_only(logits.ravel()), out, wide, n_outputs, ldr, n)
    return {"value": (out, output_values(name, logits[:, :n].astype(float).T).ravel(), 4)}, surroundings(outer)


# ---- losses ---------------------------------------------------------------------------------------------------------
def loss_case(case, n_rows, weighted, dtype):
    loss, n_outputs, uses_labels, hyper_parameters = LOSS_CASES[case]
    rng = np.random.default_rng([n_rows, weighted, n_outputs])
    n_data, ldr = n_rows + 5, -(-n_rows // 16) * 16
    labels, targets, y = loss_data(loss, n_outputs, uses_labels, n_data, dtype, rng)
    if hyper_parameters.get("tweedie_power", 0) > 2:
        targets = y = targets + dtype(0.5)
    weights = (rng.uniform(0, 2, n_data) * (rng.uniform(size=n_data) < 0.7)).astype(dtype)
    rows = rng.permutation(n_data)[:n_rows]
    logits = rng.normal(0, 2, (n_rows, n_outputs)).astype(dtype)
    wide = np.longdouble if loss == "binary_focal" else float  # 1 - p has lost digits where p is nearly 1
    outputs = reference.OUTPUTS[losses.LOSSES[loss].output](logits.astype(wide))
    block = np.full((n_outputs, ldr), np.nan, dtype)
    block[:, :n_rows] = logits.T
    outer, z = within(block.ravel())
    outer_loss, row_loss = within(np.full(n_rows, np.nan, dtype))
    used = weights if weighted else np.empty(0, dtype)
    constants = loss_constants(loss, hyper_parameters)
    call_loss(loss, z, row_loss, labels, targets, used, rows, n_outputs, ldr, constants=constants)
    table, y, p = reference.loss_with(loss, **hyper_parameters), y[rows].astype(float), outputs
    w = weights[rows].astype(float) if weighted else np.ones(n_rows)
    terms = table.terms(y, p)
    lost = 0.0
    if "binary_log_loss" in loss:  # 1 - p has lost digits where p is nearly 1
        smoothing = 1 - constants[0] if loss.startswith("smoothed") else 0.0
        terms = np.logaddexp(0, logits.astype(float)) - (y + smoothing * (0.5 - y)) * logits
        lost = np.max(1 / (1 - p)) if dtype == np.float64 else 0.0  # which float64 takes as scikit-learn does
    expected = w * terms.sum(axis=1) / (n_outputs if table.averages_outputs else 1)
    delta = (w[:, None] * table.delta(y, p)).T
    results = {
        "loss": (row_loss, expected, 32 + lost),
        "delta": (z.reshape(n_outputs, ldr)[:, :n_rows].ravel(), delta.ravel(), 4),
    }
    return results, np.concatenate([surroundings(outer), surroundings(outer_loss)])


# ---- optimizers: three steps on one slice of the parameters, from the formulas ---------------------------------------
DECAY = 0.3
DECAYED = ("plain", "momentum", "nesterov", "adam", "rmsprop", "nadam", "adagrad", "lion", "schedulefree")
OPTIMIZER_CASES = {
    "plain": dict(solver="sgd", momentum=0.0),
    "momentum": dict(solver="sgd", momentum=0.9),
    "nesterov": dict(solver="sgd", momentum=0.8, nesterovs_momentum=True),
    "adam": dict(solver="adam", beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    "adam, other": dict(solver="adam", beta_1=0.0, beta_2=0.5, epsilon=1e-3),
    "rmsprop": dict(solver="rmsprop", rho=0.9, epsilon=1e-8, momentum=0.9),
    "rmsprop, other": dict(solver="rmsprop", rho=0.0, epsilon=1e-2),
    "nadam": dict(solver="nadam", beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    "adagrad": dict(solver="adagrad", epsilon=1e-8),
    "lion": dict(solver="lion", beta_1=0.9, beta_2=0.99),
    "schedulefree": dict(solver="schedulefree", beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    "gradient": dict(solver="lbfgs"),
}
OPTIMIZER_CASES |= {f"{case}, decayed": OPTIMIZER_CASES[case] | {"weight_decay": DECAY} for case in DECAYED}
ALPHA, SCALE, RATES = 0.03, 0.125, (0.1, 0.05, 0.2)
FIRST, SECOND, MIXING = 0.75, 0.5, 0.25  # corrections


def expected_step(case, w, moments, g, rate):
    """The new w and moments, all float64; ``moments`` is (3, n)."""
    options = OPTIMIZER_CASES[case]
    gradient = (g + ALPHA * w) * SCALE
    first, second, third = moments
    rest = w * (1 - rate * options.get("weight_decay", 0))
    b1, b2, epsilon = (options.get(name) for name in ("beta_1", "beta_2", "epsilon"))
    if options["solver"] == "lbfgs":
        return w, (first + gradient, second, third)
    if options["solver"] == "adagrad":
        first = first + gradient**2
        return rest - rate * gradient / (np.sqrt(first) + epsilon), (first, second, third)
    if options["solver"] == "lion":
        change = np.sign(b1 * first + (1 - b1) * gradient)
        return rest - rate * change, (b2 * first + (1 - b2) * gradient, second, third)
    if options["solver"] == "schedulefree":
        third = b2 * third + (1 - b2) * gradient**2
        first = first - (w - rest) - rate * gradient / (np.sqrt(third) / SECOND + epsilon)
        second = second + MIXING * (first - second)
        return (1 - b1) * first + b1 * second, (first, second, third)
    if options["solver"] in ("adam", "nadam"):
        first, second = b1 * first + (1 - b1) * gradient, b2 * second + (1 - b2) * gradient**2
        if options["solver"] == "nadam":
            change = (FIRST * gradient + MIXING * first) / (np.sqrt(second) / SECOND + epsilon)
        else:
            change = SECOND / FIRST * first / (np.sqrt(second) + epsilon)
        return rest - rate * change, (first, second, third)
    if options["solver"] == "rmsprop":
        first = options["rho"] * first + (1 - options["rho"]) * gradient**2
        return rest - rate * gradient / (np.sqrt(first) + epsilon), (first, second, third)
    velocity = options["momentum"] * first - rate * gradient
    if options.get("nesterovs_momentum"):
        return rest + options["momentum"] * velocity - rate * gradient, (velocity, second, third)
    return rest + velocity, (velocity, second, third)


def optimizer_case(case, size, dtype):
    options = OPTIMIZER_CASES[case]
    units = (size, 9, 1)  # more parameters than the slice
    names = dict(hidden_activation="relu", out_activation="identity", loss="squared_error")
    layout, plan = make_plan(units=units, dtype=dtype, **names, **options)
    n_moments = {"adam": 2, "nadam": 2, "schedulefree": 3}.get(options["solver"], int(not case.startswith("plain")))
    offset = 4
    buffers, _ = make_buffers(layout, plan, new_state(layout, plan), 1)
    moments = buffers.moments.reshape(-1, int(plan.moment_stride)) if case != "gradient" else buffers.gradient[None]
    assert len(moments) == n_moments
    moments[:] = np.nan
    moments[:, offset : offset + size] = 0
    packed = pack(layout, plan, buffers)
    rng = np.random.default_rng(size)
    outer, w = within(rng.normal(0, 1, size).astype(dtype))
    exact, exact_moments = w.astype(float), np.zeros((3, size))
    for rate in RATES:
        g = rng.normal(0, 1, size).astype(dtype)
        scalars = [dtype(ALPHA), dtype(SCALE), dtype(rate), dtype(rate * options.get("weight_decay", 0))]
        buffers.step_scalars[records.SCALE :][[1, 0, 2, 3, 4, 5, 6]] = [*scalars, FIRST, SECOND, MIXING]
        compiled(optimizers.step, dtype)(plan.sink, packed, w, read_only(g), offset, 1)
        exact, exact_moments = expected_step(case, exact, exact_moments, g.astype(float), rate)
    results = {"w": (w, exact, 16)}
    for i in range(n_moments):
        results[f"moment {i}"] = (moments[i, offset : offset + size].copy(), exact_moments[i], 4)
    moments[:, offset : offset + size] = np.nan
    return results, np.concatenate([surroundings(outer), moments.ravel()])


# ---- back from one output: (name, rows) ------------------------------------------------------------------------------
def one_output_case(name, n, dtype):
    lanes, step = 32 // np.dtype(dtype).itemsize, 5
    stride = 3 * lanes
    rng = np.random.default_rng(n)
    a = hidden_values(n * stride, dtype)
    z = a.copy()
    compiled(activations.activate, dtype)(activations.ACTIVATIONS[name].id, a)
    outer, weights = rng.normal(0, 1, n * step).astype(dtype), rng.normal(0, 1, stride).astype(dtype)
    around_d, d = within(np.full(n * stride, np.nan, dtype))
    around_sums, sums = within(rng.normal(0, 1, 2 * stride).astype(dtype))
    wide, deltas = a.astype(float).reshape(n, stride), outer[::step].astype(float)
    expected = reference.ACTIVATIONS[name].pull(z.astype(float).reshape(n, stride), wide, np.outer(deltas, weights))
    added = sums.astype(float) + np.concatenate([deltas @ wide, expected.sum(axis=0)])
    row, given = activations.ACTIVATIONS[name], (d, read_only(outer), step, read_only(weights), n, stride, sums)
    if row.keeps_input:
        compiled(activations.single_output_backward_input, dtype)(row.id, read_only(a), read_only(z), *given)
    else:
        compiled(activations.single_output_backward, dtype)(row.id, read_only(a), *given)
    results = {"delta": (d, expected.ravel(), 4), "sums": (sums, added, 8 * n)}
    return results, np.concatenate([surroundings(around_d), surroundings(around_sums)])


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("n", [1, 4, 7])
def test_activations_that_keep_their_input_go_back_with_the_same_bits(n, dtype):
    """Element by element and by vectors, of a slope that is a function of the value and so may do either."""
    slope, stride, step = activations.tanh_slope, 3 * 32 // np.dtype(dtype).itemsize, 2
    rng, outcomes = np.random.default_rng(n), []
    a = np.tanh(rng.normal(0, 1, n * stride)).astype(dtype)
    given = rng.normal(0, 1, n * step).astype(dtype), step, rng.normal(0, 1, stride).astype(dtype), n, stride
    start = rng.normal(0, 1, 2 * stride).astype(dtype)
    for make, values in (
        (activation_loops.make_single_output_backward, (a,)),
        (activation_loops.make_single_output_backward_input, (a, np.full_like(a, np.nan))),
    ):
        d, sums = np.full(n * stride, np.nan, dtype), start.copy()
        njit(error_model="numpy")(make(slope))(*values, d, *given, sums)
        outcomes.append((d, sums))
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(one, other)
    d = np.ones(a.size, dtype)
    njit(error_model="numpy")(activation_loops.make_backward_input(slope))(a, np.full_like(a, np.nan), d)
    np.testing.assert_allclose(d, 1 - a.astype(float) ** 2, rtol=0, atol=2 * np.finfo(dtype).eps)


# ---- sum of squares -------------------------------------------------------------------------------------------------
@njit
def sum_squares(x):
    return reduce.sum_squares(x)


def sum_case(size, dtype):
    x = np.random.default_rng(size).normal(0, 1, size).astype(dtype)
    x = within(x, after=PADDING)[1]
    total = np.array([sum_squares(x)], dtype)
    return {"sum": (total, np.array([(x.astype(float) ** 2).sum()]), 0)}, np.empty(0)


# ---- all cases ------------------------------------------------------------------------------------------------------
HIDDEN = [name for name, row in activations.ACTIVATIONS.items() if row.hidden]
OUTPUT = [*activations.ACTIVATIONS]
CASES = {f"hidden {name}, {size}": (hidden_case, name, size) for name in HIDDEN for size in SIZES}
CASES |= {
    f"output {name}, {n_outputs} x {ldr}": (output_case, name, n_outputs, ldr)
    for name in OUTPUT
    for n_outputs, ldr in ((1, 16), (2, 32), (3, 16), (10, 144))
    if name != "softmax" or n_outputs > 1
}
CASES |= {
    f"float64 {name}, {n_outputs} x {n}": (float64_case, name, n_outputs, n)
    for name in OUTPUT
    for n_outputs, n in ((1, 5), (2, 32), (3, 17), (10, 100))
    if name != "softmax" or n_outputs > 1
}
CASES |= {
    f"loss {case}, {n_rows} rows{', weighted' * weighted}": (loss_case, case, n_rows, weighted)
    for case in LOSS_CASES
    for n_rows in (1, 5, 16, 33)
    for weighted in (False, True)
}
CASES |= {f"way back {name}, {n} rows": (one_output_case, name, n) for name in HIDDEN for n in (1, 3, 4, 9, 32)}
CASES |= {f"step {case}, {size}": (optimizer_case, case, size) for case in OPTIMIZER_CASES for size in SIZES}
CASES |= {f"sum of {size} squares": (sum_case, size) for size in (0, 1, 15, 16, 17, 31, 32, 65, 1000)}
# Relative; softmax subtracts up to 30 before exp.
ULPS = {"hidden": 8, "output": 64, "float64": 64, "loss": 8, "way": 8, "step": 16, "sum": 16}


def evaluate(case, dtype):
    function, *arguments = CASES[case]
    return function(*arguments, dtype)


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", CASES)
def test_against_float64_and_writes_only_what_it_names(case, dtype):
    results, untouched = evaluate(case, dtype)
    dtype = np.float64 if case.startswith("float64") else dtype
    eps = np.finfo(dtype).eps
    for name, (result, expected, absolute) in results.items():
        assert result.dtype == dtype
        smallest = np.finfo(dtype).smallest_normal  # what is below may be 0
        tolerance = dict(rtol=ULPS[case.split()[0]] * eps, atol=absolute * eps + smallest)
        np.testing.assert_allclose(result, expected, **tolerance, err_msg=name)
    assert np.isnan(untouched).all()


@pytest.mark.nojit
def test_each_row_of_the_tables_has_a_case():
    assert {case[0] for case in LOSS_CASES.values()} == set(losses.LOSSES)
    solvers = {case["solver"] for case in OPTIMIZER_CASES.values()}
    assert solvers == {*optimizers.OPTIMIZERS, "lbfgs"}


@pytest.fixture(scope="module")
def python_twin(tmp_path_factory):
    """What all cases return without the compiler."""
    saved = tmp_path_factory.mktemp("twin") / "results.npz"
    here = pathlib.Path(__file__).resolve()
    paths = [str(here.parents[2]), str(here.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run([sys.executable, str(here), str(saved)], env=os.environ | environment, check=True, timeout=300)
    return np.load(saved)


@compiled_only
@by_dtype
def test_plain_python_twin_agrees(python_twin, dtype):
    eps, checked = np.finfo(dtype).eps, 0
    for case in CASES:
        for name, (result, _, absolute) in evaluate(case, dtype)[0].items():
            twin = python_twin[f"{case}: {name}: {dtype.__name__}"]
            assert twin.dtype == (np.float64 if case.startswith("float64") else dtype)
            tolerance = dict(rtol=ULPS[case.split()[0]] * eps, atol=absolute * eps)
            np.testing.assert_allclose(result, twin, **tolerance, err_msg=f"{case}: {name}")
            checked += 1
    assert checked == len(python_twin.files) // 2 > len(CASES)


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", OPTIMIZER_CASES)
def test_nan_gradient_is_visible_in_its_parameter(case, dtype):
    names = dict(hidden_activation="relu", out_activation="identity", loss="squared_error")
    layout, plan = make_plan(units=(40, 1), dtype=dtype, **names, **OPTIMIZER_CASES[case])
    buffers, _ = make_buffers(layout, plan, new_state(layout, plan), 1)
    w, g = np.ones(40, dtype), np.ones(40, dtype)
    g[13] = np.nan
    buffers.step_scalars[[records.ALPHA, records.SCALE, records.RATE]] = 0, 1, 0.1
    compiled(optimizers.step, dtype)(plan.sink, pack(layout, plan, buffers), w, g, 0, 1)
    learned = buffers.gradient[:40] if case == "gradient" else w
    np.testing.assert_array_equal(np.isnan(learned), np.arange(40) == 13)


@pytest.mark.nojit
@by_dtype
def test_sum_of_squares_is_exact_on_whole_numbers_and_shows_nan(dtype):
    for size in range(70):
        x = within((np.arange(size) % 9 - 4).astype(dtype), after=PADDING)[1]
        expected = (x.astype(float) ** 2).sum()
        assert sum_squares(x) == expected
        assert reduce.sum_squares(x) == expected
        for bad in {0, size // 2, size - 1} if size else ():
            kept, x[bad] = x[bad], np.nan
            assert np.isnan(sum_squares(x))
            assert np.isnan(reduce.sum_squares(x))
            x[bad] = kept


def save_results(path):
    results = {
        f"{case}: {name}: {dtype.__name__}": result
        for case in CASES
        for dtype in DTYPES
        for name, (result, *_) in evaluate(case, dtype)[0].items()
    }
    np.savez(path, **results)


if __name__ == "__main__":
    save_results(sys.argv[1])
