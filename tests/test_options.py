"""What scikit-learn has not: rmsprop, other losses and outputs of the classifier. Initial weights: test_initial."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import make_moons
from sklearn.metrics import accuracy_score

import reference
from fastnn import MLPClassifier, MLPRegressor
from fastnn.core.nn.losses import LOSSES
from fastnn.core.nn.optimizers import OPTIMIZERS
from fastnn.plan import loss_of

RNG = np.random.RandomState(0)
N = 61
X = RNG.standard_normal((N, 6)).astype(np.float32)
LABELS = X[:, :3].argmax(axis=1)
BINARY = (X[:, 0] > 0.1).astype(int)
INDICATOR = (X[:, :4] > 0.3).astype(int)
VALUES = X[:, :2] - X[:, 1:3] ** 2
ONE_HOT = np.eye(3, dtype=int)[LABELS]
WEIGHTS = RNG.uniform(0.1, 2, N)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(kind=MLPClassifier, **parameters):
    return kind(**{"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, "batch_size": 16, **parameters})


def arrays(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- against the float64 twin ---------------------------------------------------------------------------------------
QUADRATIC = {"loss": "squared_error"}
SOFTMAX, LOGISTIC = {"out_activation": "softmax"}, {"out_activation": "logistic"}
SGD = {"solver": "sgd", "learning_rate_init": 0.3}
# name -> (targets, parameters, the twin's output activation and loss, number of outputs)
TWINS = {
    "softmax, 2 classes": (BINARY, SOFTMAX, "softmax", "log_loss", 2),
    "logistic, 3 classes": (LABELS, LOGISTIC, "logistic", "binary_log_loss", 3),
    "quadratic, 2 classes": (BINARY, QUADRATIC, "logistic", "logistic_squared_error", 1),
    "quadratic, 3 classes": (LABELS, QUADRATIC, "softmax", "softmax_squared_error", 3),
    "quadratic, labels": (INDICATOR, QUADRATIC, "logistic", "logistic_squared_error", 4),
    "quadratic, softmax, 2 classes": (BINARY, QUADRATIC | SOFTMAX, "softmax", "softmax_squared_error", 2),
    "quadratic, logistic, 3 classes": (LABELS, QUADRATIC | LOGISTIC, "logistic", "logistic_squared_error", 3),
    "quadratic, softmax, one-hot": (ONE_HOT, QUADRATIC | SOFTMAX, "softmax", "softmax_squared_error", 3),
    "softmax, one-hot": (ONE_HOT, SOFTMAX, "softmax", "log_loss", 3),
    "rmsprop": (LABELS, {}, "softmax", "log_loss", 3),
    "rmsprop, regressor": (VALUES, {}, "identity", "squared_error", 2),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("solver", [SGD, {"solver": "adam"}, {"solver": "rmsprop", "rho": 0.8, "epsilon": 1e-4}])
@pytest.mark.parametrize("name", TWINS)
def test_training_is_the_reference(name, solver, weighted):
    y, parameters, out, loss, n_outputs = TWINS[name]
    kind = MLPRegressor if out == "identity" else MLPClassifier
    numbers = {"alpha": 0.02, "learning_rate_init": 0.01, "max_iter": 5, "batch_size": 16, **solver}
    model = quick(kind, activation="tanh", dtype="float64", **numbers, **parameters)
    weight = WEIGHTS if weighted else None
    model.fit(X, y, sample_weight=weight)
    rng = np.random.RandomState(0)
    start = reference.draw_weights(rng, (6, 5, n_outputs), "tanh")
    losses, coefs, intercepts = reference.train(
        *start, X, y, hidden_activation="tanh", out_activation=out, loss=loss, rng=rng, sample_weight=weight, **numbers
    )
    assert (model.out_activation_, model.n_outputs_) == (out, n_outputs)
    np.testing.assert_allclose(model.loss_curve_, losses, rtol=1e-12)
    for ours, theirs in zip(arrays(model), coefs + intercepts, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * abs(theirs).max())
    assert abs(coefs[0] - start[0][0]).max() > 1e-3
    outputs = reference.forward(coefs, intercepts, X, "tanh", out)[-1]
    if kind is MLPClassifier:
        expected = {(2, 1): np.c_[1 - outputs, outputs]}.get((outputs.ndim, outputs.shape[1]), outputs)
        if out == "logistic" and y.ndim == 1:
            expected = expected / expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(model.predict_proba(X.astype(float)), expected, rtol=1e-10)
        right = expected.argmax(axis=1) == (y if y.ndim == 1 else y.argmax(axis=1))
        assert y is INDICATOR or model.score(X, y) == right.mean()
    else:
        np.testing.assert_allclose(model.predict(X.astype(float)), outputs, rtol=1e-10)


@pytest.mark.parametrize("name", TWINS)
def test_lbfgs_finds_a_lower_loss_of_the_same_kind(name):
    """The final loss is the twin's at the final weights; 30 iterations lower it."""
    y, parameters, out, loss, _ = TWINS[name]
    kind = MLPRegressor if out == "identity" else MLPClassifier
    model = quick(kind, solver="lbfgs", activation="tanh", dtype="float64", alpha=0.02, **parameters)
    first, last = (model.set_params(max_iter=n).fit(X, y).loss_ for n in (1, 30))
    assert last < 0.9 * first
    outputs = reference.forward(model.coefs_, model.intercepts_, X, "tanh", out)[-1]
    assert last == pytest.approx(reference.loss_value(loss, y, outputs, coefs=model.coefs_, alpha=0.02), rel=1e-10)


