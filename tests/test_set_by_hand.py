"""Models built or changed by hand: arrays from a file, other output activations, renamed labels, no optimizer."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, softmax
from sklearn import neural_network
from sklearn.base import clone
from sklearn.preprocessing import LabelBinarizer

from fastnn import MLPClassifier, MLPRegressor

RNG = np.random.RandomState(1)
X = RNG.normal(size=(90, 4))
SCORES = X @ RNG.normal(size=(4, 3))
BINARY, LABELS, INDICATOR = (SCORES[:, 0] > 0).astype(int), SCORES.argmax(axis=1), (SCORES > 0).astype(int)
SIZES = {"hidden_layer_sizes": (6, 5), "activation": "tanh"}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# name -> (class, scikit-learn's, targets)
KINDS = {
    "regressor": (MLPRegressor, neural_network.MLPRegressor, SCORES[:, 0]),
    "two targets": (MLPRegressor, neural_network.MLPRegressor, SCORES[:, :2]),
    "two classes": (MLPClassifier, neural_network.MLPClassifier, BINARY),
    "three classes": (MLPClassifier, neural_network.MLPClassifier, LABELS),
    "labels": (MLPClassifier, neural_network.MLPClassifier, INDICATOR),
}


def fit(kind, y, **more):
    return kind(**SIZES, max_iter=20, random_state=0, **more).fit(X, y)


def proba_of(model, x=X):
    return model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x)


# ---- built from arrays ----------------------------------------------------------------------------------------------
CARRIED = {
    "all that scikit-learn reads": ("n_layers_", "out_activation_", "n_outputs_", "_label_binarizer", "classes_"),
    "no classes_": ("n_layers_", "out_activation_", "n_outputs_", "_label_binarizer"),
    "no binarizer": ("n_layers_", "out_activation_", "n_outputs_", "classes_"),
    "no n_outputs_": ("n_layers_", "out_activation_", "classes_"),
    "no n_layers_": ("out_activation_", "classes_"),
}


def rebuilt(source, names, dtype=float):
    """An unfitted estimator with the weights and those attributes of another."""
    made = clone(source)
    made.coefs_ = [np.array(w, dtype) for w in source.coefs_]
    made.intercepts_ = [np.array(b, dtype) for b in source.intercepts_]
    for name in names:
        if hasattr(source, name):
            setattr(made, name, getattr(source, name))
    return made


@pytest.mark.parametrize("carried", CARRIED)
@pytest.mark.parametrize("name", KINDS)
def test_weights_hung_on_an_unfitted_estimator_predict(name, carried):
    kind, _, y = KINDS[name]
    source = fit(kind, y)
    made = rebuilt(source, CARRIED[carried])
    for model in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(model.predict(X), source.predict(X))
        np.testing.assert_array_equal(proba_of(model), proba_of(source))
    with pytest.raises(ValueError, match=f"X has 3 features, but {kind.__name__} is expecting 4 features"):
        made.predict(X[:, :3])


@pytest.mark.parametrize("name", KINDS)
def test_weights_hung_on_an_unfitted_estimator_go_on_learning(name):
    kind, _, y = KINDS[name]
    source = fit(kind, y)
    del source._optimizer
    made = rebuilt(source, CARRIED["all that scikit-learn reads"])
    assert not hasattr(made, "n_features_in_")
    for model in (source, made):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(made.coefs_[0], source.coefs_[0])
    assert made.n_features_in_ == 4 and made.t_ == len(X)
    made = rebuilt(source, CARRIED["all that scikit-learn reads"]).set_params(warm_start=True, max_iter=3)
    before = made.loss_curve_ if hasattr(made, "loss_curve_") else None
    assert before is None and len(made.fit(X, y).loss_curve_) == 3
    assert made.loss_ < source.loss_curve_[0]


@pytest.mark.parametrize("missing", ["coefs_", "intercepts_", "out_activation_", "classes_ and _label_binarizer"])
def test_what_is_missing_is_named(missing):
    made = rebuilt(fit(MLPClassifier, LABELS), CARRIED["all that scikit-learn reads"])
    for name in missing.split(" and "):
        delattr(made, name)
    with pytest.raises(AttributeError, match=missing.split(" and ")[0]):
        made.predict(X)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m.coefs_.pop(), "n_layers_ is 4"),
        (lambda m: m.coefs_.__setitem__(1, np.ones((3, 3))), "coefs_ and intercepts_ do not fit together"),
        (lambda m: setattr(m, "n_layers_", 7), "n_layers_ is 7"),
        (lambda m: setattr(m, "out_activation_", "swish"), "out_activation_ must be one of"),
        (lambda m: setattr(m, "_optimizer", "adam"), "_optimizer must be None or what a fit"),
        (lambda m: setattr(m, "classes_", np.arange(2)) or delattr(m, "_label_binarizer"), "has 3 outputs|classes"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    model = fit(MLPClassifier, LABELS)
    change(model)
    before = dict(vars(model))
    with pytest.raises((ValueError, TypeError), match=message):
        model.predict(X)
        model.partial_fit(X, LABELS)
    assert vars(model) == before


# ---- pickles without an optimizer, with other arrays ----------------------------------------------------------------
@pytest.mark.parametrize("way", [lambda m: setattr(m, "_optimizer", None), lambda m: delattr(m, "_optimizer")])
def test_an_estimator_without_its_optimizer_lives(way):
    model = fit(MLPClassifier, LABELS)
    expected = model.predict_proba(X)
    way(model)
    for each in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model):
        np.testing.assert_array_equal(each.predict_proba(X), expected)
        each.partial_fit(X, LABELS)
        assert each._optimizer is not None
    clone(model).fit(X, LABELS)


@pytest.mark.parametrize("dtype", ["float32", "match"])
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_array])
def test_pruned_weights_may_be_sparse_matrices(form, dtype):
    """As with scikit-learn's, whose products take them."""
    model, dense = (fit(MLPClassifier, LABELS, dtype=dtype) for _ in range(2))
    dense.coefs_ = [np.where(np.abs(coef) > 0.2, coef, 0) for coef in dense.coefs_]
    model.coefs_ = [form(coef) for coef in dense.coefs_]
    assert np.array_equal(model.predict_proba(X), dense.predict_proba(X))
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), dense.predict_proba(X))
    for each in (model, dense):
        each.partial_fit(X, LABELS)
    assert all(np.array_equal(a, b) for a, b in zip(model.coefs_, dense.coefs_, strict=True))


