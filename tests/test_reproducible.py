"""The bits of a result depend on nothing but its inputs: not on threads, the width of vectors, libraries or the run.

Run as a script, the file trains and predicts with networks of CASES, or fits every estimator of FITS, in the mode that
the environment asks for, and saves what came out. Even the smallest networks run parallel code where more than one
thread is asked for.
"""

import os
import pathlib
import subprocess
import sys

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from numba import config

from fastnn import MLPClassifier, MLPRegressor, infer, state, threads, train
from fastnn.core.compile import jit
from fastnn.core.nn.losses import LOSSES
from fastnn.core.records import EncodedData
from fastnn.core.simd.target import PROCESSOR, target_features
from fastnn.plan import make_plan
from fastnn.walk import Walk
from step_scalars import FixedRate

DTYPES = (np.float32, np.float64)
REALS = [numba.from_dtype(np.dtype(dtype)) for dtype in DTYPES]
LOADERS = [load for group in jit._leaves.values() for load in group]
THREADS = (1, 2, 4)

# name -> (units, hidden activation, loss, solver, batch size, rows)
CASES = {
    "784-100-10 adam": ((784, 100, 10), "relu", "log_loss", "adam", 200, 500),
    "784-30-10 batch 10": ((784, 30, 10), "logistic", "log_loss", "nesterov", 10, 65),
    "20-100-1": ((20, 100, 1), "relu", "binary_log_loss", "adam", 200, 410),
    "no hidden layer": ((33, 3), "identity", "squared_error", "plain", 17, 100),
    "one column, no hidden layer": ((5, 1), "identity", "poisson", "momentum", 9, 40),
    "three hidden layers": ((13, 64, 40, 7, 2), "tanh", "squared_error", "nesterov", 32, 100),
    "wide": ((20, 300, 150, 6), "tanh", "binary_log_loss", "adam", 150, 300),
    "split sums": ((300, 500, 270, 6), "relu", "log_loss", "adam", 40, 100),
    "batch 1": ((13, 17, 1), "relu", "squared_error", "adam", 1, 9),
    "batch 3": ((9, 5, 4), "logistic", "log_loss", "plain", 3, 20),
    "rmsprop": ((46, 64, 64, 7), "relu", "softmax_squared_error", "rmsprop", 50, 210),
    "gelu, leaky relu": ((40, 64, 30, 20, 5), ("gelu", "leaky_relu", "mish"), "log_loss", "adam", 40, 210),
    "elu, softplus": ((40, 64, 30, 20, 1), ("selu", "elu", "softplus"), "squared_error", "adam", 40, 210),
    "hard swish, silu": ((40, 30, 20, 1), ("hard_swish", "silu"), "squared_error", "adam", 50, 110),
    "quadratic cost": ((784, 30, 10), "logistic", "logistic_squared_error", "plain", 10, 65),
    "nadam": ((33, 90, 4), "relu", "log_loss", "nadam", 50, 210),
    "adagrad, clipped": ((64, 130, 4), "tanh", "log_loss", "adagrad", 110, 210),
    "lion": ((20, 100, 1), "relu", "binary_log_loss", "lion", 200, 410),
    "dropout, averages": ((40, 64, 30, 20, 5), ("relu", "tanh", "silu"), "log_loss", "dropped", 40, 210),
    "dropout in parts": ((20, 100, 1), "tanh", "binary_log_loss", "dropped in parts", 200, 410),
    "schedule-free": ((20, 100, 3), "relu", "log_loss", "schedulefree", 200, 410),
}
AT_ONCE = ("784-100-10 adam", "three hidden layers", "gelu, leaky relu", "split sums")  # compiled for AVX2 in each run
IN_PARTS = ("20-100-1", "rmsprop", "lion", "schedule-free", "dropout in parts")  # trained on two threads at most
SOLVERS = {
    "adam": dict(solver="adam"),
    "rmsprop": dict(solver="rmsprop"),
    "nadam": dict(solver="nadam", weight_decay=0.1),
    "adagrad": dict(solver="adagrad", max_grad_norm=0.1),
    "lion": dict(solver="lion", weight_decay=0.1),
    "schedulefree": dict(solver="schedulefree"),
    "dropped": dict(solver="adam", ema_decay=0.9, dropout=(0.2, 0.5, 0.3, 0.0)),
    "dropped in parts": dict(solver="lion", weight_decay=0.1, ema_decay=0.9, dropout=(0.0, 0.4)),
    "nesterov": dict(solver="sgd", momentum=0.9, nesterovs_momentum=True),
    "momentum": dict(solver="sgd", momentum=0.9),
    "plain": dict(solver="sgd"),
}


