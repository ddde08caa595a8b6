"""Numbers as people have them: large targets, raw features, tiny weights, huge values, whatever NumPy is told to do."""

import warnings

import numpy as np
import pytest
from scipy import sparse as sp
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import BaggingRegressor

from fastnn import MLPClassifier, MLPRegressor

RNG = np.random.RandomState(0)
X = RNG.normal(size=(300, 5))
SHAPE = X[:, 0] + 0.5 * X[:, 1] * X[:, 2] + 0.3 * np.sin(2 * X[:, 3])
LABELS = np.digitize(X[:, 0], [-0.4, 0.4])

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---- L-BFGS ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("offset, spread", [(0, 1), (101325, 800), (2e7, 5e6), (2e12, 5e11)])
def test_lbfgs_is_right_at_any_scale_of_targets(offset, spread):
    y = offset + spread * SHAPE
    options = {"hidden_layer_sizes": (12,), "solver": "lbfgs", "max_iter": 100}
    found = []
    for kind in (MLPRegressor, neural_network.MLPRegressor):
        scores = [kind(random_state=seed, **options).fit(X, y).score(X, y) for seed in range(3)]
        found.append(np.median(scores))
    assert found[0] > found[1] - 0.02


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_lbfgs_is_right_on_raw_features(loss):
    raw = X * [1, 10, 1e3, 1e-2, 1] + [0, 50, 2e4, 3, 0] if loss == "squared_error" else X * 5 + 10
    y = np.exp(SHAPE / 2) if loss == "poisson" else SHAPE
    options = {"hidden_layer_sizes": (12,), "solver": "lbfgs", "max_iter": 100, "loss": loss}
    ours = [MLPRegressor(random_state=seed, **options).fit(raw, y) for seed in range(5)]
    theirs = [neural_network.MLPRegressor(random_state=seed, **options).fit(raw, y) for seed in range(5)]
    scores = [[model.score(raw, y) for model in models] for models in (ours, theirs)]
    assert np.median(scores[0]) > np.median(scores[1]) - 0.05
    assert {w.dtype for model in ours for w in model.coefs_} == {np.dtype(np.float32)}


def test_lbfgs_follows_scikit_learn_in_every_dtype():
    options = {"hidden_layer_sizes": (8,), "activation": "tanh", "solver": "lbfgs", "max_iter": 15, "random_state": 0}
    theirs = neural_network.MLPRegressor(**options).fit(X, SHAPE)
    for dtype, tolerance in (("float64", 1e-6), ("float32", 1e-5)):
        ours = MLPRegressor(dtype=dtype, **options).fit(X, SHAPE)
        assert ours.n_iter_ == theirs.n_iter_
        np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=tolerance, atol=tolerance)


# ---- stopping -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer], ids=["wine", "breast cancer"])
def test_on_raw_features_training_ends_where_scikit_learns_does(load, solver):
    x, y = load(return_X_y=True)
    seeds, scores = range(8), {}
    for kind in (MLPClassifier, neural_network.MLPClassifier):
        options = {"hidden_layer_sizes": (20,), "solver": solver, "max_iter": 100}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores[kind] = np.array([kind(random_state=seed, **options).fit(x, y).score(x, y) for seed in seeds])
    ours, theirs = scores.values()
    assert ours.mean() > theirs.mean() - theirs.std() / np.sqrt(len(seeds))


@pytest.mark.parametrize("y", [(X[:, 0] > 0).astype(int), LABELS, (X[:, :3] > 0).astype(int)])
def test_the_log_loss_of_sure_and_wrong_outputs_is_that_of_float64(y):
    """Features so large that outputs are 0 and 1: float32 clipped at 1.2e-7 would say 16 where float64 says 36."""
    raw = 1000 * X
    options = {
        "hidden_layer_sizes": (5,),
        "max_iter": 3,
        "random_state": 0,
        "solver": "sgd",
        "learning_rate_init": 1e-9,
    }
    theirs = neural_network.MLPClassifier(**options).fit(raw, y)
    ours = MLPClassifier(**options).fit(raw, y, X_val=raw, y_val=y)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=2e-4)
    assert theirs.loss_ > 10
    np.testing.assert_allclose(ours.history_["val_loss"], theirs.loss_curve_, rtol=2e-4)


