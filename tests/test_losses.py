"""The losses that scikit-learn's MLP has not: robust errors, quantiles, deviances, smoothed labels, focal losses."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import _loss, clone, metrics
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import datasets
import reference
from fastnn import MLPClassifier, MLPRegressor, evaluation, interop, quantiles
from fastnn.scoring import mean_loss

RNG = np.random.RandomState(0)
N = 61
X = RNG.standard_normal((N, 6)).astype(np.float32)
VALUES = X[:, 0] - X[:, 1] ** 2 + 0.5 * RNG.standard_normal(N)
PAIRS = np.c_[VALUES, 2 * X[:, 2]]
AMOUNTS = RNG.gamma(2, np.exp(0.4 * X[:, 0]))
CLAIMS = np.where(RNG.uniform(size=N) < 0.5, AMOUNTS, 0)
LABELS = X[:, :3].argmax(axis=1)
BINARY = (X[:, 0] > 0.1).astype(int)
INDICATOR = (X[:, :4] > 0.3).astype(int)
WEIGHTS = RNG.uniform(0.1, 2, N)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(kind, **parameters):
    return kind(**{"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, "batch_size": 16, **parameters})


def arrays(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def assert_same_fit(found, expected):
    for one, other in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.loss_ == expected.loss_


# name -> (class, y, parameters, name in the reference, outputs)
CASES = {
    "absolute error": (MLPRegressor, VALUES, {"loss": "absolute_error"}, "absolute_error", 1),
    "absolute error, 2": (MLPRegressor, PAIRS, {"loss": "absolute_error"}, "absolute_error", 2),
    "huber": (MLPRegressor, VALUES, {"loss": "huber", "huber_delta": 0.6}, "huber", 1),
    "huber, 2": (MLPRegressor, PAIRS, {"loss": "huber", "huber_delta": 0.6}, "huber", 2),
    "quantile": (MLPRegressor, VALUES, {"loss": "quantile", "quantile": 0.8}, "quantile", 1),
    "quantile, 2": (MLPRegressor, PAIRS, {"loss": "quantile", "quantile": 0.8}, "quantile", 2),
    "quantiles": (MLPRegressor, VALUES, {"loss": "quantile", "quantile": [0.1, 0.5, 0.9]}, "quantile", 3),
    "gamma": (MLPRegressor, AMOUNTS, {"loss": "gamma"}, "gamma", 1),
    "gamma, 2": (MLPRegressor, np.c_[AMOUNTS, 3 / AMOUNTS], {"loss": "gamma"}, "gamma", 2),
    "tweedie": (MLPRegressor, CLAIMS, {"loss": "tweedie", "tweedie_power": 1.7}, "tweedie", 1),
    "tweedie, 2": (MLPRegressor, np.c_[CLAIMS, AMOUNTS], {"loss": "tweedie", "tweedie_power": 1.3}, "tweedie", 2),
    "inverse gaussian": (MLPRegressor, AMOUNTS, {"loss": "tweedie", "tweedie_power": 3}, "tweedie", 1),
    "smoothed": (MLPClassifier, LABELS, {"label_smoothing": 0.2}, "smoothed_log_loss", 3),
    "smoothed, binary": (MLPClassifier, BINARY, {"label_smoothing": 0.2}, "smoothed_binary_log_loss", 1),
    "smoothed, labels": (MLPClassifier, INDICATOR, {"label_smoothing": 0.2}, "smoothed_binary_log_loss", 4),
    "focal": (MLPClassifier, LABELS, {"loss": "focal", "focal_gamma": 1.5}, "focal", 3),
    "focal, binary": (MLPClassifier, BINARY, {"loss": "focal", "focal_gamma": 1.5}, "binary_focal", 1),
    "focal, labels": (MLPClassifier, INDICATOR, {"loss": "focal", "focal_gamma": 1.5}, "binary_focal", 4),
}
HYPER = ("huber_delta", "quantile", "tweedie_power", "label_smoothing", "focal_gamma")


def case_of(name):
    """(class, y, parameters, loss of the reference, its targets, outputs)."""
    kind, y, parameters, loss, n_outputs = CASES[name]
    numbers = {key: value for key, value in parameters.items() if key in HYPER}
    targets = np.repeat(y[:, np.newaxis], n_outputs, axis=1) if name == "quantiles" else y
    return kind, y, parameters, reference.loss_with(loss, **numbers), targets, n_outputs


# ---- what is minimized ----------------------------------------------------------------------------------------------
SKLEARNS = {
    "absolute error": _loss.AbsoluteError(),
    "quantile": _loss.PinballLoss(quantile=0.8),
    "gamma": _loss.HalfGammaLoss(),
    "tweedie": _loss.HalfTweedieLoss(power=1.7),
    "inverse gaussian": _loss.HalfTweedieLoss(power=3),
}


def test_the_loss_of_one_softmax_output_is_that_of_two_classes():
    """As in training, with ``out_activation_`` set by hand."""
    outputs, targets = np.array([[0.3], [0.8], [0.6]]), np.array([[0.0], [1.0], [0.0]])
    data = evaluation.EncodedData(None, None, np.empty(0, np.int32), targets, np.empty(0))
    found = mean_loss("log_loss", outputs, data, np.arange(3), ())
    assert found == pytest.approx(metrics.log_loss(targets, outputs), rel=1e-12)


@pytest.mark.nojit
@pytest.mark.parametrize("name", SKLEARNS)
def test_loss_and_gradient_are_those_of_sklearn(name):
    """Of the reference, which the kernels are compared with; scikit-learn leaves out what depends on y alone."""
    _, y, _, loss, _, _ = case_of(name)
    theirs, sums = SKLEARNS[name], RNG.standard_normal((N, 1))
    outputs = reference.OUTPUTS[loss.outputs[0]](sums)
    values, gradient = theirs.loss_gradient(y, sums.ravel().copy())
    given = theirs.constant_to_optimal_zero(y)
    np.testing.assert_allclose(loss.terms(y[:, None], outputs).ravel(), values + given, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(loss.delta(y[:, None], outputs).ravel(), gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("name", CASES)
def test_training_is_the_reference(name, solver, weighted):
    kind, y, parameters, loss, targets, n_outputs = case_of(name)
    numbers = {"alpha": 0.02, "learning_rate_init": 0.01, "max_iter": 5, "batch_size": 16, "solver": solver}
    weight = WEIGHTS if weighted else None
    model = quick(kind, activation="tanh", dtype="float64", **numbers, **parameters).fit(X, y, weight)
    rng, (out,) = np.random.RandomState(0), loss.outputs
    start = reference.draw_weights(rng, (6, 5, n_outputs), "tanh")
    losses, coefs, intercepts = reference.train(
        *start, X, targets, hidden_activation="tanh", out_activation=out, loss=loss, rng=rng, sample_weight=weight,
        **numbers,
    )  # fmt: skip
    assert (model.out_activation_, model.n_outputs_) == (out, n_outputs)
    np.testing.assert_allclose(model.loss_curve_, losses, rtol=1e-12)
    for ours, theirs in zip(arrays(model), coefs + intercepts, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * abs(theirs).max())
    assert abs(coefs[0] - start[0][0]).max() > 1e-3


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "csr"])
@pytest.mark.parametrize("name", CASES)
def test_lbfgs_lowers_the_loss(name, form):
    """In float64 whatever ``dtype`` is; the final loss is the reference's at the final weights."""
    kind, y, parameters, loss, targets, _ = case_of(name)
    model = quick(kind, solver="lbfgs", activation="tanh", dtype="float64", alpha=0.02, **parameters)
    first, last = (model.set_params(max_iter=n).fit(form(X), y).loss_ for n in (1, 40))
    assert last < 0.9 * first
    outputs = reference.forward(model.coefs_, model.intercepts_, X, "tanh", loss.outputs[0])[-1]
    assert last == pytest.approx(reference.loss_value(loss, targets, outputs, coefs=model.coefs_, alpha=0.02), rel=1e-9)
    rounded = clone(model).set_params(dtype="float32").fit(form(X), y)
    np.testing.assert_array_equal(rounded.coefs_[0], model.coefs_[0].astype(np.float32))