def make_data(units, loss, n, dtype):
    rng = np.random.default_rng(n)
    n_outputs = units[-1]
    labels, targets = np.empty(0, np.int32), np.empty((0, 0))
    if loss in ("log_loss", "softmax_squared_error", "logistic_squared_error"):
        labels = rng.integers(0, n_outputs, n).astype(np.int32)
    elif loss == "squared_error":
        targets = rng.standard_normal((n, n_outputs))
    else:
        targets = rng.integers(0, 2, (n, n_outputs))
    X, weights = rng.standard_normal((n, units[0])), rng.uniform(0.5, 1.5, n if n % 2 else 0)
    arrays = [X.astype(dtype), labels, targets.astype(dtype), weights.astype(dtype)]
    for array in arrays:
        array.flags.writeable = False
    return EncodedData(arrays[0], None, *arrays[1:])


def outcome(case, dtype, n_threads):
    """Everything that a training, a prediction and a gradient return, as one vector."""
    units, activation, loss, solver, batch, n = CASES[case]
    names = dict(hidden_activation=activation, out_activation=LOSSES[loss].output, loss=loss)
    data = make_data(units, loss, n, dtype)
    options = dict(units=units, dtype=dtype, alpha=1e-3, **names)
    layout, plan = make_plan(batch_size=batch, **SOLVERS[solver], **options)
    own = state.new_state(layout, plan)
    own.params[:] = np.random.default_rng(0).uniform(-0.1, 0.1, own.params.size)
    rows, rng = np.arange(n), np.random.RandomState(1)
    how = dict(walk=Walk(rows, rng), schedule=FixedRate(), max_epochs=2, n_threads=n_threads)
    losses = [record.loss for record in train.train(layout, plan, own, data, **how)]
    outputs = infer.forward(layout, plan, own.params, data, n_threads=n_threads)
    some = infer.forward(layout, plan, own.params, data, rows=rows[::3].copy(), n_threads=n_threads)
    full_batch = train.FullBatch(*make_plan(**options, solver="lbfgs"), own.params, data, n_threads=n_threads)
    parts = [own.params, own.learned, losses, outputs, some, [full_batch()], full_batch.gradient]
    return np.concatenate([np.ravel(part).astype(np.float64) for part in parts])  # float32 widens without loss


def outcomes(thread_counts, cases, dtypes):
    threads.CROSSOVER_FLOPS = 0
    return {
        f"{case}, {dtype.__name__}, {n}": outcome(case, dtype, n)
        for case in cases
        for dtype in dtypes
        for n in thread_counts
    }


def vector_registers():
    """Of each leaf: its name and dtype, and whether its machine code uses 256-bit and 512-bit registers.

    The leaves are compiled for it: Numba keeps no assembly of what it loads from its cache.
    """
    load, jit.MachineCodeCache.load_overload = jit.MachineCodeCache.load_overload, lambda *args: None
    try:
        for dtype in DTYPES:
            jit.load_leaves(dtype, True, jit.all_implementations())
        found = [(real, load_leaf(real)) for real in REALS for load_leaf in LOADERS]
    finally:
        jit.MachineCodeCache.load_overload = load
    texts = {
        f"{dispatcher.py_func.__name__} {real}": "".join(dispatcher.inspect_asm().values())
        for real, leaf in found
        for dispatcher in (leaf if isinstance(leaf, list) else [leaf])  # a family's members
    }
    return [(name, "ymm" in text, "zmm" in text) for name, text in texts.items()]


