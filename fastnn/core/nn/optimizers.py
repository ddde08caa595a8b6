"""Optimizer steps on contiguous slices of the parameters, and the table of them.

A step takes the summed gradient ``g`` of a slice, adds the L2 term and divides by the sum of the rows' weights,
``g <- (g + alpha w) scale``, and updates the slice and its state in the same pass. Called by ``update`` for each tile
of the gradient while it is in the cache, by ``engine.shards`` for sums of gradients, by ``engine.dense`` for stored
ones. The state of the slice is the elements from ``offset`` on of each row of ``moments``; rows lie
``plan.moment_stride`` apart. Step scalars, such as the rate and Adam's corrections, come from Python: see `records` and
`schedules`.

Each optimizer has a second step with decoupled weight decay (Loshchilov & Hutter 2019), made of the same loop: it
subtracts ``rate weight_decay w`` from the weights, not from biases.

Four rows of the dispatch table are no optimizers. STEP_AND_AVERAGE makes the step of ``plan.optimizer_id`` and takes
the new weights into their moving averages. STORE, ADD and STORE_SCALED keep the gradient, as ``plan.sink``.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel
from ..compile.packing import IN, INT, OUT, RECORDS
from ..records import (
    ALPHA,
    DECAY,
    EARLIER_STEPS,
    FIRST_CORRECTION,
    MIXING,
    RATE,
    SCALE,
    SECOND_CORRECTION,
    STEPS,
    unpack,
)
from ..simd.scalar import fma


class Optimizer(NamedTuple):
    """One row of the table. Constants are computed in float64 and rounded once, to the network's dtype."""

    id: int  # in compiled code
    hyper_parameters: dict  # names of the estimators' parameters that it depends on, with values for calls without them
    constants: Callable  # (*hyper-parameters) -> numbers that compiled code finds in ``plan.optimizer``
    # (constants) -> number of state arrays, each as long as the parameters; the last of them must be the one whose
    # elements overflow first, see `State.learns`.
    n_moments: Callable
    scheduled: bool = False  # whether scikit-learn's schedules apply to it
    corrections: str | None = None  # name of its corrections, see `corrections.CORRECTIONS`
    averages: bool = False  # whether it takes gradients at other weights than it publishes, see `schedule_free`


NO_STEP = -1  # the id where there is no optimizer, under L-BFGS
STORE, ADD, SGD, ADAM, RMSPROP, NADAM, ADAGRAD, LION, SCHEDULE_FREE, STORE_SCALED, STEP_AND_AVERAGE = range(11)
SINKS = STORE, ADD, STORE_SCALED  # sinks that keep the gradient and make no step
DECAYED = 16  # added to the id of an optimizer, which is smaller: its step with weight decay


def _adam_constants(beta_1, beta_2, epsilon):
    """The constants with 1 - beta computed in float64: in float32 1 - 0.999 is 5e-5 off, and so are Adam's steps."""
    return beta_1, beta_2, 1.0 - beta_1, 1.0 - beta_2, epsilon


_BETAS = {"beta_1": 0.9, "beta_2": 0.999}
_ADAM = {**_BETAS, "epsilon": 1e-8}

OPTIMIZERS = {
    "sgd": Optimizer(
        SGD,
        {"momentum": 0.0, "nesterovs_momentum": False},
        lambda momentum, nesterovs_momentum: (momentum, bool(nesterovs_momentum)),
        lambda constants: int(constants[0] != 0),
        scheduled=True,
    ),
    "adam": Optimizer(ADAM, _ADAM, _adam_constants, lambda _: 2, corrections="adam"),
    "rmsprop": Optimizer(
        RMSPROP, {"rho": 0.9, "epsilon": 1e-8}, lambda rho, epsilon: (rho, 1.0 - rho, epsilon), lambda _: 1
    ),
    "nadam": Optimizer(NADAM, _ADAM, _adam_constants, lambda _: 2, corrections="nadam"),
    "adagrad": Optimizer(ADAGRAD, {"epsilon": 1e-8}, lambda epsilon: (epsilon,), lambda _: 1),
    "lion": Optimizer(LION, _BETAS, lambda b1, b2: (b1, b2, 1.0 - b1, 1.0 - b2), lambda _: 1),
    "schedulefree": Optimizer(
        SCHEDULE_FREE, _ADAM, _adam_constants, lambda _: 3, corrections="schedulefree", averages=True
    ),
}


