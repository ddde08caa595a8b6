"""Optimizer steps on contiguous slices of the parameters, and the table of them.

A step takes the summed gradient ``g`` of a slice, adds the L2 term and divides by the sum of the rows' weights,
``g <- (g + alpha w) scale``, and updates the slice and its state in the same pass. Called by ``update`` for each tile
of the gradient while it is in L1, by ``engine.shards`` for sums of gradients, by ``engine.dense`` for stored ones. The
state of the slice are the elements from ``offset`` on of each row of ``moments``; rows lie ``plan.moment_stride``
apart. Step scalars, such as the rate and Adam's corrections, come from Python: see `records` and `schedules`.

Two rows of the dispatch table, STORE and ADD, are no optimizers: as ``plan.sink`` they keep the gradient instead.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel
from ..compile.packing import IN, INT, OUT, RECORDS
from ..records import ALPHA, FIRST_CORRECTION, RATE, SCALE, SECOND_CORRECTION, unpack
from ..simd.scalar import fma


class Optimizer(NamedTuple):
    """One row of the table. Constants are computed in float64 and rounded once, to the network's dtype."""

    id: int  # in compiled code
    hyper_parameters: dict  # names of the estimators' parameters that it depends on, with default values
    constants: Callable  # (*hyper-parameters) -> numbers that compiled code finds in ``plan.optimizer``
    n_moments: Callable  # (constants) -> number of state arrays, each as long as the parameters
    scheduled: bool = False  # whether the estimators' ``learning_rate`` applies to it
    bias_correction: bool = False  # whether its step scalars have Adam's corrections of the moments


NO_STEP = -1  # the id where there is no optimizer, under L-BFGS
STORE, ADD, SGD, ADAM, RMSPROP = range(5)
SINKS = STORE, ADD  # sinks that keep the gradient and make no step


def _adam_constants(beta_1, beta_2, epsilon):
    """The constants with 1 - beta computed in float64: in float32 1 - 0.999 is 5e-5 off, and so are Adam's steps."""
    return beta_1, beta_2, 1.0 - beta_1, 1.0 - beta_2, epsilon


OPTIMIZERS = {
    "sgd": Optimizer(
        SGD,
        {"momentum": 0.0, "nesterovs_momentum": False},
        lambda momentum, nesterovs_momentum: (momentum, bool(nesterovs_momentum)),
        lambda constants: int(constants[0] != 0),
        scheduled=True,
    ),
    "adam": Optimizer(
        ADAM, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}, _adam_constants, lambda _: 2, bias_correction=True
    ),
    "rmsprop": Optimizer(
        RMSPROP, {"rho": 0.9, "epsilon": 1e-8}, lambda rho, epsilon: (rho, 1.0 - rho, epsilon), lambda _: 1
    ),
}


# Update one slice of parameters w (n,) by its summed gradient g (n,); ``decays`` is 1 for weights, 0 for biases.
step = dispatch_table(
    "step", ("packed", RECORDS), ("w", OUT), ("g", IN), ("offset", INT), ("decays", INT)
)  # fmt: skip


@kernel
def terms(buffers, like, decays):
    """``alpha`` for this slice, 0 for biases, and ``scale``. Reads: step_scalars."""
    real, scalars = like.dtype.type, buffers.step_scalars
    return real(scalars[ALPHA] if decays else 0.0), real(scalars[SCALE])


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
    alpha, scale = terms(buffers, w, decays)
    total = buffers.gradient[offset : offset + w.size]
    for i in range(w.size):
        total[i] += fma(alpha, w[i], g[i]) * scale


@step.implementation(SGD)
def sgd(packed, w, g, offset, decays):
    """v <- momentum v - rate g;  w <- w + v, or w + momentum v - rate g with Nesterov's momentum.

    Without momentum there is no v (size 0). Writes: w, moments. Reads: g.
    """
    _, plan, buffers = unpack(packed, w)
    alpha, scale = terms(buffers, w, decays)
    rate, momentum, nesterov = w.dtype.type(buffers.step_scalars[RATE]), plan.optimizer[0], plan.optimizer[1]
    v = buffers.moments[offset : min(offset + w.size, buffers.moments.size)]
    if v.size == 0:
        for i in range(w.size):
            w[i] -= rate * (fma(alpha, w[i], g[i]) * scale)
    elif nesterov:
        for i in range(w.size):
            change = rate * (fma(alpha, w[i], g[i]) * scale)
            v[i] = fma(momentum, v[i], -change)
            w[i] += fma(momentum, v[i], -change)
    else:
        for i in range(w.size):
            v[i] = fma(momentum, v[i], -(rate * (fma(alpha, w[i], g[i]) * scale)))
            w[i] += v[i]


@step.implementation(ADAM)
def adam(packed, w, g, offset, decays):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - rate m / (sqrt(v) + epsilon).

    Here ``rate`` is lr sqrt(1 - b2^t) / (1 - b1^t), the "epsilon hat" form of Kingma & Ba, section 2.
    Writes: w, moments. Reads: g.
    """
    _, plan, buffers = unpack(packed, w)
    alpha, scale = terms(buffers, w, decays)
    scalars, constants = buffers.step_scalars, plan.optimizer
    rate = w.dtype.type(scalars[RATE] * scalars[SECOND_CORRECTION] / scalars[FIRST_CORRECTION])
    beta_1, beta_2, epsilon = constants[0], constants[1], constants[4]
    one_minus_beta_1, one_minus_beta_2, second = constants[2], constants[3], plan.moment_stride + offset
    m, v = buffers.moments[offset : offset + w.size], buffers.moments[second : second + w.size]
    for i in range(w.size):
        gradient = fma(alpha, w[i], g[i]) * scale
        m[i] = fma(beta_1, m[i], one_minus_beta_1 * gradient)
        v[i] = fma(beta_2, v[i], one_minus_beta_2 * (gradient * gradient))
        w[i] -= rate * m[i] / (math.sqrt(v[i]) + epsilon)


@step.implementation(RMSPROP)
def rmsprop(packed, w, g, offset, decays):
    """v <- rho v + (1 - rho) g^2;  w <- w - rate g / (sqrt(v) + epsilon).

    Tieleman & Hinton 2012, who have no epsilon. It is added outside the root, as in Keras 2 and PyTorch.
    Writes: w, moments. Reads: g.
    """
    _, plan, buffers = unpack(packed, w)
    alpha, scale = terms(buffers, w, decays)
    rate, constants = w.dtype.type(buffers.step_scalars[RATE]), plan.optimizer
    rho, one_minus_rho, epsilon = constants[0], constants[1], constants[2]
    v = buffers.moments[offset : offset + w.size]
    for i in range(w.size):
        gradient = fma(alpha, w[i], g[i]) * scale
        v[i] = fma(rho, v[i], one_minus_rho * (gradient * gradient))
        w[i] -= rate * gradient / (math.sqrt(v[i]) + epsilon)
