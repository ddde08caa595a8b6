"""Sparse input against dense input, bit by bit, and against the float64 reference; whatever the number of blocks."""

import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from numba import config, njit

import reference
from fastnn import MLPClassifier, MLPRegressor, infer, threads, train
from fastnn.core.compile import jit
from fastnn.core.nn.losses import LOSSES
from fastnn.core.records import EncodedData
from fastnn.core.simd.llvm import address_of, prefetch_for_write
from fastnn.core.simd.spmm import as_csr, find_column, gather, scatter
from fastnn.plan import make_plan
from fastnn.spec import n_params
from fastnn.state import flat_params, new_state, split, with_padding
from fastnn.walk import Walk
from step_scalars import scalars_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DTYPES = [np.float32, np.float64]
HYPER = dict(momentum=0.9, nesterovs_momentum=True, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
ALPHA, RATE, EPOCHS, SEED = 0.01, 0.01, 2, 7


def scattered(rng, n, n_features, density):
    """Entries anywhere, some of them explicit zeros."""
    X = sp.random(n, n_features, density, format="csr", random_state=rng, data_rvs=rng.standard_normal)
    X.data[::7] = 0
    return X


def gaps(rng, n, n_features, density):
    """Empty rows and columns, the first and the last among them, and one row and one column that are full."""
    X = rng.standard_normal((n, n_features)) * (rng.random_sample((n, n_features)) < density)
    X[n // 2] = rng.standard_normal(n_features)
    X[:, n_features // 2] = rng.standard_normal(n)
    X[[0, n // 3, -1]] = 0
    X[:, [0, n_features // 3, -1]] = 0
    return sp.csr_matrix(X)


def first_columns(rng, n, n_features, density):
    """Columns by falling frequency, as in a bag of words: nearly all entries in the first block of weight rows."""
    frequency = np.minimum(1, 20 * density / (1 + np.arange(n_features)))
    return sp.csr_matrix((rng.random_sample((n, n_features)) < frequency).astype(float))


class Case(NamedTuple):
    """One network on one matrix."""

    make: callable
    n: int
    units: tuple
    loss: str
    batch: int = 16
    weighted: bool = False
    solver: str = "adam"
    density: float = 0.1
    activation: str = "relu"


CASES = [
    Case(scattered, 50, (37, 9, 5, 3), "log_loss"),
    Case(scattered, 50, (37, 3), "log_loss", weighted=True),
    Case(gaps, 45, (41, 16, 1), "binary_log_loss", batch=13, weighted=True, activation="tanh"),
    Case(gaps, 45, (41, 1), "binary_log_loss", solver="sgd"),
    Case(gaps, 45, (41, 5), "binary_log_loss", batch=45),
    Case(first_columns, 60, (103, 8, 2), "squared_error", solver="sgd", activation="identity"),
    Case(first_columns, 60, (103, 70), "squared_error", batch=7),
    Case(first_columns, 60, (103, 133, 4, 1), "poisson", activation="logistic"),
    Case(scattered, 300, (20, 6, 3), "log_loss", batch=290, density=0.3),
    Case(scattered, 50, (37, 9, 3), "binary_log_loss", solver="rmsprop", weighted=True),
    Case(gaps, 45, (41, 4), "softmax_squared_error", solver="rmsprop", weighted=True),
    Case(gaps, 45, (41, 6, 2), "logistic_squared_error", activation="logistic"),
    Case(scattered, 9, (1, 2, 1), "squared_error", batch=1, density=1.0),
    Case(scattered, 12, (600, 300, 2), "squared_error", batch=5, density=0.02),
]
IDS = [f"{case.make.__name__}-{'-'.join(map(str, case.units))}-{case.loss}" for case in CASES]


class Constant:
    """A learning rate for both solvers, as the estimators' schedules give it."""

    def __init__(self, solver):
        self.solver = solver

    def scalars(self, step, n_steps):
        t = np.arange(step + 1, step + n_steps + 1)
        corrected = RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return scalars_of(corrected if self.solver == "adam" else np.full(n_steps, RATE))


def read_only(array):
    array.flags.writeable = False
    return array


def make_data(case, dtype, dense):
    """The same rows, dense or sparse, and what the reference takes: data, (X, y, sample_weight)."""
    rng = np.random.RandomState(SEED)
    X = case.make(rng, case.n, case.units[0], case.density).astype(dtype)
    k = case.units[-1]
    labels, targets = np.empty(0, np.int32), np.empty((0, 0), dtype)
    if LOSSES[case.loss].output == "softmax":
        y = labels = rng.randint(0, k, case.n).astype(np.int32)
    else:
        y = rng.standard_normal((case.n, k))
        y = targets = (np.abs(y) if case.loss == "poisson" else y > 0 if "log" in case.loss else y).astype(dtype)
    weight = rng.random_sample(case.n).astype(dtype) if case.weighted else np.empty(0, dtype)
    csr = tuple(map(read_only, (X.data, X.indices, X.indptr.astype(np.int64))))
    place = {"X": read_only(X.toarray()), "csr": None} if dense else {"X": None, "csr": csr}
    data = EncodedData(**place, labels=read_only(labels), targets=read_only(targets), sample_weight=read_only(weight))
    return data, (X.toarray(), y, weight if case.weighted else None)


def start(case, dtype, solver=None):
    """Layout, plan and a state with drawn weights."""
    layout, plan = make_plan(
        units=case.units,
        hidden_activation=case.activation,
        out_activation=LOSSES[case.loss].output,
        loss=case.loss,
        solver=solver or case.solver,
        alpha=ALPHA,
        batch_size=case.batch,
        dtype=dtype,
        **HYPER,
    )
    plan = plan._replace(n_splits=np.int64(1))  # sums of large dense layers are split, in another order
    state = new_state(layout, plan)
    state.adopt(*reference.draw_weights(np.random.RandomState(SEED), case.units, case.activation))
    return layout, plan, state


@pytest.fixture
def blocks(monkeypatch):
    """A function that sets the number of blocks of every call; ``serial`` runs them one after the other."""

    def choose(serial=True):
        def serial_runner(entry, dtype, n_threads, sparse=False, implementations=frozenset()):
            jit.load_leaves(dtype, sparse, implementations)
            return entry.twin(dtype)

        for module in (train, infer):
            monkeypatch.setattr(module, "threads_for", lambda flops, limit, parts=1: limit)
            monkeypatch.setattr(module, "runner", serial_runner if serial else threads.runner)

    return choose


def results_of(case, dtype, dense, n_threads):
    """All results of training and prediction: parameters, moments, losses, outputs."""
    data, _ = make_data(case, dtype, dense)
    layout, plan, state = start(case, dtype)
    rng = np.random.RandomState(SEED)
    rows = np.arange(case.n)
    records = train.train(
        layout,
        plan,
        state,
        data,
        walk=Walk(rows, rng),
        schedule=Constant(case.solver),
        max_epochs=EPOCHS,
        n_threads=n_threads,
    )
    losses = np.array([record.loss for record in records])
    all_rows = infer.forward(layout, plan, state.params, data, n_threads=n_threads)
    some = rng.permutation(case.n)[: case.n // 2]
    chosen = infer.forward(layout, plan, state.params, data, rows=some, n_threads=n_threads)
    assert np.array_equal(chosen, all_rows[some])
    return {"params": state.params, "moments": state.moments, "losses": losses, "outputs": all_rows}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_training_and_prediction_have_the_bits_of_dense_ones(case, dtype, blocks):
    blocks()
    expected = results_of(case, dtype, dense=True, n_threads=1)
    for n_blocks in (1, 2, 4):
        found = results_of(case, dtype, dense=False, n_threads=n_blocks)
        for name, value in expected.items():
            assert np.isfinite(value).all()
            assert np.array_equal(found[name], value), (n_blocks, name)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_training_follows_the_reference(case, dtype, blocks):
    blocks()
    found = results_of(case, dtype, dense=False, n_threads=2)
    _, (X, y, weight) = make_data(case, dtype, dense=False)
    _, _, state = start(case, dtype)
    losses, coefs, intercepts = reference.train(
        state.coefs,
        state.intercepts,
        X,
        y,
        hidden_activation=case.activation,
        out_activation=LOSSES[case.loss].output,
        loss=case.loss,
        rng=np.random.RandomState(SEED),
        sample_weight=weight,
        solver=case.solver,
        alpha=ALPHA,
        batch_size=case.batch,
        max_iter=EPOCHS,
        learning_rate_init=RATE,
    )
    flat = np.concatenate([part.ravel() for pair in zip(coefs, intercepts, strict=True) for part in pair])
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found["losses"], losses, rtol=10 * eps)
    np.testing.assert_allclose(found["params"], flat, rtol=0, atol=20 * eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_full_batch_gradient(case, dtype, blocks, monkeypatch):
    blocks()
    monkeypatch.setattr(train, "CHUNK_ROWS", 32)
    results = []
    for dense, n_blocks in ((True, 1), (False, 1), (False, 2), (False, 4)):
        data, (X, y, weight) = make_data(case, dtype, dense)
        layout, plan, state = start(case, dtype, solver="lbfgs")
        evaluate = train.FullBatch(layout, plan, state.params, data, n_threads=n_blocks)
        results.append((evaluate(), evaluate.gradient.copy()))
    assert all(loss == results[0][0] and np.array_equal(g, results[0][1]) for loss, g in results)
    loss, d_coefs, d_intercepts = reference.gradients(
        state.coefs, state.intercepts, X, y, hidden_activation=case.activation, out_activation=LOSSES[case.loss].output,
        loss=case.loss, sample_weight=weight, alpha=ALPHA,
    )  # fmt: skip
    flat = np.concatenate([part.ravel() for pair in zip(d_coefs, d_intercepts, strict=True) for part in pair])
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(results[0][0], loss, rtol=50 * eps)
    np.testing.assert_allclose(results[0][1], flat, rtol=0, atol=50 * eps * np.abs(flat).max())


@pytest.mark.skipif(config.NUMBA_NUM_THREADS < 2 or bool(config.DISABLE_JIT), reason="needs two compiled threads")
@pytest.mark.parametrize("case", [CASES[0], CASES[6]], ids=[IDS[0], IDS[6]])
def test_two_threads(case, blocks):
    blocks(serial=False)
    expected = results_of(case, np.float32, dense=False, n_threads=1)
    found = results_of(case, np.float32, dense=False, n_threads=2)
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_chunks_of_weight_rows_cost_the_same():
    """Columns by Zipf's law: the first block's chunks end long before half of them; all start on whole groups."""
    case = Case(first_columns, 400, (2000, 8, 1), "binary_log_loss", density=0.4)
    data, _ = make_data(case, np.float32, dense=False)
    layout, _, _ = start(case, np.float32)
    bounds = train.TrainingData(data).column_bounds(layout, 400, 2)
    counts = np.bincount(data.csr[1], minlength=2000) + train.ROW_COST
    half = train.CHUNKS_PER_THREAD
    assert bounds[0] == 0 and bounds[-1] == 2000 and not (bounds[:-1] % train.GROUP).any()
    most = np.add.reduceat(counts, np.arange(0, 2000, train.GROUP)).max()  # chunks end with whole groups
    assert np.abs(np.add.reduceat(counts, bounds[:-1]) - counts.sum() / (2 * half)).max() <= most
    assert len(bounds) == 2 * half + 1 and bounds[half] < 990


FORMATS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "coo": sp.coo_matrix,
    "int64 indices": lambda X: _with_indices(sp.csr_matrix(X), np.int64),
    "unsorted": lambda X: _reversed_rows(sp.csr_matrix(X)),
}


def _with_indices(X, dtype):
    X.indices, X.indptr = X.indices.astype(dtype), X.indptr.astype(dtype)
    return X


def _reversed_rows(X):
    order = np.concatenate([np.arange(hi - 1, lo - 1, -1) for lo, hi in zip(X.indptr[:-1], X.indptr[1:], strict=True)])
    return sp.csr_matrix((X.data[order], X.indices[order], X.indptr), X.shape)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_estimators_take_every_format(form, solver):
    rng = np.random.RandomState(SEED)
    X = gaps(rng, 40, 30, 0.1).toarray().astype(np.float32)
    y = rng.randint(0, 3, 40)
    for estimator in (MLPClassifier, MLPRegressor):
        fitted = [
            estimator(hidden_layer_sizes=(5,), solver=solver, max_iter=5, random_state=0, tol=0).fit(given, y)
            for given in (X, FORMATS[form](X))
        ]
        assert all(np.array_equal(a, b) for a, b in zip(fitted[0].coefs_, fitted[1].coefs_, strict=True))
        assert np.array_equal(fitted[0].predict(X), fitted[1].predict(FORMATS[form](X)))


def test_duplicate_entries_add_up():
    X = sp.csr_matrix((np.ones(6), np.array([0, 0, 2, 1, 1, 1]), np.array([0, 3, 6])), (2, 3))
    models = [MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0, tol=0) for _ in range(2)]
    models[0].fit(X, [0.0, 1.0])
    models[1].fit(X.toarray(), [0.0, 1.0])
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-5)


def test_nothing_as_large_as_a_dense_batch_is_allocated():
    X = sp.random(1000, 100_000, 1e-4, format="csr", dtype=np.float32, random_state=0)
    model = MLPClassifier((2,), batch_size=500, max_iter=1, random_state=0)
    tracemalloc.start()
    try:
        with pytest.warns(UserWarning, match="Maximum iterations"):
            model.fit(X, np.arange(1000) % 2)
        model.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30e6, f"{peak / 1e6:.0f} MB"  # a dense batch: 200 MB; the weights with all their state: 2.4 MB


def test_indices_are_copied_only_to_change_their_width():
    X = sp.random(20, 30, 0.2, format="csr", dtype=np.float32, random_state=0)
    same = as_csr((X.data, X.indices, X.indptr.astype(np.int64)))
    assert np.shares_memory(same.values, X.data) and np.shares_memory(same.indices, X.indices)
    wide = as_csr((X.data, X.indices.astype(np.int64), X.indptr))
    assert wide.indices.dtype == np.int32 and wide.indptr.dtype == np.int64 and np.array_equal(wide.indices, X.indices)
    assert not any(array.flags.writeable for array in (*same, *wide))
    with pytest.raises(ValueError, match="too many columns"):
        as_csr((np.ones(1, np.float32), np.array([2**31]), np.array([0, 1])))


def test_python_twins():
    """The twins in plain Python: two entries of columns 1 and 3, the third lies behind ``stop``."""
    values, columns = np.array([2.0, 3.0, 9.0]), np.array([1, 3, 5], np.int32)
    b = np.arange(24.0)
    c = np.full(6, 7.0)
    gather(1, c, 1, np.ones(4), 0, values, columns, 0, 2, b, 0, 4)
    assert c.tolist() == [7.0, *(1 + 2 * b[4:8] + 3 * b[12:16]), 7.0]
    g = np.zeros(24)
    assert scatter(1, g, 0, 4, values, columns, 0, 3, 5, np.arange(4.0), 0) == 2
    assert g.reshape(6, 4)[[1, 3]].tolist() == [[0, 2, 4, 6], [0, 3, 6, 9]] and g.sum() == 30
    first = getattr(find_column, "py_func", find_column)  # compiled, it can be called by compiled code only
    assert [first(columns, 0, 3, column) for column in range(7)] == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has no caches to ask")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_lines_prefetched_for_writing_keep_their_values(dtype):
    @njit(**jit.OPTIONS)
    def store_all(a):
        for i in range(a.size):
            prefetch_for_write(address_of(a, i))

    a = np.random.RandomState(SEED).standard_normal(37).astype(dtype)
    a[:3] = np.nan, -0.0, np.inf
    expected = a.tobytes()
    store_all(a)
    assert a.tobytes() == expected


@pytest.mark.parametrize("n", [1, 7, 1000])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_parameters_start_on_a_cache_line(n, dtype):
    layout, _ = make_plan(
        units=(n, 3),
        hidden_activation="relu",
        out_activation="softmax",
        loss="log_loss",
        solver="adam",
        dtype=dtype,
    )
    vector = with_padding(n_params(layout), dtype)
    assert vector.ctypes.data % 64 == 0 and vector.size == 3 * n + 3
    found = flat_params(layout, np.dtype(dtype), *split(layout, vector))
    assert np.shares_memory(found, vector) and found.ctypes.data == vector.ctypes.data


def test_sparse_leaves_are_compiled_on_request_only(monkeypatch):
    calls = []
    monkeypatch.setattr(
        jit, "_leaves", {group: [lambda real, g=group: calls.append(g)] for group in ("dense", "sparse")}
    )
    monkeypatch.setattr(jit, "_loaded", set())
    jit.load_leaves(np.float32)
    jit.load_leaves(np.float32)
    assert calls == ["dense"]
    jit.load_leaves(np.float32, sparse=True)
    assert calls == ["dense", "sparse"]
