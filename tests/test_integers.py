"""Where NumPy's integers have 32 bits unless told otherwise (Windows, NumPy 1.26): the same models, the same bits."""

import functools

import numpy as np
import pytest
import scipy.sparse as sp
from numba import config

from fastnn import MLPClassifier, MLPRegressor, __main__, infer, state, threads
from fastnn.core.simd.rng import shuffle
from fastnn.plan import make_plan

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MAKERS = {"arange": 3, "array": 1, "asarray": 1, "full": 2}  # the place of the argument dtype


def narrowed(function, place):
    """``function`` with integers of 32 bits where neither a dtype nor an array among the arguments says otherwise."""

    @functools.wraps(function)
    def narrow(*args, **options):
        made = function(*args, **options)
        told = len(args) > place or options.get("dtype") is not None
        told = told or any(isinstance(value, (np.ndarray, np.generic)) for value in args)
        return made.astype(np.int32) if made.dtype == np.int64 and not told else made

    return narrow


@pytest.fixture
def narrow_integers(monkeypatch):
    """A function that gives every integer array, here and in all other packages, 32 bits by default."""

    def begin():
        for cached in (infer._prepared, infer.layout_of):
            cached.cache_clear()
        for name, place in MAKERS.items():
            monkeypatch.setattr(np, name, narrowed(getattr(np, name), place))
        assert (
            np.arange(3).dtype == np.array([1, 2]).dtype == np.int32 and np.arange(3, dtype=np.int64).dtype == np.int64
        )

    yield begin
    for cached in (infer._prepared, infer.layout_of):
        cached.cache_clear()


N = 90
LONG = dict(hidden_layer_sizes=(70,), max_iter=120, batch_size=90, tol=0, n_iter_no_change=200, random_state=0)
SHORT = dict(hidden_layer_sizes=(7,), max_iter=3, batch_size=20, random_state=0)
NETWORKS = {  # estimator, its parameters, sparse X
    "adam": (MLPClassifier, SHORT, False),
    "sgd, early stopping": (MLPClassifier, SHORT | dict(solver="sgd", early_stopping=True), False),
    "no hidden layer": (MLPRegressor, SHORT | dict(hidden_layer_sizes=()), False),
    "large layers": (MLPRegressor, SHORT | dict(hidden_layer_sizes=(300, 280)), False),
    "parts of a batch": (MLPRegressor, SHORT | dict(hidden_layer_sizes=(60,), batch_size=90), False),
    "many draws": (MLPClassifier, LONG | dict(batch_size=45), False),
    "lbfgs": (MLPClassifier, SHORT | dict(solver="lbfgs"), False),
    "sparse": (MLPClassifier, SHORT, True),
    "sparse, early stopping": (MLPRegressor, SHORT | dict(early_stopping=True), True),
    "sparse, lbfgs": (MLPRegressor, SHORT | dict(solver="lbfgs"), True),
}


def outcome(case, n_jobs):
    """Weights, and predictions for X in several forms."""
    kind, settings, sparse = NETWORKS[case]
    rng = np.random.RandomState(0)
    dense = rng.standard_normal((N, 80)).astype(np.float32) * (rng.random_sample((N, 80)) < 0.4)
    X = sp.csr_matrix(dense) if sparse else dense
    model = kind(**settings, n_jobs=n_jobs).fit(X, np.arange(N) % 3)
    answer = model.predict if kind is MLPRegressor else model.predict_proba
    forms = [X, np.asfortranarray(dense), dense.astype(np.float64), sp.csc_matrix(dense), X[:1], dense[::2]]
    parts = [*model.coefs_, *model.intercepts_, *map(answer, forms)]
    if settings.get("solver") != "lbfgs" and not settings.get("early_stopping"):
        parts += model.partial_fit(X, np.arange(N) % 3).coefs_
    return [part.tobytes() for part in parts]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("case", NETWORKS)
def test_narrow_default_integers_change_no_bit(narrow_integers, monkeypatch, case, n_jobs):
    monkeypatch.setattr(threads, "CROSSOVER_FLOPS", 0)
    monkeypatch.setattr(infer, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(infer, "CONVERTED_ENTRIES", 200)
    expected = outcome(case, n_jobs)
    narrow_integers()
    assert outcome(case, n_jobs) == expected


@pytest.mark.parametrize("few", [False, True])
def test_tables_have_64_bits_on_every_processor(narrow_integers, monkeypatch, few):
    """`pack` would refuse them else; narrow tiles have tables of their own."""
    monkeypatch.setattr(state, "few_registers", lambda: few)
    monkeypatch.setattr(infer, "few_registers", lambda: few)
    narrow_integers()
    names = dict(hidden_activation="relu", out_activation="softmax", loss="log_loss", solver="adam")
    layout, plan = make_plan(units=(300, 300, 3), batch_size=20, **names)
    own = state.new_state(layout, plan)
    assert state.prefetch_lines_of(own, 20).dtype == np.int64
    buffers, _ = state.make_buffers(layout, plan, own, 2)
    tables = [value for value in (*layout, *buffers) if value.dtype.kind == "i"]
    assert {table.dtype for table in tables} == {np.dtype(np.int64)} and len(tables) > 15
    prepared = infer._prepared((300, 300, 3), (1, 1), np.dtype(np.float32), False, False, False, 256)
    assert prepared.sizes.ahead.dtype == prepared.sizes.columns.dtype == np.int64 and prepared.sizes.ahead.size


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")
def test_what_is_warmed_up_is_what_training_asks_for(narrow_integers, monkeypatch):
    monkeypatch.setattr(shuffle, "twins", {})
    monkeypatch.setattr(shuffle, "_found", {})
    narrow_integers()
    __main__.shuffle_rows()
    outcome("many draws", 1)
    assert [dtype for dtype, parallel in shuffle.twins] == ["int64"]
    assert len(next(iter(shuffle.twins.values())).signatures) == 1