# ---- sample weights -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1e-300, 1e-60, 1e-42, 1e-20, 1e30, 1e300])
@pytest.mark.parametrize(
    "options", [{}, {"solver": "sgd"}, {"solver": "lbfgs"}, {"early_stopping": True}, {"dtype": "float64"}]
)
@pytest.mark.parametrize("kind, y", [(MLPClassifier, LABELS), (MLPRegressor, SHAPE)])
def test_only_ratios_of_weights_count(kind, y, options, scale):
    w = np.exp(RNG.normal(size=300))
    models = [
        kind(hidden_layer_sizes=(6,), alpha=0, max_iter=8, random_state=0, **options).fit(X, y, sample_weight=each)
        for each in (w, scale * w)
    ]
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exponent", [-900, -130, -45, 45, 120, 900])
def test_powers_of_two_of_weights_and_alpha_change_no_bit(exponent):
    w = np.exp(RNG.normal(size=300))
    options = {"hidden_layer_sizes": (6,), "max_iter": 8, "random_state": 0}
    plain = MLPClassifier(alpha=0.5, **options).fit(X, LABELS, sample_weight=w)
    scaled = MLPClassifier(alpha=0.5 * 2.0**exponent, **options).fit(X, LABELS, sample_weight=w * 2.0**exponent)
    np.testing.assert_array_equal(plain.coefs_[0], scaled.coefs_[0])
    assert plain.loss_curve_ == scaled.loss_curve_


def test_messages_about_weights_name_the_cause():
    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
        model.fit(X, SHAPE, sample_weight=np.zeros(300))
    with pytest.raises(ValueError, match=r"alpha=0\.0001 is too large for the sample weights"):
        model.fit(X, SHAPE, sample_weight=np.full(300, 1e-60))
    half = np.r_[np.ones(150), np.zeros(150)]
    model.set_params(early_stopping=True, validation_fraction=0.01)
    failures = []
    for seed in range(30):
        try:
            model.set_params(random_state=seed).fit(X, SHAPE, sample_weight=half)
        except ValueError as error:
            failures.append(str(error))
    assert failures and all("the rows that are held out add up to zero" in text for text in failures)
    assert not hasattr(MLPRegressor(early_stopping=True), "coefs_")


def test_bagging_with_early_stopping_says_what_is_wrong_or_works():
    x, y = X[:24], SHAPE[:24]
    for seed in range(6):
        bag = BaggingRegressor(
            MLPRegressor((4,), early_stopping=True, max_iter=20)
            if False
            else MLPRegressor(hidden_layer_sizes=(4,), early_stopping=True, max_iter=20),
            n_estimators=3,
            random_state=seed,
        )
        try:
            assert np.isfinite(bag.fit(x, y).predict(x)).all()
        except ValueError as error:
            assert "sample weights of the rows that are held out" in str(error)


# ---- large numbers --------------------------------------------------------------------------------------------------
FLOORS = {"dense": np.asarray, "CSR": sp.csr_array}


@pytest.mark.parametrize("form", FLOORS)
@pytest.mark.parametrize("size", [1e19, 1e25, 1e38, 1e39, 1e200])
@pytest.mark.parametrize("kind, y", [(MLPClassifier, LABELS), (MLPRegressor, SHAPE)])
def test_what_float32_cannot_learn_from_is_refused_by_name(kind, y, size, form):
    large = FLOORS[form](X * np.r_[1, size, 1, 1, 1])
    model = kind(hidden_layer_sizes=(6,), max_iter=3, random_state=0)
    with pytest.raises(ValueError, match=r'X holds .* too large to learn from in float32 .* use dtype="float64"'):
        model.fit(large, y)
    assert not hasattr(model, "coefs_")
    if size < 1e100:
        ours = kind(hidden_layer_sizes=(6,), max_iter=3, random_state=0, dtype="match").fit(large, y)
        assert np.isfinite(ours.coefs_[0]).all()


def test_large_targets_and_hidden_units_are_refused_by_name():
    options = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0}
    with pytest.raises(ValueError, match=r"y holds .* too large to learn from in float32"):
        MLPRegressor(**options).fit(X, SHAPE * 1e25)
    start = [np.full((5, 6), 100.0), np.ones((6, 3))]
    with pytest.raises(ValueError, match=r'Squares of gradients are infinite in float32.* or use dtype="float64"'):
        MLPClassifier((6,), max_iter=3, random_state=0).fit(1e18 * X, LABELS, coefs_init=start)