def test_one_step_of_the_quadratic_cost_by_hand():
    """The network of Nielsen's book, one mini-batch: eta times the mean over its rows of the gradient of each row."""
    eta = 3.0
    rng = np.random.RandomState(1)
    W1, W2, b1, b2 = rng.randn(6, 5), rng.randn(5, 3), rng.randn(5), rng.randn(3)
    gradients = [np.zeros_like(array) for array in (W1, W2, b1, b2)]
    for x, y in zip(X.astype(float), ONE_HOT, strict=True):
        h = 1 / (1 + np.exp(-(x @ W1 + b1)))
        a = 1 / (1 + np.exp(-(h @ W2 + b2)))
        delta = (a - y) * a * (1 - a)
        below = (W2 @ delta) * h * (1 - h)
        for total, part in zip(gradients, (np.outer(x, below), np.outer(h, delta), below, delta), strict=True):
            total += part / N
    model = quick(solver="sgd", momentum=0, learning_rate_init=eta, alpha=0, max_iter=1, activation="logistic")
    model.set_params(loss="squared_error", out_activation="logistic", dtype="float64", batch_size=N)
    model.fit(X, LABELS, coefs_init=[W1, W2], intercepts_init=[b1, b2])
    for array, before, gradient in zip(arrays(model), (W1, W2, b1, b2), gradients, strict=True):
        np.testing.assert_allclose(array, before - eta * gradient, rtol=1e-12)


def test_two_moons_have_the_published_losses():
    """2-3-2, tanh and softmax, full-batch descent by summed gradients: 0.432387 after one step, 0.068947 after 1001."""
    np.random.seed(0)
    points, y = make_moons(200, noise=0.20)
    np.random.seed(0)
    coefs = [np.random.randn(2, 3) / np.sqrt(2), np.random.randn(3, 2) / np.sqrt(3)]
    numbers = dict(solver="sgd", momentum=0, batch_size=200, learning_rate_init=0.01 * 200, alpha=0.01, shuffle=False)
    model = MLPClassifier((3,), "tanh", **numbers, max_iter=1002, tol=0, n_iter_no_change=np.inf, dtype="float64")
    model.set_params(out_activation="softmax").fit(points, y, coefs_init=coefs, intercepts_init=[[0, 0, 0], [0, 0]])
    assert [round(model.loss_curve_[step], 6) for step in (1, 1001)] == [0.432387, 0.068947]


