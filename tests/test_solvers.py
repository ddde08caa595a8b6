"""Solvers, weight decay and clipping that scikit-learn does not have: by formula, of every shape, going on exactly."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import datasets
from sklearn.model_selection import GridSearchCV, train_test_split

import fastnn
import reference
from fastnn import MLPClassifier, MLPRegressor
from fastnn.core.nn.optimizers import OPTIMIZERS

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
RNG = np.random.RandomState(0)
N, N_FEATURES, BATCH = 90, 12, 30
X = RNG.standard_normal((N, N_FEATURES)) * (RNG.uniform(size=(N, N_FEATURES)) < 0.6)
X = X.astype(np.float32).astype(np.float64)
CLASSES, VALUES = RNG.randint(3, size=N), RNG.standard_normal(N)
WEIGHTS = RNG.uniform(0.5, 2, N).astype(np.float32).astype(np.float64)

OWN = ("nadam", "adagrad", "lion", "schedulefree")
SOLVERS = {
    **{solver: {"solver": solver} for solver in OWN},
    "nadam, other": {"solver": "nadam", "beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-2},
    "nadam without momentum": {"solver": "nadam", "beta_1": 0.0},
    "lion, other": {"solver": "lion", "beta_1": 0.5, "beta_2": 0.99},
    "schedulefree, other": {"solver": "schedulefree", "beta_1": 0.5, "beta_2": 0.99},
    "adamw": {"solver": "adam", "weight_decay": 0.3},
    "nesterov, decay": {"solver": "sgd", "weight_decay": 0.3},
    "momentum, decay": {"solver": "sgd", "nesterovs_momentum": False, "weight_decay": 0.3},
    "plain sgd, decay": {"solver": "sgd", "momentum": 0.0, "weight_decay": 0.3},
    "rmsprop, decay": {"solver": "rmsprop", "weight_decay": 0.3},
    **{f"{solver}, decay": {"solver": solver, "weight_decay": 0.3} for solver in OWN},
    **{f"{solver}, clipped": {"solver": solver, "max_grad_norm": 0.4} for solver in OPTIMIZERS},
    "all": {"solver": "schedulefree", "weight_decay": 0.3, "max_grad_norm": 0.4, "warmup": 1.5},
    "clipped at nothing": {"solver": "adam", "max_grad_norm": 1e9},
}


def quick(kind=MLPClassifier, **options):
    settings = dict(hidden_layer_sizes=(9,), batch_size=BATCH, max_iter=4, random_state=3, learning_rate_init=0.01)
    return kind(**{**settings, "tol": 0, "n_iter_no_change": np.inf, **options})


def arrays(model):
    return model.coefs_ + model.intercepts_


def assert_same(one, other):
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


def by_formula(model, data, y, weights=None, **options):
    """Losses and weights of the reference for the options of an unfitted estimator."""
    hidden = model.hidden_layer_sizes
    classifier = isinstance(model, MLPClassifier)
    units = (data.shape[1], *hidden, 3 if classifier else 1)
    start = reference.draw_weights(np.random.RandomState(3), units, model.activation)
    rng = np.random.RandomState(3)
    reference.draw_weights(rng, units, model.activation)  # the estimator's generator goes on behind these draws
    names = ("solver", "alpha", "batch_size", "max_iter", "learning_rate", "learning_rate_init", *reference.HYPER)
    loss = ("softmax", "log_loss") if classifier else ("identity", "squared_error")
    return reference.train(
        *start, data, y, hidden_activation=model.activation, out_activation=loss[0], loss=loss[1], rng=rng,
        sample_weight=weights, tol=-np.inf, **{name: getattr(model, name) for name in names},
    )  # fmt: skip


@pytest.mark.parametrize("name", SOLVERS)
def test_training_follows_the_formula(name):
    shapes = ((), None), ((9,), WEIGHTS), ((17, 6), None)
    for number, (hidden, weights) in enumerate(shapes):
        kind, y = ((MLPClassifier, CLASSES), (MLPRegressor, VALUES))[number % 2]
        options = {"activation": "tanh", "alpha": 2.0, "hidden_layer_sizes": hidden, **SOLVERS[name]}
        model = quick(kind, **options, dtype="float64")
        losses, coefs, intercepts = by_formula(model, X, y, weights)
        for data in (X, sp.csr_array(X)):
            model.fit(data, y, sample_weight=weights)
            np.testing.assert_allclose(model.loss_curve_, losses, rtol=1e-11)
            for found, expected in zip(arrays(model), coefs + intercepts, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
        if "lion" not in name:  # a sign may turn where float32 rounds to another side of zero
            single = quick(kind, **options).fit(X, y, sample_weight=weights)
            np.testing.assert_allclose(single.loss_curve_, losses, rtol=2e-4)


# Networks that go different ways through the engine: rows, features, hidden layers, batch.
SHAPES = {
    "no hidden layer": (90, 30, (), 30),
    "wide": (96, 70, (130, 120), 48),
    "split sums": (220, 64, (130,), 110),
    "shards": (450, 20, (100,), 200),
    "many shards": (820, 20, (100,), 400),
    "one row": (20, 13, (16, 8), 1),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_bit(shape, dtype, monkeypatch):
    monkeypatch.setattr("fastnn.threads.CROSSOVER_FLOPS", 0)
    n, n_features, hidden, batch = SHAPES[shape]
    rng = np.random.RandomState(1)
    data, y = rng.standard_normal((n, n_features)), rng.randint(3, size=n)
    for name in ("nadam, decay", "adagrad", "lion, decay", "all", "adam, clipped", "sgd, clipped"):
        options = dict(hidden_layer_sizes=hidden, batch_size=batch, max_iter=2, dtype=dtype)
        for form in (data, sp.csr_array(np.where(data > 0.5, data, 0))):
            alone, together = (quick(n_jobs=n_jobs, **{**options, **SOLVERS[name]}).fit(form, y) for n_jobs in (1, 2))
            assert_same(alone, together)
            assert all(np.isfinite(array).all() for array in arrays(alone))


# ---- going on -------------------------------------------------------------------------------------------------------
RUNS = {
    **{solver: {"solver": solver, "learning_rate": "cosine"} for solver in OPTIMIZERS},
    "schedulefree, all": {"solver": "schedulefree", "weight_decay": 0.1, "max_grad_norm": 0.5, "warmup": 2},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "warmup": 2.5, "weight_decay": 0.1},
    "onecycle": {"solver": "nadam", "learning_rate": "onecycle", "max_grad_norm": 0.5},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RUNS)
def test_partial_fits_are_the_epochs_of_a_fit_also_by_way_of_a_pickle(name, dtype):
    for data in (X, sp.csr_array(X)):
        whole = quick(shuffle=False, dtype=dtype, **RUNS[name]).fit(data, CLASSES)
        pieces = quick(shuffle=False, dtype=dtype, **RUNS[name])
        for _ in range(4):
            pieces = pickle.loads(pickle.dumps(pieces.partial_fit(data, CLASSES, classes=np.arange(3))))
        assert_same(pieces, whole)
        assert pieces.history_["learning_rate"] == whole.history_["learning_rate"]
        assert pieces.loss_curve_ == whole.loss_curve_


def test_a_warm_start_makes_a_new_optimizer():
    whole = quick(solver="schedulefree", shuffle=False).fit(X, CLASSES)
    warm = quick(solver="schedulefree", shuffle=False, max_iter=2, warm_start=True).fit(X, CLASSES)
    start = [array.copy() for array in arrays(warm)]
    warm.fit(X, CLASSES)
    again = quick(solver="schedulefree", shuffle=False, max_iter=2)
    again.fit(X, CLASSES, coefs_init=start[:2], intercepts_init=start[2:])
    assert_same(warm, again)
    assert not np.array_equal(warm.coefs_[0], whole.coefs_[0])


def test_weights_that_a_user_has_written_are_those_that_training_goes_on_with():
    models = [quick(solver="schedulefree").fit(X, CLASSES) for _ in range(2)]
    models[0].coefs_[0][:] = 0
    for model in models:
        model.set_params(learning_rate_init=1e-12)
        model._optimizer.learning_rate_init = 1e-12
        model.partial_fit(X, CLASSES)
    assert abs(models[0].coefs_[0]).max() < 1e-3 < abs(models[1].coefs_[0]).max()


# ---- schedule-free averages -----------------------------------------------------------------------------------------
def test_averages_are_what_is_measured_and_restored():
    model = quick(solver="schedulefree", max_iter=12, metrics=["accuracy"], early_stopping=True, alpha=0.0)
    model.set_params(learning_rate_init=0.1, n_iter_no_change=3, tol=1e-4, validation_fraction=0.3).fit(X, CLASSES)
    assert model.best_validation_score_ == max(model.validation_scores_)
    short = model.set_params(max_iter=int(np.argmax(model.validation_scores_)) + 1)
    best = [array.copy() for array in arrays(model)]
    for found, expected in zip(arrays(short.fit(X, CLASSES)), best, strict=True):
        np.testing.assert_array_equal(found, expected)
    plain = quick(solver="schedulefree", metrics=["accuracy"]).fit(X, CLASSES)
    assert plain.history_["accuracy"][-1] == plain.score(X, CLASSES)


# ---- clipping -------------------------------------------------------------------------------------------------------
def test_clipping_bounds_a_step_and_a_large_bound_does_nothing():
    plain = dict(solver="sgd", momentum=0.0, max_iter=1, batch_size=N, shuffle=False, dtype="float64")
    start = quick(**plain, learning_rate_init=1e-300).fit(X, CLASSES)
    moved = quick(**plain, max_grad_norm=0.02, alpha=5.0, learning_rate_init=1.0).fit(X, CLASSES)
    change = np.concatenate([(a - b).ravel() for a, b in zip(arrays(moved), arrays(start), strict=True)])
    assert np.linalg.norm(change) == pytest.approx(0.02 / (1 + 1e-6 / 0.02), rel=1e-3)
    free = quick(dtype="float64").fit(X, CLASSES)
    bounded = quick(dtype="float64", max_grad_norm=1e9).fit(X, CLASSES)
    for one, other in zip(arrays(free), arrays(bounded), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_clipping_survives_targets_that_blow_up_without_it():
    y = 1e4 * VALUES
    options = dict(solver="sgd", learning_rate_init=0.1, max_iter=20)
    with pytest.raises(ValueError, match="non-finite"):
        quick(MLPRegressor, **options).fit(X, y)
    assert np.isfinite(quick(MLPRegressor, **options, max_grad_norm=1.0).fit(X, y).loss_curve_).all()


def test_a_loss_that_is_not_finite_ends_a_clipped_fit():
    with pytest.raises(ValueError, match="non-finite"):
        quick(MLPRegressor, solver="sgd", max_grad_norm=1.0).fit(X * 1e30, VALUES * 1e30)


# ---- what does not go together, searches, real data -----------------------------------------------------------------
@pytest.mark.parametrize("option", [{"weight_decay": 0.1}, {"max_grad_norm": 1.0}, {"warmup": 1}])
def test_lbfgs_refuses_what_it_cannot_do(option):
    [name] = option
    with pytest.raises(ValueError, match=f"{name}=.* does not go with solver='lbfgs'.*'sgd', 'adam'"):
        quick(solver="lbfgs", **option).fit(X, CLASSES)


def test_to_sklearn_leaves_out_what_scikit_learn_has_not():
    model = quick(solver="lion", weight_decay=0.1, learning_rate="cosine").fit(X, CLASSES)
    theirs = model.to_sklearn()
    np.testing.assert_allclose(theirs.predict_proba(X), model.predict_proba(X), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="parameter of MLPClassifier must be"):
        theirs.fit(X, CLASSES)


def test_a_search_over_solvers_and_options():
    grid = {
        "solver": [*OPTIMIZERS], "weight_decay": [0.0, 0.1], "max_grad_norm": [None, 1.0],
        "learning_rate": ["constant", "cosine"],
    }  # fmt: skip
    search = GridSearchCV(quick(max_iter=2), grid, cv=2, error_score="raise").fit(X, CLASSES)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("solver", OWN)
def test_real_digits_are_learned(solver):
    data, y = datasets.load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(data / 16, y, random_state=0)
    rate = {"adagrad": 0.03, "schedulefree": 0.01}.get(solver, 0.003)
    model = fastnn.MLPClassifier((64,), solver=solver, learning_rate_init=rate, max_iter=30, random_state=0)
    assert model.set_params(weight_decay=0.01, tol=0).fit(X_train, y_train).score(X_test, y_test) > 0.95
