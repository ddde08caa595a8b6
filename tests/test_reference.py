"""The twin itself: its gradients against central differences, its training against scikit-learn, both in float64."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import reference

PAIRS = [(out, name) for name, loss in reference.LOSSES.items() for out in loss.outputs]
STEP = 1e-3  # of the differences: truncation (1e-12) and rounding (1e-13) both lie far below the limit of 1e-7


def make_targets(kind, rng, n, k):
    """Targets legal for a loss: 1-D labels after softmax, 0/1 after logistic, counts for poisson, else reals."""
    if "softmax" in reference.LOSSES[kind].outputs:
        return np.arange(n) % k
    if "logistic" in reference.LOSSES[kind].outputs:
        return rng.randint(0, 2, (n, k))
    return {
        "poisson": lambda: rng.poisson(1.5, (n, k)).astype(float),
        "tweedie": lambda: rng.poisson(1.5, (n, k)).astype(float),
        "gamma": lambda: rng.gamma(2, 1, (n, k)),
    }.get(kind, lambda: rng.standard_normal((n, k)))()


def small_problem(activation, loss, n_outputs, hidden, n=7):
    """A network and data without a hidden input z near relu's kink and without an error near a loss's.

    The differences must not cross it.
    """
    for seed in itertools.count():
        rng = np.random.RandomState(seed)
        coefs, intercepts = reference.draw_weights(rng, (4, *hidden, n_outputs), activation)
        X = rng.standard_normal((n, 4))
        zs, _ = reference.propagate(coefs, intercepts, X, activation, "identity")
        if all(np.abs(z).min() > 20 * STEP for z in zs[:-1]):
            y = make_targets(loss, rng, n, n_outputs)
            errors = np.abs(reference.as_targets(y, n_outputs) - zs[-1])
            kinks = {"absolute_error": [0], "quantile": [0], "huber": [1]}.get(loss, [])
            if all(np.abs(errors - kink).min() > 20 * STEP for kink in kinks):
                return coefs, intercepts, X, y, rng.uniform(0.2, 2.0, n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("hidden", "n_outputs"), [((5, 3), 3), ((4,), 2), ((), 3), ((3,), 1)])
@pytest.mark.parametrize(("out", "loss"), PAIRS)
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_gradient_equals_central_differences(activation, out, loss, hidden, n_outputs, weighted):
    if out == "softmax" and n_outputs == 1:
        n_outputs = 4  # a softmax of one column is constant
    coefs, intercepts, X, y, weight = small_problem(activation, loss, n_outputs, hidden)
    options = dict(hidden_activation=activation, out_activation=out, loss=loss, alpha=0.3)
    options["sample_weight"] = weight if weighted else None

    _, d_coefs, d_intercepts = reference.gradients(coefs, intercepts, X, y, **options)
    for array, analytic in zip(coefs + intercepts, d_coefs + d_intercepts, strict=True):
        numeric = reference.numerical_gradient(
            lambda: reference.objective(coefs, intercepts, X, y, **options), array, STEP
        )
        assert np.abs(analytic).max() > 1e-4  # a gradient of zeros would prove little
        np.testing.assert_allclose(analytic, numeric, rtol=0, atol=1e-7 * np.abs(analytic).max())


@pytest.mark.parametrize(("out", "loss"), PAIRS)
def test_reported_loss_is_the_objective_except_that_errors_are_averaged_over_outputs(out, loss):
    coefs, intercepts, X, y, weight = small_problem("tanh", loss, 3, (5,))
    options = dict(hidden_activation="tanh", out_activation=out, loss=loss, sample_weight=weight)
    divisor = 3 if loss in ("squared_error", "absolute_error", "huber", "quantile") else 1

    for alpha in (0.0, 0.7):
        reported = reference.gradients(coefs, intercepts, X, y, alpha=alpha, **options)[0]
        l2 = 0.5 * alpha * sum((w**2).sum() for w in coefs) / weight.sum()
        descended = reference.objective(coefs, intercepts, X, y, alpha=alpha, **options)
        assert reported == pytest.approx((descended - l2) / divisor + l2, rel=1e-14)


def test_labels_and_one_hot_targets_are_the_same():
    coefs, intercepts, X, y, weight = small_problem("relu", "log_loss", 3, (5,))
    options = dict(hidden_activation="relu", out_activation="softmax", loss="log_loss", sample_weight=weight)
    by_label = reference.gradients(coefs, intercepts, X, y, **options)
    by_row = reference.gradients(coefs, intercepts, X, np.eye(3)[y], **options)
    assert by_label[0] == by_row[0]
    for one, other in zip(by_label[1] + by_label[2], by_row[1] + by_row[2], strict=True):
        np.testing.assert_array_equal(one, other)


# name -> (hyper-parameters, other than the defaults)
OTHERS = {
    "huber": {"huber_delta": 0.3},
    "quantile": {"quantile": [0.1, 0.5, 0.95]},
    "tweedie": {"tweedie_power": 2.7},
    "smoothed_log_loss": {"label_smoothing": 0.4},
    "smoothed_binary_log_loss": {"label_smoothing": 0.4},
    "focal": {"focal_gamma": 0.7},
    "binary_focal": {"focal_gamma": 5.0},
}


@pytest.mark.parametrize("name", reference.FAMILIES)
def test_deltas_are_derivatives_for_other_hyper_parameters(name):
    rng = np.random.RandomState(4)
    loss = reference.loss_with(name, **OTHERS[name])
    targets = reference.as_targets(make_targets(name, rng, 9, 3), 3) + (name == "tweedie")
    z = rng.standard_normal((9, 3))
    outputs = reference.OUTPUTS[loss.outputs[0]]
    slope = reference.numerical_gradient(lambda: loss.terms(targets, outputs(z)).sum(), z)
    np.testing.assert_allclose(loss.delta(targets, outputs(z)), slope, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("out", reference.OUTPUTS)
def test_extreme_inputs_stay_finite(out):
    z = np.array([[-700.0, 0.0, 700.0], [-1e-300, 1e-300, 5.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(reference.OUTPUTS[out](z)).all()


def test_certain_mistakes_cost_minus_log_epsilon():
    dearest = -np.log(np.finfo(float).eps)
    wrong, right = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    assert reference.loss_value("log_loss", [0], wrong) == pytest.approx(dearest, rel=1e-14)
    assert reference.loss_value("binary_log_loss", [[1, 0]], wrong) == pytest.approx(2 * dearest, rel=1e-14)
    assert reference.loss_value("log_loss", [0], right) == pytest.approx(0, abs=1e-15)
    assert reference.loss_value("poisson", [[0.0, 2.0]], np.array([[1.0, 2.0]])) == 1.0


def test_zero_weights_drop_rows_and_a_batch_without_weight_makes_no_step():
    coefs, intercepts, X, y, weight = small_problem("tanh", "squared_error", 2, (5,), n=8)
    options = dict(hidden_activation="tanh", out_activation="identity", loss="squared_error", shuffle=False)
    options.update(batch_size=4, max_iter=3)
    weight[4:] = 0
    with_zeros = reference.train(coefs, intercepts, X, y, sample_weight=weight, **options)
    without = reference.train(coefs, intercepts, X[:4], y[:4], sample_weight=weight[:4], **options)
    for one, other in zip(with_zeros[1] + with_zeros[2], without[1] + without[2], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(2 * np.array(with_zeros[0]), without[0], rtol=1e-15)


# ---- against scikit-learn -------------------------------------------------------------------------------------------
N, N_FEATURES, HIDDEN, BATCH = 53, 6, (8, 5), 16  # 53 = 3 * 16 + 5: the last batch is short

# name: (estimator, targets from (rng, X), output activation, loss)
PROBLEMS = {
    "2 classes": (MLPClassifier, lambda r, X: (X[:, 0] > 0.2).astype(int), "logistic", "binary_log_loss"),
    "10 classes": (MLPClassifier, lambda r, X: np.arange(N) % 10, "softmax", "log_loss"),
    "multi-label": (MLPClassifier, lambda r, X: r.randint(0, 2, (N, 3)), "logistic", "binary_log_loss"),
    "1 output": (MLPRegressor, lambda r, X: X[:, 0] - X[:, 1] ** 2, "identity", "squared_error"),
    "3 outputs": (MLPRegressor, lambda r, X: r.standard_normal((N, 3)), "identity", "squared_error"),
    "poisson": (MLPRegressor, lambda r, X: r.poisson(2.0, N).astype(float), "exp", "poisson"),
    "poisson, 2 outputs": (MLPRegressor, lambda r, X: r.poisson(2.0, (N, 2)).astype(float), "exp", "poisson"),
}
SOLVERS = {
    "sgd nesterov": dict(solver="sgd", momentum=0.9, nesterovs_momentum=True, learning_rate_init=0.02),
    "sgd momentum": dict(solver="sgd", momentum=0.8, nesterovs_momentum=False, learning_rate_init=0.02),
    "sgd": dict(solver="sgd", momentum=0.0, nesterovs_momentum=False, learning_rate_init=0.1),
    "adam": dict(solver="adam", beta_1=0.85, beta_2=0.99, epsilon=1e-6, learning_rate_init=0.01),
}


def compare_with_sklearn(problem, activation, weighted=False, hidden=HIDDEN, **params):
    """Train both from one seed, compare losses and weights to 1e-9, and return the number of epochs."""
    estimator_class, targets, out, loss = PROBLEMS[problem]
    rng = np.random.RandomState(7)
    X = rng.standard_normal((N, N_FEATURES))
    y = targets(rng, X)
    weight = rng.uniform(0.0, 3.0, N) if weighted else None
    params = dict(alpha=0.05, batch_size=BATCH, max_iter=5) | params
    model = estimator_class(hidden_layer_sizes=hidden, activation=activation, random_state=3, **params)
    if loss == "poisson":
        model.set_params(loss="poisson")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, sample_weight=weight)
    assert model.out_activation_ == out

    rng = np.random.RandomState(3)
    start = reference.draw_weights(rng, (N_FEATURES, *hidden, model.n_outputs_), activation)
    losses, coefs, intercepts = reference.train(
        *start,
        X,
        y,
        hidden_activation=activation,
        out_activation=out,
        loss=loss,
        rng=rng,
        sample_weight=weight,
        **params,
    )
    np.testing.assert_allclose(losses, model.loss_curve_, rtol=1e-9)
    for ours, theirs in zip(coefs + intercepts, model.coefs_ + model.intercepts_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max())
    moved = max(np.abs(one - other).max() for one, other in zip(coefs, start[0], strict=True))
    assert moved > 1e-3  # equality of untrained weights would prove little
    return model.n_iter_


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_training_equals_sklearn(problem, activation, solver, weighted):
    assert compare_with_sklearn(problem, activation, weighted, **SOLVERS[solver]) == 5


SGD = dict(solver="sgd", learning_rate_init=0.1)
VARIANTS = {
    "no shuffle": (dict(shuffle=False), 5),
    "no hidden layer": (dict(hidden=()), 5),
    "one wide layer": (dict(hidden=(33,)), 5),
    "batch of one": (dict(batch_size=1), 5),
    "full batch": (dict(batch_size=N), 5),
    "no penalty": (dict(alpha=0.0), 5),
    "momentum 1": (dict(SGD, momentum=1.0, learning_rate_init=0.01), 5),
    "invscaling": (dict(SGD, learning_rate="invscaling", power_t=0.3), 5),
    "invscaling under adam is ignored": (dict(solver="adam", learning_rate="invscaling"), 5),
    "constant stops": (dict(SGD, tol=0.05, n_iter_no_change=2, max_iter=60), None),
    "adam stops": (dict(solver="adam", tol=0.05, n_iter_no_change=2, max_iter=60), None),
    "invscaling stops": (dict(SGD, learning_rate="invscaling", tol=0.05, n_iter_no_change=2, max_iter=60), None),
    "adaptive stops at 1e-6": (dict(SGD, learning_rate="adaptive", tol=0.05, n_iter_no_change=2, max_iter=90), None),
}


@pytest.mark.parametrize("problem", ["10 classes", "3 outputs"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_equal_sklearn(problem, variant):
    params, n_epochs = VARIANTS[variant]
    n_iter = compare_with_sklearn(problem, "tanh", **params)
    if n_epochs is None:
        assert 3 <= n_iter < params["max_iter"]  # the stop test fired
    else:
        assert n_iter == n_epochs
