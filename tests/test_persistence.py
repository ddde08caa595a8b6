"""Pickles, copies and conversion: what is carried, what it weighs, what resumes, what is refused."""

import copy
import pickle
import subprocess
import sys
from importlib.util import find_spec

import joblib
import numpy as np
import pytest
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import MLPClassifier, MLPRegressor
from fastnn.spec import make_layout
from fastnn.state import flat_params

RNG = np.random.RandomState(3)
X = RNG.standard_normal((60, 8)).astype(np.float32)
LABELS = np.array(["p", "q", "r"])[RNG.randint(3, size=60)]
VALUES = X[:, :2] @ np.array([[1, 2], [3, -1]], np.float32)
TARGETS = {
    "classes": (MLPClassifier, LABELS),
    "binary": (MLPClassifier, LABELS == "p"),
    "labels": (MLPClassifier, RNG.randint(2, size=(60, 3))),
    "values": (MLPRegressor, VALUES[:, 0]),
    "outputs": (MLPRegressor, VALUES),
}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(target="classes", **parameters):
    kind, y = TARGETS[target]
    return kind(**{"hidden_layer_sizes": (7,), "max_iter": 4, "random_state": 0, **parameters}).fit(X, y)


def weights(estimator):
    return np.concatenate([array.ravel() for array in [*estimator.coefs_, *estimator.intercepts_]])


def through_joblib(estimator, folder, **options):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", **options)


