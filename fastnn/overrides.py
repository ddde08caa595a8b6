"""scikit-learn's private methods that public code overrides: which ones count here, and what to say of the others.

None of them may be ignored without a word, and none may meet a method of fastnn's own by accident.
"""

import functools

HONOURED = ("_init_coef", "_validate_input")

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
    """Which of all these names the classes of ``kind`` define that are neither fastnn's nor scikit-learn's."""
    others = [cls for cls in kind.__mro__ if cls.__module__.split(".")[0] not in (__name__.split(".")[0], "sklearn")]
    return frozenset(name for name in (*HONOURED, *REFUSED) if any(name in vars(cls) for cls in others))


def overridden(estimator, name):
    """Whether a subclass or the instance has a method of that name of its own."""
    return name in vars(estimator) or name in _defined(type(estimator))


def refuse_overrides(estimator):
    """Raise TypeError where a private method of scikit-learn is overridden that would never be called."""
    found = _defined(type(estimator)).union(vars(estimator)).intersection(REFUSED)
    if found:
        name = min(found)
        raise TypeError(
            f"{type(estimator).__name__} overrides scikit-learn's private method {name}, which fastnn never calls. "
            f"Instead: {REFUSED[name]}."
        )
