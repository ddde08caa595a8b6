"""Validation data, history_ and metrics: what is recorded equals what scikit-learn computes from the predictions."""

import copy
import math
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import clone, config_context, metrics
from sklearn.datasets import load_digits
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import reference
from fastnn import MLPClassifier, MLPRegressor, evaluation, learning
from fastnn.core.nn.losses import LOSSES
from fastnn.history import extended_history
from fastnn.scoring import mean_loss
from fastnn.train import EpochRecord
from kernel_calls import loss_constants

RNG = np.random.RandomState(5)
X, DIGITS = (array[:400] for array in load_digits(return_X_y=True))
X = X / 16
TRAINING, VALIDATION = slice(0, 300), slice(300, 400)
CLASSES = np.array(list("abc"))[DIGITS % 3]
SETTINGS = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 4, "batch_size": 50, "learning_rate_init": 0.01}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---- the loss of validation data by scikit-learn's metrics, of (fitted model, X, y, weight) -------------------------
def log_loss(model, data, y, weight):
    y = y.argmax(axis=1) if np.ndim(y) == 2 else np.searchsorted(model.classes_, y)
    p = model.predict_proba(data).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)  # to float64's last digits, or scikit-learn warns
    return metrics.log_loss(y, p, sample_weight=weight, labels=np.arange(p.shape[1]))


def label_log_loss(model, data, y, weight):
    p = model.predict_proba(data).astype(np.float64)
    columns = zip(np.asarray(y.todense() if sp.issparse(y) else y).T, p.T)
    return sum(metrics.log_loss(yes, q, sample_weight=weight, labels=[0, 1]) for yes, q in columns)


def half_squared_error(model, data, y, weight):
    return metrics.mean_squared_error(y, model.predict(data).astype(np.float64), sample_weight=weight) / 2


def half_brier(model, data, y, weight):
    wrong = ((np.eye(3)[np.searchsorted(model.classes_, y)] - model.predict_proba(data)) ** 2).sum(axis=1)
    return np.average(wrong, weights=weight) / 2


def half_deviance(model, data, y, weight):
    return metrics.mean_poisson_deviance(y, model.predict(data).astype(np.float64), sample_weight=weight) / 2


TARGETS = {
    "classes": (MLPClassifier, CLASSES, {}, log_loss),
    "two classes": (MLPClassifier, np.where(DIGITS > 4, "big", "little"), {}, log_loss),
    "labels": (MLPClassifier, np.c_[DIGITS % 2, DIGITS > 4, DIGITS == 3].astype(int), {}, label_log_loss),
    "sparse labels": (MLPClassifier, sp.csr_matrix(np.c_[DIGITS % 2, DIGITS > 4].astype(int)), {}, label_log_loss),
    "one-hot": (MLPClassifier, np.eye(10, dtype=int)[DIGITS], {"out_activation": "softmax"}, log_loss),
    "squared error": (MLPClassifier, CLASSES, {"loss": "squared_error"}, half_brier),
    "values": (MLPRegressor, DIGITS + 0.5, {}, half_squared_error),
    "outputs": (MLPRegressor, np.c_[DIGITS, -2 * DIGITS, np.ones(400)], {}, half_squared_error),
    "counts": (MLPRegressor, DIGITS.astype(float), {"loss": "poisson"}, half_deviance),
}
FORMS = {"dense": np.asarray, "sparse": sp.csr_matrix, "float32": np.float32}


def fitted(target="classes", form="dense", weighted=False, **parameters):
    kind, y, own, _ = TARGETS[target]
    data = FORMS[form](X)
    weight = np.linspace(0, 2, 100) if weighted else None
    model = kind(**{**SETTINGS, **own, **parameters})
    return model.fit(data[TRAINING], y[TRAINING], X_val=data[VALIDATION], y_val=y[VALIDATION], sample_weight_val=weight)


def weights(estimator):
    return np.concatenate([array.ravel() for array in [*estimator.coefs_, *estimator.intercepts_]])


# ---- values ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", TARGETS)
def test_last_entries_are_the_fitted_models(target, form, weighted):
    model = fitted(target, form, weighted)
    y, loss = TARGETS[target][1][VALIDATION], TARGETS[target][3]
    data, weight = FORMS[form](X)[VALIDATION], np.linspace(0, 2, 100) if weighted else None
    expected = loss(model, data, y, weight)
    assert model.history_["val_loss"][-1] == pytest.approx(expected, rel=2e-6)
    assert model.history_["val_score"][-1] == pytest.approx(model.score(data, y, weight), rel=1e-6, abs=1e-7)
    assert model.validation_loss_curve_ is model.history_["val_loss"]
    assert model.history_["loss"] == model.loss_curve_
    assert {len(values) for values in model.history_.values()} == {4}