def test_arrays_that_were_exchanged_are_pickled_as_they_are():
    model = fit(MLPClassifier, LABELS)
    for i, w in enumerate(model.coefs_):
        model.coefs_[i] = w.astype(np.float16)
    expected = model.predict_proba(X)
    again = pickle.loads(pickle.dumps(model))
    assert [w.dtype for w in again.coefs_] == [np.float16] * 3
    np.testing.assert_array_equal(again.predict_proba(X), expected)


# ---- out_activation_ ------------------------------------------------------------------------------------------------
def forward(model, x, n_layers, last):
    a = np.asarray(x, float)
    for i in range(n_layers):
        a = a @ model.coefs_[i].astype(float) + model.intercepts_[i]
        a = last(a) if i == n_layers - 1 else np.tanh(a)
    return a


FUNCTIONS = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "exp": np.exp,
    "softmax": lambda z: softmax(z, axis=1),
}


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("name", KINDS)
def test_an_output_activation_that_is_set_counts(name, activation):
    kind, theirs, y = KINDS[name]
    model = fit(kind, y, dtype="float64")
    other = theirs(**SIZES, max_iter=20, random_state=0).fit(X, y)
    for each in (model, other):
        each.out_activation_ = activation
    expected = forward(model, X, 3, FUNCTIONS[activation])
    found = proba_of(model)
    if found.shape == (len(X), 2) and expected.shape[1] == 1:
        np.testing.assert_allclose(found[:, 0], 1 - expected[:, 0], rtol=1e-12, atol=1e-12)
        found = found[:, 1]
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(proba_of(model), proba_of(other), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.predict(X), other.predict(X), rtol=1e-6, atol=1e-7)


