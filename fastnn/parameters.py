"""What every constructor parameter may be, derived from the engine's tables so that the two cannot drift apart.

The constraints are objects of scikit-learn's own validation: wrong values raise its ``InvalidParameterError``.
"""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints

from .core.nn.activations import ACTIVATIONS
from .core.nn.losses import LOSSES
from .core.nn.optimizers import OPTIMIZERS
from .initial import BIASES, INITS
from .schedules import NAMES

FLOAT_TYPES = (np.float32, np.float64)
SINGLE, DOUBLE = map(np.dtype, FLOAT_TYPES)
REGRESSION_LOSSES = {row.users_name for row in LOSSES.values() if not row.classifier and row.users_name}
CLASSIFICATION_LOSSES = {row.users_name for row in LOSSES.values() if row.classifier and row.users_name}
CLASSIFIER_OUTPUTS = {row.output for row in LOSSES.values() if row.classifier}

HIDDEN_ACTIVATIONS = [name for name, row in ACTIVATIONS.items() if row.hidden]


class LayerSizes(Interval):
    """A number of units, or a sequence of such; `hidden_units` looks at the numbers of a sequence."""

    def __init__(self):
        super().__init__(Integral, 1, None, closed="left")

    def is_satisfied_by(self, val):
        number = _int_of(val)
        if number is not None:
            return super().is_satisfied_by(number)
        sequence = hasattr(val, "__iter__") and hasattr(val, "__len__") and getattr(val, "ndim", 1) > 0
        return sequence and not isinstance(val, (str, bytes, dict, set, frozenset))

    def __str__(self):
        return f"an array-like or {super().__str__()}"  # as scikit-learn says it


def _int_of(value):
    """The int that ``value`` is, also as a scalar or an array without dimensions of NumPy's; None for what is none."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


CONSTRAINTS = {
    "hidden_layer_sizes": [LayerSizes()],
    "activation": [StrOptions(set(HIDDEN_ACTIVATIONS)), "array-like"],
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
    "metrics": [tuple, list, str],
    "weight_decay": [Interval(Real, 0, np.inf, closed="left")],
    "max_grad_norm": [None, Interval(Real, 0, np.inf, closed="neither")],
    "warmup": [Interval(Real, 0, np.inf, closed="left")],
    "decay_rate": [Interval(Real, 0, 1, closed="right")],
    "decay_every": [Interval(Real, 0, np.inf, closed="neither")],
    "n_hidden_layers": [None, Interval(Integral, 0, None, closed="left")],
    "scoring": [None, str, callable],
    "restore_best": [StrOptions({"auto"}), "boolean"],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "ema_decay": [None, Interval(Real, 0, 1, closed="neither")],
    "max_seconds": [None, Interval(Real, 0, None, closed="neither")],
}

REGRESSOR_CONSTRAINTS = {
    "loss": [StrOptions(REGRESSION_LOSSES)],
    "huber_delta": [Interval(Real, 0, np.inf, closed="neither")],
    "quantile": [Interval(Real, 0, 1, closed="neither"), "array-like"],
    "tweedie_power": [Options(Real, {0}), Interval(Real, 1, np.inf, closed="left")],
}
CLASSIFIER_CONSTRAINTS = {
    "loss": [StrOptions(CLASSIFICATION_LOSSES)],
    "out_activation": [StrOptions({"auto", *CLASSIFIER_OUTPUTS})],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "focal_gamma": [Interval(Real, 0, np.inf, closed="left")],
    "class_weight": [dict, list, StrOptions({"balanced"}), None],
    "validation_stratify": [StrOptions({"auto"}), "boolean"],
}


SIMPLE = (type(None), bool, int, float, str)  # types of values that cannot change
MANY = 2000  # values that are remembered


def validate(estimator, legal):
    """Validate the parameters as scikit-learn does, but for those in ``legal``, a set that takes those found legal.

    (In every fit of a search most are the same. Zen 3: 270 us for all of them, 27 where all are known to be legal.)
    """
    params = estimator.get_params(deep=False)
    new = {}
    for name, value in params.items():
        if type(value) not in SIMPLE or (name, type(value), value) not in legal:
            new[name] = value
    validate_parameter_constraints(estimator._parameter_constraints, new, caller_name=type(estimator).__name__)
    if len(legal) > MANY:
        legal.clear()
    legal.update((name, type(value), value) for name, value in new.items() if type(value) in SIMPLE)


def check_smoothing(loss, label_smoothing):
    """Raise ValueError unless the classifier's loss can be smoothed, where it is asked for."""
    if label_smoothing and loss != "log_loss":
        raise ValueError(
            f"label_smoothing={label_smoothing!r} goes with loss='log_loss' alone, got loss={loss!r}: use "
            "label_smoothing=0, or loss='log_loss'."
        )