# What is computed as another loss: the same bits.
SAME = {
    "power 0": (MLPRegressor, PAIRS, dict(loss="tweedie", tweedie_power=0), {}),
    "power 1": (MLPRegressor, CLAIMS, dict(loss="tweedie", tweedie_power=1), dict(loss="poisson")),
    "power 2": (MLPRegressor, AMOUNTS, dict(loss="tweedie", tweedie_power=np.float64(2)), dict(loss="gamma")),
    "gamma 0": (MLPClassifier, LABELS, dict(loss="focal", focal_gamma=0), {}),
    "gamma 0, binary": (MLPClassifier, BINARY, dict(loss="focal", focal_gamma=0), {}),
    "one-hot": (MLPClassifier, np.eye(3)[LABELS], dict(loss="focal", out_activation="softmax"), dict(loss="focal")),
}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("name", SAME)
def test_special_cases_have_the_bits_of_the_loss_that_they_are(name, solver):
    kind, y, one, other = SAME[name]
    twin = quick(kind, solver=solver, **other).fit(X, LABELS if name == "one-hot" else y)
    assert_same_fit(quick(kind, solver=solver, **one).fit(X, y), twin)


# ---- validation -----------------------------------------------------------------------------------------------------
def pinball(y, predicted, weight):
    return np.mean(
        [metrics.mean_pinball_loss(y, p, alpha=q, sample_weight=weight) for p, q in zip(predicted.T, (0.1, 0.5, 0.9))]
    )