def save(path, thread_counts, what="all"):
    uses = vector_registers() if what == "registers" else []  # before anything is loaded from the cache
    cases, dtypes = (AT_ONCE, DTYPES[:1]) if what == "some" else (CASES, DTYPES)
    found = outcomes(tuple(map(int, thread_counts.split(","))), cases, dtypes)
    np.savez(path, registers=np.array(uses, dtype=str), **found)


def run_script(folder, *arguments, **environment):
    saved = folder / "outcomes.npz"
    paths = [str(pathlib.Path(threads.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | environment
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), str(saved), *arguments]
    subprocess.run(command, env=environment, check=True, timeout=600)
    return np.load(saved)


needs_compiler = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")


@pytest.fixture(scope="module")
def on_threads(tmp_path_factory):
    """Outcomes on 1, 2 and 4 threads of one process, whatever the machine has."""
    return run_script(tmp_path_factory.mktemp("threads"), "1,2,4", NUMBA_NUM_THREADS="4")


@pytest.fixture(scope="module")
def too_few_threads(tmp_path_factory):
    """Outcomes of three and four blocks where OpenMP, if it is what Numba uses, has two threads."""
    folder = tmp_path_factory.mktemp("limited")
    return run_script(folder, "3,4", NUMBA_NUM_THREADS="4", OMP_THREAD_LIMIT="2", KMP_DEVICE_THREAD_LIMIT="2")


@needs_compiler
@pytest.mark.parametrize("dtype", [dtype.__name__ for dtype in DTYPES])
@pytest.mark.parametrize("case", CASES)
def test_any_number_of_threads_gives_the_same_bits(on_threads, case, dtype):
    alone = on_threads[f"{case}, {dtype}, 1"]
    assert np.isfinite(alone).all()
    for n in THREADS[1:]:
        np.testing.assert_array_equal(on_threads[f"{case}, {dtype}, {n}"], alone, err_msg=f"{n} threads")


@needs_compiler
@pytest.mark.parametrize("dtype", [dtype.__name__ for dtype in DTYPES])
@pytest.mark.parametrize("case", CASES)
def test_threads_that_never_come_change_no_bit(too_few_threads, on_threads, case, dtype):
    for n in (3, 4):
        found = too_few_threads[f"{case}, {dtype}, {n}"]
        np.testing.assert_array_equal(found, on_threads[f"{case}, {dtype}, 1"], err_msg=f"{n} blocks")


@pytest.fixture
def uneven(monkeypatch):
    """A function that lets every training begin with blocks of given shares, which then move towards equal ones."""
    make = train.make_buffers
    monkeypatch.setattr(threads, "CROSSOVER_FLOPS", 0)
    monkeypatch.setattr(threads, "_forked", True)  # blocks run one after the other, so that there may be any number

    def choose(shares):
        cut = []

        def make_uneven(*args, **kwargs):
            buffers, workspace_size = make(*args, **kwargs)
            if buffers.fractions.size == 2 * len(shares):
                buffers.fractions[:] = np.tile(np.cumsum(shares), 2)
                cut.append(shares)
            return buffers, workspace_size

        monkeypatch.setattr(train, "make_buffers", make_uneven)
        return cut

    return choose


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES)
def test_any_shares_give_the_same_bits(uneven, case, dtype):
    alone = outcome(case, dtype, 1)
    for shares in ((0.5, 0.5), (0.3, 0.7), (0.61, 0.39), (0.2, 0.5, 0.3), (0.05, 0.4, 0.15, 0.4)):
        cut = uneven(shares)
        np.testing.assert_array_equal(outcome(case, dtype, len(shares)), alone, err_msg=f"shares {shares}")
        assert len(cut) == 1 + (case not in IN_PARTS or len(shares) == 2), "the full batch, and training"


