"""summary() against the weights and the memory formula, and scikit-learn's inspection of fitted networks."""

import re

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.inspection import PartialDependenceDisplay, partial_dependence, permutation_importance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
SETTINGS = {"hidden_layer_sizes": (20, 10), "max_iter": 4, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def cells(text):
    """The table: the first word of each line to its numbers."""
    numbers = re.compile(r"(?<![\w.])[\d,]+(?![\w.])|\?")
    lines = {line.split("  ")[0]: line for line in text.splitlines()[2:]}
    return {
        name: [each if each == "?" else int(each.replace(",", "")) for each in numbers.findall(line[len(name) :])]
        for name, line in lines.items()
    }


# parameters -> arrays as long as the parameters that training holds, bytes of a number, rows of a batch
MEMORY = {
    "adam": ({}, 4, 4, 150),
    "sgd": ({"solver": "sgd"}, 3, 4, 150),
    "plain sgd": ({"solver": "sgd", "momentum": 0.0}, 2, 4, 150),
    "early stopping": ({"early_stopping": True}, 5, 4, 135),
    "its last epoch": ({"early_stopping": True, "restore_best": False}, 4, 4, 135),
    "best epoch": ({"restore_best": True}, 5, 4, 150),
    "clipped": ({"max_grad_norm": 1.0}, 5, 4, 150),
    "averages": ({"ema_decay": 0.9}, 5, 4, 150),
    "float64": ({"dtype": "float64"}, 4, 8, 150),
    "match": ({"dtype": "match"}, 4, 8, 150),
    "batches": ({"batch_size": 32}, 4, 4, 32),
    "batches larger than the data": ({"batch_size": 150}, 4, 4, 150),
    "lbfgs": ({"solver": "lbfgs", "early_stopping": True}, 38, 8, 1024),
}


@pytest.mark.parametrize("case", MEMORY)
def test_the_table_counts_parameters_and_bytes(case):
    parameters, copies, itemsize, rows = MEMORY[case]
    model = MLPClassifier(**SETTINGS, **parameters).fit(X, Y)
    text = model.summary()
    first, header = text.splitlines()[:2]
    assert first.startswith("MLPClassifier 4-20-10-3, solver='")
    assert header.split() == ["layer", "units", "activation", "parameters", "bytes", "in", "training"]
    table = cells(text)
    counts = [coef.size + intercept.size for coef, intercept in zip(model.coefs_, model.intercepts_, strict=True)]
    for name, units, count in zip(("hidden 1", "hidden 2", "output"), (20, 10, 3), counts, strict=True):
        assert table[name] == [units, count, count * copies * itemsize]
    batch = rows * (4 + 20 + 10 + 20 + 10 + 3) * itemsize
    assert table[f"batch of {rows:,} rows"] == [batch]
    assert table["total"] == [sum(counts), sum(counts) * copies * itemsize + batch]
    assert re.search(r"output +3 +softmax", text) and re.search(r"hidden 2 +10 +relu", text)
    what = "iteration" if case == "lbfgs" else "epoch"
    assert re.search(rf"^seconds per {what}: [\d.e-]+ \(median of {len(model.history_['loss'])}\)$", text, re.MULTILINE)


def test_before_the_fit_what_depends_on_the_data_is_not_known():
    text = MLPRegressor(hidden_layer_sizes=16, n_hidden_layers=2, activation="tanh").summary()
    table = cells(text)
    assert text.startswith("MLPRegressor ?-16-16-?, solver='adam', computed in float32\n")
    assert table["input"] == ["?"] and table["hidden 1"] == [16, "?", "?"]
    assert table["hidden 2"] == [16, 272, 272 * 4 * 4] and table["total"] == ["?", "?"]
    assert "seconds" not in text
    with pytest.raises(NotFittedError, match="Call 'fit'"):
        MLPRegressor(hidden_layer_sizes=()).summary()
    with pytest.raises(ValueError, match=r"an array-like or an int .* Got None instead"):
        MLPRegressor(hidden_layer_sizes=None).summary()


def test_the_table_is_that_of_the_present_weights():
    model = MLPClassifier(**SETTINGS).fit(X, Y)
    before = model.summary()
    model.set_params(hidden_layer_sizes=(99,))
    assert model.summary() == before
    model.coefs_, model.intercepts_ = [np.ones((4, 5)), np.ones((5, 3))], [np.zeros(5), np.zeros(3)]
    model.n_layers_ = 3
    assert model.summary().startswith("MLPClassifier 4-5-3, ")
    assert MLPClassifier(**{**SETTINGS, "hidden_layer_sizes": ()}).fit(X, Y).summary().startswith("MLPClassifier 4-3, ")


def test_lines_are_short_and_the_html_stays():
    model = MLPClassifier(**{**SETTINGS, "hidden_layer_sizes": (1000, 1000)}, early_stopping=True).fit(X, Y)
    assert max(map(len, model.summary().splitlines())) <= 88
    assert "MLPClassifier" in model._repr_html_() and "sk-estimator" in model._repr_html_()


# ---- scikit-learn's inspection --------------------------------------------------------------------------------------
def test_permutation_importance_finds_the_features_that_matter():
    data, y = load_diabetes(return_X_y=True)
    data = np.c_[StandardScaler().fit_transform(data), np.random.RandomState(0).standard_normal((len(data), 2))]
    model = MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", alpha=10, max_iter=200, random_state=0).fit(
        data, y / 100
    )
    found = permutation_importance(model, data, y / 100, n_repeats=5, random_state=0).importances_mean
    assert found[[2, 8]].min() > 5 * found[-2:].max()  # body mass index and log triglycerides; noise
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS)).fit(X, Y)
    assert permutation_importance(pipeline, X, Y, scoring="neg_log_loss", random_state=0).importances.shape == (4, 5)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_partial_dependence_is_the_mean_of_predictions(kind):
    model = kind(**SETTINGS).fit(X, Y)
    found = partial_dependence(model, X, [2], grid_resolution=4)
    answer = model.predict_proba if kind is MLPClassifier else model.predict
    for i, value in enumerate(found["grid_values"][0]):
        moved = X.copy()
        moved[:, 2] = value
        np.testing.assert_allclose(found["average"][..., i].ravel(), answer(moved).mean(axis=0).ravel(), rtol=1e-6)


def test_partial_dependence_is_drawn():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    model = MLPClassifier(**SETTINGS).fit(X, Y)
    display = PartialDependenceDisplay.from_estimator(model, X, [0, 2, (0, 2)], target=2, grid_resolution=5)
    assert display.axes_.shape == (1, 3)
    pyplot.close("all")