VALIDATION = {
    "absolute error": lambda y, p, w: metrics.mean_absolute_error(y, p, sample_weight=w),
    "quantile": lambda y, p, w: metrics.mean_pinball_loss(y, p, alpha=0.8, sample_weight=w),
    "quantiles": pinball,
    "gamma": lambda y, p, w: metrics.mean_gamma_deviance(y, p, sample_weight=w) / 2,
    "tweedie": lambda y, p, w: metrics.mean_tweedie_deviance(y, p, power=1.7, sample_weight=w) / 2,
}


@pytest.mark.parametrize("name", VALIDATION)
def test_validation_loss_and_score_are_sklearns(name):
    kind, y, parameters, *_ = case_of(name)
    model = quick(kind, max_iter=30, dtype="float64", learning_rate_init=0.01, **parameters)
    model.fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:], sample_weight_val=WEIGHTS[40:])
    predicted = model.predict(X[40:].astype(float))
    if name == "quantiles":  # the loss is that of the outputs before they are sorted
        predicted = reference.forward(model.coefs_, model.intercepts_, X[40:], "relu", "identity")[-1]
    expected = VALIDATION[name](y[40:], predicted, WEIGHTS[40:])
    score = model.score(X[40:].astype(float), y[40:], WEIGHTS[40:])
    assert model.history_["val_loss"][-1] == pytest.approx(expected, rel=1e-9)
    assert model.history_["val_score"][-1] == pytest.approx(score, rel=1e-9)


