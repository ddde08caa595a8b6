"""Sparse matrices that are not what they seem: nothing reads or writes outside of them, and what they mean counts."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from fastnn import MLPClassifier, MLPRegressor, infer, spec, train
from fastnn.core.records import EncodedData
from fastnn.csr import by_rows, refuse_corrupt
from fastnn.plan import make_plan
from fastnn.state import new_state
from fastnn.walk import Walk
from step_scalars import FixedRate

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, D = 40, 30
SETTINGS = dict(hidden_layer_sizes=(5,), max_iter=3, batch_size=16, random_state=0)
Y = np.arange(N) % 3


def matrix(form="csr", seed=0, dtype=np.float32, shape=(N, D)):
    """A matrix whose flags SciPy has found out and keeps."""
    X = sp.random(*shape, 0.3, format=form, random_state=np.random.RandomState(seed), dtype=dtype)
    assert form not in ("csr", "csc") or (X.has_sorted_indices and X.has_canonical_format)
    return X


def change(X, name, place, value):
    array = getattr(X, name)
    if array.dtype == np.int32 and abs(value) >= 2**31:
        array = array.astype(np.int64)
        setattr(X, name, array)
    array[place] = value


def replace(X, name, make):
    setattr(X, name, make(getattr(X, name)))


# name -> (what is done to a CSR or CSC matrix, what the message says)
FAULTS = {
    "an index one too large": (
        lambda X, n: change(X, "indices", 7, n),
        r"indices\[7\] is \d+, but (column|row) indices",
    ),
    "a negative index": (lambda X, n: change(X, "indices", 7, -1), r"indices\[7\] is -1"),
    "a huge index": (lambda X, n: change(X, "indices", 7, 2**31 - 1), r"indices\[7\] is 2147483647"),
    "a huge negative index": (lambda X, n: change(X, "indices", 0, -(2**31)), r"indices\[0\] is -2147483648"),
    "an index of 64 bits": (lambda X, n: change(X, "indices", 7, 2**32 + 1), r"indices\[7\] is 4294967297"),
    "indptr that falls": (lambda X, n: change(X, "indptr", 5, 10**6), r"indptr\[5\] is 1000000 after"),
    "indptr below zero": (lambda X, n: change(X, "indptr", 5, -3), r"indptr\[5\] is -3 after"),
    "indptr that starts late": (lambda X, n: change(X, "indptr", 0, 1), r"indptr\[0\] is 1 as the first"),
    "indptr that ends too far": (lambda X, n: change(X, "indptr", -1, 2**40), r"is 1099511627776 after .* end at 360"),
    "indptr too short": (lambda X, n: replace(X, "indptr", lambda a: a[:-5]), "indptr must have .* one more than"),
    "indices too short": (lambda X, n: replace(X, "indices", lambda a: a[:-5]), r"\(360,\) and \(355,\)"),
    "data too short": (lambda X, n: replace(X, "data", lambda a: a[:-5]), r"\(355,\) and \(360,\)"),
    "data in columns": (lambda X, n: replace(X, "data", lambda a: a[:, np.newaxis]), r"\(360, 1\) and \(360,\)"),
    "data in a list": (lambda X, n: replace(X, "data", list), "data must be an array"),
    "indices with fractions": (lambda X, n: replace(X, "indices", lambda a: a + 0.5), "1-D array of integers"),
    "indices in a list": (lambda X, n: replace(X, "indices", list), "1-D array of integers, got <class 'list'>"),
    "another shape": (lambda X, n: setattr(X, "_shape", (X.shape[0] - 1, X.shape[1] - 1)), "not a valid"),
}
CALLS = {
    "fit": lambda X: MLPClassifier(**SETTINGS).fit(X, Y[: X.shape[0]]),
    "lbfgs": lambda X: MLPRegressor(solver="lbfgs", **SETTINGS).fit(X, Y[: X.shape[0]]),
    "partial_fit": lambda X: MLPClassifier(**SETTINGS).partial_fit(X, Y[: X.shape[0]], classes=[0, 1, 2]),
    "X_val": lambda X: MLPRegressor(**SETTINGS).fit(matrix(shape=(N, X.shape[1])), Y, X_val=X, y_val=Y[: X.shape[0]]),
    "predict": lambda X: MLPRegressor(**SETTINGS).fit(matrix(shape=(N, X.shape[1])), Y).predict(X),
}


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_corrupt_matrix_is_refused_by_name(fault, call, form):
    spoil, message = FAULTS[fault]
    X = matrix(form)
    spoil(X, X.shape[1] if form == "csr" else X.shape[0])
    with pytest.raises(ValueError, match=message) as caught:
        CALLS[call](X)
    assert "X is not a valid" in str(caught.value)
    assert ("X_val" in str(caught.value)) == (call == "X_val")


# ---- what is legal, but not what its flags say ----------------------------------------------------------------------
def renumbered(X, seed=1):
    X.indices = np.random.RandomState(seed).permutation(X.shape[X.format == "csr"]).astype(X.indices.dtype)[X.indices]
    return X


def with_duplicates(X):
    X.indices = X.indices // 4 * 4
    return X


def reversed_rows(X):
    order = np.concatenate([np.arange(hi - 1, lo - 1, -1) for lo, hi in itertools.pairwise(X.indptr)])
    X.indices, X.data = X.indices[order], X.data[order]
    return X


def wide(X):
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def spare(X):
    """Entries that belong to no row, as SciPy allows them."""
    X.indices = np.append(X.indices, [-5, 2**31 - 1]).astype(X.indices.dtype)
    X.data = np.append(X.data, [7, 7]).astype(X.data.dtype)
    return X


def stored(convert):
    """With indices of another make."""

    def remake(X):
        X.indices = convert(X.indices)
        return X

    return remake


SURPRISES = {
    "renumbered": renumbered,
    "duplicates": with_duplicates,
    "duplicates out of order": lambda X: with_duplicates(renumbered(X)),
    "reversed": reversed_rows,
    "64-bit indices": wide,
    "64-bit indices out of order": lambda X: wide(renumbered(X)),
    "spare entries": spare,
    "unsigned indices": stored(lambda a: a.astype(np.uint32)),
    "short indices": stored(lambda a: a.astype(np.int16)),
    "indices of the other byte order": stored(lambda a: a.astype(">i4")),
    "every second index": stored(lambda a: np.repeat(a, 2)[::2]),
    "misaligned indices": stored(lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1)),
    "read-only indices": stored(lambda a: np.frombuffer(a.tobytes(), a.dtype)),
}


def meaning(X):
    """What a CSR or CSC matrix says, entry by entry."""
    dense = np.zeros(X.shape if X.format == "csr" else X.shape[::-1], np.float64)
    for i, (lo, hi) in enumerate(itertools.pairwise(X.indptr)):
        for p in range(lo, hi):
            dense[i, X.indices[p]] += X.data[p]
    return dense if X.format == "csr" else dense.T


def weights(estimator):
    return np.concatenate([array.ravel() for array in (*estimator.coefs_, *estimator.intercepts_)])


@pytest.mark.parametrize("hidden", [(5,), (1,), (), (9, 4)], ids=str)
@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("surprise", SURPRISES)
def test_flags_do_not_count_but_entries_do(surprise, form, hidden):
    """Models and predictions are those of the dense matrix, to the bit where no sums are involved."""
    given = SURPRISES[surprise](matrix(form, dtype=np.float64))
    dense, before = meaning(given), [array.tobytes() for array in (given.data, given.indices, given.indptr)]
    settings = SETTINGS | dict(hidden_layer_sizes=hidden)
    exact = "duplicates" not in surprise
    for dtype, tolerance in (("float32", 2e-4), ("float64", 1e-12)):
        models = [MLPClassifier(**settings, dtype=dtype).fit(X, Y) for X in (given, dense)]
        outputs = [model.predict_proba(X) for model, X in zip(models, (given, dense), strict=True)]
        for found, expected in ((weights(models[0]), weights(models[1])), outputs):
            np.testing.assert_allclose(found, expected, rtol=0, atol=0 if exact else tolerance)
    assert [array.tobytes() for array in (given.data, given.indices, given.indptr)] == before


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_random_damage_is_refused_or_right(form):
    """Whatever is done to the arrays: what `by_rows` lets through is what the arrays say, sorted and in bounds."""
    rng, seen = np.random.RandomState(3), {"refused": 0, "sorted": 0, "out of order": 0}
    for seed in range(300):
        X = matrix(form, seed, np.float64, shape=(rng.randint(1, 12), rng.randint(1, 12)))
        for _ in range(rng.randint(1, 3)):
            name, values = ("indices", [-1, 0, 5, 12, 2**31 - 1]) if rng.rand() < 0.6 else ("indptr", [-1, 0, 3, 8, 99])
            array = getattr(X, name).copy()
            if array.size and rng.rand() < 0.6:
                array[rng.randint(array.size)] = rng.choice(values)
            elif rng.rand() < 0.5:
                rng.shuffle(array)
            else:
                array.sort()
            setattr(X, name, array)
        pointers, n_minor = X.indptr, X.shape[form == "csr"]
        legal = pointers[0] == 0 and (np.diff(pointers) >= 0).all() and pointers[-1] <= X.indices.size
        legal = legal and all(0 <= index < n_minor for index in X.indices[: pointers[-1]])
        if not legal:
            with pytest.raises(ValueError, match="X is not a valid"):
                by_rows(X)
            seen["refused"] += 1
            continue
        rows = by_rows(X)
        seen["sorted" if rows.is_sorted else "out of order"] += 1
        for found in (rows, rows.in_order()):
            dense = meaning(sp.csr_matrix((found.data, found.indices, found.indptr), X.shape))
            np.testing.assert_allclose(dense, meaning(X), rtol=1e-12)
        for lo, hi in itertools.pairwise(found.indptr):
            assert (np.diff(found.indices[lo:hi]) >= 0).all()
    assert min(seen.values()) >= (0 if form == "csc" else 20) and seen["refused"] > 20, seen


def test_nothing_is_copied_where_nothing_is_wrong():
    X = matrix()
    rows = by_rows(X).in_order()
    assert rows.is_sorted and np.shares_memory(rows.indices, X.indices) and np.shares_memory(rows.data, X.data)
    assert rows.indices.size == X.nnz and rows.indptr.dtype == np.int64


def test_entries_of_one_place_stay_in_their_order():
    X = sp.csr_matrix((np.arange(6.0), np.array([3, 1, 3, 1, 1, 0]), np.array([0, 4, 6])), (2, 4))
    rows = by_rows(X).in_order()
    assert rows.indices.tolist() == [1, 1, 3, 3, 0, 1] and rows.data.tolist() == [1, 3, 0, 2, 5, 4]


def test_prediction_of_pieces_sorts_each_of_them(monkeypatch):
    monkeypatch.setattr(infer, "CONVERTED_ENTRIES", 50)
    given, plain = renumbered(matrix()), matrix()
    model = MLPRegressor(**SETTINGS).fit(plain, Y)
    np.testing.assert_array_equal(model.predict(given), model.predict(meaning(given).astype(np.float32)))


# ---- formats that SciPy converts ------------------------------------------------------------------------------------
def coo(name, place, value):
    def spoil(X):
        getattr(X, name)[place] = value

    return spoil


def assign(name, make):
    return lambda X: replace(X, name, make)


CONVERTED = {
    "coo, row": ("coo", coo("row", 5, 10**6), r"row\[5\] is 1000000, but row indices must be from 0 to 39"),
    "coo, negative": ("coo", coo("row", 5, -(10**6)), r"row\[5\] is -1000000"),
    "coo, column": ("coo", coo("col", 5, 30), r"col\[5\] is 30, but column indices must be from 0 to 29"),
    "coo, data": ("coo", assign("data", lambda a: a[:7]), r"data has shape \(7,\)"),
    "bsr, column": ("bsr", coo("indices", 3, 10**6), r"indices\[3\] is 1000000"),
    "bsr, indptr": ("bsr", coo("indptr", 3, 10**8), r"indptr\[3\] is 100000000"),
    "bsr, short": ("bsr", assign("indptr", lambda a: a[:-5]), "indptr must have 21 elements"),
    "bsr, blocks": ("bsr", assign("data", lambda a: np.ones((len(a), 7, 11))), "whose sizes divide the shape"),
    "bsr, flat": ("bsr", assign("data", np.ravel), "blocks"),
    "lil, column": (
        "lil",
        lambda X: X.rows[3].append(99) or X.data[3].append(1.0),
        r"rows\[3\] must hold column indices, from 0 to 29",
    ),
    "lil, lengths": ("lil", lambda X: X.data[3].extend([1.0] * 10**6), "lists of the same length"),
    "lil, huge": ("lil", lambda X: X.rows[3].append(2**70) or X.data[3].append(1.0), r"rows\[3\] must hold column"),
    "lil, names": ("lil", lambda X: X.rows[3].append("a") or X.data[3].append(1.0), r"rows\[3\] must hold column"),
    "dok, row": ("dok", lambda X: X._dict.update({(40, 1): 1.0}), r"a key \(40, 1\)"),
    "dok, huge": ("dok", lambda X: X._dict.update({(1, -(2**70)): 1.0}), "a key "),
    "dok, names": ("dok", lambda X: X._dict.update({"ab": 1.0}), "a key 'ab'"),
    "lil, rows": ("lil", assign("rows", lambda a: a[:9]), "must hold 40 lists"),
    "dia, offsets": ("dia", assign("offsets", lambda a: a[:2]), "rows, as many as offsets"),
    "dia, data": ("dia", assign("data", lambda a: a[:2]), "rows, as many as offsets"),
}


@pytest.mark.parametrize("case", CONVERTED)
@pytest.mark.parametrize("call", ["fit", "predict"])
def test_other_formats_are_looked_through_before_scipy_converts_them(case, call):
    form, spoil, message = CONVERTED[case]
    X = matrix().tobsr((2, 3)) if form == "bsr" else matrix().asformat(form)
    CALLS[call](X)
    spoil(X)
    with pytest.raises(ValueError, match=message):
        CALLS[call](X)


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_sparse_labels_are_looked_through(form):
    y = sp.csr_matrix(np.eye(3, dtype=int)[Y]).asformat(form)
    MLPClassifier(**SETTINGS).fit(matrix(), y)
    (y.col if form == "coo" else y.indices)[4] = 10**6
    with pytest.raises(ValueError, match="y is not a valid"):
        MLPClassifier(**SETTINGS).fit(matrix(), y)


def test_numbers_that_are_converted_first_are_looked_through_first():
    """scikit-learn makes new matrices of objects and strings, which follows the indices."""
    for dtype in (object, "U5"):
        X = matrix()
        X.data = X.data.astype(dtype)
        X.indptr[3] = 10**9
        with pytest.raises(ValueError, match=r"X is not a valid CSR .* X\.indptr\[3\]"):
            MLPClassifier(**SETTINGS).fit(X, Y)


def test_complex_numbers_are_refused_without_printing_them():
    """scikit-learn's message shows the matrix, and so follows its indices."""
    X = spare(matrix(dtype=np.float64))
    X.data = X.data.astype(np.complex128)
    with pytest.raises(ValueError, match="Complex data not supported: X is a sparse matrix of complex128"):
        MLPClassifier(**SETTINGS).fit(X, Y)


