"""The regressor's quantiles: one number, or a list of them with an output for each."""

import math
from numbers import Real

import numpy as np


def listed_quantiles(quantile):
    """The quantiles of a list as float64 (n_quantiles,), or None for a single number.

    Raises
    ------
    ValueError
        When the list is empty, or holds anything but distinct numbers between 0 and 1.
    """
    if isinstance(quantile, Real) or getattr(quantile, "ndim", 1) == 0:
        return None
    values = list(quantile)
    legal = all(isinstance(value, Real) and math.isfinite(value) and 0 < value < 1 for value in values)
    if not values or not legal or len(set(values)) < len(values):
        raise ValueError(
            "quantile must be a number between 0 and 1, or a list of distinct ones such as [0.1, 0.5, 0.9], got "
            f"{quantile!r}."
        )
    return np.array(values, np.float64)


def rearranged(outputs, quantiles):
    """Outputs (n_rows, n_quantiles) sorted in each row, so that a higher quantile is never below a lower one.

    Sorting brings no quantile's loss up (Chernozhukov, Fernandez-Val & Galichon, 2010).
    """
    if outputs.shape[1] != len(quantiles):
        raise ValueError(f"The network has {outputs.shape[1]} outputs, quantiles_ are {len(quantiles)}: {quantiles}.")
    ordered = np.empty_like(outputs)
    ordered[:, np.argsort(quantiles)] = np.sort(outputs, axis=1)
    return ordered


def central(quantiles):
    """Index of the quantile nearest to .5, the lower of two."""
    order = np.argsort(quantiles)
    return int(order[np.argmin(np.abs(quantiles[order] - 0.5))])
