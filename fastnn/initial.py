"""Initial weights: distributions by name, and the drawing in scikit-learn's order.

By default the same ``random_state`` starts from the very network that scikit-learn starts from.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Init(NamedTuple):
    """One row of the table: a distribution with mean 0, and how wide it is for a layer."""

    normal: bool  # else uniform
    width: Callable  # (fan_in, fan_out, hidden activation, scale) -> standard deviation, or bound of the uniform one
    scaled: bool = False  # whether the width is the user's ``init_scale``


def _glorot(gain, fan_in, fan_out):
    return math.sqrt(gain / (fan_in + fan_out))


# Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010, equation 16.
# He et al., Delving deep into rectifiers, 2015, equation 10. LeCun et al., Efficient BackProp, 1998, section 4.6.
# Normal distributions are not truncated. The smaller bound under logistic units is scikit-learn's.
INITS = {
    "glorot_uniform": Init(False, lambda n, m, hidden, scale: _glorot(2.0 if hidden == "logistic" else 6.0, n, m)),
    "glorot_normal": Init(True, lambda n, m, hidden, scale: _glorot(2.0, n, m)),
    "he_uniform": Init(False, lambda n, m, hidden, scale: math.sqrt(6.0 / n)),
    "he_normal": Init(True, lambda n, m, hidden, scale: math.sqrt(2.0 / n)),
    "lecun_normal": Init(True, lambda n, m, hidden, scale: math.sqrt(1.0 / n)),
    "normal": Init(True, lambda n, m, hidden, scale: scale, scaled=True),
}

BIASES = ("match", "zeros")


def check_init_scale(init, init_scale):
    """Raise ValueError unless ``init_scale`` is given exactly where ``init`` asks for it."""
    if INITS[init].scaled and init_scale is None:
        raise ValueError(f"init={init!r} needs init_scale, the standard deviation: a number > 0.")
    if not INITS[init].scaled and init_scale is not None:
        scaled = " or ".join(repr(name) for name, row in INITS.items() if row.scaled)
        raise ValueError(f"init_scale={init_scale!r} goes with init={scaled} only, got init={init!r}: leave it None.")


def per_layer(hidden_activation, n_layers):
    """Names of the hidden activations by which the weights of each layer are drawn.

    ``hidden_activation`` is one name, or a tuple of a name for each hidden layer. The output layer goes by the last
    hidden layer's, as in scikit-learn.
    """
    if isinstance(hidden_activation, str):
        return (hidden_activation,) * n_layers
    return (*hidden_activation, *(hidden_activation[-1:] or ("relu",)))


def draw_weights(rng, units, hidden_activation, dtype, *, init="glorot_uniform", init_scale=None, init_bias="match"):
    """Weights and biases of all layers, the output layer's too.

    ``hidden_activation`` is as in `per_layer`. Draws are float64, layer by layer, the weights (fan_in, fan_out) in C
    order before the biases (fan_out,); then they are cast. "match" draws biases from the distribution of their layer's
    weights; "zeros" draws none.

    Returns
    -------
    coefs, intercepts : list of ndarray

    Raises
    ------
    ValueError
        When ``init_scale`` is too large for ``dtype``.
    """
    row, names = INITS[init], per_layer(hidden_activation, len(units) - 1)
    coefs, intercepts = [], []
    for (fan_in, fan_out), hidden in zip(pairwise(units), names, strict=True):
        width = row.width(fan_in, fan_out, hidden, init_scale)
        for arrays, shape in ((coefs, (fan_in, fan_out)), (intercepts, fan_out)):
            if arrays is intercepts and init_bias == "zeros":
                arrays.append(np.zeros(fan_out, dtype))
            else:
                drawn = rng.normal(0.0, width, shape) if row.normal else rng.uniform(-width, width, shape)
                with np.errstate(over="ignore"):
                    arrays.append(drawn.astype(dtype, copy=False))
    if row.scaled and not all(np.isfinite(array).all() for array in coefs + intercepts):
        raise ValueError(f"init_scale={init_scale!r} is too large for {dtype}.")
    return coefs, intercepts
