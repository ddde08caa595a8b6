"""Initial weights, drawn in scikit-learn's order: the same ``random_state`` starts from the same network."""

import math
from itertools import pairwise


def glorot_uniform(rng, units, hidden_activation, dtype):
    """Weights and biases uniform in +-sqrt(6 / (fan_in + fan_out)), sqrt(2 / ...) for logistic networks.

    The bound of a layer holds for its biases too, and for the output layer. Draws are float64, layer by layer, the
    weights (fan_in, fan_out) in C order before the biases (fan_out,); then they are cast.

    Returns
    -------
    coefs, intercepts : list of ndarray
    """
    factor = 2.0 if hidden_activation == "logistic" else 6.0
    coefs, intercepts = [], []
    for fan_in, fan_out in pairwise(units):
        bound = math.sqrt(factor / (fan_in + fan_out))
        coefs.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype, copy=False))
        intercepts.append(rng.uniform(-bound, bound, fan_out).astype(dtype, copy=False))
    return coefs, intercepts
