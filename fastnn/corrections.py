"""Corrections that optimizers make in each step, for the rows of step scalars, see `core.records`.

Each function takes an optimizer's settings and returns the columns FIRST_CORRECTION, SECOND_CORRECTION and MIXING of
the steps t, ..., t + n - 1; the first step is t = 1. The same bits on every processor, see `arithmetic`.
"""

import functools

import numpy as np

from .arithmetic import BLOCK, powers, powers_from, real_power

MOMENTUM_DECAY = 0.004  # of NAdam, PyTorch's default


def no_corrections(settings, t, n):
    """Ones, and no mixing."""
    return 1.0, 1.0, 0.0


def adam_corrections(settings, t, n):
    """``1 - beta_1^t`` and ``sqrt(1 - beta_2^t)``: float64 (n, 3)."""
    columns = np.zeros((n, 3))
    columns[:, 0] = 1 - powers_from(float(settings["beta_1"]), t, n)
    np.sqrt(1 - powers_from(float(settings["beta_2"]), t, n), out=columns[:, 1])
    return columns


def schedule_free_corrections(settings, t, n):
    """``sqrt(1 - beta_2^t)``; the mixing depends on the rates, see `Composed`."""
    columns = adam_corrections(settings, t, n)
    columns[:, 0] = 1.0
    return columns


def nadam_corrections(settings, t, n):
    """Weights of gradient and first moment in a step, and ``sqrt(1 - beta_2^t)``: float64 (n, 3).

    With mu_t = beta_1 (1 - 0.96^(0.004 t) / 2) and P_t = mu_1 ... mu_t the weights are (1 - mu_t) / (1 - P_t) and
    mu_(t+1) / (1 - P_(t+1)), as in PyTorch.
    """
    beta_1, columns = float(settings["beta_1"]), adam_corrections(settings, t, n)
    blocks = range(t // BLOCK, (t + n) // BLOCK + 1)
    mu, product = (np.concatenate(parts) for parts in zip(*(_nadam_momenta(beta_1, i) for i in blocks), strict=True))
    start = t - BLOCK * blocks[0]
    mu, product = mu[start : start + n + 1], product[start : start + n + 1]
    columns[:, 0], columns[:, 2] = (1 - mu[:-1]) / (1 - product[:-1]), mu[1:] / (1 - product[1:])
    return columns


@functools.lru_cache(maxsize=64)
def _nadam_momenta(beta_1, block):
    """mu_t and P_t for the steps t of a block of BLOCK steps; P_0 = 1, and 0 stands for what 1 - P_t does not see."""
    base, product = real_power(0.96, MOMENTUM_DECAY), 1.0
    with np.errstate(under="ignore"):
        for i in range(block + 1):
            mu = beta_1 * (1 - 0.5 * powers(base, i))
            terms = mu.copy()
            terms[0] = terms[0] * product if i else 1.0
            products = np.multiply.accumulate(terms)
            product = products.item(-1)
            if product < 2.0**-60 and i < block:
                return beta_1 * (1 - 0.5 * powers(base, block)), np.zeros(BLOCK)
    return mu, products


CORRECTIONS = {
    None: no_corrections,
    "adam": adam_corrections,
    "nadam": nadam_corrections,
    "schedulefree": schedule_free_corrections,
}
