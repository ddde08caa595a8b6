"""Learning rates by name: functions of the step that return rates relative to the peak.

Each takes an optimizer's settings, the indices k (n,) of steps since the first, and the number of steps an epoch. The
same bits on every processor, see `arithmetic`.
"""

import math

import numpy as np

from .arithmetic import log_2, real_power, sin_pi


def _part_done(settings, k, n_steps):
    """Share in [0, 1] of the steps between warm-up and the end of max_iter epochs that are done before steps k."""
    warmup = float(settings["warmup"]) * n_steps
    return np.clip((k - warmup) / (settings["max_iter"] * n_steps - warmup), 0.0, 1.0)


def _epochs_done(settings, k, n_steps):
    """Whole epochs since the warm-up before each of the steps k, as int."""
    return np.maximum(k // n_steps - math.ceil(settings["warmup"]), 0)


def _power_by_epoch(settings, exponents):
    """decay_rate^exponent, for few different exponents."""
    values, inverse = np.unique(exponents, return_inverse=True)
    return np.array([real_power(float(settings["decay_rate"]), value) for value in values.tolist()])[inverse]


def constant(settings, k, n_steps):
    """1."""
    return np.ones(k.size)


def cosine(settings, k, n_steps):
    """(1 + cos(pi t)) / 2, where t is the share of the steps done (Loshchilov & Hutter 2017, without restarts)."""
    half = sin_pi(0.5 * (1 - _part_done(settings, k, n_steps)))
    return half * half


def one_cycle(settings, k, n_steps):
    """From 0.1 linearly to 1 over the first fifth of the steps, then a cosine to 0 (after Smith 2018)."""
    t = _part_done(settings, k, n_steps)
    half = sin_pi(np.minimum(0.5 * (1.25 * (1 - t)), 0.5))
    return np.where(t < 0.2, 0.1 + 4.5 * t, half * half)


def cosine_of_logarithm(settings, k, n_steps):
    """(1 - cos(2 pi log2(1 + 15 t))) / 2: four cycles, each about twice as long as the one before.

    The "coslog4" of RealMLP (Holzmüller et al. 2024).
    """
    cycles = log_2(1 + 15 * _part_done(settings, k, n_steps))
    cycles = cycles - np.floor(cycles)
    half = sin_pi(np.minimum(cycles, 1 - cycles))
    return half * half


def exponential(settings, k, n_steps):
    """decay_rate^(e / decay_every) in epoch e = 0, 1, ..."""
    return _power_by_epoch(settings, _epochs_done(settings, k, n_steps) / float(settings["decay_every"]))


def steps_down(settings, k, n_steps):
    """decay_rate^floor(e / decay_every) in epoch e = 0, 1, ..."""
    return _power_by_epoch(settings, np.floor(_epochs_done(settings, k, n_steps) / float(settings["decay_every"])))


CURVES = {
    "cosine": cosine,
    "onecycle": one_cycle,
    "exponential": exponential,
    "step": steps_down,
    "coslog": cosine_of_logarithm,
}
ENDING = ("cosine", "onecycle", "coslog")  # those that end after max_iter epochs, with a rate of 0
