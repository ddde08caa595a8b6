"""class_weight: the same bits as the sample weights that it stands for, refusals, and what it does to real classes."""

import copy
import csv
import gzip
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss, recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from fastnn import MLPClassifier

RNG = np.random.RandomState(3)
X = RNG.standard_normal((120, 5))
SCORES = X @ RNG.standard_normal((5, 3)) - [0, 1.0, 1.5]
NUMBERS, NAMES = SCORES.argmax(axis=1), np.array(["0", "b", "c"])[SCORES.argmax(axis=1)]
TWO, INDICATOR, ONE_HOT = (SCORES[:, 1] > 0).astype(int), (SCORES > 0).astype(int), np.eye(3, dtype=int)[NUMBERS]
WEIGHT = RNG.uniform(0.2, 2, 120)
SETTINGS = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0, "batch_size": 30}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def weights(model):
    return np.concatenate([array.ravel() for array in [*model.coefs_, *model.intercepts_]])


# name -> (y, class_weight, the weight of each row, other parameters)
CASES = {
    "two": (TWO, {0: 1, 1: 5.5}, np.where(TWO == 1, 5.5, 1), {}),
    "two, balanced": (TWO, "balanced", compute_sample_weight("balanced", TWO), {}),
    "two, softmax": (TWO, {1: 3}, np.where(TWO == 1, 3, 1), {"out_activation": "softmax"}),
    "three": (NUMBERS, {0: 0.5, 1: 2, 2: 3}, np.array([0.5, 2, 3])[NUMBERS], {}),
    "three, one named": (NUMBERS, {np.int64(2): 3}, np.array([1, 1, 3.0])[NUMBERS], {}),
    "three, balanced": (NUMBERS, "balanced", compute_sample_weight("balanced", NUMBERS), {}),
    "three, logistic": (NUMBERS, {1: 2}, np.array([1, 2, 1.0])[NUMBERS], {"out_activation": "logistic"}),
    "names": (NAMES, {"0": 0.5, "b": 2, "c": 3}, np.array([0.5, 2, 3])[NUMBERS], {}),
    "floats": (NUMBERS + 1.0, {1: 0.5, 2: 2, np.float64(3): 3}, np.array([0.5, 2, 3])[NUMBERS], {}),
    "truth values": (TWO == 1, {True: 4}, np.where(TWO == 1, 4, 1), {}),
    "labels": (INDICATOR, [{0: 1, 1: 2}, {1: 3}, {}], compute_sample_weight([{0: 1, 1: 2}, {1: 3}, {}], INDICATOR), {}),
    "labels, balanced": (INDICATOR, "balanced", compute_sample_weight("balanced", INDICATOR), {}),
    "sparse labels": (
        sp.csr_matrix(INDICATOR),
        [{1: 2}, {0: 2}, {1: 4}],
        compute_sample_weight([{1: 2}, {0: 2}, {1: 4}], INDICATOR),
        {},
    ),
    "one-hot": (ONE_HOT, {0: 0.5, 2: 3}, np.array([0.5, 1, 3])[NUMBERS], {"out_activation": "softmax"}),
    "one-hot, balanced": (
        ONE_HOT,
        "balanced",
        compute_sample_weight("balanced", NUMBERS),
        {"out_activation": "softmax"},
    ),
    "one class": (np.zeros(120, int), {0: 3}, np.full(120, 3.0), {}),
    "a class without weight": (NUMBERS, {0: 1, 1: 0, 2: 1}, np.array([1, 0, 1.0])[NUMBERS], {}),
}
TRAININGS = {
    "adam": {},
    "sgd in float64": {"solver": "sgd", "dtype": "float64"},
    "lbfgs": {"solver": "lbfgs"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
}


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("case", CASES)
def test_class_weights_are_sample_weights(case, training):
    y, class_weight, weight, more = CASES[case]
    options = {**SETTINGS, **more, **TRAININGS[training]}
    for data in (X, sp.csr_array(np.where(X > 0.3, X, 0))):
        for given in (None, WEIGHT):
            by_class = MLPClassifier(**options, class_weight=class_weight).fit(data, y, given)
            by_row = MLPClassifier(**options).fit(data, y, weight if given is None else given * weight)
            np.testing.assert_array_equal(weights(by_class), weights(by_row))
            assert by_class.history_.get("val_score") == by_row.history_.get("val_score")
    plain = MLPClassifier(**options).fit(X, y)
    assert case == "one class" or abs(weights(by_class) - weights(plain)).max() > 0


@pytest.mark.parametrize("case", ["two", "three, balanced", "labels"])
def test_training_is_scikit_learns_with_these_weights(case):
    y, class_weight, weight, _ = CASES[case]
    theirs = neural_network.MLPClassifier(**SETTINGS).fit(X, y, weight)
    ours = MLPClassifier(**SETTINGS, dtype="float64", class_weight=class_weight).fit(X, y)
    np.testing.assert_allclose(weights(ours), weights(theirs), rtol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


def test_only_ratios_count_without_penalty():
    light, heavy = (
        MLPClassifier(**SETTINGS, alpha=0, class_weight={0: scale, 1: 4 * scale, 2: 2 * scale}).fit(X, NUMBERS)
        for scale in (1.0, 2.0**30)
    )
    np.testing.assert_allclose(weights(heavy), weights(light), rtol=1e-5, atol=1e-6)


def test_the_held_out_rows_carry_class_weights_and_given_data_their_own():
    options = {**SETTINGS, "early_stopping": True, "class_weight": {0: 1, 1: 9}}
    model = MLPClassifier(**options).fit(X, TWO, X_val=X[:50], y_val=TWO[:50])
    best = int(np.argmax(model.validation_scores_))
    assert model.history_["val_loss"][best] == pytest.approx(log_loss(TWO[:50], model.predict_proba(X[:50])), rel=1e-5)
    by_row = {**options, "class_weight": None}
    held_out = MLPClassifier(**options).fit(X, TWO)
    assert held_out.validation_scores_ == MLPClassifier(**by_row).fit(X, TWO, 1 + 8 * TWO).validation_scores_
    assert held_out.validation_scores_ != MLPClassifier(**by_row).fit(X, TWO).validation_scores_


def test_partial_fit_takes_a_dict_and_chunks_without_some_classes():
    order = np.argsort(NUMBERS, kind="stable")  # the first chunk has one class alone, which the dict does not name
    options = {**SETTINGS, "batch_size": 10}
    by_class, by_row = MLPClassifier(**options, class_weight={2: 5}), MLPClassifier(**options)
    for rows in np.array_split(order, 6):
        by_class.partial_fit(X[rows], NUMBERS[rows], classes=[0, 1, 2])
        by_row.partial_fit(X[rows], NUMBERS[rows], np.where(NUMBERS[rows] == 2, 5, 1), classes=[0, 1, 2])
    np.testing.assert_array_equal(weights(by_class), weights(by_row))
    labels = MLPClassifier(**options, class_weight=[{1: 2}, {1: 3}, {}])
    labels.partial_fit(X[:20], np.zeros((20, 3), int), classes=[0, 1, 2]).partial_fit(X, INDICATOR)


def test_warm_starts_pickles_and_threads(monkeypatch):
    monkeypatch.setattr("fastnn.threads.CROSSOVER_FLOPS", 0)
    options = {**SETTINGS, "warm_start": True, "hidden_layer_sizes": (40, 9)}
    models = [
        MLPClassifier(**options, class_weight="balanced", n_jobs=1),
        MLPClassifier(**options, class_weight="balanced", n_jobs=2),
        MLPClassifier(**options),
    ]
    for _ in range(2):
        models = [pickle.loads(pickle.dumps(model)) for model in models]
        for model in models:
            weight = None if model.class_weight else compute_sample_weight("balanced", NUMBERS)
            model.fit(X, NUMBERS, weight)
    for model in models[1:]:
        np.testing.assert_array_equal(weights(model), weights(models[0]))


REFUSED = {
    "unknown word": (NUMBERS, "heavy", "'class_weight' parameter of MLPClassifier must be .*'balanced'"),
    "unknown class": (NUMBERS, {0: 1, "b": 2}, r"The classes, \[1, 2\], are not in class_weight"),
    "list for classes": (NUMBERS, [{0: 1}], "class_weight must be a dict"),
    "dict for labels": (INDICATOR, {0: 1}, "class_weight must be a list of 3 dicts"),
    "short list": (INDICATOR, [{0: 1}], "a dict for each of 3 labels"),
    "no dicts": (INDICATOR, [1, 2, 3], "a dict for each label, got 1"),
    "negative": (NUMBERS, {0: -1}, "class_weight must hold finite numbers >= 0, got -1"),
    "NaN": (NUMBERS, {0: np.nan}, "class_weight must hold finite numbers >= 0, got nan"),
    "text": (NUMBERS, {0: "2"}, "class_weight must hold finite numbers >= 0, got '2'"),
    "nothing": (NUMBERS, {0: 0, 1: 0, 2: 0}, "class_weight leaves no row a weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_come_before_training_and_leave_an_earlier_fit(case, monkeypatch):
    y, class_weight, message = REFUSED[case]
    model = MLPClassifier(**SETTINGS).fit(X, y)
    model.set_params(class_weight=class_weight)
    before = copy.copy(vars(model))
    monkeypatch.setattr("fastnn.learning.train", lambda *args, **options: 1 / 0)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    assert vars(model) == before


@pytest.mark.parametrize("fitted", [False, True])
def test_balanced_is_refused_in_partial_fit(fitted):
    model = MLPClassifier(**SETTINGS, class_weight="balanced")
    if fitted:
        model.fit(X, NUMBERS)
    with pytest.raises(ValueError, match=r"^class_weight 'balanced' is not supported for partial_fit.*class_weight=\{"):
        model.partial_fit(X, NUMBERS, classes=[0, 1, 2])
    assert hasattr(model, "classes_") == fitted


# ---- real classes ---------------------------------------------------------------------------------------------------
def test_balanced_weights_find_rare_tumours():
    """Wisconsin's breast cancers, 6 malignant rows of 256 in training: their recall in the others, five seeds."""
    data, y = load_breast_cancer(return_X_y=True)
    data, recalls = StandardScaler().fit_transform(data), {None: [], "balanced": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        malignant, benign = (rng.permutation(np.flatnonzero(y == label)) for label in (0, 1))
        train, test = np.r_[malignant[:6], benign[:250]], np.r_[malignant[100:], benign[250:]]
        for class_weight, found in recalls.items():
            model = MLPClassifier((20,), max_iter=60, random_state=seed, class_weight=class_weight)
            model.set_params(learning_rate_init=0.003).fit(data[train], y[train])
            found.append(recall_score(y[test], model.predict(data[test]), pos_label=0))
    assert np.mean(recalls["balanced"]) > np.mean(recalls[None]) + 0.08  # 0.90 and 0.77


def test_balanced_weights_find_more_of_the_customers_who_leave(real_data_dir):
    with gzip.open(real_data_dir / "tabular" / "churn.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("Geography", "Gender", "Exited")]
    data = StandardScaler().fit_transform([[float(row[name]) for name in names] for row in rows])
    places = [[row["Geography"] == "Germany", row["Gender"] == "Male"] for row in rows]
    data, y = np.c_[data, places], np.array([int(row["Exited"]) for row in rows])
    recalls = []
    for class_weight in (None, "balanced"):
        model = MLPClassifier((64, 32), max_iter=15, random_state=0, class_weight=class_weight)
        recalls.append(recall_score(y[7500:], model.fit(data[:7500], y[:7500]).predict(data[7500:])))
    assert recalls[1] > recalls[0] + 0.15  # 0.74 and 0.48 over three seeds
