"""transform: activations of hidden layers against NumPy, their types and names, and scikit-learn's tools."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn import clone, config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

import reference
from fastnn import MLPClassifier, MLPRegressor, hidden
from fastnn.core.nn.activations import ACTIVATIONS

RNG = np.random.RandomState(2)
X, DIGITS = (array[:300] for array in load_digits(return_X_y=True))
X = X / 16
KINDS = {MLPClassifier: DIGITS, MLPRegressor: DIGITS + 0.5}
SETTINGS = {"hidden_layer_sizes": (11, 7), "random_state": 0, "max_iter": 3}
HIDDEN = sorted(name for name, row in ACTIVATIONS.items() if row.hidden)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(kind=MLPClassifier, form=np.asarray, **parameters):
    return kind(**{**SETTINGS, **parameters}).fit(form(X), KINDS[kind])


def expected(model, data, level):
    """Level 1, 2, ... of the network in float64; the last one before its activation."""
    weights = ([array.astype(np.float64) for array in arrays] for arrays in (model.coefs_, model.intercepts_))
    data = data.toarray() if sp.issparse(data) else np.asarray(data)
    return reference.forward(*weights, data.astype(np.float64), model.activation, "identity")[level]


# ---- values ---------------------------------------------------------------------------------------------------------
FORMS = {
    "float64": (np.asarray, np.float64),
    "float32": (np.float32, np.float32),
    "integers": (lambda x: (16 * x).astype(np.uint8), np.float64),
    "Fortran": (np.asfortranarray, np.float64),
    "list": (lambda x: x.tolist(), np.float64),
    "csr": (sp.csr_array, np.float64),
    "csr, float32": (lambda x: sp.csr_matrix(x.astype(np.float32)), np.float32),
    "csc": (sp.csc_array, np.float64),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_the_networks(kind, activation, dtype):
    model = fitted(kind, activation=activation, dtype=dtype)
    for form, (convert, answer) in FORMS.items():
        data = convert(X)
        for layer, level in ((0, 1), (1, 2), (-1, 2), (-2, 1), (np.int64(1), 2), ("logits", 3)):
            found = model.transform(data, layer)
            assert found.dtype == answer, form
            tolerance = 1e-12 if dtype == answer == np.float64 else 2e-5
            np.testing.assert_allclose(found, expected(model, data, level), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(model.transform(X), model.transform(X, layer=-1))


def test_the_logits_give_the_probabilities():
    model = fitted()
    logits = model.transform(X, "logits")
    np.testing.assert_array_equal(logits.argmax(axis=1), model.predict(X))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(axis=1, keepdims=True), model.predict_proba(X), rtol=1e-10)
    assert MLPClassifier(**SETTINGS).fit(X, DIGITS > 4).transform(X, "logits").shape == (300, 1)


@pytest.mark.parametrize("form", [np.float32, lambda x: sp.csr_array(x.astype(np.float32)), sp.csc_array])
def test_many_rows_go_through_in_blocks(form, monkeypatch):
    model = fitted(form=form)
    whole = model.transform(form(X))
    monkeypatch.setattr(hidden, "BLOCK_BYTES", 8 * 7 * 16)
    blocks = model.transform(form(X))
    assert blocks.dtype == whole.dtype
    np.testing.assert_array_equal(blocks, whole)


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr("fastnn.threads.CROSSOVER_FLOPS", 0)
    model = fitted(hidden_layer_sizes=(60, 33))
    for data in (X, sp.csr_array(X)):
        alone, together = (model.set_params(n_jobs=n).transform(data) for n in (1, 2))
        np.testing.assert_array_equal(alone, together)


def test_weights_set_by_hand_count():
    model = fitted()
    model.coefs_[0][:], model.intercepts_[0][:] = 0, np.arange(11)
    np.testing.assert_array_equal(model.transform(X, 0), np.tile(np.arange(11.0), (300, 1)))
    model.coefs_ = [np.ones((64, 4)), np.ones((4, 10))]
    model.intercepts_ = [np.zeros(4), np.zeros(10)]
    model.n_layers_ = 3
    np.testing.assert_allclose(model.transform(X), np.repeat(X.sum(axis=1)[:, None], 4, axis=1), rtol=1e-6)
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.transform(X), model.transform(X))


def test_sums_beyond_float32_are_computed_in_float64():
    model = fitted(activation="identity")
    huge = 1e38 * (1 + X)
    np.testing.assert_allclose(model.transform(huge), expected(model, huge, 2), rtol=1e-5)


# ---- refusals -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layer", [2, -3, 0.0, None, "last", True, [0]])
def test_other_layers_are_refused(layer):
    with pytest.raises(
        ValueError, match=r"layer must be the number of one of the 2 hidden layers, 0 to 1, -2 to -1, or"
    ):
        fitted().transform(X, layer)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_without_hidden_layer_has_no_transform(kind):
    for model in (kind(hidden_layer_sizes=()), fitted(kind, hidden_layer_sizes=[])):
        for name in ("transform", "fit_transform"):
            assert not hasattr(model, name)
            with pytest.raises(AttributeError) as caught:
                getattr(model, name)
            assert "this network has none: ask for one with hidden_layer_sizes" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="no hidden layer"):
        model.get_feature_names_out()
    assert hasattr(kind(), "transform")
    assert hasattr(kind(hidden_layer_sizes=None), "transform")  # its error is a matter of fit
    make_pipeline(StandardScaler(), model).set_output(transform="pandas")


def test_wrong_input_gets_scikit_learns_errors():
    model = fitted()
    with pytest.raises(NotFittedError):
        clone(model).transform(X)
    with pytest.raises(NotFittedError):
        clone(model).get_feature_names_out()
    with pytest.raises(ValueError, match="X has 63 features, but MLPClassifier is expecting 64"):
        model.transform(X[:, 1:])
    with pytest.raises(ValueError, match="contains NaN"):
        model.transform(np.where(X > 0.9, np.nan, X))


# ---- scikit-learn's tools -------------------------------------------------------------------------------------------
def test_columns_have_names():
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(64)], index=np.arange(300) * 2)
    model = MLPClassifier(**SETTINGS).fit(frame, DIGITS)
    names = [f"mlpclassifier{i}" for i in range(11)]
    assert [*model.get_feature_names_out()] == names[:7]
    assert [*model.get_feature_names_out(layer=0)] == names
    assert [*model.get_feature_names_out(frame.columns, layer="logits")] == names[:10]
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        model.get_feature_names_out(["a"] * 64)
    assert type(model.transform(frame)) is np.ndarray
    model.set_output(transform="pandas")
    for layer, n in ((-1, 7), (0, 11), ("logits", 10)):
        found = model.transform(frame, layer)
        assert [*found.columns] == names[:n] and found.index.equals(frame.index)
    assert clone(model).fit_transform(frame, DIGITS).equals(model.transform(frame))
    assert [*clone(model).fit(frame, DIGITS).transform(frame, 0).columns] == names
    assert isinstance(pickle.loads(pickle.dumps(model)).transform(frame), pd.DataFrame)
    with config_context(transform_output="pandas"):
        assert isinstance(fitted().transform(X), pd.DataFrame)


def test_the_tags_stay_a_predictors():
    for kind, name in ((MLPClassifier, "classifier"), (MLPRegressor, "regressor")):
        tags = get_tags(kind())
        assert tags.estimator_type == name and getattr(tags, f"{name}_tags") is not None
        assert not hasattr(kind(), "decision_function")


def test_a_step_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS), LogisticRegression())
    pipeline.fit(X, DIGITS)
    features = pipeline[:2].transform(X)
    np.testing.assert_array_equal(features, pipeline[1].transform(pipeline[0].transform(X)))
    np.testing.assert_array_equal(pipeline.predict(X), pipeline[2].predict(features))
    assert [*pipeline[:-1].get_feature_names_out()] == [f"mlpclassifier{i}" for i in range(7)]
    search = GridSearchCV(pipeline, {"mlpclassifier__hidden_layer_sizes": [(5,), (9, 4)]}, cv=2).fit(X, DIGITS)
    assert search.best_score_ > 0.3
    union = FeatureUnion([("net", MLPRegressor(**SETTINGS)), ("scaled", StandardScaler())]).fit(X, DIGITS)
    assert union.transform(X).shape == (300, 7 + 64)


def test_a_pipeline_that_ends_with_it_predicts_and_transforms():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS)).fit(X, DIGITS)
    assert pipeline.transform(X).shape == (300, 7)
    np.testing.assert_array_equal(pipeline.predict(X), pipeline[-1].predict(pipeline[0].transform(X)))
    check_is_fitted(pipeline)
    assert cross_val_score(pipeline, X, DIGITS, cv=2).shape == (2,)
    calibrated = CalibratedClassifierCV(pipeline, cv=2).fit(X, DIGITS)
    assert calibrated.predict_proba(X).shape == (300, 10)
    with config_context(enable_metadata_routing=True):
        asked = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS).set_transform_request(layer=True))
        np.testing.assert_array_equal(
            asked.fit(X, DIGITS).transform(X, layer=0), pipeline[-1].transform(pipeline[0].transform(X), 0)
        )


def test_hidden_features_of_digits_are_worth_more_than_pixels_to_neighbours():
    """What a layer of 30 has learned from 1000 digits separates 500 others of the same kind along straight lines."""
    data, y = load_digits(return_X_y=True)
    model = MLPClassifier((64, 30), random_state=0, max_iter=60).fit(data[:1000] / 16, y[:1000])
    features = model.transform(data / 16)
    linear = LogisticRegression(max_iter=2000).fit(features[:1000], y[:1000])
    assert linear.score(features[1000:], y[1000:]) > 0.9
