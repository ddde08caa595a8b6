"""scikit-learn's private methods in subclasses and on instances: honoured, or refused by name. The _optimizer."""

import pickle

import numpy as np
import pytest
from sklearn import neural_network

from fastnn import MLPClassifier, MLPRegressor
from fastnn.overrides import OWN, REFUSED

RNG = np.random.RandomState(2)
X = RNG.normal(size=(80, 4))
BINARY, LABELS = (X[:, 0] > 0).astype(int), X[:, :3].argmax(axis=1)
STILL = {"solver": "sgd", "learning_rate_init": 1e-12, "max_iter": 1, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---- honoured -------------------------------------------------------------------------------------------------------
class Quarter(MLPClassifier):
    """A classifier whose layers all start from 1/4 and 0."""

    def _init_coef(self, fan_in, fan_out, dtype):
        return np.full((fan_in, fan_out), 0.25, dtype), np.zeros(fan_out, dtype)


class Doubled(MLPClassifier):
    """A classifier that starts from twice the drawn weights, and draws once more."""

    def _init_coef(self, fan_in, fan_out, dtype):
        coef, intercept = super()._init_coef(fan_in, fan_out, dtype)
        return 2 * coef, intercept + self._random_state.uniform(0, 1e-3, fan_out)


def sklearn_twin(cls):
    return type(cls.__name__, (neural_network.MLPClassifier,), {"_init_coef": vars(cls)["_init_coef"]})


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_init_coef_of_a_subclass_is_where_training_starts(solver):
    model = Quarter((3,), **{**STILL, "solver": solver, "max_fun": 1, "tol": 1e9}).fit(X, LABELS)
    assert all(np.allclose(w, 0.25, atol=1e-6) for w in model.coefs_) or solver == "lbfgs"
    twin = MLPClassifier((3,), **{**STILL, "solver": solver, "max_fun": 1, "tol": 1e9})
    start = [np.full(w.shape, 0.25) for w in model.coefs_], [np.zeros(b.shape) for b in model.intercepts_]
    twin.fit(X, LABELS, coefs_init=start[0], intercepts_init=start[1])
    np.testing.assert_array_equal(model.coefs_[0], twin.coefs_[0])


def test_init_coef_may_draw_from_the_random_state_as_in_scikit_learn():
    Doubled.__qualname__ = "Doubled"
    twin = type("Doubled", (neural_network.MLPClassifier,), {})

    def init_coef(self, fan_in, fan_out, dtype):
        coef, intercept = neural_network.MLPClassifier._init_coef(self, fan_in, fan_out, dtype)
        return 2 * coef, intercept + self._random_state.uniform(0, 1e-3, fan_out)

    twin._init_coef = init_coef
    options = {"max_iter": 5, "random_state": 3}
    ours, theirs = Doubled((6,), dtype="float64", **options).fit(X, LABELS), twin((6,), **options).fit(X, LABELS)
    for found, expected in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_init_coef_of_an_instance_counts():
    model = MLPClassifier((3,), **STILL)
    model._init_coef = lambda fan_in, fan_out, dtype: (np.full((fan_in, fan_out), 0.5, dtype), np.zeros(fan_out))
    np.testing.assert_allclose(model.fit(X, LABELS).coefs_[0], 0.5, atol=1e-6)


@pytest.mark.parametrize(
    "answer, message",
    [
        ((np.ones((2, 2)), np.zeros(3)), r"_init_coef's coefs\[0\] must have shape \(4, 3\)"),
        ((np.full((4, 3), np.nan), np.zeros(3)), "contains NaN"),
    ],
)
def test_what_init_coef_returns_is_checked(answer, message):
    model = MLPClassifier((3,), **STILL)
    model._init_coef = lambda fan_in, fan_out, dtype: answer if fan_in == 4 else (np.ones((3, 3)), np.zeros(3))
    with pytest.raises(ValueError, match=message):
        model.fit(X, LABELS)
    assert not hasattr(model, "coefs_")


class Shifted:
    """Mixin that learns from X + 1, and from the first half of the rows."""

    def _validate_input(self, X, y, incremental, reset):
        X, y = super()._validate_input(X, y, incremental, reset)
        return X[: len(X) // 2] + 1, y[: len(X) // 2]


@pytest.mark.parametrize(
    "kind, y",
    [
        (MLPClassifier, BINARY),
        (MLPClassifier, np.array(["c", "a", "b"])[LABELS]),
        (MLPClassifier, (X[:, :3] > 0).astype(int)),
        (MLPRegressor, X[:, 0]),
        (MLPRegressor, X[:, :2]),
    ],
)
def test_validate_input_of_a_subclass_is_what_is_learned_from(kind, y):
    options = {"hidden_layer_sizes": (5,), "max_iter": 8, "random_state": 0}
    model = type("Sub", (Shifted, kind), {})(**options).fit(X, y)
    half = len(X) // 2
    twin = kind(**options).fit(X[:half] + 1, y[:half])
    np.testing.assert_array_equal(model.coefs_[0], twin.coefs_[0])
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))
    theirs = getattr(neural_network, kind.__name__)
    other = type("Sub", (Shifted, theirs), {})(**options).fit(X, y)
    np.testing.assert_allclose(model.coefs_[0], other.coefs_[0], rtol=1e-3, atol=1e-4)
    for each in (model, twin):
        if kind is MLPRegressor:
            each.set_params(early_stopping=True, metrics=("r2",))
        else:
            each.set_params(early_stopping=True, metrics=("accuracy",), validation_fraction=0.3)
    np.testing.assert_array_equal(model.fit(X, y).coefs_[0], twin.fit(X[:half] + 1, y[:half]).coefs_[0])
    assert model.history_["val_score"] == twin.history_["val_score"]


