"""scikit-learn's private methods that public code overrides: which ones count here, and what to say of the others.

None of them may be ignored without a word, and no method of a subclass may meet one of fastnn's own by accident: their
names begin with `OWN`.
"""

import functools

HONOURED = ("_init_coef", "_validate_input")
OWN = "_mlp_"  # how the names of fastnn's own methods begin

_STEP = "steps are compiled; to_sklearn() gives scikit-learn's estimator, whose method can be overridden"
_EPOCHS = "train one epoch at a time with partial_fit, or max_iter=1 and warm_start=True, and do it in between"
# The others, each with the public way to the same end.
REFUSED = {
    "_initialize": "give the weights to fit: coefs_init and intercepts_init, or override _init_coef",
    "_fit": "override fit and partial_fit",
    "_fit_stochastic": _EPOCHS,
    "_fit_lbfgs": "tol, max_iter and max_fun are SciPy's; to_sklearn() gives scikit-learn's estimator",
    "_update_no_improvement_count": f"fit takes X_val and y_val, and metrics follow scorers; or {_EPOCHS}",
    "_forward_pass": _STEP,
    "_forward_pass_fast": "override predict or predict_proba",
    "_backprop": _STEP,
    "_compute_loss": _STEP,
    "_compute_loss_grad": _STEP,
    "_loss_grad_lbfgs": _STEP,
    "_unpack": _STEP,
    "_predict": "override predict",
    "_score": "fit takes X_val and y_val, and metrics follow scorers",
    "_score_with_function": "fit takes X_val and y_val, and metrics follow scorers",
}


@functools.lru_cache(maxsize=256)
def _defined(kind):
    """Which of these names, and of fastnn's own, classes of ``kind`` define that are neither fastnn's nor sklearn's."""
    ours = [cls.__module__.split(".")[0] in (__name__.split(".")[0], "sklearn") for cls in kind.__mro__]
    defined = {name for cls, own in zip(kind.__mro__, ours, strict=True) if not own for name in vars(cls)}
    return frozenset(name for name in defined if name in HONOURED or name in REFUSED or name.startswith(OWN))


def overridden(estimator, name):
    """Whether a subclass or the instance has a method of that name of its own."""
    return name in vars(estimator) or name in _defined(type(estimator))


def refuse_overrides(estimator):
    """Raise TypeError where a private method of scikit-learn is overridden that is never called, or one of fastnn's."""
    names = _defined(type(estimator)).union(vars(estimator))
    own = [name for name in names if name.startswith(OWN)]
    if own:
        raise TypeError(f"{type(estimator).__name__} overrides {min(own)}, which is fastnn's own: choose another name.")
    found = names.intersection(REFUSED)
    if found:
        name = min(found)
        raise TypeError(
            f"{type(estimator).__name__} overrides scikit-learn's private method {name}, which fastnn never calls. "
            f"Instead: {REFUSED[name]}."
        )
