"""Activations, losses, optimizers and the sum of squares, each compiled and as plain Python, against float64.

Every case runs one leaf in arrays that are NaN wherever the leaf must not write, and returns what it wrote and what it
must not have touched. Run as a script, the file saves what all cases return, in the mode that the environment asks for.
"""

import functools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from numba import config, njit

import reference
from fastnn.core import activations, losses, optimizers, reductions
from fastnn.core.arguments import pack
from fastnn.core.jit import callable_leaf
from fastnn.plan import make_plan

DTYPES = [np.float32, np.float64]
SIZES = (1, 7, 16, 33, 100)
ROOM = 16  # elements behind an array that a kernel may read
compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


@functools.cache
def compiled(function, dtype):
    return function if config.DISABLE_JIT else callable_leaf(function, dtype)


def read_only(array):
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def within(values, before=4, after=9):
    """A NaN-filled array that holds ``values`` in its middle, and that middle as a view."""
    outer = np.full(before + values.size + after, np.nan, values.dtype)
    inner = outer[before : before + values.size]
    inner[:] = values
    return outer, inner


def surroundings(outer, before=4, after=9):
    return np.concatenate([outer[:before], outer[outer.size - after :]])


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
    compiled(activations.differentiate, dtype)(activations.ACTIVATIONS[name].id, read_only(a.copy()), d)
    around.append(surroundings(outer))
    return {"value": (a, twin.value(wide), 0), "delta": (d, expected, 4)}, np.concatenate(around)


def output_case(name, n_outputs, ldr, dtype):
    logits = np.random.default_rng(n_outputs).normal(0, 4, (n_outputs, ldr)).astype(dtype)
    outer, z = within(logits.ravel())
    largest, total = np.full((2, ldr), np.nan, dtype)
    compiled(activations.activate_output, dtype)(activations.ACTIVATIONS[name].id, z, n_outputs, ldr, largest, total)
    expected = reference.OUTPUTS[name](logits.astype(float).T).T.ravel()
    return {"value": (z, expected, 0)}, surroundings(outer)


# ---- losses ---------------------------------------------------------------------------------------------------------
# name -> (loss, outputs, uses labels)
LOSS_CASES = {
    "labels, 2": ("log_loss", 2, True),
    "labels, 10": ("log_loss", 10, True),
    "one-hot, 3": ("log_loss", 3, False),
    "binary": ("binary_log_loss", 1, False),
    "multi-label": ("binary_log_loss", 5, False),
    "one value": ("squared_error", 1, False),
    "three values": ("squared_error", 3, False),
    "counts": ("poisson", 1, False),
    "two counts": ("poisson", 2, False),
    "labels, 4 logistic": ("binary_log_loss", 4, True),
    "quadratic, binary": ("logistic_squared_error", 1, False),
    "quadratic, labels": ("logistic_squared_error", 10, True),
    "quadratic, multi-label": ("logistic_squared_error", 3, False),
    "softmax, quadratic, labels": ("softmax_squared_error", 10, True),
    "softmax, quadratic, one-hot": ("softmax_squared_error", 3, False),
}


def loss_data(loss, n_outputs, uses_labels, n_data, dtype, rng):
    """(labels, targets, y as the reference wants it)."""
    labels = rng.integers(0, n_outputs, n_data).astype(np.int32)
    if uses_labels or losses.LOSSES[loss].output == "softmax":
        targets = np.eye(n_outputs)[labels]
    elif losses.LOSSES[loss].output == "logistic":
        targets = rng.integers(0, 2, (n_data, n_outputs)).astype(float)
    elif loss == "poisson":
        targets = rng.poisson(1.5, (n_data, n_outputs)).astype(float)
    else:
        targets = rng.normal(0, 2, (n_data, n_outputs))
    targets = targets.astype(dtype)
    if uses_labels:
        return labels, np.empty((0, 0), dtype), targets
    return np.empty(0, np.int32), targets, targets


def call_loss(loss, z, row_loss, labels, targets, weights, rows, n_outputs, ldr):
    scratch = np.full(2 * ldr, np.nan, z.dtype)
    data = [read_only(x) for x in (labels, targets, weights, rows)]
    ident = losses.LOSSES[loss].id
    compiled(losses.loss_and_delta, z.dtype)(ident, z, row_loss, *data, n_outputs, ldr, scratch)