# ---- refused --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["subclass", "mixin", "instance"])
@pytest.mark.parametrize("name", REFUSED)
def test_other_overrides_are_refused_by_name(name, way):
    def method(self, *args, **kwargs):
        raise AssertionError("never called")

    kind = MLPClassifier
    if way == "subclass":
        kind = type("Sub", (MLPClassifier,), {name: method})
    elif way == "mixin":
        kind = type("Sub", (type("Mixin", (), {name: method}), MLPClassifier), {})
    model = kind((3,), max_iter=1)
    if way == "instance":
        vars(model)[name] = method.__get__(model)
    for learn in (lambda: model.fit(X, LABELS), lambda: model.partial_fit(X, LABELS, classes=[0, 1, 2])):
        with pytest.raises(
            TypeError, match=f"overrides scikit-learn's private method {name}, which fastnn never calls"
        ):
            learn()
    assert not hasattr(model, "coefs_")


def test_no_method_of_fastnn_has_the_name_of_one_that_is_refused():
    assert not [name for name in REFUSED for kind in (MLPClassifier, MLPRegressor) if hasattr(kind, name)]


def test_helpers_of_a_subclass_meet_no_method_of_fastnns():
    """All private methods of the estimators are scikit-learn's, or begin with a prefix that nobody else has."""
    own = {
        name
        for kind in (MLPClassifier, MLPRegressor)
        for cls in kind.__mro__
        if cls.__module__.startswith("fastnn")
        for name, value in vars(cls).items()
        if callable(value) and name.startswith("_") and not name.startswith("__")
    }
    assert own - {"_init_coef", "_validate_input", "_validate_params"} == {n for n in own if n.startswith(OWN)}

    def never(self, *args):
        raise AssertionError("never called")

    names = ("_train", "_encode", "_forward", "_weights", "_start", "_plan", "_units", "_settings", "_outputs")
    model = type("Sub", (MLPClassifier,), dict.fromkeys(names, never))((3,), max_iter=2, random_state=0)
    expected = MLPClassifier((3,), max_iter=2, random_state=0).fit(X, LABELS)
    np.testing.assert_array_equal(model.fit(X, LABELS).predict_proba(X), expected.predict_proba(X))