def test_logits_give_back_the_probabilities():
    for y, back in ((BINARY, lambda z: expit(z[:, 1])), (LABELS, lambda z: softmax(z, axis=1))):
        model = fit(MLPClassifier, y)
        proba, kept = model.predict_proba(X), model.out_activation_
        model.out_activation_ = "identity"
        found = back(model.predict_proba(X))
        model.out_activation_ = kept
        np.testing.assert_allclose(found, proba[:, 1] if found.ndim == 1 else proba, rtol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("cut", ["lists", "n_layers_"])
def test_half_of_an_autoencoder_gives_the_hidden_code(activation, cut):
    whole = fit(MLPRegressor, X, dtype="float64")
    half = copy.deepcopy(whole)
    if cut == "lists":
        half.coefs_, half.intercepts_ = half.coefs_[:2], half.intercepts_[:2]
    half.n_layers_, half.out_activation_ = 3, activation
    np.testing.assert_allclose(half.predict(X), forward(whole, X, 2, FUNCTIONS[activation]), rtol=1e-12, atol=1e-12)


# name of a case above, activation: in scikit-learn the delta is p - y whatever it is, and so it is here
TRAINED = [
    ("regressor", "logistic"),
    ("regressor", "tanh"),
    ("two targets", "relu"),
    ("two targets", "exp"),
    ("two classes", "identity"),
    ("three classes", "logistic"),
    ("three classes", "identity"),
    ("labels", "tanh"),
]


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
@pytest.mark.parametrize("name, activation", TRAINED)
def test_training_goes_on_with_the_output_activation_that_is_set(name, activation, way):
    kind, theirs, y = KINDS[name]
    y = expit(y) if kind is MLPRegressor else y
    models = [made(**SIZES, max_iter=2, random_state=0) for made in (kind, theirs)]
    models[0].set_params(dtype="float64")
    for model in models:
        model.partial_fit(X, y, **({"classes": np.arange(2 if y is BINARY else 3)} if kind is MLPClassifier else {}))
        model.out_activation_ = activation
        model.set_params(warm_start=way == "warm_start")
        for _ in range(3):
            getattr(model, "fit" if way == "warm_start" else way)(X, y)
        assert model.out_activation_ == activation
    ours, other = models
    np.testing.assert_allclose(ours.loss_curve_, other.loss_curve_, rtol=1e-9)
    for found, expected in zip(ours.coefs_ + ours.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


# ---- labels ---------------------------------------------------------------------------------------------------------
RENAMED = {
    "classes_ in place": lambda m: m.classes_.__setitem__(slice(None), np.array(["zebra", "ant", "cow"])),
    "classes_ exchanged": lambda m: setattr(m, "classes_", np.array(["x", "y", "z"])),
    "binarizer's exchanged": lambda m: setattr(m._label_binarizer, "classes_", np.array(["zebra", "ant", "cow"])),
    "binarizer exchanged": lambda m: setattr(m, "_label_binarizer", LabelBinarizer().fit(["p", "q", "r"])),
}


@pytest.mark.parametrize("way", RENAMED)
def test_renamed_labels_count_as_in_scikit_learn(way):
    words = np.array(["a", "b", "c"], dtype="U9")[LABELS]
    found = []
    for kind in (MLPClassifier, neural_network.MLPClassifier):
        model = kind(**SIZES, max_iter=20, random_state=0).fit(X, words)
        RENAMED[way](model)
        found.append((model.predict(X), model.classes_))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_renamed_labels_that_are_not_sorted_are_learned_as_they_stand():
    model = fit(MLPClassifier, np.array(["a", "b", "c"], dtype="U9")[LABELS])
    twin = copy.deepcopy(model)
    names = np.array(["z", "a", "c"])
    model.classes_[:] = names
    model.partial_fit(X, names[LABELS])
    twin.partial_fit(X, np.array(["a", "b", "c"])[LABELS])
    np.testing.assert_array_equal(model.coefs_[0], twin.coefs_[0])
    model.classes_ = np.array(["x", "y", "w"])  # which the binarizer does not know
    before = model.coefs_[0].copy()
    with pytest.raises(ValueError, match="y holds labels that are none of the classes"):
        model.partial_fit(X, model.classes_[LABELS])
    np.testing.assert_array_equal(model.coefs_[0], before)


# ---- references that someone keeps ----------------------------------------------------------------------------------
GOING_ON = {
    "partial_fit": lambda m, y: m.partial_fit(X, y),
    "fit": lambda m, y: m.fit(X, y),
    "warm start": lambda m, y: m.set_params(warm_start=True).fit(X, y),
    "warm start, lbfgs": lambda m, y: m.set_params(warm_start=True, solver="lbfgs", max_iter=3).fit(X, y),
    "partial_fit, arrays of another type": lambda m, y: exchanged(m).partial_fit(X, y),
}


def exchanged(model):
    model.coefs_[0] = model.coefs_[0].astype(np.float16)
    return model


@pytest.mark.parametrize("way", GOING_ON)
def test_a_list_and_an_array_that_someone_keeps_behave_as_in_scikit_learn(way):
    found = []
    for kind in (MLPClassifier, neural_network.MLPClassifier):
        model = kind(**SIZES, max_iter=3, random_state=0).fit(X, LABELS)
        lists, arrays = (model.coefs_, model.intercepts_), (*model.coefs_[1:], *model.intercepts_)
        before = [array.copy() for array in arrays]
        GOING_ON[way](model, LABELS)
        goes_on = [kept is now for kept, now in zip(lists, (model.coefs_, model.intercepts_), strict=True)]
        moved = [not np.array_equal(array, old) for array, old in zip(arrays, before, strict=True)]
        found.append((goes_on, moved))
        if moved[0]:
            assert all(array is now for array, now in zip(arrays, (*model.coefs_[1:], *model.intercepts_), strict=True))
    assert found[0] == found[1]