def loss_case(case, n_rows, weighted, dtype):
    loss, n_outputs, uses_labels = LOSS_CASES[case]
    rng = np.random.default_rng([n_rows, weighted, n_outputs])
    n_data, ldr = n_rows + 5, -(-n_rows // 16) * 16
    labels, targets, y = loss_data(loss, n_outputs, uses_labels, n_data, dtype, rng)
    weights = (rng.uniform(0, 2, n_data) * (rng.uniform(size=n_data) < 0.7)).astype(dtype)
    rows = rng.permutation(n_data)[:n_rows]
    logits = rng.normal(0, 2, (n_rows, n_outputs))
    outputs = reference.OUTPUTS[losses.LOSSES[loss].output](logits).astype(dtype)
    block = np.full((n_outputs, ldr), np.nan, dtype)
    block[:, :n_rows] = outputs.T
    outer, z = within(block.ravel())
    outer_loss, row_loss = within(np.full(n_rows, np.nan, dtype))
    used = weights if weighted else np.empty(0, dtype)
    call_loss(loss, z, row_loss, labels, targets, used, rows, n_outputs, ldr)
    table, y, p = reference.LOSSES[loss], y[rows].astype(float), outputs.astype(float)
    w = weights[rows].astype(float) if weighted else np.ones(n_rows)
    expected = w * table.terms(y, p).sum(axis=1) / (n_outputs if table.averages_outputs else 1)
    delta = (w[:, None] * table.delta(y, p)).T
    results = {
        "loss": (row_loss, expected, 32),
        "delta": (z.reshape(n_outputs, ldr)[:, :n_rows].ravel(), delta.ravel(), 4),
    }
    return results, np.concatenate([surroundings(outer), surroundings(outer_loss)])


# ---- optimizers: three steps on one slice of the parameters, from the formulas ---------------------------------------
OPTIMIZER_CASES = {
    "plain": dict(solver="sgd", momentum=0.0),
    "momentum": dict(solver="sgd", momentum=0.9),
    "nesterov": dict(solver="sgd", momentum=0.8, nesterovs_momentum=True),
    "adam": dict(solver="adam", beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    "adam, other": dict(solver="adam", beta_1=0.0, beta_2=0.5, epsilon=1e-3),
    "rmsprop": dict(solver="rmsprop", rho=0.9, epsilon=1e-8, momentum=0.9),
    "rmsprop, other": dict(solver="rmsprop", rho=0.0, epsilon=1e-2),
    "gradient": dict(solver="lbfgs"),
}
ALPHA, SCALE, RATES = 0.03, 0.125, (0.1, 0.05, 0.2)


def expected_step(case, w, moments, g, rate):
    """The new w and moments, all float64; ``moments`` is (2, n)."""
    options = OPTIMIZER_CASES[case]
    gradient = (g + ALPHA * w) * SCALE
    first, second = moments
    if options["solver"] == "lbfgs":
        return w, (first + gradient, second)
    if options["solver"] == "adam":
        first = options["beta_1"] * first + (1 - options["beta_1"]) * gradient
        second = options["beta_2"] * second + (1 - options["beta_2"]) * gradient**2
        return w - rate * first / (np.sqrt(second) + options["epsilon"]), (first, second)
    if options["solver"] == "rmsprop":
        first = options["rho"] * first + (1 - options["rho"]) * gradient**2
        return w - rate * gradient / (np.sqrt(first) + options["epsilon"]), (first, second)
    velocity = options["momentum"] * first - rate * gradient
    if options.get("nesterovs_momentum"):
        return w + options["momentum"] * velocity - rate * gradient, (velocity, second)
    return w + velocity, (velocity, second)


def optimizer_case(case, size, dtype):
    options = OPTIMIZER_CASES[case]
    units = (size, 9, 1)  # more parameters than the slice
    names = dict(hidden_activation="relu", out_activation="identity", loss="squared_error")
    layout, plan = make_plan(units=units, dtype=dtype, **names, **options)
    packed = pack(layout, plan)
    offset = 4
    n_moments = {"plain": 0, "adam": 2, "adam, other": 2}.get(case, 1)
    moments = np.full((n_moments, int(plan.moment_stride)), np.nan, dtype)
    moments[:, offset : offset + size] = 0
    rng = np.random.default_rng(size)
    outer, w = within(rng.normal(0, 1, size).astype(dtype))
    exact, exact_moments = w.astype(float), np.zeros((2, size))
    for rate in RATES:
        g = rng.normal(0, 1, size).astype(dtype)
        reals = [dtype(x) for x in (ALPHA, SCALE, rate)]
        compiled(optimizers.step, dtype)(plan.solver, packed, w, read_only(g), moments.reshape(-1), offset, *reals)
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
    compiled(activations.activate, dtype)(activations.ACTIVATIONS[name].id, a)
    outer, weights = rng.normal(0, 1, n * step).astype(dtype), rng.normal(0, 1, stride).astype(dtype)
    around_d, d = within(np.full(n * stride, np.nan, dtype))
    around_sums, sums = within(rng.normal(0, 1, 2 * stride).astype(dtype))
    wide, deltas = a.astype(float).reshape(n, stride), outer[::step].astype(float)
    expected = reference.ACTIVATIONS[name].pull(None, wide, np.outer(deltas, weights))
    added = sums.astype(float) + np.concatenate([deltas @ wide, expected.sum(axis=0)])
    given = (read_only(a), d, read_only(outer), step, read_only(weights), n, stride, sums)
    compiled(activations.backward_from_one, dtype)(activations.ACTIVATIONS[name].id, *given)
    results = {"delta": (d, expected.ravel(), 4), "sums": (sums, added, 8 * n)}
    return results, np.concatenate([surroundings(around_d), surroundings(around_sums)])


# ---- sum of squares -------------------------------------------------------------------------------------------------
@njit
def sum_squares(x):
    return reductions.sum_squares(x)


def sum_case(size, dtype):
    x = np.random.default_rng(size).normal(0, 1, size).astype(dtype)
    x = within(x, after=ROOM)[1]
    total = np.array([sum_squares(x)], dtype)
    return {"sum": (total, np.array([(x.astype(float) ** 2).sum()]), 0)}, np.empty(0)


# ---- all cases ------------------------------------------------------------------------------------------------------
HIDDEN = [name for name, row in activations.ACTIVATIONS.items() if row.hidden]
OUTPUT = [name for name, row in activations.ACTIVATIONS.items() if row.output]
CASES = {f"hidden {name}, {size}": (hidden_case, name, size) for name in HIDDEN for size in SIZES}
CASES |= {
    f"output {name}, {n_outputs} x {ldr}": (output_case, name, n_outputs, ldr)
    for name in OUTPUT
    for n_outputs, ldr in ((1, 16), (2, 32), (3, 16), (10, 144))
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
ULPS = {"hidden": 8, "output": 64, "loss": 8, "way": 8, "step": 16, "sum": 16}


def evaluate(case, dtype):
    function, *arguments = CASES[case]
    return function(*arguments, dtype)


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", CASES)
def test_against_float64_and_writes_only_what_it_names(case, dtype):
    results, untouched = evaluate(case, dtype)
    eps = np.finfo(dtype).eps
    for name, (result, expected, absolute) in results.items():
        assert result.dtype == dtype
        tolerance = dict(rtol=ULPS[case.split()[0]] * eps, atol=absolute * eps)
        np.testing.assert_allclose(result, expected, **tolerance, err_msg=name)
    assert np.isnan(untouched).all()


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
            assert twin.dtype == dtype
            tolerance = dict(rtol=ULPS[case.split()[0]] * eps, atol=absolute * eps)
            np.testing.assert_allclose(result, twin, **tolerance, err_msg=f"{case}: {name}")
            checked += 1
    assert checked == len(python_twin.files) // 2 > len(CASES)


# ---- edges ----------------------------------------------------------------------------------------------------------
# (activation, extreme logits of one row) -> outputs, exactly
EXTREMES = {
    "softmax, far apart": ("softmax", (1e4, -1e4, 0), (1, 0, 0)),
    "softmax, all large": ("softmax", (3e4, 3e4), (0.5, 0.5)),
    "logistic": ("logistic", (1e4, -1e4, 0), (1, 0, 0.5)),
    "exp": ("exp", (1e4, -1e4, 0), (np.inf, 0, 1)),
    "identity": ("identity", (1e4, -1e4, 0), (1e4, -1e4, 0)),
}


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", EXTREMES)
def test_extreme_outputs(case, dtype):
    name, logits, expected = EXTREMES[case]
    z = np.repeat(np.array(logits, dtype), 16)
    args = (z, len(logits), 16, np.empty(16, dtype), np.empty(16, dtype))
    compiled(activations.activate_output, dtype)(activations.ACTIVATIONS[name].id, *args)
    np.testing.assert_array_equal(z, np.repeat(np.array(expected, dtype), 16))


# (loss, output, target) -> (loss / -log eps, delta): probabilities are kept one eps away from 0 and 1
CLIPPED = [
    ("binary_log_loss", 0, 1, 1, -1),
    ("binary_log_loss", 1, 0, 1, 1),
    ("binary_log_loss", 0, 0, 0, 0),
    ("binary_log_loss", 1, 1, 0, 0),
    ("log_loss", 0, 1, 1, -1),
    ("log_loss", 1, 1, 0, 0),
    ("log_loss", 1, 0, 0, 1),
]


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("loss, p, y, expected, delta", CLIPPED)
def test_certain_outputs_have_finite_losses(loss, p, y, expected, delta, dtype):
    z, row_loss = np.full(16, p, dtype), np.empty(3, dtype)
    targets = np.full((3, 1), y, dtype)
    call_loss(loss, z, row_loss, np.empty(0, np.int32), targets, np.empty(0, dtype), np.arange(3), 1, 16)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(row_loss, -np.log(eps) * expected, rtol=4 * eps, atol=2 * eps)
    np.testing.assert_array_equal(z[:3], np.full(3, delta, dtype))


@pytest.mark.nojit
@by_dtype
def test_nan_is_visible_where_it_goes_in_and_nowhere_else(dtype):
    size, bad = 40, 11
    rest = np.arange(size) != bad
    for name in HIDDEN:
        z = np.linspace(-2, 2, size).astype(dtype)
        z[bad] = np.nan
        compiled(activations.activate, dtype)(activations.ACTIVATIONS[name].id, z)
        np.testing.assert_array_equal(np.isfinite(z), rest, err_msg=name)
        a, d = np.full(size, 0.25, dtype), np.ones(size, dtype)
        d[bad] = np.nan
        compiled(activations.differentiate, dtype)(activations.ACTIVATIONS[name].id, read_only(a), d)
        np.testing.assert_array_equal(np.isfinite(d), rest, err_msg=name)
    for name in OUTPUT:
        for position in range(3):
            z = np.ones((3, 48), dtype)
            z[position, bad] = np.nan
            args = (3, 48, np.empty(48, dtype), np.empty(48, dtype))
            compiled(activations.activate_output, dtype)(activations.ACTIVATIONS[name].id, z.reshape(-1), *args)
            assert np.isnan(z[:, bad] if name == "softmax" else z[position, bad]).all(), name
            assert np.isfinite(np.delete(z, bad, axis=1)).all(), name


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", LOSS_CASES)
def test_nan_outputs_targets_and_weights_are_visible_in_their_rows(case, dtype):
    loss, n_outputs, uses_labels = LOSS_CASES[case]
    n, rng = 20, np.random.default_rng(0)
    for what, bad in (("output", 3), ("target", 7), ("weight", 19)):
        labels, targets, _ = loss_data(loss, n_outputs, uses_labels, n, dtype, rng)
        weights, z = np.ones(n, dtype), np.full((n_outputs, 32), 0.5, dtype)
        row_loss = np.zeros(n, dtype)
        if what == "output":
            z[:, bad] = np.nan
        elif what == "weight":
            weights[bad] = np.nan
        elif uses_labels:
            continue
        else:
            targets[bad, -1] = np.nan
        call_loss(loss, z.reshape(-1), row_loss, labels, targets, weights, np.arange(n), n_outputs, 32)
        np.testing.assert_array_equal(np.isnan(row_loss), np.arange(n) == bad, err_msg=what)
        np.testing.assert_array_equal(np.isnan(z[-1, :n]), np.arange(n) == bad, err_msg=what)


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", OPTIMIZER_CASES)
def test_nan_gradient_is_visible_in_its_parameter(case, dtype):
    names = dict(hidden_activation="relu", out_activation="identity", loss="squared_error")
    layout, plan = make_plan(units=(40, 1), dtype=dtype, **names, **OPTIMIZER_CASES[case])
    packed = pack(layout, plan)
    n_moments = {"plain": 0, "adam": 2, "adam, other": 2}.get(case, 1)
    w, g, moments = np.ones(40, dtype), np.ones(40, dtype), np.zeros((n_moments, int(plan.moment_stride)), dtype)
    g[13] = np.nan
    compiled(optimizers.step, dtype)(plan.solver, packed, w, g, moments.reshape(-1), 0, dtype(0), dtype(1), dtype(0.1))
    learned = moments[0, :40] if case == "gradient" else w
    np.testing.assert_array_equal(np.isnan(learned), np.arange(40) == 13)


@pytest.mark.nojit
@by_dtype
def test_sum_of_squares_is_exact_on_whole_numbers_and_shows_nan(dtype):
    for size in range(70):
        x = within((np.arange(size) % 9 - 4).astype(dtype), after=ROOM)[1]
        expected = (x.astype(float) ** 2).sum()
        assert sum_squares(x) == expected
        assert reductions.sum_squares(x) == expected
        for bad in {0, size // 2, size - 1} if size else ():
            kept, x[bad] = x[bad], np.nan
            assert np.isnan(sum_squares(x))
            assert np.isnan(reductions.sum_squares(x))
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