# Update one slice of parameters w (n,) by its summed gradient g (n,); ``decays`` is 1 for weights, 0 for biases.
# Writes: w, moments from ``offset`` on; sinks that keep the gradient: gradient from ``offset`` on.
step = dispatch_table(
    "step", ("packed", RECORDS), ("w", OUT), ("g", IN), ("offset", INT), ("decays", INT)
)  # fmt: skip


@kernel
def l2_and_scale(buffers, like, decays):
    """``alpha`` for this slice, 0 for biases, and ``scale``. Reads: step_scalars."""
    real, scalars = like.dtype.type, buffers.step_scalars
    return real(scalars[ALPHA] if decays else 0.0), real(scalars[SCALE])


@kernel
def decay_of(buffers, like, decays):
    """Rate times strength of the weight decay for this slice, 0 for biases. Reads: step_scalars."""
    return like.dtype.type(buffers.step_scalars[DECAY] if decays else 0.0)


@kernel
def _not_decayed(value, w, decay):
    return value


@kernel
def _decayed(value, w, decay):
    return fma(-decay, w, value)


def define(ident):
    """Register the step that a function makes of ``rest(value, w, decay)``, and the step with weight decay.

    ``rest`` returns ``value``, or ``value - decay w``.
    """

    def decorate(make):
        for number, rest, name in ((ident, _not_decayed, ""), (ident + DECAYED, _decayed, "_decayed")):
            function = make(rest)
            function.__name__ = function.__qualname__ = make.__name__ + name  # cached code is found by names
            function.__doc__ = make.__doc__
            step.implementation(number)(function)
        return make

    return decorate


# ---------------------------------------------------------------------------------------- sinks that keep the gradient


@step.implementation(STORE)
def store_gradient(packed, w, g, offset, decays):
    """No step: store g in ``gradient``. Writes: gradient. Reads: g."""
    _, _, buffers = unpack(packed, w)
    stored = buffers.gradient[offset : offset + w.size]
    for i in range(w.size):
        stored[i] = g[i]


@step.implementation(ADD)
def add_gradient(packed, w, g, offset, decays):
    """No step: add (g + alpha w) scale to ``gradient``. Writes: gradient. Reads: w, g."""
    _, _, buffers = unpack(packed, w)
    alpha, scale = l2_and_scale(buffers, w, decays)
    total = buffers.gradient[offset : offset + w.size]
    for i in range(w.size):
        total[i] += fma(alpha, w[i], g[i]) * scale


@step.implementation(STORE_SCALED)
def store_scaled(packed, w, g, offset, decays):
    """No step: store (g + alpha w) scale in ``gradient``. Writes: gradient. Reads: w, g."""
    _, _, buffers = unpack(packed, w)
    alpha, scale = l2_and_scale(buffers, w, decays)
    stored = buffers.gradient[offset : offset + w.size]
    for i in range(w.size):
        stored[i] = fma(alpha, w[i], g[i]) * scale


# ----------------------------------------------------------------------------------------------------- moving averages


@step.implementation(STEP_AND_AVERAGE)
def average_weights(packed, w, g, offset, decays):
    """The step of ``plan.optimizer_id``, then e <- e + c (w - e), c = max(1 - ema_decay, 9 / (10 + t)) in step t.

    The averages e begin as the initial weights, whose share falls like t^-9: the decay 1 - c is
    min(ema_decay, (1 + t) / (10 + t)), as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``. They are
    the last row of ``moments``. Writes: w, moments. Reads: g.
    """
    _, plan, buffers = unpack(packed, w)
    step(plan.optimizer_id, packed, w, g, offset, decays)
    done = buffers.progress[EARLIER_STEPS] + buffers.progress[STEPS]
    weight, start = max(plan.ema_weight, w.dtype.type(9.0 / (10.0 + done))), buffers.moments.size - plan.moment_stride
    averages = buffers.moments[start + offset : start + offset + w.size]
    for i in range(w.size):
        averages[i] = fma(weight, w[i] - averages[i], averages[i])


# ---------------------------------------------------------------------------------------------------------- optimizers


