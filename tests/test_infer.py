"""Prediction of any kind of X: the bits of plain rows, scikit-learn's words about bad ones, memory of a block."""

import json
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn import neural_network
from sklearn.exceptions import DataConversionWarning

import fastnn
from fastnn import infer, threads
from processes import ROOT

RNG = np.random.RandomState(0)
N, N_FEATURES = 203, 37
WHOLE = RNG.randint(0, 5, (N, N_FEATURES)) * (RNG.uniform(size=(N, N_FEATURES)) < 0.4)  # exact in every type
TARGETS = {"several": WHOLE[:, :4].argmax(axis=1), "two": WHOLE[:, 0] > 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(library=fastnn, hidden=(19,), y="several", X=WHOLE, **parameters):
    parameters = {"max_iter": 2, "random_state": 0, **parameters}
    return library.MLPClassifier(hidden, **parameters).fit(np.asarray(X), TARGETS[y])


@pytest.fixture(params=[1, 2], ids=["serial", "parallel"])
def in_parts(request, monkeypatch):
    """Everything is cut into small parts, of which each thread gets several."""
    monkeypatch.setattr(threads, "CROSSOVER_FLOPS", 1)
    for name, value in {"AT_ONCE_BYTES": 0, "CONVERTED_BYTES": 1, "CONVERTED_ENTRIES": 300, "CALL_FLOPS": 1e5}.items():
        monkeypatch.setattr(infer, name, value)
    return request.param


# ---- the same bits in every form ------------------------------------------------------------------------------------
KINDS = [np.float32, np.float64, np.float16, np.longdouble, np.uint8, np.int8, np.int16, np.int64, np.uint64, ">f4"]
ORDERS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "strided F": lambda x: np.asfortranarray(np.repeat(np.repeat(x, 2, axis=0), 3, axis=1))[::2, ::3],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "one row again and again": lambda x: np.broadcast_to(x[:1], x.shape),
    "unaligned": lambda x: np.frombuffer(b"x" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


def check_same(found, expected, what=""):
    """Float32 X gives what the same numbers in float64 give, rounded; all other X give the same bits."""
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(found, expected.astype(found.dtype), err_msg=what)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hidden", [(19,), ()], ids=["hidden", "one layer"])
def test_every_type_and_order_has_the_bits_of_plain_rows(order, hidden, in_parts):
    model = fitted(hidden=hidden, n_jobs=in_parts)
    for dtype in [*KINDS, bool]:
        X = ORDERS[order]((WHOLE > 1 if dtype is bool else WHOLE).astype(dtype))
        X.flags.writeable = False
        for n in (1, 2, 16, 17, N):
            expected = model.predict_proba(np.ascontiguousarray(X[:n], np.float64))
            check_same(model.predict_proba(X[:n]), expected, f"{dtype}, {n} rows")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float64_networks_convert_too(dtype, in_parts):
    X = RNG.standard_normal((N, N_FEATURES)).astype(np.float32)
    model = fitted(X=X, dtype=dtype, n_jobs=in_parts)
    expected = model.predict_proba(X.astype(np.float64))
    for given in (X, X.astype(np.float64), np.asfortranarray(X), X.astype(np.float64).T.copy().T):
        check_same(model.predict_proba(given), expected)


def unsorted(matrix):
    matrix = matrix.copy()
    for row in range(matrix.shape[0]):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        matrix.indices[part], matrix.data[part] = matrix.indices[part][::-1], matrix.data[part][::-1]
    matrix.has_sorted_indices = False
    return matrix


def long_indices(matrix):
    matrix = matrix.copy()
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


SPARSE = {
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "coo_array": sp.coo_array,
    "lil_matrix": sp.lil_matrix,
    "bsr_array": sp.bsr_array,
    "unsorted": lambda x: unsorted(sp.csr_array(x)),
    "64-bit indices": lambda x: long_indices(sp.csr_array(x)),
    "nothing stored": lambda x: sp.csr_array(np.zeros_like(x)),
}


@pytest.mark.parametrize("form", SPARSE)
@pytest.mark.parametrize("hidden", [(19,), ()], ids=["hidden", "one layer"])
def test_every_sparse_form_has_the_bits_of_csr(form, hidden, in_parts):
    model = fitted(hidden=hidden, n_jobs=in_parts)
    for dtype in (np.float32, np.float64, np.int64, np.uint8, bool):
        X = SPARSE[form](WHOLE.astype(dtype))
        for n in (1, N):
            some = X.tocsr()[:n] if n < N else X
            plain = sp.csr_matrix(some, dtype=np.float64, copy=True)
            plain.sort_indices()
            check_same(model.predict_proba(some), model.predict_proba(plain), str(dtype))


def test_a_mapped_file_and_a_frame(in_parts, tmp_path):
    model = fitted(n_jobs=in_parts)
    expected = model.predict_proba(WHOLE.astype(np.float64))
    for dtype in (np.float32, np.float64):
        np.save(tmp_path / "x.npy", WHOLE.astype(dtype))
        check_same(model.predict_proba(np.load(tmp_path / "x.npy", mmap_mode="r")), expected)
    for given in (pd.DataFrame(WHOLE), WHOLE.tolist(), WHOLE.astype(object)):
        check_same(model.predict_proba(given), expected)


def test_labels_are_those_of_the_probabilities():
    X = RNG.standard_normal((N, N_FEATURES))
    for y in TARGETS:
        model = fitted(y=y, max_iter=20)
        proba = model.predict_proba(X)
        np.testing.assert_array_equal(model.predict(X), model.classes_[proba.argmax(axis=1)])
        assert len(set(model.predict(X))) > 1
        np.testing.assert_allclose(model.predict_log_proba(X), np.log(proba), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(proba[:, 0], 1 - proba[:, 1])


def test_what_is_kept_between_calls_knows_parameters_and_weights():
    model, other = fitted(activation="relu"), fitted(hidden=(19,), activation="tanh")
    X = WHOLE.astype(np.float32)
    before = model.predict_proba(X)
    state = pickle.dumps(model)
    assert not np.array_equal(other.predict_proba(X), before)
    model.set_params(activation="tanh")  # scikit-learn looks at the parameter, too
    changed = model.predict_proba(X)
    assert not np.array_equal(changed, before)
    model.set_params(activation="relu")
    model.coefs_[0][:] = -model.coefs_[0]
    assert not np.array_equal(model.predict_proba(X), before)
    np.testing.assert_array_equal(pickle.loads(state).predict_proba(X), before)


# ---- bad input: scikit-learn's words --------------------------------------------------------------------------------
def at(row, column, value):
    def spoil(X):
        X = X.copy()
        X[row, column] = value
        return X

    return spoil


BAD = {
    "NaN first": at(0, 0, np.nan),
    "NaN last": at(-1, -1, np.nan),
    "inf": at(101, 5, np.inf),
    "-inf": at(202, 36, -np.inf),
    "inf, then NaN": lambda X: at(150, 3, np.nan)(at(20, 2, np.inf)(X)),
    "NaN, then inf": lambda X: at(150, 3, np.inf)(at(20, 2, np.nan)(X)),
    "both signs": lambda X: at(20, 3, np.inf)(at(20, 2, -np.inf)(X)),
}
PLACES = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": ORDERS["strided"],
    "csr": sp.csr_matrix,
    "csc": sp.csc_array,
}


def complaint(call, *args):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError) as error:
            call(*args)
    return type(error.value), str(error.value), [str(w.message) for w in caught]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(19,), ()], ids=["hidden", "one layer"])