# ---- a processor with AVX2 and without AVX-512: compiling everything for it takes minutes, so each run compiles some
HASWELL = dict(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx2,+fma")
needs_avx2 = pytest.mark.skipif(not {"avx2", "fma"} <= target_features(), reason="the host has no AVX2")


@pytest.fixture(scope="module")
def some_for_avx2(tmp_path_factory):
    return run_script(tmp_path_factory.mktemp("some"), "1", "some", **HASWELL)


@pytest.fixture(scope="module")
def all_for_avx2(tmp_path_factory):
    return run_script(tmp_path_factory.mktemp("avx2"), "1", "registers", **HASWELL)


@needs_compiler
@needs_avx2
@pytest.mark.parametrize("case", AT_ONCE)
def test_avx2_gives_the_same_bits(some_for_avx2, on_threads, case):
    np.testing.assert_array_equal(some_for_avx2[f"{case}, float32, 1"], on_threads[f"{case}, float32, 1"])


@pytest.mark.slow
@needs_compiler
@needs_avx2
@pytest.mark.parametrize("dtype", [dtype.__name__ for dtype in DTYPES])
@pytest.mark.parametrize("case", CASES)
def test_avx2_gives_the_same_bits_of_everything(all_for_avx2, on_threads, case, dtype):
    np.testing.assert_array_equal(all_for_avx2[f"{case}, {dtype}, 1"], on_threads[f"{case}, {dtype}, 1"])


@pytest.mark.slow
@needs_compiler
@needs_avx2
def test_avx2_code_holds_no_wide_register(all_for_avx2):
    uses = {name: (ymm == "True", zmm == "True") for name, ymm, zmm in all_for_avx2["registers"]}
    single = [load_leaf for load_leaf in LOADERS if load_leaf.__name__ != "load_table"]
    assert len(uses) == 2 * (len(single) + sum(len(table.implementations) for table in jit.dispatch_tables))
    assert [name for name, (_, zmm) in uses.items() if zmm] == []
    assert {f"{name} {real}" for name in ("relu_activate", "adam") for real in REALS} <= {
        n for n, (ymm, _) in uses.items() if ymm
    }


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES)
def test_two_runs_give_the_same_bits(on_threads, case, dtype):
    """In one process, and in another one."""
    first = outcome(case, dtype, 1)
    np.testing.assert_array_equal(first, outcome(case, dtype, 1))
    np.testing.assert_array_equal(first, on_threads[f"{case}, {dtype.__name__}, 1"])


# ---- libraries: NumPy, OpenBLAS and the C library choose among codes by the processor --------------------------------
SMALL = dict(hidden_layer_sizes=(12, 7), random_state=1, tol=0, n_iter_no_change=200)
ADAM, SGD = SMALL | dict(batch_size=32, max_iter=40), SMALL | dict(solver="sgd", learning_rate_init=0.05, max_iter=15)
FITS = {  # estimator, parameters, sparse X
    "adam": (MLPClassifier, ADAM, False),
    "adam, other decays": (MLPRegressor, ADAM | dict(beta_1=0.7, beta_2=0.9999, activation="tanh"), False),
    "adam, two classes": (MLPClassifier, ADAM | dict(max_iter=10, activation="logistic"), False),
    "adam, early stopping": (MLPRegressor, ADAM | dict(early_stopping=True), False),
    "adam, sparse": (MLPClassifier, ADAM | dict(early_stopping=True, max_iter=15), True),
    "sgd": (MLPClassifier, SGD | dict(batch_size=50), False),
    "sgd, invscaling": (MLPRegressor, SGD | dict(learning_rate="invscaling", power_t=0.3), True),
    "sgd, adaptive": (MLPClassifier, SGD | dict(learning_rate="adaptive", tol=1e-2, n_iter_no_change=2), False),
    "rmsprop": (MLPRegressor, SMALL | dict(solver="rmsprop", batch_size=64, max_iter=15, alpha=0.01), True),
    "nadam, exponential": (MLPClassifier, ADAM | dict(solver="nadam", learning_rate="exponential", warmup=2), False),
    "schedule-free, clipped": (MLPRegressor, ADAM | dict(solver="schedulefree", max_grad_norm=0.1, warmup=0.7), True),
    "adam, one cycle": (MLPClassifier, ADAM | dict(learning_rate="onecycle", early_stopping=True), False),
    "lion, coslog": (MLPClassifier, ADAM | dict(solver="lion", learning_rate="coslog", early_stopping=True), False),
    "lbfgs": (MLPClassifier, SMALL | dict(solver="lbfgs", max_iter=15), False),
}
CURVES = ("loss_curve_", "validation_scores_", "best_validation_score_", "loss_", "n_iter_")