WAYS = {
    "pickle": lambda e, _: pickle.loads(pickle.dumps(e)),
    "old pickle": lambda e, _: pickle.loads(pickle.dumps(e, protocol=2)),
    "deepcopy": lambda e, _: copy.deepcopy(e),
    "copy": lambda e, _: copy.copy(e),
    "joblib": through_joblib,
    "joblib, mapped": lambda e, folder: through_joblib(e, folder, mmap_mode="r"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", ["sgd", "adam", "rmsprop"])
def test_a_copy_predicts_and_resumes(way, target, solver, tmp_path):
    original = fitted(target, solver=solver)
    twin = WAYS[way](original, tmp_path)
    y = TARGETS[target][1]
    np.testing.assert_array_equal(twin.predict(X), original.predict(X))
    twin.partial_fit(X, y)
    original.partial_fit(X, y)
    np.testing.assert_array_equal(weights(twin), weights(original))
    assert twin.loss_curve_[-1] == original.loss_curve_[-1]
    assert twin.get_params() == original.get_params()


def test_a_mapped_model_is_used_in_place(tmp_path):
    model = through_joblib(fitted(hidden_layer_sizes=(50, 40)), tmp_path, mmap_mode="r")
    assert not model.coefs_[0].flags.writeable
    layout = make_layout((8, 50, 40, 3), np.dtype("float32"), 1)
    assert np.shares_memory(flat_params(layout, np.dtype("float32"), model.coefs_, model.intercepts_), model.coefs_[0])


@pytest.mark.parametrize(("solver", "most"), [("adam", 12.5), ("sgd", 8.5), ("rmsprop", 8.5)])
def test_a_pickle_holds_each_number_once(solver, most):
    model = fitted(hidden_layer_sizes=(150, 100), solver=solver)
    assert len(pickle.dumps(model)) <= most * weights(model).size


def test_a_pickle_holds_edits_and_no_code():
    model = fitted()
    model.coefs_[1] = np.zeros((7, 3))  # float64, no view
    twin = pickle.loads(pickle.dumps(model))
    assert abs(twin.coefs_[1]).max() == 0
    assert [w.dtype for w in twin.coefs_] == [np.float32, np.float64]
    assert not any(word in pickle.dumps(model) for word in (b"numba", b"dispatcher", b"fastnn.core"))


def test_unfitted_estimators_travel():
    for way in (copy.deepcopy, clone, lambda e: pickle.loads(pickle.dumps(e))):
        twin = way(MLPClassifier(alpha=0.5))
        assert twin.get_params() == MLPClassifier(alpha=0.5).get_params()
        with pytest.raises(NotFittedError):
            twin.predict(X)


def test_another_process_reads_the_pickle(tmp_path):
    model = fitted("values")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "x.npy", X)
    code = (
        "import pickle, sys, numpy as np, pathlib; here = pathlib.Path(sys.argv[1]);"
        "model = pickle.loads((here / 'model.pkl').read_bytes());"
        "np.save(here / 'p.npy', model.predict(np.load(here / 'x.npy')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict(X))


def without(state, *path):
    for name in path[:-1]:
        state = state[name]
    del state[path[-1]]


def replaced(state, value, *path):
    for name in path[:-1]:
        state = state[name]
    state[path[-1]] = value


DAMAGE = {
    "foreign": (lambda s: s.clear(), "not the state of a fastnn MLPClassifier"),
    "newer": (lambda s: replaced(s, 99, "_fastnn_format"), "newer fastnn"),
    "no vector": (lambda s: without(s, "_weights", "vector"), "damaged"),
    "short vector": (lambda s: replaced(s, np.zeros(5, np.float32), "_weights", "vector"), "damaged.*do not fill"),
    "text vector": (lambda s: replaced(s, "abc", "_weights", "vector"), "damaged.*vector of float32"),
    "integers": (lambda s: replaced(s, np.zeros(9, int), "_weights", "vector"), "damaged"),
    "units": (lambda s: replaced(s, None, "_weights", "units"), "damaged"),
    "moments": (lambda s: replaced(s, np.zeros((2, 3)), "_optimizer", "moments"), "damaged.*moments"),
    "optimizer": (lambda s: replaced(s, [], "_optimizer"), "damaged"),
    "settings": (lambda s: replaced(s, {}, "_optimizer", "settings"), "damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_states_are_refused(case):
    damage, message = DAMAGE[case]
    state = copy.deepcopy(fitted().__reduce__()[2])
    damage(state)
    with pytest.raises(ValueError, match=message):
        MLPClassifier().__setstate__(state)


def test_a_state_of_fewer_parameters_gets_defaults():
    state = MLPClassifier(alpha=0.25).__reduce__()[2]
    del state["n_jobs"]
    made = MLPClassifier.__new__(MLPClassifier)
    made.__setstate__(state)
    assert made.get_params() == MLPClassifier(alpha=0.25).get_params()


# ---- scikit-learn's estimators out and in ---------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
def test_to_sklearn_and_back(target):
    model = fitted(target, early_stopping=True, dtype="float64", alpha=0.01)
    theirs = model.to_sklearn()
    assert type(theirs) is getattr(neural_network, type(model).__name__)
    assert theirs.alpha == 0.01
    wide = X.astype(float)
    if type(model) is MLPRegressor:
        np.testing.assert_allclose(theirs.predict(wide), model.predict(wide), rtol=1e-12)
    else:
        np.testing.assert_allclose(theirs.predict_proba(wide), model.predict_proba(wide), rtol=1e-12)
        np.testing.assert_array_equal(theirs.predict(X), model.predict(X))
    assert theirs.score(X, TARGETS[target][1]) == pytest.approx(model.score(X, TARGETS[target][1]))
    theirs.coefs_[0][:] = 0  # a copy
    assert abs(model.coefs_[0]).min() > 0

    back = type(model).from_sklearn(model.to_sklearn(), dtype="float64", n_jobs=1)
    assert back.get_params() == {**model.get_params(), "n_jobs": 1}
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    assert back.loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("target", TARGETS)
def test_from_sklearn_predicts_to_float32_rounding(target):
    kind, y = TARGETS[target]
    theirs = getattr(neural_network, kind.__name__)(hidden_layer_sizes=(7,), max_iter=5, random_state=1).fit(X, y)
    ours = kind.from_sklearn(theirs)
    assert ours.coefs_[0].dtype == np.float32
    if kind is MLPClassifier:
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-4)
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    else:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-4, atol=1e-5)


INDICATOR = np.eye(3, dtype=int)[RNG.randint(3, size=60)]
OTHER_OUTPUTS = {
    "softmax, two classes": (LABELS == "p", "softmax", "has logistic outputs for two classes, this one has softmax"),
    "softmax, one-hot": (INDICATOR, "softmax", "has logistic outputs for rows of an indicator, this one has softmax"),
    "logistic, classes": (LABELS, "logistic", "has softmax outputs for three or more classes, this one has logistic"),
}


@pytest.mark.parametrize("case", OTHER_OUTPUTS)
def test_outputs_that_scikit_learn_has_not_are_refused(case):
    y, out_activation, message = OTHER_OUTPUTS[case]
    model = MLPClassifier((7,), max_iter=4, out_activation=out_activation, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=message + ".*cannot be converted: fit it with out_activation='auto'"):
        model.to_sklearn()
    if find_spec("skl2onnx") is not None:
        from skl2onnx import to_onnx

        fastnn.register_onnx()
        with pytest.raises(ValueError, match="cannot be converted"):
            to_onnx(model, X[:1])


@pytest.mark.parametrize("target", ["classes", "binary", "labels"])
def test_parameters_that_scikit_learn_has_not_do_not_hinder(target):
    options = dict(loss="squared_error", init="he_normal", solver="rmsprop", rho=0.8, dtype="float64")
    model = fitted(target, **options)
    theirs = model.to_sklearn()
    wide = X.astype(float)
    np.testing.assert_allclose(theirs.predict_proba(wide), model.predict_proba(wide), rtol=1e-12)
    np.testing.assert_array_equal(theirs.predict(X), model.predict(X))
    with pytest.raises(ValueError, match=r"'solver' parameter of MLPClassifier must be .*Got 'rmsprop'"):
        theirs.fit(X, TARGETS[target][1])


def test_from_sklearn_refuses_others():
    with pytest.raises(TypeError, match=r"Expected a fitted .*MLPClassifier"):
        MLPClassifier.from_sklearn(neural_network.MLPRegressor())
    with pytest.raises(NotFittedError):
        MLPRegressor.from_sklearn(neural_network.MLPRegressor())
    with pytest.raises(NotFittedError):
        MLPRegressor().to_sklearn()


@pytest.mark.skipif(find_spec("skl2onnx") is not None, reason="skl2onnx is installed")
def test_onnx_registration_needs_skl2onnx():
    with pytest.raises(ImportError, match="skl2onnx"):
        fastnn.register_onnx()


@pytest.mark.parametrize("target", ["classes", "binary", "labels", "values"])
def test_onnx_models_predict_the_same(target):
    skl2onnx, runtime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    fastnn.register_onnx()
    fastnn.register_onnx()  # again does no harm
    model = fitted(target, activation="tanh")
    options = {MLPClassifier: {"zipmap": False}} if type(model) is MLPClassifier else {}
    pipeline = make_pipeline(StandardScaler(), model).fit(X, TARGETS[target][1])
    converted = skl2onnx.to_onnx(pipeline, X[:1], options=options)
    session = runtime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: X})
    scaled = StandardScaler().fit_transform(X)
    if type(model) is MLPClassifier:
        np.testing.assert_array_equal(outputs[0], model.predict(scaled))
        np.testing.assert_allclose(outputs[1], model.predict_proba(scaled), rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_allclose(outputs[0][:, 0], model.predict(scaled), rtol=1e-4, atol=1e-5)