@pytest.mark.parametrize("place", PLACES)
def test_nan_and_inf_are_refused_in_scikit_learns_words(place, hidden, activation, in_parts):
    ours = fitted(hidden=hidden, activation=activation, n_jobs=in_parts)
    theirs = fitted(neural_network, hidden, activation=activation)
    for name, spoil in BAD.items():
        for dtype in (np.float32, np.float64, np.float16, ">f4"):
            if place in ("csr", "csc") and dtype in (np.float16, ">f4"):
                continue
            X = PLACES[place](spoil(WHOLE.astype(dtype)))
            found, expected = complaint(ours.predict, X), complaint(theirs.predict, X)
            assert found[:2] == expected[:2], f"{name}, {dtype}"
            assert expected[1].startswith("Input X contains")
            assert found[2] == []  # scikit-learn adds up: infinity and its opposite are a warning of NumPy's more
    assert complaint(ours.predict_proba, X) == found
    row = np.full((1, N_FEATURES), -np.inf, np.float32)
    assert complaint(ours.predict, row)[:2] == complaint(theirs.predict, row)[:2]


@pytest.mark.parametrize("size", [np.finfo(np.float32).max, 1e39, -1e300])
@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, sp.csr_array])
def test_values_too_large_for_float32_are_predicted_in_float64(form, size, in_parts):
    model = fitted(n_jobs=in_parts)
    X = form(at(150, 7, size)(WHOLE.astype(float)))
    found, expected = model.predict_proba(X), model.set_params(dtype="float64").predict_proba(X)
    np.testing.assert_array_equal(found[150], expected[150])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(found).all() and found[150].max() == 1


