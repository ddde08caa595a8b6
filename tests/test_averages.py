"""Moving averages of the weights: by formula under every solver, on any number of threads, measured, going on."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import datasets
from sklearn.base import clone

import reference
from fastnn import MLPClassifier, MLPRegressor
from fastnn.core.nn.optimizers import OPTIMIZERS

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
AVERAGED = [solver for solver, row in OPTIMIZERS.items() if not row.averages]


def quick(kind=MLPClassifier, **options):
    settings = dict(hidden_layer_sizes=(9,), batch_size=30, max_iter=4, random_state=3, learning_rate_init=0.01)
    return kind(**{**settings, "tol": 0, "n_iter_no_change": np.inf, "ema_decay": 0.9, **options})


def arrays(model):
    return model.coefs_ + model.intercepts_


def assert_same(one, other):
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


def data(n, n_features):
    rng = np.random.RandomState(n)
    X = rng.standard_normal((n, n_features)) * (rng.uniform(size=(n, n_features)) < 0.6)
    return X.astype(np.float32).astype(np.float64), rng.randint(3, size=n), rng.standard_normal(n)


def by_formula(model, X, y):
    """Weights of the reference for the options of an unfitted estimator."""
    classifier, rng = isinstance(model, MLPClassifier), np.random.RandomState(3)
    units = (X.shape[1], *model.hidden_layer_sizes, 3 if classifier else 1)
    start = reference.draw_weights(rng, units, model.activation)
    names = ("solver", "alpha", "batch_size", "max_iter", "learning_rate_init", "ema_decay", *reference.HYPER)
    output, loss = ("softmax", "log_loss") if classifier else ("identity", "squared_error")
    _, coefs, intercepts = reference.train(
        *start, X, y, hidden_activation=model.activation, out_activation=output, loss=loss, rng=rng, tol=-np.inf,
        **{name: getattr(model, name) for name in names},
    )  # fmt: skip
    return coefs + intercepts


# Networks that go different ways through the engine: rows, features, hidden layers, batch.
SHAPES = {
    "no hidden layer": (90, 30, (), 30),
    "wide": (96, 70, (130, 120), 48),
    "split sums": (220, 64, (130,), 110),
    "shards": (450, 20, (100,), 200),
    "one row": (20, 13, (16, 8), 1),
}
MORE = {
    **{solver: {"solver": solver} for solver in AVERAGED},
    "plain sgd": {"solver": "sgd", "momentum": 0.0},
    "adamw": {"weight_decay": 0.3},
    "clipped": {"max_grad_norm": 0.4, "ema_decay": 0.3},
}


@pytest.mark.parametrize("name", MORE)
def test_averages_follow_the_formula(name):
    X, classes, values = data(90, 12)
    for number, hidden in enumerate(((), (9,), (17, 6))):
        kind, y = ((MLPClassifier, classes), (MLPRegressor, values))[number % 2]
        model = quick(kind, dtype="float64", activation="tanh", hidden_layer_sizes=hidden, **MORE[name])
        expected = by_formula(model, X, y)
        for form in (X, sp.csr_array(X)):
            for found, average in zip(arrays(model.fit(form, y)), expected, strict=True):
                np.testing.assert_allclose(found, average, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_threads_change_no_bit_and_the_weights_are_those_without_averages(shape, dtype, monkeypatch):
    monkeypatch.setattr("fastnn.threads.CROSSOVER_FLOPS", 0)
    n, n_features, hidden, batch = SHAPES[shape]
    X, y, _ = data(n, n_features)
    for name in ("adam", "plain sgd", "clipped"):
        options = dict(hidden_layer_sizes=hidden, batch_size=batch, max_iter=2, dtype=dtype, **MORE[name])
        for form in (X, sp.csr_array(X)):
            one, two = (quick(n_jobs=n_jobs, **options).fit(form, y) for n_jobs in (1, 2))
            assert_same(one, two)
            plain = quick(**{**options, "ema_decay": None}).fit(form, y)
            assert one.loss_curve_ == plain.loss_curve_
            raw = np.concatenate([np.append(w.ravel(), b) for w, b in zip(plain.coefs_, plain.intercepts_)])
            np.testing.assert_array_equal(one._optimizer.moments[-1], raw)


# ---- going on -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MORE)
def test_partial_fits_are_the_epochs_of_a_fit_also_by_way_of_a_pickle(name, dtype):
    X, y, _ = data(90, 12)
    options = dict(shuffle=False, dtype=dtype, learning_rate="cosine", **MORE[name])
    whole, pieces = quick(**options).fit(X, y), quick(**options)
    for _ in range(4):
        pieces = pickle.loads(pickle.dumps(pieces.partial_fit(X, y, classes=np.arange(3))))
    assert_same(pieces, whole)
    assert pieces.loss_curve_ == whole.loss_curve_


def test_weights_that_a_user_has_written_are_those_that_training_goes_on_with():
    X, y, _ = data(90, 12)
    models = [quick().fit(X, y) for _ in range(2)]
    models[0].coefs_[0][:] = 0
    for model in models:
        model._optimizer.learning_rate_init = 1e-12
        model.partial_fit(X, y)
    assert abs(models[0].coefs_[0]).max() < 1e-6 < 1e-3 < abs(models[1].coefs_[0]).max()
    assert abs(models[0]._optimizer.moments[-1][:100]).max() < 1e-6


def test_a_warm_start_begins_at_the_averages():
    X, y, _ = data(90, 12)
    warm = quick(shuffle=False, max_iter=2, warm_start=True).fit(X, y)
    start = [array.copy() for array in arrays(warm)]
    again = clone(warm).fit(X, y, coefs_init=start[:2], intercepts_init=start[2:])
    assert_same(warm.fit(X, y), again)


# ---- what is measured -----------------------------------------------------------------------------------------------
def test_averages_are_what_is_measured_and_restored():
    X, y, _ = data(90, 12)
    model = quick(max_iter=12, metrics=["accuracy"], early_stopping=True, alpha=0.0)
    model.set_params(learning_rate_init=0.1, n_iter_no_change=3, tol=1e-4, validation_fraction=0.3).fit(X, y)
    assert model.best_validation_score_ == max(model.validation_scores_)
    best = [array.copy() for array in arrays(model)]
    short = model.set_params(max_iter=int(np.argmax(model.validation_scores_)) + 1).fit(X, y)
    for found, expected in zip(arrays(short), best, strict=True):
        np.testing.assert_array_equal(found, expected)
    plain = quick(metrics=["accuracy"]).fit(X, y, X_val=X, y_val=y)
    assert plain.history_["accuracy"][-1] == plain.history_["val_accuracy"][-1] == plain.score(X, y)


def test_what_is_illegal_is_named():
    X, y, _ = data(40, 5)
    for options, message in (
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"ema_decay": 0}, "ema_decay"),
        ({"ema_decay": "0.9"}, "ema_decay"),
        ({"solver": "lbfgs"}, "ema_decay=0.9 does not go with solver='lbfgs'.*'adam'"),
        ({"solver": "schedulefree"}, "averages already; it goes with 'sgd', 'adam'"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(**options).fit(X, y)


def test_averages_lift_accuracy_where_steps_are_large():
    """600 of the digits for training, the others for the test; the mean of three seeds."""
    X, y = datasets.load_digits(return_X_y=True)
    X, means = (X / 16).astype(np.float32), []
    for decay in (None, 0.99):
        scores = []
        for seed in range(3):
            order = np.random.RandomState(seed).permutation(len(X))
            train, test = order[:600], order[600:]
            model = quick(hidden_layer_sizes=(64, 64), batch_size=20, max_iter=20, ema_decay=decay, random_state=seed)
            scores.append(model.fit(X[train], y[train]).score(X[test], y[test]))
        means.append(np.mean(scores))
    assert means[1] > means[0] + 0.01