# ---- one-hot rows ---------------------------------------------------------------------------------------------------
SPELLINGS = {
    "integers": ONE_HOT,
    "floats": ONE_HOT.astype(float),
    "bool": ONE_HOT.astype(bool),
    "lists": ONE_HOT.tolist(),
    "csr": sp.csr_array(ONE_HOT),
    "csc": sp.csc_matrix(ONE_HOT),
}
TRAININGS = {
    "adam": {},
    "sgd, early stopping": {"solver": "sgd", "early_stopping": True, "validation_fraction": 0.3},
    "rmsprop, quadratic": {"solver": "rmsprop", **QUADRATIC},
    "lbfgs": {"solver": "lbfgs"},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_hot_rows_train_as_the_numbers_of_their_columns(spelling, training, dtype):
    options = {**TRAININGS[training], **SOFTMAX, "dtype": dtype, "random_state": 3}
    numbers, rows = quick(**options).fit(X, LABELS), quick(**options).fit(X, SPELLINGS[spelling])
    assert_equal(arrays(rows), arrays(numbers))
    assert rows.loss_ == numbers.loss_
    assert getattr(rows, "validation_scores_", None) == getattr(numbers, "validation_scores_", None)
    np.testing.assert_array_equal(rows.predict_proba(X), numbers.predict_proba(X))
    np.testing.assert_array_equal(rows.classes_, numbers.classes_)
    predicted = rows.predict(X)
    assert sp.issparse(predicted) == sp.issparse(SPELLINGS[spelling])
    dense = predicted.toarray() if sp.issparse(predicted) else predicted
    np.testing.assert_array_equal(dense, np.eye(3)[numbers.predict(X)])
    assert rows.score(X, SPELLINGS[spelling]) == numbers.score(X, LABELS)


def test_two_columns_are_two_classes():
    one_hot = np.eye(2)[BINARY]
    for early in ({}, {"early_stopping": True}):
        numbers, rows = (quick(**SOFTMAX, **early).fit(X, y) for y in (BINARY, one_hot))
        assert_equal(arrays(rows), arrays(numbers))
        np.testing.assert_array_equal(rows.predict(X), np.eye(2)[numbers.predict(X)])
    assert quick().fit(X, one_hot).out_activation_ == "logistic"  # without the option: two labels


def test_one_hot_rows_in_pieces():
    options = {**SOFTMAX, "shuffle": False, "solver": "rmsprop", "batch_size": "auto"}
    numbers, rows = quick(**options), quick(**options)
    for piece in (slice(0, 30), slice(30, 40), slice(40, None)):
        numbers.partial_fit(X[piece], LABELS[piece], classes=[0, 1, 2])
        rows.partial_fit(X[piece], ONE_HOT[piece], classes=[0, 1, 2])
    assert_equal(arrays(rows), arrays(numbers))


NOT_ONE_HOT = {
    "two ones": (4, [1, 0, 1], "row 4 holds 2 ones"),
    "none": (0, [0, 0, 0], "row 0 holds 0 ones"),
    "all": (60, [1, 1, 1], "row 60 holds 3 ones"),
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("case", NOT_ONE_HOT)
def test_rows_that_are_not_one_hot_are_named(case, sparse):
    row, values, message = NOT_ONE_HOT[case]
    spoiled = ONE_HOT.copy()
    spoiled[row] = values
    given = sp.csr_array(spoiled) if sparse else spoiled
    for call in (lambda m: m.fit(X, given), lambda m: m.partial_fit(X, given, classes=[0, 1, 2])):
        model = quick(**SOFTMAX)
        with pytest.raises(ValueError, match=f"y must be one-hot, but {message}.*out_activation='logistic' or 'auto'"):
            call(model)
        assert not hasattr(model, "classes_")


# ---- predictions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("out_activation", ["softmax", "logistic"])
@pytest.mark.parametrize("names", [["no", "yes"], ["a", "b", "c"], ["only"]])
def test_classes_come_back_as_they_were(names, out_activation):
    y = np.array(names)[LABELS % len(names)]
    for early in (False, True):
        options = dict(out_activation=out_activation, early_stopping=early, learning_rate_init=0.05)
        model = quick(**options, max_iter=30).fit(X, y)
        predicted, proba = model.predict(X), model.predict_proba(X)
        assert predicted.dtype == y.dtype
        if len(names) > 1:
            np.testing.assert_array_equal(predicted, model.classes_[proba.argmax(axis=1)])
            assert model.score(X, y) == accuracy_score(y, predicted) > 0.5
            assert proba.shape == (N, len(names))
        else:
            assert set(predicted) == {"only"}
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
        with np.errstate(divide="ignore"):  # certainty of float32
            np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), proba, rtol=1e-5, atol=1e-7)


def test_logistic_outputs_of_classes_are_those_of_labels():
    """Three classes are trained as the labels of their one-hot rows; probabilities are divided by their sum."""
    for loss in ("log_loss", "squared_error"):
        classes, labels = (quick(**LOGISTIC, loss=loss).fit(X, y) for y in (LABELS, ONE_HOT))
        assert_equal(arrays(classes), arrays(labels))
        raw = labels.predict_proba(X)
        np.testing.assert_allclose(classes.predict_proba(X), raw / raw.sum(axis=1, keepdims=True), rtol=1e-6)
        np.testing.assert_array_equal(classes.predict(X), raw.argmax(axis=1))
        np.testing.assert_array_equal(labels.predict(X), raw > 0.5)


