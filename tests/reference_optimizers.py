"""The optimizers and learning-rate schedules of `reference`, from the formulas alone, in float64."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


# ---- optimizers: step(param, grad, moments, rate, h) changes param and moments in place; h holds hyper-parameters, and
# the number of the step t = 1, 2, ..., the learning rate, and the strength of the decay of this parameter
class Optimizer(NamedTuple):
    n_moments: int
    rate: Callable  # (learning rate, number of this step from 1, h) -> the rate handed to step
    step: Callable
    averages: bool = False  # the first moment begins as the parameter, and what is learned is the second


HYPER = dict(
    momentum=0.9, nesterovs_momentum=True, beta_1=0.9, beta_2=0.999, rho=0.9, epsilon=1e-8, weight_decay=0.0,
    max_grad_norm=None, warmup=0, decay_rate=0.1, decay_every=10,
)  # fmt: skip


def decayed(param, h):
    """What is left of a parameter after decoupled weight decay."""
    return param * (1 - h["rate"] * h["decay"])


def sgd_step(param, grad, moments, rate, h):
    (velocity,) = moments
    velocity[:] = h["momentum"] * velocity - rate * grad
    change = h["momentum"] * velocity - rate * grad if h["nesterovs_momentum"] else velocity
    param[:] = decayed(param, h) + change


def adam_rate(rate, t, h):
    """Both bias corrections folded into the rate, so that epsilon stands outside of them ("epsilon hat")."""
    return rate * np.sqrt(1 - h["beta_2"] ** t) / (1 - h["beta_1"] ** t)


def adam_step(param, grad, moments, rate, h):
    mean, square = moments
    mean[:] = h["beta_1"] * mean + (1 - h["beta_1"]) * grad
    square[:] = h["beta_2"] * square + (1 - h["beta_2"]) * grad**2
    param[:] = decayed(param, h) - rate * mean / (np.sqrt(square) + h["epsilon"])


def rmsprop_step(param, grad, moments, rate, h):
    (square,) = moments
    square[:] = h["rho"] * square + (1 - h["rho"]) * grad**2
    param[:] = decayed(param, h) - rate * grad / (np.sqrt(square) + h["epsilon"])


def nadam_step(param, grad, moments, rate, h):
    """As PyTorch's NAdam with its default momentum_decay=0.004."""
    mean, square = moments
    mu = [h["beta_1"] * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in range(1, h["t"] + 2)]
    mean[:] = h["beta_1"] * mean + (1 - h["beta_1"]) * grad
    square[:] = h["beta_2"] * square + (1 - h["beta_2"]) * grad**2
    divisor = np.sqrt(square / (1 - h["beta_2"] ** h["t"])) + h["epsilon"]
    change = (1 - mu[-2]) / (1 - np.prod(mu[:-1])) * grad + mu[-1] / (1 - np.prod(mu)) * mean
    param[:] = decayed(param, h) - rate * change / divisor


def adagrad_step(param, grad, moments, rate, h):
    (total,) = moments
    total += grad**2
    param[:] = decayed(param, h) - rate * grad / (np.sqrt(total) + h["epsilon"])


def lion_step(param, grad, moments, rate, h):
    """Chen et al. 2023, algorithm 2."""
    (mean,) = moments
    direction = np.sign(h["beta_1"] * mean + (1 - h["beta_1"]) * grad)
    param[:] = decayed(param, h) - rate * direction
    mean[:] = h["beta_2"] * mean + (1 - h["beta_2"]) * grad


def schedule_free_step(param, grad, moments, rate, h):
    """Defazio et al. 2024, algorithm 1 (AdamW), with the bias correction in the divisor, as in the authors' program."""
    z, x, square = moments
    square[:] = h["beta_2"] * square + (1 - h["beta_2"]) * grad**2
    divisor = np.sqrt(square / (1 - h["beta_2"] ** h["t"])) + h["epsilon"]
    z -= rate * (grad / divisor + h["decay"] * param)
    share = rate**2 / h["squared_rates"] if h["squared_rates"] else 0.0
    x[:] = (1 - share) * x + share * z
    param[:] = (1 - h["beta_1"]) * z + h["beta_1"] * x


def same_rate(rate, t, h):
    return rate


OPTIMIZERS = {
    "sgd": Optimizer(1, same_rate, sgd_step),
    "adam": Optimizer(2, adam_rate, adam_step),
    "rmsprop": Optimizer(1, same_rate, rmsprop_step),
    "nadam": Optimizer(2, same_rate, nadam_step),
    "adagrad": Optimizer(1, same_rate, adagrad_step),
    "lion": Optimizer(1, same_rate, lion_step),
    "schedulefree": Optimizer(3, same_rate, schedule_free_step, averages=True),
}


def clip(grads, largest):
    """Gradients scaled down to a norm over all of them, as by PyTorch's clip_grad_norm_."""
    norm = np.sqrt(sum((grad**2).sum() for grad in grads))
    return [grad * min(1.0, largest / (norm + 1e-6)) for grad in grads]


# ---- learning-rate schedules of all solvers: (share of the steps done, epoch, h) -> rate / peak ----------------------
CURVES = {
    "cosine": lambda t, epoch, h: 0.5 * (1 + np.cos(np.pi * t)),
    "onecycle": lambda t, epoch, h: 0.1 + 0.9 * t / 0.2 if t < 0.2 else 0.5 * (1 + np.cos(np.pi * (t - 0.2) / 0.8)),
    "coslog": lambda t, epoch, h: 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t))),
    "exponential": lambda t, epoch, h: h["decay_rate"] ** (epoch / h["decay_every"]),
    "step": lambda t, epoch, h: h["decay_rate"] ** (epoch // h["decay_every"]),
}


def scheduled(name, rate, peak, epoch, i, n_batches, max_iter, h):
    """The rate of batch i of an epoch; ``rate`` is that of scikit-learn's schedules."""
    k, warmup = epoch * n_batches + i, h["warmup"] * n_batches
    if callable(name):
        rate = name(epoch)
    elif name in CURVES:
        done = max(0.0, (k - warmup) / (max_iter * n_batches - warmup))
        rate = peak * CURVES[name](done, max(0, epoch - int(np.ceil(h["warmup"]))), h)
    return rate * min(1.0, (k + 1) / warmup) if warmup else rate


# ---- scikit-learn's schedules (solver sgd) --------------------------------------------------------------------------
class Schedule(NamedTuple):
    after_epoch: Callable  # (rate, initial rate, samples seen, power_t) -> rate
    when_stalled: Callable  # (rate) -> the rate to go on with, or None to stop


SCHEDULES = {
    "constant": Schedule(lambda rate, first, seen, power: rate, lambda rate: None),
    "invscaling": Schedule(lambda rate, first, seen, power: first / (seen + 1) ** power, lambda rate: None),
    "adaptive": Schedule(lambda rate, first, seen, power: rate, lambda rate: None if rate <= 1e-6 else rate / 5),
}