def test_smoothed_validation_loss_is_that_of_smoothed_targets():
    model = quick(MLPClassifier, label_smoothing=0.3, metrics=["neg_log_loss"], dtype="float64")
    model.fit(X[:40], LABELS[:40], X_val=X[40:], y_val=LABELS[40:])
    p = model.predict_proba(X[40:].astype(float))
    targets = 0.7 * np.eye(3)[LABELS[40:]] + 0.1
    assert model.history_["val_loss"][-1] == pytest.approx(-(targets * np.log(p)).sum(axis=1).mean(), rel=1e-12)
    assert model.history_["val_neg_log_loss"][-1] == pytest.approx(-metrics.log_loss(LABELS[40:], p), rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_early_stopping_keeps_the_best_score(name):
    kind, y, parameters, *_ = case_of(name)
    options = dict(early_stopping=True, validation_fraction=0.3, max_iter=25, n_iter_no_change=4, **parameters)
    model = quick(kind, **options).fit(X, y)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert np.isfinite(model.validation_loss_curve_).all()


# ---- composition ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_forms_pieces_threads_and_copies_agree(name, monkeypatch):
    """CSR rows, ``partial_fit``, two threads and pickles, in float32."""
    kind, y, parameters, *_ = case_of(name)
    data = np.where(X > 0, X, 0)
    whole = quick(kind, shuffle=False, max_iter=4, **parameters).fit(data, y, WEIGHTS)
    rows = quick(kind, shuffle=False, max_iter=4, **parameters).fit(sp.csr_array(data), y, WEIGHTS)
    for one, other in zip(arrays(rows), arrays(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    pieces = quick(kind, shuffle=False, **parameters)
    for _ in range(4):
        more = {"classes": np.arange(y.max() + 1 if y.ndim == 1 else 4)} if kind is MLPClassifier else {}
        pieces = pickle.loads(pickle.dumps(pieces)).partial_fit(data, y, WEIGHTS, **more)
    assert_same_fit(pieces, whole)
    np.testing.assert_array_equal(pieces.predict(X), pickle.loads(pickle.dumps(whole)).predict(X))
    monkeypatch.setattr("fastnn.threads.CROSSOVER_FLOPS", 0)
    assert_same_fit(clone(whole).set_params(n_jobs=2).fit(data, y, WEIGHTS), whole)
    warm = clone(whole).set_params(warm_start=True).fit(data, y)
    first = warm.loss_curve_[0]
    assert warm.fit(data, y).loss_ < first


def test_losses_change_between_fits_where_the_outputs_are_alike():
    model = quick(MLPRegressor, warm_start=True).fit(X, AMOUNTS)
    for parameters in (dict(loss="huber"), dict(loss="quantile", quantile=0.9), dict(loss="absolute_error")):
        before = model.coefs_[0].copy()
        model.set_params(**parameters).fit(X, AMOUNTS)
        model.partial_fit(X, AMOUNTS)
        assert (model.coefs_[0] != before).any()
    for loss in ("gamma", "tweedie"):
        with pytest.raises(ValueError, match=f"loss='{loss}' needs out_activation_='exp', but it is 'identity'"):
            model.set_params(loss=loss).partial_fit(X, AMOUNTS)
    model.set_params(warm_start=False).fit(X, AMOUNTS)
    with pytest.raises(ValueError, match="loss='huber' needs out_activation_='identity', but it is 'exp'"):
        model.set_params(loss="huber", warm_start=True).fit(X, AMOUNTS)
    model.set_params(loss="gamma").fit(X, AMOUNTS)
    with pytest.raises(ValueError, match=r"The layers have \(6, 5, 1\) units .* ask for \(6, 5, 2\)"):
        model.set_params(loss="quantile", quantile=[0.1, 0.9]).fit(X, AMOUNTS)
    assert not hasattr(model, "quantiles_")
    labels = quick(MLPClassifier).partial_fit(X, LABELS, classes=[0, 1, 2])
    for parameters in (dict(label_smoothing=0.1), dict(loss="focal", label_smoothing=0), dict(loss="log_loss")):
        labels.set_params(**parameters).partial_fit(X, LABELS)
    labels.out_activation_ = "identity"
    with pytest.raises(ValueError, match="loss='log_loss' needs out_activation_='softmax', but it is 'identity'"):
        labels.set_params(label_smoothing=0.1).partial_fit(X, LABELS)


def test_a_search_varies_them():
    grid = [dict(loss=["huber"], huber_delta=[0.1, 1.0]), dict(loss=["quantile"], quantile=[0.5, [0.1, 0.5]])]
    found = GridSearchCV(quick(MLPRegressor), grid, cv=2).fit(X, VALUES)
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    grid = [dict(label_smoothing=[0.0, 0.1]), dict(loss=["focal"], focal_gamma=[0.5, 2])]
    found = GridSearchCV(quick(MLPClassifier), grid, cv=2, scoring="neg_log_loss").fit(X, LABELS)
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()


# ---- lists of quantiles ---------------------------------------------------------------------------------------------
def test_listed_quantiles_are_sorted_and_scored_by_the_middle_one():
    listed = [0.9, 0.1, 0.45]  # columns keep their quantile whatever the order of the list
    model = quick(MLPRegressor, loss="quantile", quantile=listed, max_iter=60, learning_rate_init=0.02).fit(X, VALUES)
    predicted = model.predict(X)
    np.testing.assert_array_equal(model.quantiles_, listed)
    assert predicted.shape == (N, 3) and predicted.dtype == np.float32
    assert (predicted[:, 1] <= predicted[:, 2]).all() and (predicted[:, 2] <= predicted[:, 0]).all()
    raw = reference.forward(model.coefs_, model.intercepts_, X, "relu", "identity")[-1]
    np.testing.assert_allclose(np.sort(predicted, axis=1), np.sort(raw, axis=1), rtol=1e-4, atol=1e-5)
    assert model.score(X, VALUES) == metrics.r2_score(VALUES, predicted[:, 2])
    model.set_params(quantile=0.5)  # predictions go by the fit
    np.testing.assert_array_equal(model.predict(X), predicted)
    assert not hasattr(model.fit(X, VALUES), "quantiles_") and model.predict(X).shape == (N,)
    one = quick(MLPRegressor, loss="quantile", quantile=[0.5]).fit(X, VALUES)
    assert one.predict(X).shape == (N, 1)
    assert_same_fit(one, quick(MLPRegressor, loss="quantile", quantile=np.array(0.5)).fit(X, VALUES))


def test_rearranged_rows_and_the_central_quantile():
    outputs = np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(quantiles.rearranged(outputs, np.array([0.1, 0.5, 0.9])), np.sort(outputs, axis=1))
    np.testing.assert_array_equal(quantiles.rearranged(outputs, np.array([0.5, 0.1, 0.9]))[0], [2, 1, 3])
    for listed, expected in (([0.5], 0), ([0.6, 0.4], 1), ([0.9, 0.1], 1), ([0.05, 0.3, 0.55], 2)):
        assert quantiles.central(np.array(listed)) == expected, listed
    with pytest.raises(ValueError, match="The network has 3 outputs, quantiles_ are 2"):
        quantiles.rearranged(outputs, np.array([0.1, 0.9]))


# ---- what is refused ------------------------------------------------------------------------------------------------
REFUSED = {
    "gamma, zero": (MLPRegressor, dict(loss="gamma"), CLAIMS, r"y are zero or negative: loss='gamma' needs y > 0\."),
    "gamma, tiny": (MLPRegressor, dict(loss="gamma"), AMOUNTS * 1e-42, "as small as .* zero in float32.*float64"),
    "power 2": (MLPRegressor, dict(loss="tweedie", tweedie_power=2), CLAIMS, "tweedie_power=2 needs y > 0"),
    "power 2.5": (MLPRegressor, dict(loss="tweedie", tweedie_power=2.5), CLAIMS, "tweedie_power=2.5 needs y > 0"),
    "power 1.5": (MLPRegressor, dict(loss="tweedie"), VALUES, "negative: loss='tweedie' with tweedie_power=1.5 needs"),
    "power 1": (MLPRegressor, dict(loss="tweedie", tweedie_power=1), VALUES, "tweedie_power=1 needs y >= 0"),
    "power .5": (MLPRegressor, dict(loss="tweedie", tweedie_power=0.5), AMOUNTS, "'tweedie_power' parameter"),
    "power -1": (MLPRegressor, dict(loss="tweedie", tweedie_power=-1), AMOUNTS, "'tweedie_power' parameter"),
    "huber_delta 0": (MLPRegressor, dict(huber_delta=0), VALUES, "'huber_delta' parameter"),
    "huber_delta tiny": (MLPRegressor, dict(loss="huber", huber_delta=1e-40), VALUES, "1e-40 is zero in float32"),
    "quantile 1": (MLPRegressor, dict(quantile=1.0), VALUES, "'quantile' parameter"),
    "quantile, text": (MLPRegressor, dict(quantile="0.5"), VALUES, "'quantile' parameter"),
    "no quantiles": (MLPRegressor, dict(quantile=[]), VALUES, r"a list of distinct ones such as \[0.1, 0.5, 0.9\]"),
    "quantile beyond": (MLPRegressor, dict(quantile=[0.5, 1.5]), VALUES, "a list of distinct ones"),
    "quantile twice": (MLPRegressor, dict(quantile=[0.5, 0.5]), VALUES, "a list of distinct ones"),
    "quantiles in a table": (MLPRegressor, dict(quantile=[[0.5, 0.6]]), VALUES, "a list of distinct ones"),
    "two outputs": (
        MLPRegressor, dict(loss="quantile", quantile=[0.1, 0.9]), PAIRS, "y has 2 outputs: give one number",
    ),
    "metric": (MLPRegressor, dict(loss="quantile", quantile=[0.1, 0.9], metrics=["r2"]), VALUES, "metrics holds 'r2'"),
    "smoothing 1": (MLPClassifier, dict(label_smoothing=1.0), LABELS, "'label_smoothing' parameter"),
    "smoothed focal": (
        MLPClassifier, dict(loss="focal", label_smoothing=0.1), LABELS, "label_smoothing=0.1 goes with loss='log_loss'",
    ),
    "smoothed squares": (
        MLPClassifier, dict(loss="squared_error", label_smoothing=0.1), LABELS, "got loss='squared_error'",
    ),
    "gamma below 0": (MLPClassifier, dict(focal_gamma=-1), LABELS, "'focal_gamma' parameter"),
    "another's loss": (MLPRegressor, dict(loss="focal"), VALUES, "'loss' parameter of MLPRegressor must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_and_nothing_is_left(name):
    kind, parameters, y, message = REFUSED[name]
    fits = {"fit": {}, "partial_fit": {"classes": [0, 1, 2]} if kind is MLPClassifier else {}}
    for method, more in fits.items():
        if method == "partial_fit" and "metrics" in parameters:
            continue
        model = quick(kind, **parameters)
        with pytest.raises(ValueError, match=message) as caught:
            getattr(model, method)(X, y, **more)
        assert "parameter" not in message or caught.type is InvalidParameterError
        assert not [key for key in vars(model) if key.endswith("_")]


def test_float64_learns_from_amounts_that_float32_takes_for_zero():
    model = quick(MLPRegressor, loss="gamma", dtype="float64", max_iter=3).fit(X, AMOUNTS * 1e-42)
    assert np.isfinite(model.loss_)


# ---- conversion -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_converted_models_predict_alike_and_scikit_learn_refuses_to_fit_them(name):
    kind, y, parameters, *_ = case_of(name)
    model = quick(kind, dtype="float64", **parameters).fit(X, y)
    if name == "quantiles":
        for refuse in (model.to_sklearn, lambda: interop._refuse_other_values(model)):
            with pytest.raises(ValueError, match=r"does not sort the quantiles \[0.1, 0.5, 0.9\]"):
                refuse()
        return
    theirs = model.to_sklearn()
    wide = X.astype(float)
    np.testing.assert_allclose(theirs.predict(wide), model.predict(wide), rtol=1e-10)
    if kind is MLPClassifier:
        np.testing.assert_allclose(theirs.predict_proba(wide), model.predict_proba(wide), rtol=1e-10)
        return
    with pytest.raises(InvalidParameterError, match="The 'loss' parameter of MLPRegressor"):
        theirs.fit(wide, y)
    if model.out_activation_ == "exp":
        with pytest.raises(ValueError, match=rf"out_activation_='exp' \(loss='{model.loss}'\)"):
            interop._refuse_other_values(model)


# ---- real data ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def housing(real_data_dir):
    """(X, y) of 9000 block groups, then of 4000 others, standardized."""
    (X, y), (X_test, y_test) = datasets.load_california(real_data_dir)
    scaler = StandardScaler().fit(X[:9000])
    return scaler.transform(X[:9000]), y[:9000], scaler.transform(X_test[:4000]), y_test[:4000]


def test_quantiles_of_house_values_cover_what_they_promise(housing):
    X, y, X_test, y_test = housing
    asked = [0.1, 0.5, 0.9]
    settings = dict(hidden_layer_sizes=(64,), max_iter=25, batch_size=64, random_state=0)
    model = MLPRegressor(loss="quantile", quantile=asked, **settings).fit(X, y)
    covered = (y_test[:, None] <= model.predict(X_test)).mean(axis=0)
    np.testing.assert_allclose(covered, asked, atol=0.035)


def test_gamma_of_house_values_beats_squared_error_in_its_deviance(housing):
    X, y, X_test, y_test = housing
    settings = dict(hidden_layer_sizes=(64,), max_iter=15, batch_size=64, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {loss: MLPRegressor(loss, **settings).fit(X, y).predict(X_test) for loss in ("gamma", "squared_error")}
    positive = {loss: np.maximum(p, 0.05) for loss, p in found.items()}
    deviance = {loss: metrics.mean_gamma_deviance(y_test, p) for loss, p in positive.items()}
    assert deviance["gamma"] < 0.97 * deviance["squared_error"]
