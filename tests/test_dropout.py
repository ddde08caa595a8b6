"""Dropout: by formula with the same random bits, in networks of every shape, on any number of threads, going on."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import datasets
from sklearn.base import clone

import reference
from fastnn import MLPClassifier, MLPRegressor
from reference_dropout import factors, words

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
RNG = np.random.RandomState(0)
SEEDS = np.iinfo(np.int32).max


def quick(kind=MLPClassifier, **options):
    settings = dict(batch_size=30, max_iter=4, random_state=3, learning_rate_init=0.01, dtype="float64")
    return kind(**{**settings, "tol": 0, "n_iter_no_change": np.inf, **options})


def arrays(model):
    return model.coefs_ + model.intercepts_


def assert_same(one, other):
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


def data(n, n_features):
    rng = np.random.RandomState(n)
    X = rng.standard_normal((n, n_features)) * (rng.uniform(size=(n, n_features)) < 0.6)
    return X.astype(np.float32).astype(np.float64), rng.randint(3, size=n), rng.standard_normal(n)


# ---- the random bits ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_have_the_rate_and_no_pattern(rate):
    """Shares of rows, units, levels and steps, and correlations of neighbours, within five standard errors."""
    masks = np.array(
        [[words(7, step, level, 200, 128) >= rate * 2.0**32 for level in range(3)] for step in range(20)]
    ) - (1 - rate)
    deviation = np.sqrt(rate * (1 - rate))
    for axes in [(0, 1, 2, 3), (0, 1, 2), (0, 1, 3), (1, 2, 3), (0, 2, 3)]:
        means = masks.mean(axis=axes)
        n = masks.size / means.size
        assert abs(means).max() < 5 * deviation / np.sqrt(n)
    for axis in range(4):
        for distance in (1, 2):
            first = np.take(masks, range(masks.shape[axis] - distance), axis)
            second = np.take(masks, range(distance, masks.shape[axis]), axis)
            assert abs((first * second).mean()) < 5 * deviation**2 / np.sqrt(first.size)


def test_every_bit_of_the_random_words_is_fair_and_seeds_differ():
    drawn = np.concatenate([words(seed, step, 1, 50, 64).ravel() for seed in range(5) for step in range(20)])
    assert np.unique(drawn).size > 0.9999 * drawn.size
    for bit in range(32):
        assert abs((drawn >> np.uint32(bit) & 1).mean() - 0.5) < 5 * 0.5 / np.sqrt(drawn.size)


# ---- training -------------------------------------------------------------------------------------------------------
# Networks that go different ways through the engine: rows, features, hidden layers, batch.
SHAPES = {
    "no hidden layer": (90, 30, (), 30),
    "small": (70, 12, (17, 6), 30),
    "wide": (96, 70, (130, 120), 48),
    "split sums": (220, 64, (130,), 110),
    "shards": (450, 20, (100,), 200),
    "many shards": (820, 20, (100,), 400),
    "one row": (20, 13, (16, 8), 1),
}
OPTIONS = (
    {"activation": "tanh", "alpha": 2.0},
    {"activation": "silu", "solver": "sgd", "max_grad_norm": 0.4},
    {"activation": "relu", "solver": "lion", "weight_decay": 0.1},
    {"activation": "softplus"},
)


def by_formula(model, X, y):
    """Losses and weights of the reference for the options of an unfitted estimator."""
    classifier, hidden = isinstance(model, MLPClassifier), model.hidden_layer_sizes
    units = (X.shape[1], *hidden, 3 if classifier else 1)
    rng = np.random.RandomState(3)
    start = reference.draw_weights(rng, units, model.activation)
    names = ("solver", "alpha", "batch_size", "max_iter", "learning_rate", "learning_rate_init", *reference.HYPER)
    output, loss = ("softmax", "log_loss") if classifier else ("identity", "squared_error")
    rates = model.dropout if isinstance(model.dropout, list) else [0.0, *[model.dropout] * len(hidden)]
    return reference.train(
        *start, X, y, hidden_activation=model.activation, out_activation=output, loss=loss, dropout=rates,
        seed=rng.randint(SEEDS) if any(rates) else 0, rng=rng, tol=-np.inf,
        **{name: getattr(model, name) for name in names},
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_training_follows_the_formula(shape):
    n, n_features, hidden, batch = SHAPES[shape]
    X, classes, values = data(n, n_features)
    for number, options in enumerate(OPTIONS):
        kind, y = ((MLPClassifier, classes), (MLPRegressor, values))[number % 2]
        for rates in (0.3, [0.2, 0.5, 0.0][: len(hidden) + 1]):
            model = quick(kind, **options, hidden_layer_sizes=hidden, batch_size=batch, max_iter=2, dropout=rates)
            losses, coefs, intercepts = by_formula(model, X, y)
            for form in (X, sp.csr_array(X))[: 1 + (rates == 0.3)]:
                model.fit(form, y)
                np.testing.assert_allclose(model.loss_curve_, losses, rtol=1e-10)
                for found, expected in zip(arrays(model), coefs + intercepts, strict=True):
                    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_threads_change_no_bit(shape, dtype, monkeypatch):
    monkeypatch.setattr("fastnn.threads.CROSSOVER_FLOPS", 0)
    n, n_features, hidden, batch = SHAPES[shape]
    X, classes, values = data(n, n_features)
    for number, more in enumerate(OPTIONS):
        kind, y = ((MLPClassifier, classes), (MLPRegressor, values))[number % 2]
        options = dict(hidden_layer_sizes=hidden, batch_size=batch, max_iter=2, dtype=dtype, **more)
        for rates in (0.3, [0.2] + [0.5] * len(hidden)):
            for form in (X, sp.csr_array(X))[: 1 + (rates == 0.3)]:
                one, two = (quick(kind, n_jobs=n, dropout=rates, **options).fit(form, y) for n in (1, 2))
                assert_same(one, two)
                assert all(np.isfinite(array).all() for array in arrays(one))


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_the_formula_is_the_gradient_with_these_masks(activation):
    """And every activation has its slope in compiled code: it follows the formula for some steps."""
    X, _, y = data(20, 4)
    units, rates = (4, 6, 5, 1), (0.2, 0.4, 0.5)
    coefs, intercepts = reference.draw_weights(np.random.RandomState(1), units, activation)
    masks = [factors(5, 2, level, 20, units[level], rate) for level, rate in enumerate(rates)]
    names = dict(hidden_activation=activation, out_activation="identity", loss="squared_error", alpha=0.1, masks=masks)
    _, d_coefs, d_intercepts = reference.gradients(coefs, intercepts, X, y, **names)
    for array, found in zip(coefs + intercepts, d_coefs + d_intercepts, strict=True):
        numerical = reference.numerical_gradient(
            lambda: reference.objective(coefs, intercepts, X, y, **names), array, 1e-6 if "elu" in activation else 1e-4
        )
        np.testing.assert_allclose(found, numerical, rtol=1e-5, atol=1e-7)
    model = quick(MLPRegressor, activation=activation, hidden_layer_sizes=(6, 5), dropout=list(rates), batch_size=7)
    losses, expected, _ = by_formula(model, X, y)
    np.testing.assert_allclose(model.fit(X, y).loss_curve_, losses, rtol=1e-10)
    for found, weights in zip(model.coefs_, expected, strict=True):
        np.testing.assert_allclose(found, weights, rtol=1e-8, atol=1e-10)


def test_nothing_changes_where_nothing_is_dropped():
    X, y, _ = data(90, 12)
    plain = quick(hidden_layer_sizes=(9,)).fit(X, y)
    for none in (0, 0.0, [0.0, 0.0], np.zeros(2)):
        model = quick(hidden_layer_sizes=(9,), dropout=none).fit(X, y)
        assert_same(model, plain)
        assert model._optimizer.masks is None
    assert not np.array_equal(quick(hidden_layer_sizes=(9,), dropout=0.1).fit(X, y).coefs_[0], plain.coefs_[0])


def test_the_users_x_is_not_written():
    X, y, _ = data(90, 12)
    X = np.ascontiguousarray(X)
    before = X.copy()
    X.flags.writeable = False
    quick(hidden_layer_sizes=(9,), dropout=[0.5, 0.0]).fit(X, y)
    np.testing.assert_array_equal(X, before)


# ---- going on -------------------------------------------------------------------------------------------------------
def test_masks_and_order_of_rows_come_from_one_generator():
    """Also in a `partial_fit` that is the first one with dropout, and makes the generator when something is drawn."""
    X, y = datasets.load_iris(return_X_y=True)
    models = []
    for state in (5, np.random.RandomState(5)):
        model = MLPClassifier((6,), batch_size=10, random_state=0).partial_fit(X, y, classes=[0, 1, 2])
        model.set_params(dropout=0.3, random_state=state).partial_fit(X, y)
        models.append(model)
    for found, expected in zip(models[0].coefs_, models[1].coefs_, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rates", [0.4, [0.3, 0.5, 0.0]])
def test_partial_fits_are_the_epochs_of_a_fit_also_by_way_of_a_pickle(rates, dtype):
    X, y, _ = data(90, 12)
    options = dict(hidden_layer_sizes=(9, 7), shuffle=False, dtype=dtype, dropout=rates, learning_rate="cosine")
    whole = quick(**options).fit(X, y)
    pieces = quick(**options)
    for _ in range(4):
        pieces = pickle.loads(pickle.dumps(pieces.partial_fit(X, y, classes=np.arange(3))))
    assert_same(pieces, whole)
    assert pieces.loss_curve_ == whole.loss_curve_


def test_a_warm_start_goes_on_with_other_bits_of_the_same_seed():
    X, y, _ = data(90, 12)
    model = quick(hidden_layer_sizes=(9,), dropout=0.4, max_iter=2, warm_start=True).fit(X, y)
    seed, first = model._optimizer.masks
    assert first == 0
    again = pickle.loads(pickle.dumps(model)).fit(X, y)
    assert again._optimizer.masks == (seed, 6)
    assert_same(model.fit(X, y), again)
    assert clone(model).fit(X, y)._optimizer.masks == (seed, 0)


def test_rates_can_change_between_calls_of_partial_fit():
    X, y, _ = data(90, 12)
    model = quick(hidden_layer_sizes=(9,)).partial_fit(X, y, classes=np.arange(3))
    model.set_params(dropout=0.5).partial_fit(X, y)
    assert model._optimizer.masks is not None
    assert np.isfinite(model.set_params(dropout=0.0).partial_fit(X, y).loss_)


# ---- what is refused, and what it is for ----------------------------------------------------------------------------
def test_what_is_illegal_is_named():
    X, y, _ = data(40, 5)
    cases = [
        ({"dropout": 1.0}, "dropout.* must be"),
        ({"dropout": -0.1}, "dropout.* must be"),
        ({"dropout": "0.5"}, "dropout.* must be"),
        ({"dropout": [0.1, 1.0]}, r"dropout must be a number in \[0, 1\)"),
        ({"dropout": [0.1, "a"]}, "dropout must be a number"),
        ({"dropout": [0.1]}, "give 2 rates, the input's first"),
        ({"dropout": [0.1, 0.2, 0.3]}, "give 2 rates"),
        ({"dropout": 0.1, "solver": "lbfgs"}, "does not go with solver='lbfgs'.*'adam'"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            quick(hidden_layer_sizes=(4,), **options).fit(X, y)
    with pytest.raises(ValueError, match="drops inputs, which goes with dense X"):
        quick(hidden_layer_sizes=(4,), dropout=[0.1, 0.0]).fit(sp.csr_array(X), y)


def test_dropout_lifts_accuracy_where_a_network_overfits():
    """600 of the digits for training, of which 30 % have labels by chance; the mean of three seeds."""
    X, y = datasets.load_digits(return_X_y=True)
    X, means = (X / 16).astype(np.float32), []
    for rate in (0.0, 0.3):
        scores = []
        for seed in range(3):
            rng = np.random.RandomState(seed)
            order = rng.permutation(len(X))
            train, test = order[:600], order[600:]
            labels = np.where(rng.uniform(size=600) < 0.3, rng.randint(10, size=600), y[train])
            options = dict(hidden_layer_sizes=(64, 64), batch_size=20, max_iter=20, dtype="float32", random_state=seed)
            model = quick(dropout=rate, **options).fit(X[train], labels)
            scores.append(model.score(X[test], y[test]))
        means.append(np.mean(scores))
    assert means[1] > means[0] + 0.05