def dtype_for(dtype, *arrays):
    """The network's type that the parameter ``dtype`` asks for where these arrays are what "match" looks at.

    As in scikit-learn, "match" is float32 where all of them are float32, else float64.

    Raises
    ------
    ValueError
        When ``dtype`` is none of the legal ones.
    """
    if isinstance(dtype, str) and dtype == "match":
        single = all(array.dtype == SINGLE or array.dtype.newbyteorder("=") == SINGLE for array in arrays)
        return SINGLE if single else DOUBLE
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ValueError(f'dtype must be "float32", "float64" or "match", got {dtype!r}.')
    return found


def check_activation(activation):
    """Raise ValueError unless ``activation``, if it is no string, is a sequence of names of hidden activations."""
    if isinstance(activation, str):
        return
    names = activation.tolist() if isinstance(activation, np.ndarray) else activation
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) and n in HIDDEN_ACTIVATIONS for n in names):
        legal = ", ".join(map(repr, HIDDEN_ACTIVATIONS))
        raise ValueError(
            f"activation must be one of {legal}, or a list or tuple of such names, one for each hidden layer, got "
            f"{activation!r}."
        )


def hidden_activation(activation, n_hidden):
    """The parameter ``activation`` for a network of so many hidden layers: one name, or a tuple of a name for each.

    Raises
    ------
    ValueError
        When there is another number of names than of hidden layers.
    """
    if isinstance(activation, str):
        return activation
    check_activation(activation)
    names = tuple(map(str, activation))
    if len(names) != n_hidden:
        raise ValueError(
            f"activation={list(names)} has {len(names)} names, the network has {n_hidden} hidden layers: give one name "
            "for all layers, or one for each."
        )
    return names


def activation_names(activation, n_hidden):
    """`hidden_activation` as a tuple of a name for each hidden layer."""
    names = hidden_activation(activation, n_hidden)
    return (names,) * n_hidden if isinstance(names, str) else names


def hidden_units(hidden_layer_sizes, n_hidden_layers=None):
    """The widths of the hidden layers as a tuple of int, from the parameters of these names.

    One number is one layer, or ``n_hidden_layers`` of them; an empty list is no hidden layer.

    Raises
    ------
    ValueError
        When a width is not an int >= 1, or a sequence of them comes with ``n_hidden_layers``.
    """
    number = _int_of(hidden_layer_sizes)
    if n_hidden_layers is not None:
        if number is None or _int_of(n_hidden_layers) is None:
            raise ValueError(
                "n_hidden_layers says how often an int hidden_layer_sizes is repeated: give two numbers such as "
                "hidden_layer_sizes=64, n_hidden_layers=2, or the sequence alone. Got "
                f"hidden_layer_sizes={hidden_layer_sizes!r} and n_hidden_layers={n_hidden_layers!r}."
            )
        return (number,) * _int_of(n_hidden_layers)
    sizes = [hidden_layer_sizes] if number is not None else list(hidden_layer_sizes)
    numbers = tuple(map(_int_of, sizes))
    if None in numbers:
        raise ValueError(f"hidden_layer_sizes must hold integers, such as 64 or (64, 32), got {sizes}.")
    if any(size <= 0 for size in numbers):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return numbers


def dropout_rates(dropout, n_hidden):
    """The parameter ``dropout`` as a tuple of rates, the input's first, for so many hidden layers; () for none.

    Raises
    ------
    ValueError
        When a rate is not in [0, 1), or there is another number of rates than of hidden layers and the input.
    """
    rates = dropout.tolist() if isinstance(dropout, np.ndarray) else dropout
    rates = (0.0, *[rates] * n_hidden) if isinstance(rates, Real) else rates
    if not isinstance(rates, list | tuple) or not all(isinstance(rate, Real) and 0 <= rate < 1 for rate in rates):
        raise ValueError(
            "dropout must be a number in [0, 1), for the hidden layers, or a list or tuple of such numbers, for the "
            f"input and each hidden layer, got {dropout!r}."
        )
    if len(rates) != n_hidden + 1:
        raise ValueError(
            f"dropout={list(rates)} has {len(rates)} rates, the network has an input and {n_hidden} hidden layers: "
            f"give {n_hidden + 1} rates, the input's first, or one number for all hidden layers."
        )
    return tuple(map(float, rates)) if any(rates) else ()


def check_dropout(estimator, n_hidden, *, sparse):
    """Raise ValueError where ``dropout`` is illegal for so many hidden layers, under the solver, or for sparse X."""
    rates = dropout_rates(estimator.dropout, n_hidden)
    if rates and rates[0] and sparse:
        raise ValueError(
            f"dropout={estimator.dropout!r} drops inputs, which goes with dense X alone: give X.toarray(), or 0 as the "
            "input's rate, or one number, which is for the hidden layers."
        )
    if rates and estimator.solver == "lbfgs":
        raise ValueError(
            f"dropout={estimator.dropout!r} does not go with solver='lbfgs', whose line search needs the same loss at "
            f"the same weights; it goes with {', '.join(map(repr, OPTIMIZERS))}."
        )