def test_where_all_logistic_outputs_are_zero_all_classes_are_equally_probable():
    model = quick(**LOGISTIC).fit(X, LABELS)
    model.intercepts_[-1][:] = -1000
    np.testing.assert_array_equal(model.predict_proba(X), np.full((N, 3), np.float32(1 / 3)))


# ---- going on -------------------------------------------------------------------------------------------------------
CONTINUED = {
    "rmsprop": (MLPClassifier, LABELS, {"solver": "rmsprop"}),
    "rmsprop, regressor": (MLPRegressor, VALUES, {"solver": "rmsprop"}),
    "quadratic": (MLPClassifier, LABELS, {"solver": "sgd", **QUADRATIC, **LOGISTIC}),
    "softmax, 2 classes": (MLPClassifier, BINARY, {"solver": "sgd", **SOFTMAX}),
    "softmax, one-hot": (MLPClassifier, ONE_HOT, SOFTMAX),
}


@pytest.mark.parametrize("name", CONTINUED)
def test_partial_fits_are_the_epochs_of_a_fit(name):
    """On csr rows too: the moments are carried from call to call."""
    kind, y, parameters = CONTINUED[name]
    for data in (X, sp.csr_array(np.where(X > 0, X, 0))):
        whole = quick(kind, shuffle=False, max_iter=4, **parameters).fit(data, y)
        pieces = quick(kind, shuffle=False, **parameters)
        more = {"classes": np.unique(y) if np.ndim(y) == 1 else np.arange(3)} if kind is MLPClassifier else {}
        for _ in range(4):
            pieces.partial_fit(data, y, **more)
        assert_equal(arrays(pieces), arrays(whole))
        assert pieces.loss_curve_ == whole.loss_curve_
        warm = quick(kind, shuffle=False, max_iter=2, warm_start=True, **parameters).fit(data, y).fit(data, y)
        same = all(np.array_equal(a, b) for a, b in zip(arrays(warm), arrays(whole), strict=True))
        assert not same  # a warm start makes a new optimizer


def test_schedules_are_sgds_alone():
    options = dict(solver="rmsprop", learning_rate_init=0.05, max_iter=40, tol=0.01, n_iter_no_change=2)
    for solver in (name for name, row in OPTIMIZERS.items() if not row.scheduled):
        plain = quick(MLPRegressor, **{**options, "solver": solver}).fit(X, VALUES)
        assert plain.n_iter_ < 40
        for schedule in ("invscaling", "adaptive"):
            other = quick(MLPRegressor, **{**options, "solver": solver}, learning_rate=schedule).fit(X, VALUES)
            assert_equal(arrays(other), arrays(plain))
            assert other.loss_curve_ == plain.loss_curve_


@pytest.mark.parametrize("name", CONTINUED)
def test_threads_change_no_bit(name, monkeypatch):
    monkeypatch.setattr("fastnn.threads.CROSSOVER_FLOPS", 0)
    kind, y, parameters = CONTINUED[name]
    alone, together = (quick(kind, n_jobs=n, hidden_layer_sizes=(40, 9), **parameters).fit(X, y) for n in (1, 2))
    assert_equal(arrays(together), arrays(alone))


# ---- the tables -----------------------------------------------------------------------------------------------------
def test_losses_are_found_by_their_outputs():
    named = {name: row for name, row in LOSSES.items() if row.users_name}
    found = {loss_of(row.users_name, row.output, classifier=row.classifier): name for name, row in named.items()}
    assert found == {name: name for name in named}
    assert LOSSES.keys() - named.keys() == {"smoothed_log_loss", "smoothed_binary_log_loss"}
    for classifier, pair in ((True, ("poisson", "exp")), (False, ("squared_error", "softmax"))):
        with pytest.raises(ValueError) as caught:
            loss_of(*pair, classifier=classifier)
        message = str(caught.value)
        assert message.startswith(f"loss={pair[0]!r} does not go with out_activation={pair[1]!r}; legal are ")
        for row in named.values():
            legal = f"loss={row.users_name!r} with out_activation={row.output!r}"
            assert (legal in message) == (row.classifier == classifier)
