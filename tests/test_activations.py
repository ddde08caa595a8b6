"""Hidden activations: every one of the table, and lists with one for each layer."""

import pickle
from importlib.util import find_spec

import numpy as np
import pytest
import scipy.sparse as sp
from numba import config
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import fastnn
import reference
from fastnn import MLPClassifier, MLPRegressor, interop, train
from fastnn.core.nn.activations import ACTIVATIONS
from fastnn.core.records import EncodedData
from fastnn.initial import draw_weights
from fastnn.parameters import HIDDEN_ACTIVATIONS
from fastnn.plan import make_plan
from fastnn.state import make_buffers, new_state

NEW = [name for name in HIDDEN_ACTIVATIONS if name not in interop.THEIR_ACTIVATIONS]
RNG = np.random.RandomState(0)
X = RNG.standard_normal((90, 6))
LABELS, VALUES = X[:, :3].argmax(axis=1), X[:, 0] * X[:, 1] + X[:, 2]
MIXED = ["gelu", "relu", "mish"]  # the layer in the middle keeps no input

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(kind=MLPRegressor, **parameters):
    return kind(**{"hidden_layer_sizes": (9, 8, 7), "max_iter": 3, "random_state": 0, "batch_size": 20, **parameters})


def fitted(kind=MLPRegressor, x=X, **parameters):
    return quick(kind, **parameters).fit(x, LABELS if kind is MLPClassifier else VALUES)


def assert_same_weights(one, other):
    for found, expected in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(found, expected)


# ---- training, against the reference --------------------------------------------------------------------------------
# name -> (estimator, rows, features, hidden layers, batch): a single output has a backward pass of its own, small
# networks with large batches are learned in shards, and large first layers have split sums.
SHAPES = {
    "classes": (MLPClassifier, 60, 6, (17, 9, 5), 25),
    "one output": (MLPRegressor, 50, 6, (7, 5, 20), 16),
    "one row at a time": (MLPRegressor, 12, 6, (5, 4, 18), 1),
    "shards": (MLPRegressor, 420, 20, (60, 30, 20), 200),
    "split sums": (MLPClassifier, 220, 64, (130, 8, 6), 110),
    "sparse": (MLPClassifier, 70, 30, (19, 9, 6), 30),
}
TRAINED = [(name, shape) for name in NEW for shape in ("classes", "one output")]
TRAINED += [(names, shape) for names in (MIXED, ["tanh", "silu", "leaky_relu"]) for shape in SHAPES]
TRAINED += [(["softplus", "logistic", "gelu"], "one output"), (["elu", "selu", "hard_swish"], "classes")]


@pytest.mark.parametrize(("activation", "shape"), TRAINED, ids=str)
def test_training_follows_the_reference(activation, shape):
    kind, n, n_features, hidden, batch = SHAPES[shape]
    rng = np.random.RandomState(1)
    x = rng.standard_normal((n, n_features)) * (rng.uniform(size=(n, n_features)) < (0.3 if shape == "sparse" else 1))
    y = x[:, :3].argmax(axis=1) if kind is MLPClassifier else x[:, 0] * x[:, 1]
    weights = rng.uniform(0.2, 2, n)
    options = dict(solver="adam", alpha=0.02, batch_size=batch, max_iter=3, learning_rate_init=0.01)
    names = dict(hidden_layer_sizes=hidden, activation=activation, dtype="float64", random_state=3)
    given = sp.csr_array(x) if shape == "sparse" else x
    one, two = (kind(**options, **names, n_jobs=n_jobs).fit(given, y, weights) for n_jobs in (1, 2))
    assert_same_weights(one, two)

    rng = np.random.RandomState(3)
    start = reference.draw_weights(rng, (n_features, *hidden, one.n_outputs_), activation)
    loss = "log_loss" if kind is MLPClassifier else "squared_error"
    losses, coefs, intercepts = reference.train(
        *start, x, y, hidden_activation=activation, out_activation=one.out_activation_, loss=loss, rng=rng,
        sample_weight=weights, **options,
    )  # fmt: skip
    np.testing.assert_allclose(one.loss_curve_, losses, rtol=1e-10)
    for found, expected in zip(one.coefs_ + one.intercepts_, coefs + intercepts, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    outputs = reference.forward(coefs, intercepts, x, activation, one.out_activation_)[-1]
    predicted = one.predict_proba(given) if kind is MLPClassifier else one.predict(given)[:, np.newaxis]
    np.testing.assert_allclose(predicted, outputs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", [*NEW, MIXED], ids=str)
def test_gradient_equals_central_differences(activation):
    layout, plan = make_plan(
        units=(4, 5, 6, 17, 1), hidden_activation=activation if isinstance(activation, str) else tuple(activation),
        out_activation="identity", loss="squared_error", solver="lbfgs", alpha=0.1, dtype=np.float64,
    )  # fmt: skip
    own, step = new_state(layout, plan), 1e-4
    for seed in range(100):  # none of the pre-activations lies near 0 or near the bends of hard_swish
        rng = np.random.RandomState(seed)
        own.adopt(*reference.draw_weights(rng, layout.units, "relu"))
        x, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 1))
        zs, _ = reference.propagate(own.coefs, own.intercepts, x, activation, "identity")
        z = np.concatenate([z.ravel() for z in zs[:-1]])
        if min(np.abs(z).min(), np.abs(np.abs(z) - 3).min()) > 20 * step:
            break
    else:
        pytest.fail("no such problem")
    empty = np.empty(0, np.int32), np.empty(0)
    for array in (x, y, *empty):
        array.flags.writeable = False
    full_batch = train.FullBatch(
        layout, plan, own.params, EncodedData(x, None, empty[0], y, empty[1]), n_threads=1
    )  # fmt: skip
    full_batch()
    gradient = full_batch.gradient.copy()
    numeric = reference.numerical_gradient(full_batch, own.params, step)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-9 * np.abs(gradient).max())
    assert np.abs(gradient).max() > 1e-2


