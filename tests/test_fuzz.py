"""Whatever is passed in: a right result, or an error that names what is wrong, and then scikit-learn refuses it too.

FASTNN_FUZZ sets the number of examples of each test; the usual run takes few.
"""

import os

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import neural_network

from fastnn import MLPClassifier, MLPRegressor
from fastnn.core.nn.optimizers import OPTIMIZERS
from fastnn.initial import BIASES, INITS
from fastnn.parameters import CLASSIFICATION_LOSSES, CLASSIFIER_OUTPUTS, HIDDEN_ACTIVATIONS

SETTINGS = settings(
    max_examples=int(os.environ.get("FASTNN_FUZZ", "60")),
    derandomize="FASTNN_FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
pytestmark = pytest.mark.filterwarnings("ignore")
THEIRS = {MLPClassifier: neural_network.MLPClassifier, MLPRegressor: neural_network.MLPRegressor}
pick = st.sampled_from


def quick(kind, **parameters):
    return kind(**{"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0, "n_jobs": 1, **parameters})


def said(model, x):
    """All that a fitted model says about x, and its weights."""
    proba = [model.predict_proba(x), model.predict_log_proba(x)] if hasattr(model, "predict_proba") else []
    return [model.predict(x), *proba, *model.coefs_, *model.intercepts_]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        one, other = (a.toarray() if sp.issparse(a) else a for a in (one, other))
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def answer_type(x):
    """float32 for float32 x, else float64."""
    kinds = [x.dtype] if hasattr(x, "dtype") else getattr(x, "dtypes", [np.asarray(x).dtype])
    return np.float32 if all(kind.kind == "f" and kind.itemsize == 4 for kind in kinds) else np.float64


def assert_sound(model, x, n, y):
    """Predictions are finite and have the shapes and types that they should have."""
    predicted = model.predict(x)
    if isinstance(model, MLPClassifier):
        assert sp.issparse(predicted) == sp.issparse(y)
        assert predicted.dtype == (model.classes_.dtype if predicted.ndim == 1 else np.asarray(model.classes_).dtype)
        proba = model.predict_proba(x)
        least = 1 if model.out_activation_ == "softmax" else 2
        assert proba.shape == (n, max(least, len(model.classes_)))
        assert proba.dtype == answer_type(x)
        assert ((proba >= 0) & (proba <= 1)).all()
    else:
        assert predicted.dtype == answer_type(x)
        assert np.isfinite(predicted).all()
    assert predicted.shape == (n, *np.shape(y)[1:])


# ---- forms of the same numbers --------------------------------------------------------------------------------------
def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def on_disk(x, folder):
    mapped = np.memmap(folder / "x.bin", x.dtype, "w+", shape=x.shape)
    mapped[...] = x
    return mapped


MEMORY = {
    "C": lambda x, _: x,
    "F": lambda x, _: np.asfortranarray(x),
    "rows apart": lambda x, _: np.repeat(x, 3, axis=0)[::3],
    "columns apart": lambda x, _: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x, _: x[::-1, ::-1].copy()[::-1, ::-1],
    "one row behind another": lambda x, _: np.lib.stride_tricks.as_strided(x.copy(), x.shape, x.strides),
    "read-only": lambda x, _: read_only(x),
    "memmap": on_disk,
    "read-only F": lambda x, _: read_only(np.asfortranarray(x)),
    "list": lambda x, _: x.tolist(),
    "tuples": lambda x, _: tuple(map(tuple, x.tolist())),
    "unaligned": lambda x, _: np.frombuffer(b"." + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "big-endian": lambda x, _: x.astype(x.dtype.newbyteorder(">")),
    "object": lambda x, _: x.astype(object),
    "masked": lambda x, _: np.ma.masked_array(x),
}
TYPES = ["f2", "f4", "f8", "g", "i1", "u1", "i2", "i4", "i8", "u8", "?"]
SPARSE = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]
SPARSE_FLAWS = ["none", "unsorted", "duplicates", "zeros"]
numbers = st.integers(0, 2**32 - 1).map(np.random.RandomState)
shapes = st.tuples(st.integers(1, 14), st.integers(1, 6))


def whole_numbers(rng, shape, dtype):
    """Small whole numbers, which every type holds."""
    return rng.randint(0 if np.dtype(dtype).kind in "u?" else -3, 4, shape).astype(dtype)


@st.composite
def parameters(draw, kind):
    drawn = {
        "hidden_layer_sizes": draw(pick([(), (1,), 3, [4, 2], np.array([2, 3])])),
        "activation": draw(pick(["relu", "tanh", "logistic", "identity"])),
        "solver": draw(pick(["adam", "adam", "sgd", "lbfgs"])),
        "batch_size": draw(pick(["auto", 1, 3, 1000])),
        "max_iter": draw(st.integers(1, 3)),
        "shuffle": draw(st.booleans()),
        "alpha": draw(pick([0, 1e-4, 1])),
        "dtype": draw(pick(["float32", "float32", "float64"])),
        "learning_rate": draw(pick(["constant", "invscaling", "adaptive"])),
        "nesterovs_momentum": draw(st.booleans()),
        "momentum": draw(pick([0, 0.9])),
        "warm_start": draw(st.booleans()),
    }
    return drawn


def own_parameters(draw, kind):
    """What scikit-learn has not, out of the tables."""
    init = draw(pick([*INITS]))
    drawn = {
        "init": init,
        "init_scale": 0.5 if INITS[init].scaled else None,
        "init_bias": draw(pick(BIASES)),
        "rho": draw(pick([0, 0.9])),
        "solver": draw(pick([*OPTIMIZERS])),
        "activation": draw(pick(HIDDEN_ACTIVATIONS)),
        "weight_decay": draw(pick([0.0, 0.1])),
        "max_grad_norm": draw(pick([None, 1.0])),
        "warmup": draw(pick([0, 0.5])),
    }
    if kind is MLPClassifier:
        drawn["loss"] = draw(pick(sorted(CLASSIFICATION_LOSSES)))
        drawn["out_activation"] = draw(pick(["auto", *sorted(CLASSIFIER_OUTPUTS)]))
    return drawn


def values_for(kind, rng, n):
    return rng.randint(0, 3, n) if kind is MLPClassifier else rng.standard_normal(n)


@SETTINGS
@given(st.data(), numbers, shapes, pick(TYPES), pick([*MEMORY]), pick([MLPClassifier, MLPRegressor]))
def test_forms_of_dense_numbers(tmp_path_factory, data, rng, shape, dtype, memory, kind):
    plain = whole_numbers(rng, shape, dtype)
    x = MEMORY[memory](plain, tmp_path_factory.getbasetemp())
    y = values_for(kind, rng, shape[0])
    options = {**data.draw(parameters(kind)), **own_parameters(data.draw, kind)}
    model = quick(kind, **options).fit(x, y)
    assert_sound(model, x, shape[0], y)
    used = np.ascontiguousarray(plain, dtype=answer_type(x))
    assert_same(said(model, x), said(quick(kind, **options).fit(used, y), used))


def sparse_form(x, name, kind, index, flaw):
    """x as a sparse array or matrix with flaws that are none."""
    form = getattr(sp, f"{name}_{kind}")(x)
    if name not in ("csr", "csc"):
        return form
    form.indices, form.indptr = form.indices.astype(index), form.indptr.astype(index)
    if flaw == "zeros" and form.nnz:
        form.data[::2] = 0
    if flaw == "duplicates":
        parts = [form.data, form.indices]
        form = type(form)((*(np.repeat(part, 2) for part in parts), form.indptr * 2), shape=form.shape)
    if flaw == "unsorted":
        for start, end in zip(form.indptr[:-1], form.indptr[1:]):
            form.indices[start:end] = form.indices[start:end][::-1].copy()
            form.data[start:end] = form.data[start:end][::-1].copy()
        form.has_sorted_indices = form.nnz < 2
    return form


@SETTINGS
@given(
    st.data(),
    numbers,
    shapes,
    pick(["f4", "f8", "i4", "i8", "u1", "?"]),
    st.tuples(pick(SPARSE), pick(["array", "matrix"]), pick([np.int32, np.int64]), pick(SPARSE_FLAWS)),
    pick([MLPClassifier, MLPRegressor]),
)
def test_forms_of_sparse_numbers(data, rng, shape, dtype, form, kind):
    x = sparse_form(whole_numbers(rng, shape, dtype), *form)
    before = x.copy()
    y = values_for(kind, rng, shape[0])
    options = {**data.draw(parameters(kind)), **own_parameters(data.draw, kind)}
    model = quick(kind, **options).fit(x, y)
    assert_sound(model, x, shape[0], y)
    np.testing.assert_array_equal(x.toarray(), before.toarray())
    used = sp.csr_array(x.astype(answer_type(x)).toarray())
    if form[-1] != "duplicates":  # they add up, with the rounding of more terms
        assert_same(said(model, x), said(quick(kind, **options).fit(used, y), used))
    dense = used.toarray()
    for one, other in zip(said(model, x), said(quick(kind, **options).fit(dense, y), dense)):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


# ---- labels, targets, weights ---------------------------------------------------------------------------------------
LABELS = {
    "int": lambda codes: codes * 7 - 9,
    "int8": lambda codes: codes.astype(np.int8),
    "uint64": lambda codes: codes.astype(np.uint64),
    "float": lambda codes: codes * 2.0,
    "bool": lambda codes: codes % 2 == 1,
    "str": lambda codes: np.array(["maybe", "no", "yes", ""])[codes],
    "object": lambda codes: np.array(["maybe", "no", "yes", ""], dtype=object)[codes],
    "list": lambda codes: codes.tolist(),
    "words": lambda codes: [["maybe", "no", "yes", "so"][code] for code in codes],
    "column": lambda codes: codes[:, np.newaxis],
    "strided": lambda codes: np.repeat(codes, 2)[::2],
    "one class": lambda codes: np.zeros_like(codes),
    "indicator": lambda codes: (codes[:, np.newaxis] >> np.arange(3)) & 1,
    "sparse indicator": lambda codes: sp.csr_array((codes[:, np.newaxis] >> np.arange(3)) & 1),
    "boolean indicator": lambda codes: (codes[:, np.newaxis] >> np.arange(2)) & 1 == 1,
}
WEIGHTS = {
    "none": lambda rng, n: None,
    "ones": lambda rng, n: np.ones(n),
    "list": lambda rng, n: [1 + i % 2 for i in range(n)],
    "some zero": lambda rng, n: np.r_[1.0, rng.randint(0, 2, n - 1)],
    "float32": lambda rng, n: rng.uniform(0.5, 2, n).astype(np.float32),
    "negative": lambda rng, n: np.r_[n + 3.0, rng.uniform(-1, 1, n - 1)],
    "int": lambda rng, n: rng.randint(1, 4, n),
    "number": lambda rng, n: 2.0,
}


@SETTINGS
@given(st.data(), numbers, shapes, pick([*LABELS]), pick([*WEIGHTS]), st.booleans())
def test_labels_and_weights(data, rng, shape, labels, weights, incremental):
    x = rng.standard_normal(shape)
    codes = rng.randint(0, 4, shape[0])
    y, weight = LABELS[labels](codes), WEIGHTS[weights](rng, shape[0])
    options = {**data.draw(parameters(MLPClassifier)), "dtype": "float64"}
    options.update(
        {"solver": "adam", "batch_size": "auto"} if incremental or weights in ("negative", "some zero") else {}
    )
    ours, theirs = quick(MLPClassifier, **options), None
    options.pop("dtype")
    theirs = neural_network.MLPClassifier(**{**options, "random_state": 0})
    if incremental:
        given = y if np.ndim(y) < 2 and not sp.issparse(y) else np.asarray(y)
        classes = np.arange(y.shape[1]) if labels.endswith("indicator") else np.unique(given)
        for model in (ours, theirs):
            model.partial_fit(x, y, weight, classes).partial_fit(x, y, sample_weight=weight)
    else:
        for model in (ours, theirs):
            model.set_params(hidden_layer_sizes=(3,)).fit(x, y, weight)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert type(ours.predict(x)) is type(theirs.predict(x))
    assert ours.predict(x).dtype == theirs.predict(x).dtype
    assert ours.predict(x).shape == theirs.predict(x).shape
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=1e-6, atol=1e-9)