@pytest.mark.parametrize("form", FLOORS)
def test_rows_that_exceed_float32_are_predicted_as_scikit_learn_does(form):
    options = {"hidden_layer_sizes": (6,), "max_iter": 10, "random_state": 0}
    ours = MLPClassifier(**options).fit(X, LABELS)
    theirs = ours.to_sklearn()
    for size in (1e25, 1e37, 3.4e38, 1e60, 1e300):
        rows = FLOORS[form](X[:20] * np.r_[1, size, 1, 1, 1])
        np.testing.assert_array_equal(ours.predict(rows), theirs.predict(rows))
        np.testing.assert_allclose(ours.predict_proba(rows), theirs.predict_proba(rows), rtol=1e-5, atol=1e-7)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="Input X contains"):
            ours.predict(FLOORS[form](np.where(np.eye(20, 5) > 0, bad, X[:20])))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind, y", [(MLPClassifier, LABELS), (MLPRegressor, SHAPE)])
def test_fill_values_of_rasters_give_finite_answers(kind, y, activation):
    options = {"hidden_layer_sizes": (8, 6), "activation": activation, "max_iter": 10, "random_state": 0}
    ours = kind(**options).fit(X, y)
    theirs = ours.to_sklearn()
    rows = X.copy()
    for fill in (-9999, 1e20, 9.96921e36, -3.40282e38):
        rows[::3] = fill
        found, expected = (m.predict(rows) if kind is MLPRegressor else m.predict_proba(rows) for m in (ours, theirs))
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# ---- NumPy's mood ---------------------------------------------------------------------------------------------------
TINY = X.copy()
TINY[::7, 2] = 1e-60
CASES = {
    "adam": lambda: MLPRegressor(hidden_layer_sizes=(8,), batch_size=50, max_iter=60, tol=0).fit(X, SHAPE).predict(X),
    "tiny features": lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=3).fit(TINY, SHAPE).predict(TINY),
    "tiny targets": lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=3).fit(
        X, np.where(X[:, 2] > 0, 1e-60, SHAPE)
    ),
    "tiny weights": lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=3).fit(
        X, SHAPE, sample_weight=np.where(X[:, 2] > 0, 1e-60, 1.0)
    ),
    "tiny alpha": lambda: MLPRegressor(hidden_layer_sizes=(8,), alpha=1e-60, max_iter=3).fit(X, SHAPE),
    "early stopping": lambda: MLPClassifier((8,), early_stopping=True, max_iter=30).fit(X, LABELS).predict_proba(X),
    "validation": lambda: MLPClassifier((8,), metrics=("accuracy",), max_iter=3).fit(
        X, LABELS, X_val=TINY, y_val=LABELS
    ),
    "lbfgs": lambda: MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=30).fit(X, SHAPE).predict(X),
    "sure outputs": lambda: MLPClassifier((8,), max_iter=3).fit(1e4 * X, LABELS).predict_log_proba(1e6 * X),
    "rows beyond float32": lambda: MLPClassifier((8,), max_iter=3).fit(X, LABELS).predict_proba(1e45 * X),
    "sparse": lambda: MLPClassifier((8,), max_iter=3).fit(sp.csr_array(TINY), LABELS).predict(sp.csr_array(TINY)),
    "adaptive": lambda: MLPRegressor(hidden_layer_sizes=(8,), solver="sgd", learning_rate="adaptive", max_iter=30).fit(
        X, SHAPE
    ),
    "half precision": lambda: MLPClassifier((8,), max_iter=3).fit(X.astype(np.float16), LABELS).predict(TINY),
}


@pytest.mark.parametrize("case", CASES)
def test_what_numpy_is_told_to_do_about_errors_changes_nothing(case):
    told = []
    for mood in ("warn", "raise"):
        with np.errstate(all=mood), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            np.random.seed(0)
            CASES[case]()
        told.append([str(warning.message) for warning in caught])
    assert told[0] == told[1]
    assert not [text for text in told[0] if "encountered in" in text]
