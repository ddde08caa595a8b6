"""Initial weights: drawn by the formulas of their sources, and given by the user."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import reference
from fastnn import MLPClassifier, MLPRegressor
from fastnn.initial import INITS, draw_weights

KINDS = (MLPClassifier, MLPRegressor)
RNG = np.random.RandomState(0)
X = RNG.standard_normal((70, 6)).astype(np.float32)
LABELS = X[:, :3].argmax(axis=1)
VALUES = X[:, :3] @ RNG.standard_normal((3, 3)).astype(np.float32)
UNITS = (6, 5, 3)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(kind, **parameters):
    return kind(**{"hidden_layer_sizes": UNITS[1:-1], "max_iter": 3, "random_state": 0, **parameters})


def target_of(kind):
    return LABELS if kind is MLPClassifier else VALUES


def arrays(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def untrained(kind, **parameters):
    """The initial weights of an estimator: what is left of them after a step of almost no length."""
    numbers = dict(solver="sgd", learning_rate_init=1e-300, momentum=0, max_iter=1, dtype="float64")
    return quick(kind, **numbers, **parameters).fit(X, target_of(kind))


# ---- drawn ----------------------------------------------------------------------------------------------------------
# init -> (distribution, its standard deviation or bound from fan_in and fan_out)
FORMULAS = {
    "glorot_uniform": ("uniform", lambda n, m: math.sqrt(6 / (n + m))),
    "glorot_normal": ("norm", lambda n, m: math.sqrt(2 / (n + m))),
    "he_uniform": ("uniform", lambda n, m: math.sqrt(6 / n)),
    "he_normal": ("norm", lambda n, m: math.sqrt(2 / n)),
    "lecun_normal": ("norm", lambda n, m: 1 / math.sqrt(n)),
    "normal": ("norm", lambda n, m: 0.3),
}


def test_every_distribution_has_its_formula():
    assert FORMULAS.keys() == INITS.keys()


def scale_of(init):
    return {"init_scale": 0.3} if init == "normal" else {}


@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("init", FORMULAS)
def test_weights_have_the_distribution_of_their_source(init, activation):
    family, width = FORMULAS[init]
    drawn = draw_weights(np.random.RandomState(1), (300, 100, 40), activation, np.float64, init=init, **scale_of(init))
    for layer, (fan_in, fan_out) in enumerate([(300, 100), (100, 40)]):
        wide = width(fan_in, fan_out)
        if init == "glorot_uniform" and activation == "logistic":
            wide /= math.sqrt(3)  # scikit-learn's
        place = (-wide, 2 * wide) if family == "uniform" else (0, wide)
        sample = np.concatenate([drawn[0][layer].ravel(), drawn[1][layer]])
        assert stats.kstest(sample, getattr(stats, family)(*place).cdf).pvalue > 0.01
        assert sample.std() == pytest.approx(wide / math.sqrt(3) if family == "uniform" else wide, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("bias", ["match", "zeros"])
def test_the_default_is_scikit_learns_draw(kind, activation, bias):
    coefs, intercepts = reference.draw_weights(np.random.RandomState(7), UNITS, activation)
    fitted = untrained(kind, activation=activation, init_bias=bias, random_state=7)
    if bias == "match":
        assert_equal(arrays(fitted), coefs + intercepts)
    else:
        assert_equal(fitted.coefs_[0], coefs[0])  # the second layer's draws begin where no biases were drawn
        assert max(abs(array).max() for array in fitted.intercepts_) < 1e-290


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init", FORMULAS)
def test_the_estimators_draw_layer_by_layer_weights_first(kind, init):
    fitted = untrained(kind, init=init, random_state=4, **scale_of(init))
    rng = np.random.RandomState(4)
    family, width = FORMULAS[init]
    for layer, (fan_in, fan_out) in enumerate(pairwise(UNITS)):
        wide = width(fan_in, fan_out)
        for array in (fitted.coefs_[layer], fitted.intercepts_[layer]):
            drawn = rng.uniform(-wide, wide, array.shape) if family == "uniform" else wide * rng.randn(*array.shape)
            np.testing.assert_allclose(array, drawn, rtol=1e-15)


def test_float32_weights_are_the_float64_ones_rounded():
    for init in FORMULAS:
        wide, narrow = (
            draw_weights(np.random.RandomState(0), UNITS, "tanh", np.dtype(dtype), init=init, **scale_of(init))
            for dtype in ("float64", "float32")
        )
        assert_equal(narrow[0] + narrow[1], [array.astype(np.float32) for array in wide[0] + wide[1]])


MISMATCHED = {
    "missing": (dict(init="normal"), "init='normal' needs init_scale, the standard deviation: a number > 0"),
    "superfluous": (dict(init_scale=0.1), "init_scale=0.1 goes with init='normal' only, got init='glorot_uniform'"),
    "other": (dict(init="he_normal", init_scale=1), "init_scale=1 goes with init='normal' only, got init='he_normal'"),
    "zero": (dict(init="normal", init_scale=0), "The 'init_scale' parameter .* must be None or a float in the range"),
    "too large": (dict(init="normal", init_scale=1e39), "init_scale=1e[+]39 is too large for float32"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", MISMATCHED)
def test_init_and_init_scale_must_go_together(kind, case):
    parameters, message = MISMATCHED[case]
    for method in ("fit", "partial_fit"):
        estimator = quick(kind, **parameters)
        with pytest.raises(ValueError, match=message):
            more = {"classes": [0, 1, 2]} if kind is MLPClassifier and method == "partial_fit" else {}
            getattr(estimator, method)(X, target_of(kind), **more)
        assert not hasattr(estimator, "coefs_")


# ---- given ----------------------------------------------------------------------------------------------------------
def given_weights(seed=5):
    coefs, intercepts = reference.draw_weights(np.random.RandomState(seed), UNITS, "relu")
    return coefs, intercepts


@pytest.mark.parametrize("solver", ["sgd", "adam", "rmsprop", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_given_weights_start_the_network_and_change_no_draw(kind, solver):
    """Given the weights that would have been drawn, nothing changes: shuffles neither."""
    coefs, intercepts = reference.draw_weights(np.random.RandomState(0), UNITS, "relu")
    plain = quick(kind, solver=solver, batch_size=16).fit(X, target_of(kind))
    for given in (
        dict(coefs_init=coefs, intercepts_init=intercepts),
        dict(coefs_init=coefs),
        {"intercepts_init": intercepts},
    ):
        fitted = quick(kind, solver=solver, batch_size=16).fit(X, target_of(kind), **given)
        assert_equal(arrays(fitted), arrays(plain))
    other = quick(kind, solver=solver, batch_size=16).fit(X, target_of(kind), coefs_init=given_weights()[0])
    assert abs(other.coefs_[0] - plain.coefs_[0]).max() > 0.01


FORMS = {
    "float32": lambda a: a.astype(np.float32),
    "fortran": np.asfortranarray,
    "lists": lambda a: a.tolist(),
    "integers": lambda a: (a * 10).astype(int),
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_form_of_given_weights_is_copied_and_left_alone(form, dtype):
    coefs, intercepts = ([FORMS[form](array) for array in group] for group in given_weights())
    before = [np.array(array) for array in coefs + intercepts]
    numbers = dict(solver="sgd", momentum=0, learning_rate_init=1e-40, max_iter=1, dtype=dtype)
    fitted = quick(MLPRegressor, **numbers).fit(X, VALUES, coefs_init=tuple(coefs), intercepts_init=intercepts)
    for array, expected in zip(arrays(fitted), before, strict=True):
        np.testing.assert_allclose(array, expected.astype(dtype), atol=1e-30)
    fitted.set_params(learning_rate_init=0.1, warm_start=True).fit(X, VALUES)
    assert_equal([np.array(array) for array in coefs + intercepts], before)


def test_given_weights_come_before_those_of_an_earlier_fit():
    coefs, _ = given_weights()
    estimator = quick(MLPRegressor, solver="sgd", momentum=0, learning_rate_init=1e-30, warm_start=True).fit(X, VALUES)
    biases = [array.copy() for array in estimator.intercepts_]
    estimator.fit(X, VALUES, coefs_init=coefs)
    assert_equal(estimator.coefs_, [array.astype(np.float32) for array in coefs])
    assert_equal(estimator.intercepts_, biases)
    assert len(estimator.loss_curve_) == 6  # it is a warm start all the same


WRONG = {
    "number": (lambda c: 3, "must be a list of arrays, one for each layer, got 3"),
    "short": (lambda c: c[:1], "must hold 2 arrays, one for each layer, got 1"),
    "long": (lambda c: [*c, c[0]], "must hold 2 arrays, one for each layer, got 3"),
    "shape": (lambda c: [c[0], c[1][:-1]], r"\[1\] must have shape \(.*\), got \(.*\)"),
    "flat": (lambda c: [c[0], 1.5], r"\[1\] must have shape \(.*\), got \(\)"),
    "ragged": (lambda c: [[[1, 2], [3]], c[1]], r"\[0\] must have shape \(.*\), got rows of different lengths"),
    "words": (lambda c: [c[0].astype(str), c[1]], r"\[0\] must hold numbers, got ndarray of dtype <U"),
    "complex": (lambda c: [c[0], c[1] * 1j], r"\[1\] must hold numbers, got ndarray of dtype complex128"),
    "None": (lambda c: [None, c[1]], r"\[0\] must hold numbers, got NoneType of dtype object"),
    "NaN": (lambda c: [c[0] * np.nan, c[1]], r"\[0\] contains NaN"),
    "inf": (lambda c: [c[0], c[1] - np.inf], r"\[1\] contains infinity"),
    "too large": (lambda c: [c[0], c[1] + 1e39], r"must be finite. .*\[1\] holds 1e\+39, .* too large .* float32"),
}


@pytest.mark.parametrize("name", ["coefs_init", "intercepts_init"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_are_named_with_their_layer(case, name):
    spoil, message = WRONG[case]
    good = dict(zip(("coefs_init", "intercepts_init"), given_weights(), strict=True))
    estimator = quick(MLPClassifier).fit(X, LABELS)
    before, values = dict(vars(estimator)), [array.copy() for array in arrays(estimator)]
    with pytest.raises(ValueError, match=message) as caught:
        estimator.fit(X, LABELS, **{**good, name: spoil(good[name])})
    assert name in str(caught.value)
    assert all(vars(estimator)[key] is value for key, value in before.items())
    assert_equal(arrays(estimator), values)


def test_given_weights_go_through_a_pipeline():
    coefs, _ = given_weights()
    scaled = StandardScaler().fit_transform(X)
    expected = arrays(quick(MLPRegressor).fit(scaled, VALUES, coefs_init=coefs))
    pipeline = make_pipeline(StandardScaler(), quick(MLPRegressor))
    assert_equal(arrays(pipeline.fit(X, VALUES, mlpregressor__coefs_init=coefs)[-1]), expected)
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(StandardScaler(), quick(MLPRegressor).set_fit_request(coefs_init=True))
        assert_equal(arrays(routed.fit(X, VALUES, coefs_init=coefs)[-1]), expected)
