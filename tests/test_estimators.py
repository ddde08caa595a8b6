"""The estimators' behaviour: constructors, inputs, labels, messages, stopping, interruption. Numbers: test_parity."""

import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context, neural_network
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from fastnn import MLPClassifier, MLPRegressor, encode

KINDS = (MLPClassifier, MLPRegressor)
RNG = np.random.RandomState(0)
X = RNG.standard_normal((90, 6)).astype(np.float32)
CLASSES = np.array(["a", "b", "c"])[np.argmax(X[:, :3], axis=1)]
BINARY = (X[:, 0] > 0).astype(int)
VALUES = X[:, 0] - 2 * X[:, 1]
NON_FINITE = "Solver produced non-finite parameter weights. The input data may contain large values and need to be prep"


def quick(kind, **parameters):
    return kind(**{"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, **parameters})


def target_of(kind):
    return CLASSES if kind is MLPClassifier else VALUES


def weights(estimator):
    return np.concatenate([array.ravel() for array in [*estimator.coefs_, *estimator.intercepts_]])


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---- constructors ---------------------------------------------------------------------------------------------------
# What scikit-learn has not, with its defaults: they change nothing.
OWN = {
    "rho": 0.9,
    "init": "glorot_uniform",
    "init_scale": None,
    "init_bias": "match",
    "n_jobs": None,
    "dtype": "float32",
    "metrics": (),
    "weight_decay": 0.0,
    "max_grad_norm": None,
    "warmup": 0,
    "decay_rate": 0.1,
    "decay_every": 10,
    "n_hidden_layers": None,
    "scoring": None,
    "restore_best": "auto",
    "dropout": 0.0,
    "ema_decay": None,
    "max_seconds": None,
}
OWN_CLASSIFIER = {"loss": "log_loss", "out_activation": "auto", "class_weight": None, "validation_stratify": "auto"}
FIT_KEYWORDS = ("X_val", "y_val", "sample_weight_val", "coefs_init", "intercepts_init")
OWN_OF = {
    MLPClassifier: OWN | OWN_CLASSIFIER | {"label_smoothing": 0.0, "focal_gamma": 2.0},
    MLPRegressor: OWN | {"huber_delta": 1.0, "quantile": 0.5, "tweedie_power": 1.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_constructor_is_scikit_learns_and_own_keywords(kind):
    ours = inspect.signature(kind).parameters
    theirs = inspect.signature(getattr(neural_network, kind.__name__)).parameters
    assert [*ours][: len(theirs)] == [*theirs]
    assert all(ours[name].default == p.default and ours[name].kind == p.kind for name, p in theirs.items())
    added = {name: (p.default, p.kind) for name, p in ours.items() if name not in theirs}
    assert added == {name: (default, inspect.Parameter.KEYWORD_ONLY) for name, default in OWN_OF[kind].items()}


@pytest.mark.parametrize("kind", KINDS)
def test_docstring_names_every_parameter_and_attribute(kind):
    documented = set()
    for line in inspect.getdoc(kind).splitlines():
        if " : " in line and not line.startswith(" "):
            documented.update(line.split(" : ")[0].split(", "))
    fitted = quick(kind, early_stopping=True).fit(pd.DataFrame(X, columns=list("abcdef")), target_of(kind))
    published = {name for name in vars(fitted) if name.endswith("_")}
    assert {*inspect.signature(kind).parameters, *published} <= documented


WRONG = {
    "activation": ["softmax", "swish", ["relu", "swish"], ["relu", "tanh", "relu"], [], {"relu"}],
    "solver": ["adadelta"],
    "dropout": [1, -0.1, "0.5", None, [0.1], [0.1, 1.0], [0.1, None]],
    "ema_decay": [0, 1, "0.9", True],
    "dtype": ["float16", np.int32, np.dtype("float16")],
    "n_jobs": [0, 1.5],
    "learning_rate": ["cosines"],
    "hidden_layer_sizes": [0, [3, 0], [-1], [2.5]],
    "batch_size": [0, "all"],
    "validation_fraction": [1.0],
    "n_iter_no_change": [0],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG for value in WRONG[name]])
def test_wrong_parameters_are_named(kind, name, value):
    with pytest.raises(ValueError, match=name):
        quick(kind, **{name: value}).fit(X, target_of(kind))


def test_regressor_loss_comes_first_and_is_checked():
    assert MLPRegressor("poisson", (3,), "tanh").get_params()["loss"] == "poisson"
    with pytest.raises(InvalidParameterError, match=r"'loss' parameter of MLPRegressor must be a str among .*poisson"):
        MLPRegressor("log_loss").fit(X, VALUES)


# ---- inputs ---------------------------------------------------------------------------------------------------------
def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def mapped(array, folder):
    np.save(folder / "x.npy", array)
    return np.load(folder / "x.npy", mmap_mode="r")


FORMS = {
    "list": lambda x, _: x.tolist(),
    "float64": lambda x, _: x.astype(np.float64),
    "longdouble": lambda x, _: x.astype(np.longdouble),
    "object": lambda x, _: x.astype(object),
    "big-endian": lambda x, _: x.astype(">f4"),
    "fortran": lambda x, _: np.asfortranarray(x),
    "strided": lambda x, _: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda x, _: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda x, _: read_only(x),
    "memmap": mapped,
    "unaligned": lambda x, _: np.frombuffer(b"x" + x.tobytes(), np.float32, offset=1).reshape(x.shape),
    "pandas": lambda x, _: pd.DataFrame(x.astype(np.float64)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_gives_the_same(kind, form, tmp_path):
    given = FORMS[form](X, tmp_path)
    plain = quick(kind).fit(X, target_of(kind))
    other = quick(kind).fit(given, target_of(kind))
    np.testing.assert_array_equal(weights(other), weights(plain))
    np.testing.assert_array_equal(other.predict(given), plain.predict(X))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, bool])
def test_small_types_are_converted_exactly(dtype):
    values = (X * 3).astype(np.int64).clip(0, 5).astype(dtype)
    plain = quick(MLPClassifier).fit(values.astype(np.float32), CLASSES)
    np.testing.assert_array_equal(weights(quick(MLPClassifier).fit(values, CLASSES)), weights(plain))


def test_float32_is_not_copied():
    dense, csr = encode.encode_features(read_only(X), np.dtype("float32"), owner="MLPClassifier")
    assert csr is None
    assert not dense.flags.writeable
    frozen = read_only(X)
    assert np.shares_memory(encode.encode_features(frozen, np.dtype("float32"), owner="x")[0], frozen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.float64, np.dtype("float64")])
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_dtype_rules_weights_and_outputs(kind, dtype, given):
    x = X.astype(given)
    fitted = quick(kind, dtype=dtype).fit(x, target_of(kind))
    output = fitted.predict_proba(x) if kind is MLPClassifier else fitted.predict(x)
    assert output.dtype == given
    assert {array.dtype for array in fitted.coefs_ + fitted.intercepts_} == {np.dtype(dtype)}


LABELS = {
    "str": np.array(["x", "yy", "z"]),
    "object": np.array(["x", "yy", "z"], dtype=object),
    "negative": np.array([-7, 0, 9]),
    "float": np.array([0.0, 1.0, 5.0]),
    "int8": np.array([-3, 4, 5], np.int8),
    "bool": np.array([False, True]),
    "two": np.array(["n", "y"]),
    "one": np.array([4]),
}


@pytest.mark.parametrize("form", LABELS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_labels_of_any_type_come_back(form, early_stopping):
    classes = LABELS[form]
    y = classes[np.arange(90) % len(classes)]
    fitted = quick(MLPClassifier, early_stopping=early_stopping).fit(X, y)
    np.testing.assert_array_equal(fitted.classes_, classes)
    assert set(fitted.predict(X)) <= set(classes)
    assert fitted.predict_proba(X).shape == (90, max(2, len(classes)))
    assert fitted.predict(X).dtype == fitted.classes_.dtype
    # Against codes, because early stopping on strings fails in scikit-learn 1.7.
    theirs = neural_network.MLPClassifier((5,), max_iter=5, random_state=0, early_stopping=early_stopping)
    codes = theirs.fit(X, np.searchsorted(classes, y)).predict(X)
    np.testing.assert_array_equal(fitted.predict(X), classes[codes])


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_left_alone(kind):
    data, y, weight = X.copy(), target_of(kind).copy(), RNG.uniform(size=90).astype(np.float32)
    before = [data.copy(), y.copy(), weight.copy()]
    quick(kind, early_stopping=True).fit(data, y, weight)
    for now, then in zip([data, y, weight], before):
        np.testing.assert_array_equal(now, then)


# ---- messages -------------------------------------------------------------------------------------------------------
HUGE = np.where(np.arange(90)[:, None] == 3, 1e39, X.astype(np.float64))
REFUSED = {
    "NaN": (MLPClassifier, {}, lambda e: e.fit(np.where(X > 2, np.nan, X), CLASSES), "Input X contains NaN"),
    "inf": (MLPClassifier, {}, lambda e: e.fit(np.where(X > 2, np.inf, X), CLASSES), "Input X contains infinity"),
    "too large": (MLPRegressor, {}, lambda e: e.fit(HUGE, VALUES), NON_FINITE + '.*too large.*dtype="float64"'),
    "y too large": (MLPRegressor, {}, lambda e: e.fit(X, HUGE[:, 0]), NON_FINITE + '.*y holds.*dtype="float64"'),
    "negative counts": (MLPRegressor, {"loss": "poisson"}, lambda e: e.fit(X, VALUES), "negative: loss='poisson'"),
    "no weight": (MLPRegressor, {}, lambda e: e.fit(X, VALUES, np.zeros(90)), "at least one non-zero"),
    "short weight": (MLPRegressor, {}, lambda e: e.fit(X, VALUES, np.ones(9)), r"sample_weight.shape == \(9,\)"),
    "short y": (MLPRegressor, {}, lambda e: e.fit(X, VALUES[:9]), "inconsistent numbers of samples"),
    "continuous": (MLPClassifier, {}, lambda e: e.fit(X, VALUES), "Unknown label type: continuous. y holds"),
    "multioutput": (
        MLPClassifier,
        {},
        lambda e: e.fit(X, np.c_[BINARY, BINARY + 1, BINARY]),
        "Multioutput target.*argmax",
    ),
    "features": (
        MLPClassifier,
        {},
        lambda e: e.fit(X, CLASSES).predict(X[:, 1:]),
        "X has 5 features, but MLPClassifier",
    ),
    "first classes": (
        MLPClassifier,
        {},
        lambda e: e.partial_fit(X, CLASSES),
        "classes must be passed on the first call",
    ),
    "other classes": (
        MLPClassifier,
        {},
        lambda e: e.partial_fit(X, BINARY, classes=[0, 1, 2]).partial_fit(X, BINARY + 5),
        "`y` has classes not in `self.classes_`",
    ),
    "warm classes": (
        MLPClassifier,
        {"warm_start": True},
        lambda e: e.fit(X, CLASSES).fit(X, BINARY),
        "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously got",
    ),
    "warm layers": (
        MLPRegressor,
        {"warm_start": True},
        lambda e: e.fit(X, VALUES).set_params(hidden_layer_sizes=(5, 4)).fit(X, VALUES),
        "warm_start and partial_fit cannot change the network",
    ),
    "partial early": (
        MLPRegressor,
        {"early_stopping": True},
        lambda e: e.partial_fit(X, VALUES),
        "partial_fit does not support early_stopping=True",
    ),
    "validation size": (
        MLPRegressor,
        {"early_stopping": True},
        lambda e: e.fit(X[:3], VALUES[:3]),
        "The validation set is too small. Increase 'validation_fraction' or the size of your dataset.",
    ),
    "stratified": (
        MLPClassifier,
        {"early_stopping": True},
        lambda e: e.fit(X, np.arange(90) == 7),
        "The least populated class",
    ),
    "divergence": (
        MLPRegressor,
        {"solver": "sgd", "learning_rate_init": 1e6, "activation": "identity", "max_iter": 50},
        lambda e: e.fit(X, VALUES),
        NON_FINITE + r".*The loss was (inf|nan) in epoch \d+",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_in_scikit_learns_words(case):
    kind, parameters, call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(quick(kind, **parameters))


SUCCEED_FIRST = {"first classes", "other classes", "warm classes", "warm layers", "features"}


@pytest.mark.parametrize("case", [case for case in REFUSED if case not in SUCCEED_FIRST])
def test_a_failing_call_leaves_the_earlier_fit(case):
    kind, parameters, call, _ = REFUSED[case]
    estimator = quick(kind).fit(X, target_of(kind)).set_params(**parameters)
    before, values, curve = dict(vars(estimator)), weights(estimator), list(estimator.loss_curve_)
    with pytest.raises(ValueError):
        call(estimator)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is value for name, value in before.items())
    np.testing.assert_array_equal(weights(estimator), values)
    assert estimator.loss_curve_ == curve


@pytest.mark.parametrize("warm_start", [False, True])
def test_divergence_in_mid_training_leaves_the_earlier_fit(warm_start):
    estimator = quick(MLPRegressor, warm_start=warm_start, activation="identity", solver="sgd").fit(X, VALUES)
    values, curve, seen = weights(estimator), list(estimator.loss_curve_), estimator.t_
    velocity = estimator._optimizer.moments.copy()
    estimator.set_params(learning_rate_init=1e12, max_iter=50)
    with pytest.raises(ValueError, match=NON_FINITE):
        estimator.fit(X, VALUES)
    np.testing.assert_array_equal(weights(estimator), values)
    np.testing.assert_array_equal(estimator._optimizer.moments, velocity)
    assert (estimator.loss_curve_, estimator.t_) == (curve, seen)


def test_unfitted_and_unavailable():
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(NotFittedError):
            getattr(MLPClassifier(), method)(X)
    for kind in KINDS:
        assert not hasattr(kind(solver="lbfgs"), "partial_fit")
        assert hasattr(kind(solver="sgd"), "partial_fit")
        with pytest.raises(AttributeError, match="partial_fit"):
            kind(solver="lbfgs").partial_fit(X, VALUES)


WARNINGS = {
    "max_iter": (
        {},
        ConvergenceWarning,
        r"^Stochastic Optimizer: Maximum iterations \(5\) reached and the opt.*yet\.$",
    ),
    "batch_size": (
        {"batch_size": 91},
        UserWarning,
        "^Got `batch_size` less than 1 or larger than sample size. It is g",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_warnings_in_scikit_learns_words(case):
    parameters, category, message = WARNINGS[case]
    with pytest.warns(category, match=message):
        quick(MLPRegressor, **parameters).fit(X, VALUES)


def test_column_of_targets_warns():
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = quick(MLPRegressor).fit(X, VALUES[:, None])
    np.testing.assert_array_equal(column.predict(X), quick(MLPRegressor).fit(X, VALUES).predict(X))


# ---- attributes, routing, import ------------------------------------------------------------------------------------
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_public_attributes(kind, parameters):
    y = BINARY if kind is MLPClassifier else VALUES
    ours = quick(kind, **parameters).fit(X, y)
    theirs = getattr(neural_network, kind.__name__)(hidden_layer_sizes=(5,), max_iter=5, **parameters).fit(X, y)
    public = [{name for name in vars(est) if name.endswith("_") and not name.startswith("_")} for est in (ours, theirs)]
    assert public[0] == public[1] | {"best_epoch_", "history_", "validation_loss_curve_", "stop_reason_"}
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "t_", "n_iter_"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_fresh_fit_forgets_the_former_solver():
    estimator = quick(MLPRegressor).fit(X, VALUES)
    estimator.set_params(solver="lbfgs").fit(X, VALUES)
    assert not any(hasattr(estimator, name) for name in ("loss_curve_", "best_loss_", "_optimizer"))
    assert set(estimator.history_) == {"loss", "seconds"}


def test_metadata_routing_names():
    with config_context(enable_metadata_routing=True):
        routing = MLPClassifier().set_fit_request(sample_weight=True).get_metadata_routing()
        given = {name: value for name, value in routing.fit.requests.items() if value is not None}
        assert given == {"sample_weight": True}
        assert set(routing.fit.requests) == {"sample_weight", *FIT_KEYWORDS}
        assert set(routing.partial_fit.requests) == {"classes", "sample_weight"}
        assert set(MLPRegressor().get_metadata_routing().partial_fit.requests) == {"sample_weight"}


@pytest.mark.parametrize("kind", KINDS)
def test_written_and_assigned_weights_count(kind):
    estimator = quick(kind, activation="identity").fit(X, target_of(kind))
    estimator.coefs_[1][:] = 0
    estimator.intercepts_[1] = np.arange(estimator.n_outputs_)  # integers, another list entry
    outputs = estimator.predict_proba(X) if kind is MLPClassifier else estimator.predict(X)
    assert np.ptp(outputs, axis=0).max() == 0
    estimator.coefs_[0] = np.ones((6, 7))
    estimator.coefs_[1] = np.ones((7, estimator.n_outputs_), order="F")
    with pytest.raises(ValueError, match="coefs_ and intercepts_ do not fit together"):
        estimator.predict(X)
    estimator.intercepts_[0] = np.zeros(7)
    assert estimator.predict(X).shape == (90,)
    with pytest.raises(ValueError, match="cannot change the network"):
        estimator.partial_fit(X, target_of(kind))
    estimator.set_params(hidden_layer_sizes=7, warm_start=True, learning_rate_init=1e-9, max_iter=1)
    estimator.fit(X, target_of(kind))
    np.testing.assert_allclose(estimator.coefs_[0], 1, atol=1e-6)


def test_import_compiles_nothing_and_starts_no_thread():
    code = """
import threading, numpy, scipy.optimize, sklearn.neural_network, numba
from numba.core import compiler
compiler.compile_extra = lambda *a, **k: 1 / 0
before = threading.active_count()
import fastnn
assert threading.active_count() == before
print(fastnn.MLPClassifier())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "MLPClassifier()\n", done.stderr