def test_every_entry_is_that_of_a_shorter_fit():
    names = ("accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro")
    model = fitted(metrics=names)
    assert list(model.history_) == [
        "loss", "learning_rate", "seconds", *names, "val_loss", "val_score", *(f"val_{name}" for name in names),
    ]  # fmt: skip
    for n in (1, 2, 4):
        shorter = fitted(max_iter=n)
        for name in names:
            scorer = metrics.get_scorer(name)
            for prefix, rows in (("", TRAINING), ("val_", VALIDATION)):
                expected = scorer(shorter, X[rows], CLASSES[rows])
                assert model.history_[prefix + name][n - 1] == pytest.approx(expected, rel=1e-6), (n, prefix, name)
        assert model.history_["val_loss"][:n] == shorter.history_["val_loss"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_the_reference(loss, dtype):
    n, k = 40, 3
    out = LOSSES[loss].output
    outputs = reference.OUTPUTS[out](RNG.standard_normal((n, k))).astype(dtype)
    outputs[0, 0] = {"identity": 0, "exp": 1e-30}.get(out, 0)  # log of 0 is cut off where scikit-learn does it
    labels = RNG.randint(k, size=n).astype(np.int32)
    targets = np.eye(k)[labels] if LOSSES[loss].classifier else RNG.poisson(2, (n, k)) + float(loss == "gamma")
    forms = [(np.empty(0, np.int32), targets.astype(dtype))]
    if LOSSES[loss].classifier:
        forms.append((labels, np.empty((0, 0), dtype)))
    for own_labels, own_targets in forms:
        for weight in (np.empty(0, dtype), RNG.uniform(size=n).astype(dtype)):
            data = evaluation.EncodedData(None, None, own_labels, own_targets, weight)
            rows = RNG.permutation(n)[:25]
            found = mean_loss(loss, outputs[rows], data, rows, loss_constants(loss))
            kept = outputs[rows]
            if out in ("softmax", "logistic") and "squared" not in loss:  # in float32, too
                kept = np.clip(kept.astype(float), np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
            expected = reference.loss_value(loss, targets[rows], kept, weight[rows] if weight.size else None)
            assert found == pytest.approx(expected, rel=1e-6 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_validation_data_change_no_step(early_stopping):
    """Without early stopping, training is the same with and without; with it, all rows are learned from."""
    model = fitted(early_stopping=early_stopping, max_iter=3, tol=-0.0)
    plain = MLPClassifier(**{**SETTINGS, "max_iter": 3}).fit(X[TRAINING], CLASSES[TRAINING])
    assert model.loss_curve_ == plain.loss_curve_
    assert model.t_ == 3 * 300
    assert plain.validation_loss_curve_ is None
    assert set(plain.history_) == {"loss", "learning_rate", "seconds"}
    if early_stopping:
        assert model.validation_scores_ == model.history_["val_score"]
        assert model.best_validation_score_ == max(model.validation_scores_)
    else:
        assert model.validation_scores_ is None
        np.testing.assert_array_equal(weights(model), weights(plain))


def test_early_stopping_judges_by_the_given_data():
    model = fitted(early_stopping=True, max_iter=200, n_iter_no_change=3, tol=1e-3)
    scores = model.history_["val_score"]
    best = 1 + int(np.argmax(scores))
    assert best < model.n_iter_ < 200
    np.testing.assert_array_equal(weights(model), weights(fitted(max_iter=best)))
    assert model.score(X[VALIDATION], CLASSES[VALIDATION]) == max(scores)


def test_the_split_of_early_stopping_is_recorded_as_well(monkeypatch):
    parts, real = [], evaluation.hold_out

    def hold_out(*args):
        parts.extend(real(*args))
        return parts[0], parts[1]

    monkeypatch.setattr(learning, "hold_out", hold_out)
    model = MLPRegressor(**SETTINGS, early_stopping=True, metrics=["r2"]).fit(X, DIGITS)
    training, held_out = (sample.rows for sample in parts)  # training rows in the order that the loop left them in
    np.testing.assert_array_equal(np.sort(np.r_[training, held_out]), np.arange(400))
    assert held_out.size == 40
    best = int(np.argmax(model.validation_scores_))
    expected = {
        "val_loss": half_squared_error(model, X[held_out], DIGITS[held_out], None),
        "val_score": model.score(X[held_out], DIGITS[held_out]),
        "val_r2": model.score(X[held_out], DIGITS[held_out]),
        "r2": model.score(X[training], DIGITS[training]),
    }
    for name, value in expected.items():
        assert model.history_[name][best] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert model.history_["val_score"] == model.validation_scores_


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_take_weights_where_they_can(weighted):
    weight = RNG.uniform(size=300) if weighted else None
    names = ["neg_mean_absolute_error", "neg_max_error"]
    model = MLPRegressor(**SETTINGS, metrics=names).fit(X[TRAINING], DIGITS[TRAINING], weight)
    guess = model.predict(X[TRAINING])
    mean = metrics.mean_absolute_error(DIGITS[TRAINING], guess, sample_weight=weight)
    assert model.history_[names[0]][-1] == pytest.approx(-mean, rel=1e-6)
    assert model.history_[names[1]][-1] == pytest.approx(-metrics.max_error(DIGITS[TRAINING], guess), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["classes", "two classes", "labels", "counts"])
def test_every_scorer_says_what_it_says_of_the_fitted_model(target):
    kind, y, own, _ = TARGETS[target]
    if target == "two classes":
        y = (y == "big").astype(int)  # many scorers take 1 for the positive class
    computed = 0
    for name in metrics.get_scorer_names():
        model = kind(**{**SETTINGS, **own, "max_iter": 1}).fit(X, y)
        try:
            expected = float(metrics.get_scorer(name)(model, X, y))
        except (ValueError, TypeError, AttributeError):
            with pytest.raises(ValueError, match=f"metrics holds {name!r}, which cannot be computed"):
                model.set_params(metrics=[name]).fit(X, y)
            continue
        found = model.set_params(metrics=[name]).fit(X, y).history_[name][-1]
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), name
        computed += 1
    assert computed >= 10


RATES = {
    "constant": {"solver": "sgd"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    "adam": {"solver": "adam"},
    "rmsprop": {"solver": "rmsprop"},
}


@pytest.mark.parametrize("case", RATES)
def test_learning_rates_and_seconds(case):
    model = MLPRegressor(**{**SETTINGS, "max_iter": 6}, **RATES[case]).fit(X, DIGITS)
    n = np.arange(6)
    expected = np.full(6, 0.01)
    if case == "invscaling":
        expected[1:] = 0.01 / (400 * n[1:] + 1) ** 0.5
    if case == "adaptive":  # the first epoch beats an infinite loss; then every second one is a plateau
        expected = 0.01 / 5.0 ** np.array([0, 0, 0, 1, 1, 2])
    np.testing.assert_allclose(model.history_["learning_rate"], expected, rtol=1e-12)
    assert all(0 < seconds < 60 for seconds in model.history_["seconds"])


# ---- one road for all solvers and calls -----------------------------------------------------------------------------
def test_lbfgs_records_iterations():
    model = fitted(solver="lbfgs", metrics=["accuracy"], max_iter=12)
    assert list(model.history_) == ["loss", "seconds", "accuracy", "val_loss", "val_score", "val_accuracy"]
    assert {len(values) for values in model.history_.values()} == {model.n_iter_}
    assert model.history_["loss"][-1] == pytest.approx(model.loss_)
    assert model.history_["val_loss"][-1] == pytest.approx(
        log_loss(model, X[VALIDATION], CLASSES[VALIDATION], None), rel=2e-6
    )
    assert model.history_["val_loss"][4] == fitted(solver="lbfgs", max_iter=5).history_["val_loss"][-1]
    plain = MLPClassifier(**SETTINGS, solver="lbfgs").set_params(max_iter=12).fit(X[TRAINING], CLASSES[TRAINING])
    np.testing.assert_array_equal(weights(plain), weights(model))


def test_history_grows_and_marks_what_was_not_measured():
    model = fitted(warm_start=True, max_iter=2)
    model.fit(X[TRAINING], CLASSES[TRAINING])
    model.set_params(metrics=["accuracy"]).partial_fit(X[TRAINING], CLASSES[TRAINING])
    assert model.history_["loss"] == model.loss_curve_
    assert {len(values) for values in model.history_.values()} == {5}
    measured = {name: [not math.isnan(value) for value in values] for name, values in model.history_.items()}
    assert measured["val_loss"] == measured["val_score"] == [True, True, False, False, False]
    assert measured["accuracy"] == [False, False, False, False, True]
    assert measured["learning_rate"] == [True] * 5
    model.set_params(warm_start=False, metrics=()).fit(X[TRAINING], CLASSES[TRAINING])
    assert set(model.history_) == {"loss", "learning_rate", "seconds"}
    assert len(model.history_["loss"]) == 2


def test_grown_pads_both_ways():
    history, lacking = extended_history(
        {"loss": [1], "seconds": [0], "b": [2]}, {"loss": [3, 4], "seconds": [7, 8], "c": [5]}, 2
    )
    [values.extend(more) for values, more in lacking]
    expected = {"loss": [1, 3, 4], "seconds": [0, 7, 8], "b": [2, math.nan, math.nan], "c": [math.nan, 5, math.nan]}
    np.testing.assert_equal(history, expected)


def test_partial_fit_records_metrics():
    model = MLPRegressor(**SETTINGS, metrics=["r2"])
    for _ in range(3):
        model.partial_fit(X, DIGITS)
    assert model.history_["r2"][-1] == pytest.approx(model.score(X, DIGITS), rel=1e-6, abs=1e-6)
    assert {len(values) for values in model.history_.values()} == {3}


def test_pickles_and_copies_carry_the_history():
    model = fitted(metrics=["accuracy"])
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.history_ == model.history_
        assert twin.validation_loss_curve_ is twin.history_["val_loss"]
    assert clone(model).metrics == ["accuracy"]
    assert not hasattr(clone(model), "history_")


def test_an_interrupted_evaluation_leaves_lists_of_one_length(monkeypatch):
    calls = []
    real = evaluation.mean_loss

    def interrupted(*args):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(evaluation, "mean_loss", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        model = fitted()
    assert [math.isnan(value) for value in model.history_["val_loss"]] == [False, False, True]
    assert {len(values) for values in model.history_.values()} == {3}


def test_divergence_under_early_stopping_is_recorded_as_nan(monkeypatch):
    real = learning.train

    def diverging(*args, **options):
        for epoch, record in enumerate(real(*args, **options)):
            yield record if epoch < 2 else EpochRecord(math.nan, 0, False, 1.0)

    monkeypatch.setattr(learning, "train", diverging)
    model = fitted(early_stopping=True, metrics=["accuracy"])
    for name in ("loss", "val_loss", "val_score", "accuracy", "val_accuracy"):
        assert [math.isnan(value) for value in model.history_[name]] == [False, False, True], name


def test_nothing_is_evaluated_unless_asked_for(monkeypatch):
    monkeypatch.setattr(evaluation, "forward", lambda *args, **options: 1 / 0)
    MLPClassifier(**SETTINGS).fit(X, CLASSES).partial_fit(X, CLASSES)
    with pytest.raises(ZeroDivisionError):
        fitted()


def test_one_forward_pass_a_data_set_and_epoch(monkeypatch):
    sizes, real = [], evaluation.forward

    def counted(layout, plan, params, data, **options):
        outputs = real(layout, plan, params, data, **options)
        sizes.append(len(outputs))
        return outputs

    monkeypatch.setattr(evaluation, "forward", counted)
    fitted(metrics=["accuracy", "neg_log_loss", "f1_macro"])
    assert sizes == [300, 100] * 5  # one round before training shows that the metrics can be computed


# ---- scikit-learn's tools -------------------------------------------------------------------------------------------
def test_through_a_pipeline_with_metadata_routing():
    with config_context(enable_metadata_routing=True):
        network = MLPClassifier(**SETTINGS).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("net", network)], transform_input=["X_val"])
        pipeline.fit(X[TRAINING], CLASSES[TRAINING], X_val=X[VALIDATION], y_val=CLASSES[VALIDATION])
    scaler = StandardScaler().fit(X[TRAINING])
    by_hand = MLPClassifier(**SETTINGS).fit(
        scaler.transform(X[TRAINING]),
        CLASSES[TRAINING],
        X_val=scaler.transform(X[VALIDATION]),
        y_val=CLASSES[VALIDATION],
    )
    assert pipeline[-1].history_["val_loss"] == by_hand.history_["val_loss"]


@pytest.mark.parametrize("routing", [False, True])
def test_through_a_search_with_fixed_validation_data(routing):
    with config_context(enable_metadata_routing=routing):
        network = MLPClassifier(**SETTINGS, early_stopping=True, metrics=("accuracy",))
        network = network.set_fit_request(X_val=True, y_val=True) if routing else network
        search = GridSearchCV(network, {"alpha": [0, 1]}, cv=2)
        search.fit(X[TRAINING], CLASSES[TRAINING], X_val=X[VALIDATION], y_val=CLASSES[VALIDATION])
    best = search.best_estimator_
    assert best.validation_scores_ == best.history_["val_accuracy"]
    assert best.t_ == best.n_iter_ * 300


# ---- refusals -------------------------------------------------------------------------------------------------------
V, L = X[VALIDATION], CLASSES[VALIDATION]
REFUSED = {
    "no y_val": ({"X_val": V}, {}, "^X_val is provided, but y_val was not provided"),
    "no X_val": ({"y_val": L}, {}, "^y_val is provided, but X_val was not provided"),
    "weights alone": ({"sample_weight_val": np.ones(3)}, {}, "^sample_weight_val is provided, but X_val was not"),
    "features": ({"X_val": V[:, 1:], "y_val": L}, {}, "X_val.*X has 63 features, but MLPClassifier is expecting 64"),
    "length": ({"X_val": V, "y_val": L[1:]}, {}, r"X_val, y_val.*inconsistent numbers of samples: \[100, 99\]"),
    "NaN": ({"X_val": np.where(V > 0.9, np.nan, V), "y_val": L}, {}, "X_val.*contains NaN"),
    "labels": (
        {"X_val": V, "y_val": np.full(100, "z")},
        {},
        r"y_val holds labels that y does not: \['z'\].*'a' 'b' 'c'",
    ),
    "type of labels": ({"X_val": V, "y_val": DIGITS[VALIDATION]}, {}, r"y_val holds labels that y does not: \[0, 1"),
    "shape": ({"X_val": V, "y_val": np.eye(3, dtype=int)[DIGITS[VALIDATION] % 3]}, {}, "y_val must be 1-D like y"),
    "weights": (
        {"X_val": V, "y_val": L, "sample_weight_val": np.ones(9)},
        {},
        r"sample_weight_val.*sample_weight.shape == \(9,\), expected \(100,\)",
    ),
    "no weight": ({"X_val": V, "y_val": L, "sample_weight_val": np.zeros(100)}, {}, "sample_weight_val.*non-zero"),
    "a number": ({}, {"metrics": 3}, "'metrics' parameter of MLPClassifier must be an instance of 'tuple'"),
    "no name": ({}, {"metrics": [len]}, "metrics must hold names of scorers"),
    "unknown": ({}, {"metrics": ["acuracy"]}, "metrics holds 'acuracy'.*not the name of a scorer.*mean 'accuracy'"),
    "of an error": ({}, {"metrics": ["mean_absolute_error"]}, "Did you mean 'neg_mean_absolute_error'"),
    "unfit": (
        {},
        {"metrics": ["precision"]},
        "'precision', which cannot be computed.*(Target is multiclass|pos_label=1 is not a valid)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_come_before_training_and_leave_an_earlier_fit(case, monkeypatch):
    given, parameters, message = REFUSED[case]
    model = fitted(warm_start=True).set_params(**parameters)
    before, curve = dict(vars(model)), copy.deepcopy(model.history_)
    monkeypatch.setattr(learning, "train", lambda *args, **options: 1 / 0)
    with pytest.raises(ValueError, match=message):
        model.fit(X[TRAINING], CLASSES[TRAINING], **given)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    assert model.history_ == curve


def test_refusals_of_other_targets():
    outputs, labels = TARGETS["outputs"][1], TARGETS["labels"][1]
    with pytest.raises(ValueError, match="y_val has 2 columns, y asks for 3"):
        MLPRegressor(**SETTINGS).fit(X, outputs, X_val=X, y_val=outputs[:, :2])
    with pytest.raises(ValueError, match=r"y_val must be of shape \(n_val, 3\) like y, got shape \(400, 2\)"):
        MLPClassifier(**SETTINGS).fit(X, labels, X_val=X, y_val=labels[:, :2])
    with pytest.raises(ValueError, match=r"y_val.*negative: loss='poisson'"):
        MLPRegressor(**SETTINGS, loss="poisson").fit(X, DIGITS, X_val=X, y_val=-DIGITS)
    with pytest.raises(ValueError, match="out_activation='softmax' takes one class"):
        one_hot = np.eye(10, dtype=int)[DIGITS]
        MLPClassifier(**SETTINGS, out_activation="softmax").fit(X, one_hot, X_val=X, y_val=1 - one_hot)


def test_a_column_of_validation_targets_is_one_output():
    with pytest.warns(DataConversionWarning):
        model = MLPRegressor(**SETTINGS).fit(X, DIGITS, X_val=X, y_val=DIGITS[:, None])
    assert model.history_["val_score"][-1] == pytest.approx(model.score(X, DIGITS), rel=1e-6, abs=1e-6)


def test_verbose_says_the_validation_score(capsys):
    model = fitted(verbose=True, max_iter=1)
    score = model.history_["val_score"][0]
    assert capsys.readouterr().out == f"Iteration 1, loss = {model.loss_:.8f}\nValidation score: {score:f}\n"