def test_a_subclass_that_overrides_fastnns_own_method_is_told():
    model = type("Sub", (MLPRegressor,), {OWN + "train": lambda self: None})()
    with pytest.raises(TypeError, match="overrides _mlp_train, which is fastnn's own"):
        model.fit(X, X[:, 0])


def test_a_history_of_the_programs_own_stays():
    """Attributes that a program has set are its own, also where fastnn has one of that name."""
    for mine in ([], {"train": [1.0]}, {"loss": 3, "seconds": 4}, "text"):
        model = MLPRegressor(hidden_layer_sizes=(3,), random_state=0).partial_fit(X, X[:, 0])
        model.history_ = mine
        model.partial_fit(X, X[:, 0])
        assert model.history_ is mine and len(model.loss_curve_) == 2


def test_every_private_method_of_scikit_learn_that_training_calls_is_known():
    known = {*REFUSED, "_init_coef", "_validate_input", "_check_solver"}
    base = neural_network.MLPClassifier.__mro__[2]
    names = {name for kind in (base, neural_network.MLPClassifier, neural_network.MLPRegressor) for name in vars(kind)}
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    assert base.__name__ == "BaseMultilayerPerceptron"
    assert {name for name in private if callable(getattr(base, name, None))} - known <= {"_get_tags", "_more_tags"}


# ---- the optimizer --------------------------------------------------------------------------------------------------
SETTABLE = {
    "sgd": {"learning_rate": 1e-9, "momentum": 0.5, "nesterov": False, "lr_schedule": "invscaling"},
    "adam": {"learning_rate_init": 1e-9, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    "rmsprop": {"learning_rate": 1e-9, "rho": 0.5, "epsilon": 1e-3, "weight_decay": 0.5, "max_grad_norm": 0.01},
    "nadam": {"learning_rate_init": 1e-9, "weight_decay": 0.5},
    "schedulefree": {"learning_rate_init": 1e-9, "beta_1": 0.5, "max_grad_norm": 0.01},
}


@pytest.mark.parametrize("solver, name", [(solver, name) for solver, names in SETTABLE.items() for name in names])
def test_what_can_be_set_on_the_optimizer_has_its_effect(solver, name):
    models = [MLPClassifier((4,), solver=solver, max_iter=3, random_state=0).fit(X, LABELS) for _ in range(2)]
    setattr(models[0]._optimizer, name, SETTABLE[solver][name])
    assert getattr(models[0]._optimizer, name) == SETTABLE[solver][name]
    models[0] = pickle.loads(pickle.dumps(models[0]))
    for model in models:
        model.partial_fit(X, LABELS).partial_fit(X, LABELS)
    assert not np.array_equal(models[0].coefs_[0], models[1].coefs_[0])


@pytest.mark.parametrize("solver, name", [("sgd", "learning_rate"), ("adam", "learning_rate_init")])
def test_a_rate_that_is_set_is_the_rate(solver, name):
    kinds = MLPClassifier, neural_network.MLPClassifier
    ours, theirs = (kind((4,), solver=solver, max_iter=3, random_state=0).fit(X, LABELS) for kind in kinds)
    before = [model.coefs_[0].copy() for model in (ours, theirs)]
    for model in (ours, theirs):
        setattr(model._optimizer, name, 0.02)
        model.partial_fit(X, LABELS)
    moved = [model.coefs_[0] - start for model, start in zip((ours, theirs), before, strict=True)]
    np.testing.assert_allclose(moved[0], moved[1], rtol=0.01, atol=1e-5)


@pytest.mark.parametrize(
    "solver, name",
    [("sgd", "learning_rate_init"), ("sgd", "beta_1"), ("adam", "learning_rate"), ("adam", "momentum"), ("adam", "ms")],
)
def test_what_would_have_no_effect_on_the_optimizer_is_refused(solver, name):
    model = MLPClassifier((4,), solver=solver, max_iter=1, random_state=0).fit(X, LABELS)
    with pytest.raises(AttributeError, match=f"Setting '{name}' would have no effect"):
        setattr(model._optimizer, name, 0.1)
