"""What every constructor parameter may be, derived from the engine's tables so that the two cannot drift apart.

The constraints are objects of scikit-learn's own validation: wrong values raise its ``InvalidParameterError``.
"""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from .core.nn.activations import ACTIVATIONS
from .core.nn.losses import LOSSES
from .core.nn.optimizers import OPTIMIZERS
from .initial import BIASES, INITS
from .schedules import NAMES

FLOAT_TYPES = (np.float32, np.float64)
REGRESSION_LOSSES = {row.users_name for row in LOSSES.values() if not row.classifier}
CLASSIFICATION_LOSSES = {row.users_name for row in LOSSES.values() if row.classifier}
CLASSIFIER_OUTPUTS = {row.output for row in LOSSES.values() if row.classifier}

CONSTRAINTS = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions({name for name, row in ACTIVATIONS.items() if row.hidden})],
    "solver": [StrOptions({"lbfgs", *OPTIMIZERS})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions(set(NAMES)), callable],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "rho": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "init": [StrOptions(set(INITS))],
    "init_scale": [None, Interval(Real, 0, np.inf, closed="neither")],
    "init_bias": [StrOptions(set(BIASES))],
    "n_jobs": [None, Interval(Integral, None, -1, closed="right"), Interval(Integral, 1, None, closed="left")],
    "dtype": [
        StrOptions({"match", *(kind.__name__ for kind in FLOAT_TYPES)}),
        Options(type, set(FLOAT_TYPES)),
        Options(np.dtype, {np.dtype(kind) for kind in FLOAT_TYPES}),
    ],
    "metrics": [tuple, list],
    "weight_decay": [Interval(Real, 0, np.inf, closed="left")],
    "max_grad_norm": [None, Interval(Real, 0, np.inf, closed="neither")],
    "warmup": [Interval(Real, 0, np.inf, closed="left")],
    "decay_rate": [Interval(Real, 0, 1, closed="right")],
    "decay_every": [Interval(Real, 0, np.inf, closed="neither")],
}


def dtype_for(dtype, *arrays):
    """The network's type that the parameter ``dtype`` asks for where these arrays are what "match" looks at.

    As in scikit-learn, "match" is float32 where all of them are float32, else float64.

    Raises
    ------
    ValueError
        When ``dtype`` is none of the legal ones.
    """
    if isinstance(dtype, str) and dtype == "match":
        types = {array.dtype for array in arrays}
        single = types == {np.dtype(np.float32)} or all(each.newbyteorder("=") == np.float32 for each in types)
        return np.dtype(np.float32 if single else np.float64)
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ValueError(f'dtype must be "float32", "float64" or "match", got {dtype!r}.')
    return found


def hidden_units(hidden_layer_sizes):
    """The widths of the hidden layers as a tuple of int; one number is one layer, an empty list is no hidden layer."""
    sizes = list(hidden_layer_sizes) if hasattr(hidden_layer_sizes, "__iter__") else [hidden_layer_sizes]
    if any(not isinstance(size, Integral) for size in sizes):
        raise ValueError(f"hidden_layer_sizes must hold integers, got {sizes}.")
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return tuple(int(size) for size in sizes)
