"""All pairs of options: they work together, in every form of input and call, or an error names what goes with what."""

import pickle
import warnings
from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from fastnn import MLPClassifier, MLPRegressor

RNG = np.random.RandomState(0)
N = 48
X = RNG.standard_normal((N, 5)).astype(np.float32)
LABELS = X[:, :3].argmax(axis=1)
AMOUNTS = np.exp(X[:, 0] / 2)
WEIGHTS = RNG.uniform(0.5, 2, N)
BASE = {
    "hidden_layer_sizes": (6, 6),
    "max_iter": 3,
    "batch_size": 12,
    "random_state": 0,
    "learning_rate_init": 0.01,
    "n_jobs": 1,
}


def falling_rate(epoch):
    """A rate that can be pickled."""
    return 0.02 / (1 + epoch)


# Parameters of each option. Two options that set the same parameter are no pair.
SHARED = {
    "lbfgs": {"solver": "lbfgs"},
    "sgd": {"solver": "sgd"},
    "rmsprop": {"solver": "rmsprop"},
    "nadam": {"solver": "nadam"},
    "adagrad": {"solver": "adagrad"},
    "lion": {"solver": "lion"},
    "schedulefree": {"solver": "schedulefree"},
    "adaptive": {"learning_rate": "adaptive"},
    "cosine": {"learning_rate": "cosine"},
    "onecycle": {"learning_rate": "onecycle"},
    "step": {"learning_rate": "step"},
    "a function": {"learning_rate": falling_rate},
    "warmup": {"warmup": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "max_grad_norm": {"max_grad_norm": 0.1},
    "gelu": {"activation": "gelu"},
    "elu": {"activation": "elu"},
    "activations": {"activation": ["mish", "relu"]},
    "n_hidden_layers": {"hidden_layer_sizes": 6, "n_hidden_layers": 2},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "he_normal": {"init": "he_normal"},
    "early_stopping": {"early_stopping": True, "validation_fraction": 0.25},
    "scoring": {"scoring": "loss"},
    "restore_best": {"restore_best": True},
    "float64": {"dtype": "float64"},
    "match": {"dtype": "match"},
    "metrics": {"metrics": ["neg_max_error"]},
    "full batches": {"batch_size": N},
    "dropout": {"dropout": 0.3},
    "ema_decay": {"ema_decay": 0.9},
    "max_seconds": {"max_seconds": 1e-9},
}
OPTIONS = {
    MLPClassifier: SHARED
    | {
        "metrics": {"metrics": ["accuracy"]},
        "label_smoothing": {"label_smoothing": 0.1},
        "focal": {"loss": "focal"},
        "squared_error": {"loss": "squared_error"},
        "logistic": {"out_activation": "logistic"},
        "class_weight": {"class_weight": "balanced"},
        "class weights": {"class_weight": {0: 2.0}},
        "validation_stratify": {"validation_stratify": True},
    },
    MLPRegressor: SHARED
    | {
        "absolute_error": {"loss": "absolute_error"},
        "huber": {"loss": "huber", "huber_delta": 0.5},
        "quantile": {"loss": "quantile", "quantile": 0.9},
        "quantiles": {"loss": "quantile", "quantile": [0.1, 0.5, 0.9]},
        "gamma": {"loss": "gamma"},
        "tweedie": {"loss": "tweedie"},
        "poisson": {"loss": "poisson"},
    },
}
CALLS = ("sparse X", "sample_weight", "X_val", "partial_fit", "warm_start", "float64 X", "callbacks")

NO_LBFGS = {
    "cosine",
    "onecycle",
    "step",
    "a function",
    "warmup",
    "weight_decay",
    "max_grad_norm",
    "ema_decay",
    "dropout",
}
# Which pairs are refused, and a word of the message.
REFUSED = {
    **{frozenset({"lbfgs", name}): "lbfgs" for name in NO_LBFGS},
    frozenset({"schedulefree", "ema_decay"}): "averages already",
    frozenset({"lbfgs", "partial_fit"}): "partial_fit",  # as in scikit-learn: its cause names the solver
    frozenset({"early_stopping", "partial_fit"}): "early_stopping",
    frozenset({"X_val", "partial_fit"}): "X_val",
    frozenset({"class_weight", "partial_fit"}): "balanced",
    frozenset({"label_smoothing", "focal"}): "label_smoothing",
    frozenset({"label_smoothing", "squared_error"}): "label_smoothing",
    frozenset({"activations", "no hidden layer"}): "activation",
    frozenset({"metrics", "quantiles"}): "neg_max_error",
}


class Looks:
    """A callback that predicts after each epoch."""

    def setup(self, estimator, context):
        pass

    on_fit_task_begin = teardown = setup

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        assert len(fitted_estimator.predict(X)) == X.shape[0]
        pickle.dumps(fitted_estimator)


def fitted(kind, parameters, calls):
    """A model of these parameters, fitted in the way that the calls name."""
    model = kind(**{**BASE, **parameters})
    if "callbacks" in calls and hasattr(model, "set_callbacks"):
        model.set_callbacks(Looks())
    x = X.astype(np.float64) if "float64 X" in calls else X
    x = sp.csr_array(x * (x > 0)) if "sparse X" in calls else x
    y = LABELS if kind is MLPClassifier else AMOUNTS
    more = {"sample_weight": WEIGHTS} if "sample_weight" in calls else {}
    if "partial_fit" in calls:
        first = {"classes": [0, 1, 2]} if kind is MLPClassifier else {}
        if "X_val" in calls:
            first |= {"X_val": x, "y_val": y}
        model.partial_fit(x, y, **more, **first)
        return model.partial_fit(x, y, **more), x
    if "X_val" in calls:
        more |= {"X_val": x[:20], "y_val": y[:20]}
    if "warm_start" in calls:
        model.set_params(warm_start=True).fit(x, y, **more)
    return model.fit(x, y, **more), x


def outcome(kind, parameters, calls):
    """None where the pair works, else the error; asserts what has to hold of a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model, x = fitted(kind, parameters, calls)
        except (ValueError, TypeError, AttributeError) as error:
            return error
        assert all(np.isfinite(array).all() for array in [*model.coefs_, *model.intercepts_])
        predicted = model.predict(x)
        assert len(predicted) == N
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict(x), predicted)
        clone(model)
        ended = parameters.get("learning_rate") in ("cosine", "onecycle") and "partial_fit" not in calls
        refused = ended or model.early_stopping or parameters.get("class_weight") == "balanced"
        if hasattr(model, "partial_fit") and not refused:
            for each in (model, again):
                each.partial_fit(x, LABELS if kind is MLPClassifier else AMOUNTS)
            np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])
    return None


def pairs(kind, first):
    """The names of all partners of an option, each pair once, with the parameters and calls of both."""
    names = [*OPTIONS[kind], *CALLS]
    for one, two in combinations(names, 2):
        if one == first:
            parts = [OPTIONS[kind].get(name, {}) for name in (one, two)]
            if not parts[0].keys() & parts[1].keys():
                yield two, parts[0] | parts[1], {one, two} & set(CALLS)


@pytest.mark.parametrize("first", [*dict.fromkeys([*OPTIONS[MLPClassifier], *OPTIONS[MLPRegressor], *CALLS])])
@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_an_option_goes_with_every_other_or_says_what_it_goes_with(kind, first):
    for second, parameters, calls in pairs(kind, first):
        error = outcome(kind, parameters, calls)
        expected = REFUSED.get(frozenset({first, second}))
        if expected is None:
            assert error is None, (first, second)
        else:
            assert error is not None and expected in str(error), (first, second, error)
