"""What early stopping judges by and what is kept: scoring, restore_best, validation_stratify."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import get_scorer, log_loss, make_scorer, recall_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.fixes import parse_version

from fastnn import MLPClassifier, MLPRegressor, evaluation, learning
from fastnn.train import EpochRecord

RNG = np.random.RandomState(7)
X, DIGITS = (array[:400] for array in load_digits(return_X_y=True))
X = X / 16
TRAINING, VALIDATION = slice(0, 300), slice(300, 400)
CLASSES, VALUES = np.array(list("abc"))[DIGITS % 3], DIGITS + 0.1 * RNG.standard_normal(400)
SETTINGS = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 30, "batch_size": 50, "learning_rate_init": 0.02}
KINDS = {MLPClassifier: CLASSES, MLPRegressor: VALUES}
NAMES_CLASSES = parse_version(sklearn.__version__) >= parse_version("1.9")  # in the error for those too rare

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(kind=MLPClassifier, validation=True, form=np.asarray, weight=None, **parameters):
    y, data = KINDS[kind], form(X)
    given = {"X_val": data[VALIDATION], "y_val": y[VALIDATION], "sample_weight_val": weight} if validation else {}
    return kind(**{**SETTINGS, **parameters}).fit(data[TRAINING], y[TRAINING], **given)


def weights(model):
    return np.concatenate([array.ravel() for array in [*model.coefs_, *model.intercepts_]])


def same(one, other):
    np.testing.assert_array_equal(weights(one), weights(other))
    return True


# ---- scoring --------------------------------------------------------------------------------------------------------
def macro_recall(y, predicted, sample_weight=None):
    return recall_score(y, predicted, average="macro", sample_weight=sample_weight)


def plain_callable(estimator, data, y):
    return -log_loss(y, estimator.predict_proba(data))


def weighted_callable(estimator, data, y, sample_weight=None):
    return estimator.score(data, y, sample_weight)


SCORINGS = {
    "accuracy": (MLPClassifier, "accuracy", True),
    "f1_macro": (MLPClassifier, "f1_macro", True),
    "neg_log_loss": (MLPClassifier, "neg_log_loss", True),
    "scorer": (MLPClassifier, make_scorer(macro_recall), True),
    "callable": (MLPClassifier, plain_callable, False),
    "callable with weights": (MLPClassifier, weighted_callable, True),
    "neg_mean_absolute_error": (MLPRegressor, "neg_mean_absolute_error", True),
    "regressor's callable": (MLPRegressor, weighted_callable, True),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", [np.asarray, np.float32, sp.csr_array])
@pytest.mark.parametrize("case", SCORINGS)
def test_scores_are_those_of_the_fitted_model(case, form, weighted):
    kind, scoring, takes_weight = SCORINGS[case]
    weight = np.linspace(0, 2, 100) if weighted else None
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    model = fitted(kind, form=form, weight=weight, scoring=scoring, max_iter=3)
    more = {"sample_weight": weight} if weighted and takes_weight else {}
    expected = scorer(model, form(X)[VALIDATION], KINDS[kind][VALIDATION], **more)
    assert model.history_["val_score"][-1] == pytest.approx(expected, rel=2e-6)
    assert model.validation_scores_ is None  # without early stopping it is recorded alone
    same(model, fitted(kind, form=form, max_iter=3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_is_a_scoring(kind, dtype):
    options = dict(early_stopping=True, scoring="loss", n_iter_no_change=3, tol=3e-3, max_iter=200, dtype=dtype)
    model = fitted(kind, **options)
    losses = model.history_["val_loss"]
    assert model.validation_scores_ == [-loss for loss in losses]
    assert model.best_validation_score_ == -min(losses)
    best = 1 + int(np.argmin(losses))
    assert best < model.n_iter_ < 200
    same(model, fitted(kind, max_iter=best, dtype=dtype))
    assert all(loss > min(losses[:-4]) - 3e-3 for loss in losses[-4:])  # four epochs without progress of tol


def test_early_stopping_by_a_scorer_on_held_out_rows():
    model = fitted(validation=False, early_stopping=True, scoring="neg_log_loss", max_iter=15)
    assert model.validation_scores_ == pytest.approx([-loss for loss in model.history_["val_loss"]], rel=1e-6)
    by_loss = fitted(validation=False, early_stopping=True, scoring="loss", max_iter=15)
    assert by_loss.best_validation_score_ == pytest.approx(model.best_validation_score_, rel=1e-6)
    same(model, by_loss)


def test_a_callable_may_ask_about_other_data():
    seen = []

    def elsewhere(estimator, data, y):
        seen.append((data.shape, data.dtype, estimator.predict(data).shape))
        return estimator.score(X[:20], CLASSES[:20])

    model = fitted(scoring=elsewhere, max_iter=2)
    assert seen[-1] == ((100, 64), np.float32, (100,))
    assert model.history_["val_score"][-1] == model.score(X[:20], CLASSES[:20])


def test_a_search_varies_the_scoring():
    search = GridSearchCV(MLPClassifier(**{**SETTINGS, "max_iter": 5}, early_stopping=True), {}, cv=2)
    search.set_params(param_grid={"scoring": [None, "loss", "f1_macro", plain_callable]}).fit(X, CLASSES)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


NO_SCORER = {
    "unknown": ("acuracy", "scoring='acuracy', which is not the name of a scorer. Did you mean 'accuracy'"),
    "an error": ("log_loss", "Did you mean 'neg_log_loss'.*None and \"loss\" are legal too"),
    "a metric": (metrics.accuracy_score, "make_scorer"),
    "a number": (1, "'scoring' parameter of MLPClassifier must be"),
    "unfit": ("precision", "scoring='precision', which cannot be computed for these data"),
    "no number": (lambda estimator, data, y: "high", "cannot be computed for these data: could not convert string"),
}


@pytest.mark.parametrize("case", NO_SCORER)
def test_scorings_are_refused_before_training(case, monkeypatch):
    scoring, message = NO_SCORER[case]
    model = fitted(max_iter=1).set_params(scoring=scoring, early_stopping=True)
    before = copy.copy(vars(model))
    monkeypatch.setattr(learning, "train", lambda *args, **options: 1 / 0)
    with pytest.raises(ValueError, match=message):
        model.fit(X, CLASSES)
    assert vars(model) == before


# ---- restore_best ---------------------------------------------------------------------------------------------------
NOISY = {
    "learning_rate_init": 0.6,
    "max_iter": 11,
    "tol": 0,
    "n_iter_no_change": 50,
}  # losses and scores go up and down


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_the_best_epoch_by_the_training_loss(kind, solver):
    options = {**NOISY, "solver": solver, "learning_rate_init": 0.6 if solver == "adam" else 0.02}
    model = fitted(kind, validation=False, restore_best=True, **options)
    best = 1 + int(np.argmin(model.loss_curve_))
    assert model.n_iter_ == 11 and model.best_epoch_ == best
    same(model, fitted(kind, validation=False, **{**options, "max_iter": best}))
    if solver == "adam":
        assert best < 11
    assert fitted(kind, validation=False, **options).loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("scoring", [None, "loss", "f1_macro"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_the_best_epoch_by_validation_data(scoring, form):
    model = fitted(form=form, restore_best=True, scoring=scoring, **NOISY)
    best = 1 + int(np.argmax(model.history_["val_score"]))
    assert best == model.best_epoch_ < model.n_iter_ == 11
    same(model, fitted(form=form, **{**NOISY, "max_iter": best}))
    assert model.validation_scores_ is None


def test_the_last_epoch_of_early_stopping():
    options = dict(early_stopping=True, n_iter_no_change=2, tol=1e-3, max_iter=100)
    best, last = fitted(**options), fitted(**options, restore_best=False)
    assert last.validation_scores_ == best.validation_scores_ and last.n_iter_ == best.n_iter_ < 100
    same(best, fitted(**options, restore_best=True))
    same(last, fitted(max_iter=last.n_iter_))
    assert last.best_epoch_ == last.n_iter_ > best.best_epoch_
    assert abs(weights(last) - weights(best)).max() > 0


def test_lbfgs_returns_to_the_best_iteration():
    options = dict(solver="lbfgs", max_iter=60, tol=0, scoring="loss", alpha=0)
    model = fitted(**options, restore_best=True)
    losses = model.history_["val_loss"]
    best = 1 + int(np.argmin(losses))
    assert best == model.best_epoch_ < model.n_iter_ == fitted(**options, validation=False).best_epoch_
    same(model, fitted(**{**options, "max_iter": best}))
    same(fitted(**options), fitted(**options, restore_best=False))
    same(fitted(**options, validation=False), fitted(**options, validation=False, restore_best=True))


def test_a_call_of_a_warm_start_keeps_its_own_best_epoch():
    data, y = (X[TRAINING], CLASSES[TRAINING]), {"X_val": X[VALIDATION], "y_val": CLASSES[VALIDATION]}
    options = {**SETTINGS, **NOISY, "warm_start": True, "restore_best": True, "max_iter": 5}
    model, twin = MLPClassifier(**options), MLPClassifier(**{**options, "restore_best": False})
    for _ in range(3):
        start = pickle.loads(pickle.dumps(model))
        model.fit(*data, **y)
        scores = model.history_["val_score"][-5:]
        twin = start.set_params(restore_best=False, max_iter=1 + int(np.argmax(scores)))
        same(model, twin.fit(*data, **y))
        assert model.best_epoch_ == 1 + int(np.argmax(scores))
    assert len(model.history_["val_score"]) == 15


def test_partial_fit_has_one_epoch_to_keep():
    one, other = (MLPClassifier(**SETTINGS, restore_best=keep) for keep in (True, "auto"))
    for model in (one, other):
        model.partial_fit(X, CLASSES, classes=list("abc")).partial_fit(X, CLASSES)
    same(one, other)


def test_divergence_ends_quietly_where_there_is_a_best_epoch(monkeypatch):
    real = learning.train

    def diverging(*args, **options):
        for epoch, record in enumerate(real(*args, **options), 1):
            yield record if epoch < 5 else EpochRecord(float("nan"), record.n_steps, False, record.seconds)

    monkeypatch.setattr(learning, "train", diverging)
    for validation in (False, True):
        model = fitted(validation=validation, restore_best=True)
        assert model.n_iter_ == 5 and np.isnan(model.loss_)
        with pytest.raises(ValueError, match="The loss was nan in epoch 5"):
            fitted(validation=validation, early_stopping=True, restore_best=False)


def test_nothing_is_copied_unless_asked_for(monkeypatch):
    copies = []
    monkeypatch.setattr(
        "fastnn.stopping.Progress._judged",
        lambda self, loss, score, params: copies.append(self._keep) or (0, 0, 0, 0, None, None),
    )
    fitted(validation=False, max_iter=1)
    fitted(early_stopping=True, restore_best=False, max_iter=1)
    assert copies == [None, None]


# ---- validation_stratify --------------------------------------------------------------------------------------------
def held_out_of(monkeypatch, y, **parameters):
    parts, real = [], evaluation.hold_out

    def hold_out(*args):
        parts.append(real(*args))
        return parts[-1]

    monkeypatch.setattr(learning, "hold_out", hold_out)
    MLPClassifier(**{**SETTINGS, "max_iter": 1}, early_stopping=True, **parameters).fit(X, y)
    training, held_out = (sample.rows for sample in parts[-1])
    np.testing.assert_array_equal(np.sort(np.r_[training, held_out]), np.arange(400))
    return held_out


TARGETS = {
    "two classes": (np.where(DIGITS > 6, "big", "little"), {}),
    "ten classes": (DIGITS, {}),
    "ten classes, logistic": (DIGITS, {"out_activation": "logistic"}),
    "two classes, softmax": (DIGITS > 6, {"out_activation": "softmax"}),
    "one-hot": (np.eye(10, dtype=int)[DIGITS], {"out_activation": "softmax"}),
    "labels": (np.c_[DIGITS > 6, DIGITS % 2].astype(int), {}),
    "one class": (np.zeros(400), {}),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_stratified_split_has_the_shares_of_all_rows(target, monkeypatch):
    y, parameters = TARGETS[target]
    rows = held_out_of(monkeypatch, y, validation_stratify=True, validation_fraction=0.25, **parameters)
    names = np.array([str(row) for row in y])
    for name in np.unique(names):
        assert abs(np.sum(names[rows] == name) - np.sum(names == name) / 4) < 1, name


@pytest.mark.parametrize("target", TARGETS)
def test_auto_is_scikit_learns_split(target, monkeypatch):
    y, parameters = TARGETS[target]
    rows = {keep: held_out_of(monkeypatch, y, validation_stratify=keep, **parameters) for keep in ("auto", True, False)}
    stratified = target in ("two classes", "two classes, softmax", "one class")
    assert np.array_equal(rows["auto"], rows[stratified])
    assert np.array_equal(rows[True], rows[False]) == (target == "one class") or target == "one class"


def test_classes_too_rare_for_a_stratified_split_are_named():
    y = np.where(np.arange(400) == 7, "rare", CLASSES)
    model = MLPClassifier(**SETTINGS, early_stopping=True, validation_stratify=True)
    named = ".*rare" if NAMES_CLASSES else ""
    with pytest.raises(
        ValueError, match=rf"least populated class{named}.*early_stopping with .*validation_stratify=True"
    ):
        model.fit(X, y)
    model.set_params(validation_stratify=False).fit(X, y)


# ---- refusals -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["restore_best", "validation_stratify"])
def test_wrong_words_are_named(name):
    with pytest.raises(
        ValueError, match=f"'{name}' parameter of MLPClassifier must be a str among .*'auto'.* or an inst"
    ):
        fitted(**{name: "never"})


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_says_what_to_do_instead_of_early_stopping(kind):
    more = {"classes": list("abc")} if kind is MLPClassifier else {}
    with pytest.raises(
        ValueError, match=r"^partial_fit does not support early_stopping=True: .*score\(X_val.*X_val and"
    ):
        kind(early_stopping=True).partial_fit(X, KINDS[kind], **more)


# ---- real data ------------------------------------------------------------------------------------------------------
def test_stopping_by_the_loss_keeps_better_probabilities_than_the_last_epoch():
    """Wisconsin's breast cancers, three seeds: log loss of the held-out test rows."""
    data, y = load_breast_cancer(return_X_y=True)
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    losses = {}
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(len(y))
        train, test = rows[:380], rows[380:]
        for name, more in {"best": {"early_stopping": True, "scoring": "loss"}, "last": {"tol": 0}}.items():
            model = MLPClassifier((50,), random_state=seed, learning_rate_init=0.01, max_iter=150, **more)
            model.fit(data[train], y[train])
            losses.setdefault(name, []).append(log_loss(y[test], model.predict_proba(data[test])))
    assert np.mean(losses["best"]) < np.mean(losses["last"]) - 0.02, losses