@pytest.mark.parametrize("activation", [*NEW, MIXED], ids=str)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_real_digits_are_learned(activation, solver):
    digits, labels = load_digits(return_X_y=True)
    digits = digits / 16
    hidden = (40, 30, 20) if activation is MIXED else (40,)
    model = MLPClassifier(hidden, activation, solver=solver, max_iter=60, learning_rate_init=0.01, random_state=0)
    assert model.fit(digits[:1200], labels[:1200]).score(digits[1200:], labels[1200:]) > 0.88


# ---- one name for each layer ----------------------------------------------------------------------------------------
FORMS = {
    "list": ["silu", "silu", "silu"],
    "tuple": ("silu", "silu", "silu"),
    "array": np.array(["silu", "silu", "silu"]),
    "objects": np.array(["silu", "silu", "silu"], dtype=object),
    "NumPy's strings": [np.str_("silu")] * 3,
    "NumPy's string": np.str_("silu"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_name_for_each_layer_is_one_name(form):
    one, other = fitted(activation="silu"), fitted(activation=FORMS[form])
    assert_same_weights(one, other)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


WRONG = {
    "two for three layers": (["relu", "tanh"], r"\['relu', 'tanh'\] has 2 names, the network has 3 hidden layers"),
    "four": (["relu"] * 4, "has 4 names, the network has 3 hidden layers: give one name for all layers, or one for"),
    "none": ([], "has 0 names"),
    "unknown": (["relu", "swish", "tanh"], "activation must be one of 'identity', .*'gelu'.* got .*'swish'"),
    "an output's": (["relu", "softmax", "tanh"], "activation must be one of"),
    "numbers": ([1, 2, 3], "activation must be one of"),
    "no order": ({"relu", "tanh", "gelu"}, "list or tuple"),
    "one string of three": ("relu,tanh,gelu", "'activation' parameter .* must be a str among .* or an array-like"),
    "nested": ([["relu", "tanh", "gelu"]], "activation must be one of"),
    "arrays": ([np.array(["relu", "tanh"])] * 3, "activation must be one of"),
    "function": (np.tanh, "'activation' parameter"),
}


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_names_are_refused_before_any_work(case, kind, monkeypatch):
    activation, message = WRONG[case]
    monkeypatch.setattr(kind, "_mlp_validated", lambda *args, **options: 1 / 0)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(quick(kind, activation=activation), method)(X, LABELS)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_names_that_are_set_later_are_refused_too(case):
    model = fitted(activation=MIXED)
    expected = model.predict(X)
    model.set_params(activation=WRONG[case][0])
    for call in (model.predict, lambda x: model.partial_fit(x, VALUES)):
        with pytest.raises(ValueError, match="activation"):
            call(X)
    np.testing.assert_array_equal(model.set_params(activation=MIXED).predict(X), expected)


def test_a_network_without_hidden_layers_takes_an_empty_list():
    one, other = (fitted(hidden_layer_sizes=(), activation=activation) for activation in ("relu", []))
    assert_same_weights(one, other)
    assert other.to_sklearn().activation == "relu"


def test_parameters_copies_and_pickles():
    model = fitted(activation=MIXED)
    assert model.get_params()["activation"] is model.activation is MIXED
    copy = pickle.loads(pickle.dumps(model))
    assert copy.activation == MIXED
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    assert_same_weights(clone(model).fit(X, VALUES), model)
    assert_same_weights(clone(quick(activation=np.array(MIXED))).fit(X, VALUES), model)
    assert "gelu" in repr(model)
    assert "mish" in model._repr_html_()


def test_searches_try_names_and_lists():
    grid = {"activation": ["relu", MIXED, ("tanh", "elu", "selu")], "solver": ["adam", "lbfgs"]}
    search = GridSearchCV(quick(), grid, cv=2, error_score="raise").fit(X, VALUES)
    assert len(search.cv_results_["mean_test_score"]) == 6
    assert search.best_params_["activation"] in grid["activation"]


@pytest.mark.parametrize("options", [{}, {"early_stopping": True, "validation_fraction": 0.3}, {"solver": "lbfgs"}])
def test_training_goes_on_from_a_fit(options):
    model = fitted(MLPClassifier, activation=MIXED, warm_start=True, **options)
    calls = [lambda: model.fit(X, LABELS)]
    if not options:
        calls.append(lambda: model.partial_fit(sp.csr_array(X), LABELS, sample_weight=np.ones(len(X))))
    for call in calls:
        before = model.predict_proba(X)
        call()
        assert (model.predict_proba(X) != before).any()


# ---- initial weights ------------------------------------------------------------------------------------------------
class Halved(MLPRegressor):
    """Initial weights of half the size, by overriding scikit-learn's method."""

    def _init_coef(self, fan_in, fan_out, dtype):
        return tuple(array / 2 for array in super()._init_coef(fan_in, fan_out, dtype))


def test_the_bounds_of_logistic_layers_are_theirs_alone():
    units, names = (30, 20, 10, 5), ("logistic", "relu")
    mixed, relu, logistic = (
        draw_weights(np.random.RandomState(0), units, a, np.float64) for a in (names, *names[::-1])
    )
    for layer, expected in enumerate((logistic, relu, relu)):  # the output layer goes by the last hidden layer
        np.testing.assert_array_equal(mixed[0][layer], expected[0][layer])
        np.testing.assert_array_equal(mixed[1][layer], expected[1][layer])
    assert not np.array_equal(relu[0][0], logistic[0][0])


def test_an_overridden_method_draws_by_the_layer_too():
    still = dict(hidden_layer_sizes=(5, 4), activation=["logistic", "gelu"], solver="sgd", learning_rate_init=1e-300)
    options = {**quick(dtype="float64", momentum=0.0).get_params(), **still}
    whole, half = (kind(**options).fit(X, VALUES) for kind in (MLPRegressor, Halved))
    for one, other in zip(whole.coefs_, half.coefs_, strict=True):
        np.testing.assert_array_equal(one / 2, other)
    assert "_drawn_by" not in vars(half)


# ---- scikit-learn and ONNX ------------------------------------------------------------------------------------------
def test_scikit_learn_gets_what_it_can_hold():
    model = fitted(activation=["tanh"] * 3, dtype="float64")
    theirs = model.to_sklearn()
    assert theirs.activation == "tanh"
    np.testing.assert_allclose(theirs.predict(X), model.predict(X), rtol=1e-12, atol=1e-12)
    assert MLPRegressor.from_sklearn(theirs, dtype="float64").activation == "tanh"


@pytest.mark.parametrize("activation", [*NEW, MIXED, ["tanh", "relu", "tanh"]], ids=str)
def test_what_scikit_learn_has_not_is_refused(activation):
    model = fitted(MLPClassifier, activation=activation)
    message = "scikit-learn's MLP has one activation for all hidden layers, one of 'identity', .*cannot be converted"
    with pytest.raises(ValueError, match=message):
        model.to_sklearn()
    with pytest.raises(ValueError, match=message):
        interop._refuse_other_activations(model)


def test_onnx_takes_one_name():
    model = fitted(MLPClassifier, activation=["tanh"] * 3)
    with pytest.raises(ValueError, match=r"skl2onnx reads one name .*: use set_params\(activation='tanh'\)"):
        interop._refuse_other_activations(model)
    interop._refuse_other_activations(model.set_params(activation="tanh"))
    if find_spec("skl2onnx") is not None:
        from skl2onnx import to_onnx

        fastnn.register_onnx()
        with pytest.raises(ValueError, match="cannot be converted"):
            to_onnx(model.set_params(activation="gelu"), X[:1].astype(np.float32))


# ---- the table ------------------------------------------------------------------------------------------------------
def test_the_docstrings_name_every_activation():
    for kind in (MLPClassifier, MLPRegressor):
        described = kind.__doc__.split("activation : str or list of str")[1].split("solver : ")[0]
        assert all(f'"{name}"' in described for name in HIDDEN_ACTIVATIONS)
    assert set(HIDDEN_ACTIVATIONS) == set(reference.ACTIVATIONS)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")
def test_only_networks_whose_activations_keep_their_input_have_room_for_it():
    for names in [*HIDDEN_ACTIVATIONS, ("relu", "gelu"), ("relu", "tanh")]:
        units = (3, 4, 5, 2)
        layout, plan = make_plan(
            units=units, hidden_activation=names, out_activation="identity", loss="squared_error", solver="adam"
        )
        buffers, _ = make_buffers(layout, plan, new_state(layout, plan), 1)
        keeps = any(ACTIVATIONS[name].keeps_input for name in ([names] if isinstance(names, str) else names))
        assert buffers.inputs.size == (buffers.activations.size if keeps else 0)