def fitted(case, dtype):
    """All that a fit publishes, and its predictions, as one vector."""
    kind, settings, sparse = FITS[case]
    rng = np.random.RandomState(0)
    X = rng.standard_normal((330, 20)) * (rng.random_sample((330, 20)) < 0.5)
    y = (
        (X * np.linspace(-1, 1, 20)).sum(axis=1)
        if kind is MLPRegressor
        else rng.randint(0, 2 + ("two" not in case), 330)
    )
    X = sp.csr_matrix(X) if sparse else X
    model = kind(**settings, dtype=dtype).fit(X, y)
    outputs = model.predict(X) if kind is MLPRegressor else model.predict_proba(X)
    curves = [getattr(model, name, None) for name in CURVES]
    if model.solver != "lbfgs" and not model.early_stopping:
        for _ in range(3):
            model.partial_fit(X, y)
    parts = [*model.coefs_, *model.intercepts_, outputs, *(curve for curve in curves if curve is not None)]
    return np.concatenate([np.ravel(part).astype(np.float64) for part in parts])


def save_fits(path):
    np.savez(path, **{f"{case}, {dtype.__name__}": fitted(case, dtype.__name__) for case in FITS for dtype in DTYPES})


def numpys_dispatch(mark=""):
    """Names of the codes that NumPy would choose here beside the plainest, as NPY_DISABLE_CPU_FEATURES takes them."""
    core = np._core if hasattr(np, "_core") else np.core
    umath = core._multiarray_umath
    return " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name] and mark in name)


LIBRARIES = {
    "NumPy without AVX-512": {"NPY_DISABLE_CPU_FEATURES": f"{numpys_dispatch('AVX512')} {numpys_dispatch('X86_V4')}"},
    "NumPy without any choice": {"NPY_DISABLE_CPU_FEATURES": numpys_dispatch()},
    "OpenBLAS for Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "OpenBLAS for Skylake-X": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "OpenBLAS for Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
    "the C library without FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2"},
}
NEEDED = {"OpenBLAS for Haswell": {"avx2", "fma"}, "OpenBLAS for Skylake-X": {"avx512f", "avx512bw"}}


@pytest.fixture(scope="module")
def plain_fits(tmp_path_factory):
    return run_script(tmp_path_factory.mktemp("plain"), OPENBLAS_NUM_THREADS="1")


@needs_compiler
@pytest.mark.skipif(PROCESSOR != "x86_64", reason="names of x86-64's codes")
@pytest.mark.parametrize("library", LIBRARIES)
def test_no_librarys_choice_changes_a_bit(library, plain_fits, tmp_path):
    """Weights, losses, scores, predictions; but not L-BFGS under another OpenBLAS: its steps are SciPy's, with BLAS."""
    if not NEEDED.get(library, set()) <= target_features():
        pytest.skip("the host cannot run it")
    found = run_script(tmp_path, OPENBLAS_NUM_THREADS="1", **LIBRARIES[library])
    cases = [name for name in found if not (name.startswith("lbfgs") and "OpenBLAS" in library)]
    assert len(cases) >= 2 * (len(FITS) - 1)
    for name in cases:
        assert np.isfinite(plain_fits[name]).all()
        np.testing.assert_array_equal(found[name], plain_fits[name], err_msg=name)


if __name__ == "__main__":
    (save if len(sys.argv) > 2 else save_fits)(*sys.argv[1:])
