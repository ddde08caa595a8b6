"""What fastnn does not do as scikit-learn does it: there scikit-learn's own code runs, and the reason is told."""

from sklearn.base import is_classifier
from sklearn.neural_network import _multilayer_perceptron as mlp
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

# Private methods that scikit-learn's training calls, by the training that calls them.
ALWAYS = ("_initialize", "_init_coef", "_validate_input", "_forward_pass", "_backprop", "_compute_loss_grad")
LBFGS = ("_fit_lbfgs", "_loss_grad_lbfgs", "_unpack")
STOCHASTIC = ("_fit_stochastic", "_update_no_improvement_count")
EARLY_STOPPING = ("_score", "_score_with_function", "_predict", "_forward_pass_fast")

TABLES = ("ACTIVATIONS", "DERIVATIVES", "LOSS_FUNCTIONS")
OPTIMIZERS = {"adam": AdamOptimizer, "sgd": SGDOptimizer}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
NAMES = ("loss", *mlp.MLPClassifier._get_param_names())  # attributes that the constructors set
OWNERS = ("sklearn", __name__.partition(".")[0])


def training_refusal(estimator, incremental):
    """Why scikit-learn has to train an estimator itself, in words; None where fastnn does it."""
    known = vars(estimator)
    for name in NAMES:
        if name not in known:  # but in the class, perhaps, or computed
            return f"the instance has no attribute {name}"
    solver = estimator.solver
    if solver not in (*OPTIMIZERS, "lbfgs"):
        return f"solver={solver!r} is none of scikit-learn's"
    if estimator.activation not in ACTIVATIONS:
        return f"activation={estimator.activation!r} is none of scikit-learn's"
    losses = ("log_loss",) if is_classifier(estimator) else ("squared_error", "poisson")
    if estimator.loss not in losses:
        return f"loss={estimator.loss!r} is none of scikit-learn's"
    called = ALWAYS + (LBFGS if solver == "lbfgs" else STOCHASTIC)
    called += EARLY_STOPPING if estimator.early_stopping and solver != "lbfgs" else ()
    changed = _changed(estimator, called)
    if changed:
        return changed
    for name in TABLES:
        if not _is_original(name):
            return f"{name} of scikit-learn's module have been changed"
    if (mlp.AdamOptimizer, mlp.SGDOptimizer) != tuple(OPTIMIZERS.values()):
        return "the optimizers of scikit-learn's module have been replaced"
    optimizer = known.get("_optimizer")
    if incremental and optimizer is not None and type(optimizer) not in OPTIMIZERS.values():
        return f"_optimizer is of another type, {type(optimizer).__name__}"
    return None


def forward_refusal(estimator):
    """Whether scikit-learn has to compute the outputs of an estimator itself."""
    known = vars(estimator)
    if "coefs_" not in known or "activation" not in known:
        return True
    return known["activation"] not in ACTIVATIONS or not _is_original("ACTIVATIONS")


def _changed(estimator, names):
    """Which of these methods a subclass, the instance or another program has changed, in words, or None."""
    kind, known = type(estimator), vars(estimator)
    for name in names:
        if name in known:
            return f"the instance has a {name} of its own"
        method = getattr(kind, name, None)  # versions of scikit-learn differ
        if method is not None and not _is_owned(method):
            owner = next(cls for cls in kind.__mro__ if name in vars(cls))
            return (
                f"{owner.__name__} overrides {name}"
                if owner.__module__.partition(".")[0] not in OWNERS
                else (f"{owner.__name__}.{name} has been replaced")
            )
    return None


def _is_owned(function):
    """Whether a function is scikit-learn's, or fastnn's, and not only called so by ``functools.wraps``."""
    module = getattr(function, "__globals__", {}).get("__name__")
    return isinstance(module, str) and module.partition(".")[0] in OWNERS


def _is_original(table):
    """Whether a table of functions, of scikit-learn's module, is as scikit-learn has made it."""
    return all(map(_is_owned, getattr(mlp, table).values()))