def test_finite_rows_pass_whatever_the_weights_do(in_parts):
    model = fitted(n_jobs=in_parts)
    model.coefs_[0][:] = 1e38
    assert np.isfinite(model.predict_proba(WHOLE.astype(np.float32))).all()  # as float64 computes them
    model.coefs_[0][:] = np.nan
    assert np.isnan(model.predict_proba(WHOLE)).all()


@pytest.mark.parametrize("hidden", [(19,), ()], ids=["hidden", "one layer"])
def test_assume_finite_is_obeyed(hidden):
    model, theirs = fitted(hidden=hidden), fitted(neural_network, hidden)
    X = at(3, 3, np.nan)(WHOLE.astype(np.float32))
    with sklearn.config_context(assume_finite=True):
        found, expected = model.predict_proba(X), theirs.predict_proba(X)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found[3]).all()


NAMED = pd.DataFrame(WHOLE, columns=[f"f{i}" for i in range(N_FEATURES)])
CHECKED = {
    "one feature less": (WHOLE, WHOLE[:, 1:]),
    "one feature more, float32": (WHOLE, np.zeros((3, N_FEATURES + 1), np.float32)),
    "one dimension": (WHOLE, WHOLE[0]),
    "three dimensions": (WHOLE, WHOLE[None]),
    "no rows": (WHOLE, WHOLE[:0]),
    "no columns": (WHOLE, WHOLE[:, :0]),
    "a scalar": (WHOLE, np.array(3.0)),
    "complex": (WHOLE, WHOLE + 1j),
    "text": (WHOLE, np.full(WHOLE.shape, "a")),
    "sparse, one feature less": (WHOLE, sp.csr_array(WHOLE[:, 1:])),
    "names it did not see": (NAMED, NAMED.rename(columns={"f0": "g0"})),
    "names in another order": (NAMED, NAMED[NAMED.columns[::-1]]),
}
WARNED = {"no names any more": (NAMED, WHOLE.astype(np.float32)), "names for once": (WHOLE, NAMED)}


@pytest.mark.parametrize("case", CHECKED)
def test_shapes_and_names_are_refused_in_scikit_learns_words(case):
    X, given = CHECKED[case]
    models = [library.MLPClassifier(3, max_iter=2).fit(X, TARGETS["several"]) for library in (fastnn, neural_network)]
    found, expected = (complaint(model.predict, given) for model in models)
    assert found == expected


@pytest.mark.parametrize("case", WARNED)
def test_missing_names_warn_in_scikit_learns_words(case):
    X, given = WARNED[case]
    texts = []
    for library in (fastnn, neural_network):
        model = library.MLPClassifier(3, max_iter=2).fit(X, TARGETS["several"])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.predict(given)
        texts.append([(w.category, str(w.message)) for w in caught if w.category is not DataConversionWarning])
    assert texts[0] == texts[1]
    assert len(texts[0]) == 1


# ---- memory ---------------------------------------------------------------------------------------------------------
MEMORY = """
import json, warnings
import numpy as np
from fastnn import MLPClassifier
import scipy.sparse as sp


def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def extra(X):
    model.predict(X[:200])  # compiled, and threads started
    open("/proc/self/clear_refs", "w").write("5")  # resets the peak
    before = status("VmRSS")
    model.predict(X)
    return status("VmHWM") - before


warnings.simplefilter("ignore")
out, N = {}, 60_000
X = np.random.default_rng(0).random((N, 160), np.float32)
model = MLPClassifier((2000,), max_iter=1, n_jobs=2).fit(X[:300], np.arange(300) % 10)
for name in ("float32", "float64", "uint8"):
    for order in "CF":
        data = np.array(X, dtype=name, order=order)
        out[f"{name} {order}"] = extra(data)
        del data
data = np.repeat(X, 2, axis=1)[:, ::2]
out["strided"] = extra(data)
for name in ("float32", "float64"):
    out[f"csr {name}"] = extra(sp.csr_array(X > 0.9, dtype=name))
print(json.dumps(out))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
def test_memory_is_that_of_a_block():
    """60,000 rows through 2000 hidden units: their activations are 480 MB, a float32 copy of X is 38 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},  # what is freed is given back, and counts anew
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 9
    assert max(found.values()) < 16, found