def test_formats_that_are_not_corrupt_pass():
    for form in ("csr", "csc", "coo", "bsr", "lil", "dia", "dok"):
        refuse_corrupt(matrix().asformat(form))


# ---- the network's own sizes ----------------------------------------------------------------------------------------
def encoded(**changes):
    y = np.array([0, 1, 2, 1], np.int32)
    given = dict(X=np.ones((4, 5), np.float32), csr=None, labels=y, targets=np.empty((0, 0), np.float32))
    arrays = given | dict(sample_weight=np.empty(0, np.float32)) | changes
    return EncodedData(**arrays)


MISFITS = {
    "a label too large": dict(labels=np.array([0, 1, 3, 1], np.int32)),
    "a negative label": dict(labels=np.array([0, 1, -1, 1], np.int32)),
    "too few labels": dict(labels=np.array([0, 1], np.int32)),
    "a feature too many": dict(X=np.ones((4, 6), np.float32)),
    "targets of two columns": dict(labels=np.empty(0, np.int32), targets=np.ones((4, 2), np.float32)),
    "too few targets": dict(labels=np.empty(0, np.int32), targets=np.ones((3, 3), np.float32)),
    "too few weights": dict(sample_weight=np.ones(3, np.float32)),
}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("case", MISFITS)
def test_training_refuses_data_that_lead_out_of_the_network(case, solver):
    names = dict(hidden_activation="relu", out_activation="softmax", loss="log_loss")
    layout, plan = make_plan(units=(5, 4, 3), batch_size=2, solver=solver, **names)
    state = new_state(layout, plan)

    def learn(data):
        if solver == "lbfgs":
            return train.FullBatch(layout, plan, state.params, data, n_threads=1)()
        walk = dict(walk=Walk(np.arange(4, dtype=np.int64)), max_epochs=1, n_threads=1)
        return next(train.train(layout, plan, state, data, schedule=FixedRate(), **walk)).loss

    assert np.isfinite(learn(encoded()))
    with pytest.raises(ValueError, match="do not fit a network of 5 features and 3 outputs"):
        learn(encoded(**MISFITS[case]))


def test_prediction_refuses_rows_of_another_length():
    layout = spec.NetworkSpec((5, 4, 3), "relu", "softmax", np.dtype(np.float32)).layout(1)
    params = np.zeros(5 * 4 + 4 + 4 * 3 + 3 + 64, np.float32)[:-64]
    for X in (np.ones((4, 6), np.float32), sp.csr_matrix(np.ones((4, 6), np.float32))):
        with pytest.raises(ValueError, match="X has 6 features, but the network takes 5"):
            infer.predict(layout, params, X, n_threads=1)