@define(SGD)
def sgd(rest):
    """v <- momentum v - rate g;  w <- w + v, or w + momentum v - rate g with Nesterov's momentum.

    Without momentum there is no v. Writes: w, moments. Reads: g.
    """

    def function(packed, w, g, offset, decays):
        _, plan, buffers = unpack(packed, w)
        alpha, scale = l2_and_scale(buffers, w, decays)
        decay = decay_of(buffers, w, decays)
        rate, momentum, nesterov = w.dtype.type(buffers.step_scalars[RATE]), plan.optimizer[0], plan.optimizer[1]
        v = buffers.moments[offset : min(offset + w.size, buffers.moments.size)]
        if momentum == 0:
            for i in range(w.size):
                w[i] = rest(w[i], w[i], decay) - rate * (fma(alpha, w[i], g[i]) * scale)
        elif nesterov:
            for i in range(w.size):
                change = rate * (fma(alpha, w[i], g[i]) * scale)
                v[i] = fma(momentum, v[i], -change)
                w[i] = rest(w[i], w[i], decay) + fma(momentum, v[i], -change)
        else:
            for i in range(w.size):
                v[i] = fma(momentum, v[i], -(rate * (fma(alpha, w[i], g[i]) * scale)))
                w[i] = rest(w[i], w[i], decay) + v[i]

    return function


