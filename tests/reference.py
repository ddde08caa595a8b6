"""A naive float64 network: the plain NumPy twin that every compiled kernel is compared with.

Everything fastnn trains is written here a second time, in the shortest readable form and from the formulas alone:
nothing of fastnn is imported. Functions take and return lists `coefs` (fan_in, fan_out) and `intercepts` (fan_out,),
rows of X are samples, and all arithmetic is float64. The scaling conventions are scikit-learn's:

- a mean over samples is weighted, `sum(w * loss) / sum(w)`, and so is the gradient;
- the L2 term `0.5 * alpha * sum(W**2)` is divided by the same weight sum (the batch size without weights);
- `squared_error` REPORTS the mean over outputs but DESCENDS their sum: with k outputs the data part of the gradient is
  k times the derivative of the reported loss. `objective` is the function whose derivative the gradient is. So do
  `absolute_error`, `huber` and `quantile`; deviances are summed in both.

A loss is a name in LOSSES, where hyper-parameters have the defaults of the table in fastnn, or `loss_with(name, ...)`.

To add an item, add one row to LOSSES, to ACTIVATIONS or OUTPUTS of `reference_activations`, or to OPTIMIZERS, CURVES or
SCHEDULES of `reference_optimizers`; the tests run over the tables.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from reference_activations import ACTIVATIONS, OUTPUTS
from reference_dropout import factors
from reference_optimizers import HYPER, OPTIMIZERS, SCHEDULES, clip, scheduled

FLOAT = np.float64


# ---- losses ---------------------------------------------------------------------------------------------------------
def xlogy(x, y):
    """x * log(y), and 0 where x is 0 whatever y is."""
    return np.where(x == 0, 0.0, x * np.log(np.where(x == 0, 1.0, y)))


class Loss(NamedTuple):
    outputs: tuple  # the output activations that this loss may follow
    terms: Callable  # (targets, outputs) -> (n, k): one addend per sample and output
    delta: Callable  # (targets, outputs) -> (n, k): derivative by z, the input of the output activation
    averages_outputs: bool = False  # the reported value is divided by k, the gradient is not


def clipped(p):
    """Probabilities kept one machine epsilon away from 0 and 1, as scikit-learn does before a logarithm."""
    eps = np.finfo(FLOAT).eps
    return np.clip(p, eps, 1 - eps)


def difference(y, p):
    """The delta of every canonical pair of output activation and loss."""
    return p - y


def softmax_difference(y, p):
    """Row by row (diag(p) - p p') (p - y): the Jacobian of softmax, which is symmetric, times the outputs' errors."""
    return np.stack([(np.diag(row) - np.outer(row, row)) @ error for row, error in zip(p, p - y, strict=True)])


LOSSES = {
    "log_loss": Loss(("softmax",), lambda y, p: -xlogy(y, clipped(p)), difference),
    "binary_log_loss": Loss(
        ("logistic",), lambda y, p: -xlogy(y, clipped(p)) - xlogy(1 - y, 1 - clipped(p)), difference
    ),
    "squared_error": Loss(("identity",), lambda y, p: 0.5 * (y - p) ** 2, difference, averages_outputs=True),
    "poisson": Loss(("exp",), lambda y, p: xlogy(y, y / p) - y + p, difference),  # half the deviance
    "logistic_squared_error": Loss(("logistic",), lambda y, p: 0.5 * (y - p) ** 2, lambda y, p: (p - y) * p * (1 - p)),
    "softmax_squared_error": Loss(("softmax",), lambda y, p: 0.5 * (y - p) ** 2, softmax_difference),
    "absolute_error": Loss(("identity",), lambda y, p: abs(p - y), lambda y, p: np.sign(p - y), averages_outputs=True),
    "gamma": Loss(("exp",), lambda y, p: np.log(p / y) + y / p - 1, lambda y, p: (p - y) / p),  # half the deviance
}


def huber(huber_delta=1.0):
    """As PyTorch's HuberLoss: quadratic up to huber_delta, linear beyond."""

    def terms(y, p):
        e = abs(p - y)
        return np.where(e <= huber_delta, 0.5 * e**2, huber_delta * (e - 0.5 * huber_delta))

    return Loss(("identity",), terms, lambda y, p: np.clip(p - y, -huber_delta, huber_delta), averages_outputs=True)


def quantile(quantile=0.5):
    """The pinball loss of one quantile, or of one for each output."""
    q = np.asarray(quantile, FLOAT)

    def delta(y, p):
        return np.where(p > y, 1 - q, np.where(p < y, -q, 0.0))

    return Loss(("identity",), lambda y, p: np.where(y >= p, q * (y - p), (1 - q) * (p - y)), delta, True)


def tweedie(tweedie_power=1.5):
    """Half the unit deviance, power neither 1 nor 2."""
    a, b = 1 - tweedie_power, 2 - tweedie_power

    def terms(y, p):
        first = np.where(y == 0, 0.0, np.where(y == 0, 1.0, y) ** b)
        return first / (a * b) - y * p**a / a + p**b / b

    return Loss(("exp",), terms, lambda y, p: p**b - y * p**a)


def smoothed_log_loss(label_smoothing=0.1):
    def targets(y):
        return (1 - label_smoothing) * y + label_smoothing / y.shape[1]

    plain = LOSSES["log_loss"]
    return Loss(("softmax",), lambda y, p: plain.terms(targets(y), p), lambda y, p: p - targets(y))


def smoothed_binary_log_loss(label_smoothing=0.1):
    def targets(y):
        return (1 - label_smoothing) * y + label_smoothing / 2

    plain = LOSSES["binary_log_loss"]
    return Loss(("logistic",), lambda y, p: plain.terms(targets(y), p), lambda y, p: p - targets(y))


def focal_slope(p, gamma):
    """Derivative by p of -(1 - p)^gamma log p."""
    return gamma * (1 - p) ** (gamma - 1) * np.log(p) - (1 - p) ** gamma / p


def focal(focal_gamma=2.0):
    """Lin et al. 2017 after softmax; the delta is the Jacobian of softmax times the slope at the row's class."""

    def delta(y, p):
        slopes = np.where(y == 1, focal_slope(clipped(p), focal_gamma), 0.0)
        return np.stack([(np.diag(row) - np.outer(row, row)) @ slope for row, slope in zip(p, slopes, strict=True)])

    return Loss(("softmax",), lambda y, p: -y * (1 - p) ** focal_gamma * np.log(clipped(p)), delta)


def binary_focal(focal_gamma=2.0):
    """The same of each logistic output, with 1 - p in place of p where y is 0."""

    def terms(y, p):
        right = clipped(np.where(y == 1, p, 1 - p))
        return -((1 - right) ** focal_gamma) * np.log(right)

    def delta(y, p):
        right = clipped(np.where(y == 1, p, 1 - p))
        return np.where(y == 1, 1, -1) * focal_slope(right, focal_gamma) * p * (1 - p)

    return Loss(("logistic",), terms, delta)


FAMILIES = {
    "huber": huber,
    "quantile": quantile,
    "tweedie": tweedie,
    "smoothed_log_loss": smoothed_log_loss,
    "smoothed_binary_log_loss": smoothed_binary_log_loss,
    "focal": focal,
    "binary_focal": binary_focal,
}
LOSSES |= {name: family() for name, family in FAMILIES.items()}


def loss_with(name, **hyper_parameters):
    """The loss of this name with these hyper-parameters, if it has any."""
    return FAMILIES[name](**hyper_parameters) if hyper_parameters else row_of(name)


def row_of(loss):
    return loss if isinstance(loss, Loss) else LOSSES[loss]


def as_targets(y, n_outputs):
    """Targets as float64 (n, n_outputs): 1-D labels become one-hot rows where there are several outputs."""
    y = np.asarray(y)
    if y.ndim == 1 and n_outputs > 1:
        return (y[:, None] == np.arange(n_outputs)).astype(FLOAT)
    return y.reshape(len(y), n_outputs).astype(FLOAT)


def weights_of(sample_weight, n):
    return np.ones(n) if sample_weight is None else np.asarray(sample_weight, FLOAT)


def penalty(coefs, alpha, weight_sum):
    return 0.5 * alpha * sum((np.asarray(w, FLOAT) ** 2).sum() for w in coefs) / weight_sum


def data_loss(loss, y, outputs, sample_weight=None):
    """The weighted mean over samples of the loss summed over outputs: what the gradient descends, without L2."""
    terms = row_of(loss).terms(as_targets(y, outputs.shape[1]), np.asarray(outputs, FLOAT))
    w = weights_of(sample_weight, len(outputs))
    return (w[:, None] * terms).sum() / w.sum()


def loss_value(loss, y, outputs, sample_weight=None, coefs=(), alpha=0.0):
    """The loss as scikit-learn reports it, L2 term included."""
    divisor = outputs.shape[1] if row_of(loss).averages_outputs else 1
    weight_sum = weights_of(sample_weight, len(outputs)).sum()
    return data_loss(loss, y, outputs, sample_weight) / divisor + penalty(coefs, alpha, weight_sum)


# ---- the network ----------------------------------------------------------------------------------------------------
def hidden_names(hidden_activation, n_hidden):
    """One name for each hidden layer, of one for all of them or of a sequence."""
    return [hidden_activation] * n_hidden if isinstance(hidden_activation, str) else list(hidden_activation)


def propagate(coefs, intercepts, X, hidden_activation, out_activation, masks=None):
    """Inputs `z` and values `a` of the activation of every layer, X first; layers read values times `masks`, if any."""
    zs, values = [], [np.asarray(X, FLOAT)]
    masks = [1.0] * len(coefs) if masks is None else masks
    names = hidden_names(hidden_activation, len(coefs) - 1)
    for layer, (w, b) in enumerate(zip(coefs, intercepts, strict=True)):
        last = layer == len(coefs) - 1
        function = OUTPUTS[out_activation] if last else ACTIVATIONS[names[layer]].value
        zs.append((values[-1] * masks[layer]) @ np.asarray(w, FLOAT) + np.asarray(b, FLOAT))
        values.append(function(zs[-1]))
    return zs, values


def forward(coefs, intercepts, X, hidden_activation, out_activation):
    """The list [X, hidden layer 1, ..., outputs]."""
    return propagate(coefs, intercepts, X, hidden_activation, out_activation)[1]


def gradients(
    coefs, intercepts, X, y, *, hidden_activation, out_activation, loss, sample_weight=None, alpha=0.0, deltas=None,
    masks=None,
):  # fmt: skip
    """Backpropagation: (reported loss, gradients of coefs, gradients of intercepts).

    A list passed as `deltas` receives the deltas (n, fan_out) of all layers, not yet divided by the weight sum.
    """
    coefs = [np.asarray(w, FLOAT) for w in coefs]
    zs, values = propagate(coefs, intercepts, X, hidden_activation, out_activation, masks)
    masks = [1.0] * len(coefs) if masks is None else masks
    outputs = values[-1]
    w = weights_of(sample_weight, len(outputs))
    names = hidden_names(hidden_activation, len(coefs) - 1)
    delta = w[:, None] * row_of(loss).delta(as_targets(y, outputs.shape[1]), outputs)
    layer_deltas = [delta]
    for layer in range(len(coefs) - 1, 0, -1):
        pull = ACTIVATIONS[names[layer - 1]].pull
        delta = pull(zs[layer - 1], values[layer], (delta @ coefs[layer].T) * masks[layer])
        layer_deltas.insert(0, delta)
    if deltas is not None:
        deltas[:] = layer_deltas
    read = [a * mask for a, mask in zip(values[:-1], masks, strict=True)]
    d_coefs = [(a.T @ d + alpha * c) / w.sum() for a, d, c in zip(read, layer_deltas, coefs, strict=True)]
    d_intercepts = [d.sum(axis=0) / w.sum() for d in layer_deltas]
    return loss_value(loss, y, outputs, sample_weight, coefs, alpha), d_coefs, d_intercepts


def objective(
    coefs, intercepts, X, y, *, hidden_activation, out_activation, loss, sample_weight=None, alpha=0.0, masks=None
):
    """The scalar whose derivative `gradients` returns (see the head of this file)."""
    outputs = propagate(coefs, intercepts, X, hidden_activation, out_activation, masks)[1][-1]
    weight_sum = weights_of(sample_weight, len(outputs)).sum()
    return data_loss(loss, y, outputs, sample_weight) + penalty(coefs, alpha, weight_sum)


def numerical_gradient(function, array, step=1e-3):
    """Derivative of `function()` by every element of `array`, which it reads: 4th-order central differences."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        centre = array[index]
        f = {}
        for k in (-2, -1, 1, 2):
            array[index] = centre + k * step
            f[k] = function()
        array[index] = centre
        gradient[index] = (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * step)
    return gradient


def draw_weights(rng, units, activation):
    """Initial (coefs, intercepts) in scikit-learn's order: layer by layer, the coefs in C order, then the intercepts.

    All are uniform within sqrt(6 / (fan_in + fan_out)), or sqrt(2 / ...) under logistic hidden units; the output layer
    goes by the last hidden layer.
    """
    coefs, intercepts = [], []
    names = [activation] * len(units) if isinstance(activation, str) else [*activation, *activation[-1:], None]
    for (fan_in, fan_out), name in zip(pairwise(units), names, strict=False):
        bound = np.sqrt((2.0 if name == "logistic" else 6.0) / (fan_in + fan_out))
        coefs.append(rng.uniform(-bound, bound, (fan_in, fan_out)))
        intercepts.append(rng.uniform(-bound, bound, fan_out))
    return coefs, intercepts


# ---- training -------------------------------------------------------------------------------------------------------
def batches(rows, batch_size):
    """Consecutive pieces of `rows`; the last one may be short."""
    return [rows[lo : lo + batch_size] for lo in range(0, len(rows), batch_size)]


def train(
    coefs, intercepts, X, y, *, hidden_activation, out_activation, loss, rng=None, sample_weight=None, solver="adam",
    alpha=1e-4, batch_size=200, max_iter=200, shuffle=True, learning_rate="constant", learning_rate_init=1e-3,
    power_t=0.5, tol=1e-4, n_iter_no_change=10, dropout=(), seed=0, ema_decay=None, **hyper,
):  # fmt: skip
    """scikit-learn's mini-batch loop without early stopping: (loss of each epoch, coefs, intercepts).

    `hyper` overrides HYPER. An epoch's loss is the mean of its batches' losses before their steps, weighted by row
    count even where samples have weights. The permutations compose: `rng` shuffles what the last epoch left. A batch
    whose weights sum to zero makes no step and adds no loss (scikit-learn raises there).

    `dropout` holds the rates of the input and of each hidden layer, whose random bits come from `seed`. With
    `ema_decay` the moving averages of the weights are returned.
    """
    if not hyper.keys() <= HYPER.keys():
        raise TypeError(f"unknown hyper-parameters: {sorted(hyper.keys() - HYPER.keys())}")
    h = {**HYPER, **hyper}
    schedule = SCHEDULES[learning_rate if solver == "sgd" and learning_rate in SCHEDULES else "constant"]
    params = [np.array(p, FLOAT) for p in (*coefs, *intercepts)]
    coefs, intercepts = params[: len(coefs)], params[len(coefs) :]
    optimizer = OPTIMIZERS[solver]
    moments = [[np.zeros_like(p) for _ in range(optimizer.n_moments)] for p in params]
    if optimizer.averages:
        for param, (z, x, _) in zip(params, moments, strict=True):
            z[:] = x[:] = param
    X, y, w = np.asarray(X, FLOAT), np.asarray(y), weights_of(sample_weight, len(X))
    averages = [p.copy() for p in params]
    rows, rate, step, losses, best, stalled = np.arange(len(X)), learning_rate_init, 0, [], np.inf, 0
    squared_rates = 0.0
    for epoch in range(max_iter):
        if shuffle:
            rng.shuffle(rows)
        total, i, n_batches = 0.0, -1, len(batches(rows, batch_size))
        for batch in batches(rows, batch_size):
            if w[batch].sum() == 0:
                continue
            masks = [factors(seed, step, i, len(batch), len(coefs[i]), p) for i, p in enumerate(dropout)] or None
            value, d_coefs, d_intercepts = gradients(
                coefs, intercepts, X[batch], y[batch], hidden_activation=hidden_activation,
                out_activation=out_activation, loss=loss, sample_weight=w[batch], alpha=alpha, masks=masks,
            )  # fmt: skip
            total += value * len(batch)
            step, i, grads = step + 1, i + 1, d_coefs + d_intercepts
            now = scheduled(learning_rate, rate, learning_rate_init, epoch, i, n_batches, max_iter, h)
            squared_rates += now**2
            h |= {"t": step, "rate": now, "squared_rates": squared_rates}
            if h["max_grad_norm"] is not None:
                grads = clip(grads, h["max_grad_norm"])
            for param, grad, moment in zip(params, grads, moments, strict=True):
                h["decay"] = h["weight_decay"] if param.ndim == 2 else 0.0
                optimizer.step(param, grad, moment, optimizer.rate(now, step, h), h)
            for param, average in zip(params, averages, strict=True) if ema_decay else ():
                decay = min(ema_decay, (1 + step) / (10 + step))
                average[:] = decay * average + (1 - decay) * param
        losses.append(total / len(X))
        stalled = stalled + 1 if losses[-1] > best - tol else 0
        best = min(best, losses[-1])
        rate = schedule.after_epoch(rate, learning_rate_init, len(losses) * len(X), power_t)
        if stalled > n_iter_no_change:
            rate, stalled = schedule.when_stalled(rate), 0
            if rate is None:
                break
    if optimizer.averages:
        for param, (_, x, _) in zip(params, moments, strict=True):
            param[:] = x
    if ema_decay:
        coefs, intercepts = averages[: len(coefs)], averages[len(coefs) :]
    return losses, coefs, intercepts