@define(ADAM)
def adam(rest):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - rate m / (sqrt(v) + epsilon).

    Here ``rate`` is lr sqrt(1 - b2^t) / (1 - b1^t), the "epsilon hat" form of Kingma & Ba, section 2.
    Writes: w, moments. Reads: g.
    """

    def function(packed, w, g, offset, decays):
        _, plan, buffers = unpack(packed, w)
        alpha, scale = l2_and_scale(buffers, w, decays)
        decay = decay_of(buffers, w, decays)
        scalars, constants = buffers.step_scalars, plan.optimizer
        rate = w.dtype.type(scalars[RATE] * scalars[SECOND_CORRECTION] / scalars[FIRST_CORRECTION])
        beta_1, beta_2, epsilon = constants[0], constants[1], constants[4]
        one_minus_beta_1, one_minus_beta_2, second = constants[2], constants[3], plan.moment_stride + offset
        m, v = buffers.moments[offset : offset + w.size], buffers.moments[second : second + w.size]
        for i in range(w.size):
            gradient = fma(alpha, w[i], g[i]) * scale
            m[i] = fma(beta_1, m[i], one_minus_beta_1 * gradient)
            v[i] = fma(beta_2, v[i], one_minus_beta_2 * (gradient * gradient))
            w[i] = rest(w[i], w[i], decay) - rate * m[i] / (math.sqrt(v[i]) + epsilon)

    return function


@define(NADAM)
def nadam(rest):
    """m and v as `adam`;  w <- w - rate (p g + q m) / (sqrt(v) / sqrt(1 - b2^t) + epsilon).

    Dozat 2016, as PyTorch has it: p and q are those of `corrections.nadam_corrections`. Writes: w, moments. Reads: g.
    """

    def function(packed, w, g, offset, decays):
        _, plan, buffers = unpack(packed, w)
        alpha, scale = l2_and_scale(buffers, w, decays)
        decay, real = decay_of(buffers, w, decays), w.dtype.type
        scalars, constants = buffers.step_scalars, plan.optimizer
        of_gradient = real(scalars[RATE] * scalars[FIRST_CORRECTION])
        of_moment, correction = real(scalars[RATE] * scalars[MIXING]), real(1.0 / scalars[SECOND_CORRECTION])
        beta_1, beta_2, epsilon = constants[0], constants[1], constants[4]
        one_minus_beta_1, one_minus_beta_2, second = constants[2], constants[3], plan.moment_stride + offset
        m, v = buffers.moments[offset : offset + w.size], buffers.moments[second : second + w.size]
        for i in range(w.size):
            gradient = fma(alpha, w[i], g[i]) * scale
            m[i] = fma(beta_1, m[i], one_minus_beta_1 * gradient)
            v[i] = fma(beta_2, v[i], one_minus_beta_2 * (gradient * gradient))
            change = fma(of_moment, m[i], of_gradient * gradient)
            w[i] = rest(w[i], w[i], decay) - change / fma(correction, math.sqrt(v[i]), epsilon)

    return function


@define(RMSPROP)
def rmsprop(rest):
    """v <- rho v + (1 - rho) g^2;  w <- w - rate g / (sqrt(v) + epsilon).

    Tieleman & Hinton 2012, who have no epsilon. It is added outside the root, as in Keras 2 and PyTorch.
    Writes: w, moments. Reads: g.
    """

    def function(packed, w, g, offset, decays):
        _, plan, buffers = unpack(packed, w)
        alpha, scale = l2_and_scale(buffers, w, decays)
        decay = decay_of(buffers, w, decays)
        rate, constants = w.dtype.type(buffers.step_scalars[RATE]), plan.optimizer
        rho, one_minus_rho, epsilon = constants[0], constants[1], constants[2]
        v = buffers.moments[offset : offset + w.size]
        for i in range(w.size):
            gradient = fma(alpha, w[i], g[i]) * scale
            v[i] = fma(rho, v[i], one_minus_rho * (gradient * gradient))
            w[i] = rest(w[i], w[i], decay) - rate * gradient / (math.sqrt(v[i]) + epsilon)

    return function


@define(ADAGRAD)
def adagrad(rest):
    """v <- v + g^2;  w <- w - rate g / (sqrt(v) + epsilon).

    Duchi, Hazan & Singer 2011, with epsilon as in PyTorch. Writes: w, moments. Reads: g.
    """

    def function(packed, w, g, offset, decays):
        _, plan, buffers = unpack(packed, w)
        alpha, scale = l2_and_scale(buffers, w, decays)
        decay = decay_of(buffers, w, decays)
        rate, epsilon = w.dtype.type(buffers.step_scalars[RATE]), plan.optimizer[0]
        v = buffers.moments[offset : offset + w.size]
        for i in range(w.size):
            gradient = fma(alpha, w[i], g[i]) * scale
            v[i] = fma(gradient, gradient, v[i])
            w[i] = rest(w[i], w[i], decay) - rate * gradient / (math.sqrt(v[i]) + epsilon)

    return function


@define(LION)
def lion(rest):
    """w <- w - rate sign(b1 m + (1 - b1) g);  m <- b2 m + (1 - b2) g.

    Chen et al. 2023. The sign of zero is zero. Writes: w, moments. Reads: g.
    """

    def function(packed, w, g, offset, decays):
        _, plan, buffers = unpack(packed, w)
        alpha, scale = l2_and_scale(buffers, w, decays)
        decay, real = decay_of(buffers, w, decays), w.dtype.type
        rate, constants = real(buffers.step_scalars[RATE]), plan.optimizer
        beta_1, beta_2, one_minus_beta_1, one_minus_beta_2 = constants[0], constants[1], constants[2], constants[3]
        m, one = buffers.moments[offset : offset + w.size], real(1)
        for i in range(w.size):
            gradient = fma(alpha, w[i], g[i]) * scale
            mixed = fma(beta_1, m[i], one_minus_beta_1 * gradient)
            m[i] = fma(beta_2, m[i], one_minus_beta_2 * gradient)
            sign = one if mixed > 0 else (-one if mixed < 0 else mixed)  # NaN stays NaN
            w[i] = rest(w[i], w[i], decay) - rate * sign

    return function


@define(SCHEDULE_FREE)
def schedule_free(rest):
    """v as `adam`;  z <- z - rate g / (sqrt(v) / sqrt(1 - b2^t) + epsilon);  x <- x + c (z - x);  w <- z + b1 (x - z).

    Defazio et al. 2024, the AdamW version: gradients are taken, and decays subtracted, at w, the paper's y; what is
    learned is the average x. The weight c is that of `schedules.Composed`. Writes: w, moments (z, x, v). Reads: g.
    """

    def function(packed, w, g, offset, decays):
        _, plan, buffers = unpack(packed, w)
        alpha, scale = l2_and_scale(buffers, w, decays)
        decay, real = decay_of(buffers, w, decays), w.dtype.type
        scalars, constants = buffers.step_scalars, plan.optimizer
        rate, mixing = real(scalars[RATE]), real(scalars[MIXING])
        correction = real(1.0 / scalars[SECOND_CORRECTION])
        beta_1, beta_2, one_minus_beta_2, epsilon = constants[0], constants[1], constants[3], constants[4]
        second, third = plan.moment_stride + offset, 2 * plan.moment_stride + offset
        z, x = buffers.moments[offset : offset + w.size], buffers.moments[second : second + w.size]
        v = buffers.moments[third : third + w.size]
        for i in range(w.size):
            gradient = fma(alpha, w[i], g[i]) * scale
            v[i] = fma(beta_2, v[i], one_minus_beta_2 * (gradient * gradient))
            change = rate * gradient / fma(correction, math.sqrt(v[i]), epsilon)
            z[i] = rest(z[i], w[i], decay) - change
            x[i] = fma(mixing, z[i] - x[i], x[i])
            w[i] = z[i] + beta_1 * (x[i] - z[i])  # not fused: `State.resume` computes it too

    return function
