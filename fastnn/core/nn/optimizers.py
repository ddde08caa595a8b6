"""Optimizer steps on contiguous slices of the parameters, and the table of them.

A step takes the summed gradient ``g`` of a slice, adds the L2 term and divides by the number of rows,
``g <- (g + alpha w) scale``, and updates the slice and its state in the same pass. Called by ``weights`` on the
gradient tile it has just computed, and by ``parts`` on a sum of gradients. The slice's state are the elements from
``offset`` on of each row of ``moments``, rows ``plan.moment_stride`` apart. Learning rates (and Adam's bias correction)
are computed in Python, one a step.
"""

import math
from typing import NamedTuple

from ..compile.dispatch import dispatch_table
from ..compile.packing import IN, INT, OUT, REAL, RECORDS, unpack
from ..simd.scalar import fma


class Optimizer(NamedTuple):
    """One row of the table."""

    id: int  # in compiled code
    n_moments: int  # arrays of state
    needs_momentum: bool = False  # whether that state is kept only where ``momentum`` is not zero
    scheduled: bool = False  # whether the estimators' ``learning_rate`` changes its rate
    bias_correction: bool = False  # whether its rate holds Adam's


GRADIENT, SGD, ADAM, RMSPROP = range(4)

OPTIMIZERS = {
    "sgd": Optimizer(SGD, n_moments=1, needs_momentum=True, scheduled=True),
    "adam": Optimizer(ADAM, n_moments=2, bias_correction=True),
    "rmsprop": Optimizer(RMSPROP, n_moments=1),
}


# Update one slice of parameters w (n,) by its summed gradient g (n,).
step = dispatch_table(
    "step",
    ("packed", RECORDS), ("w", OUT), ("g", IN), ("moments", OUT), ("offset", INT),
    ("alpha", REAL), ("scale", REAL), ("rate", REAL),
)  # fmt: skip


@step.implementation(GRADIENT)
def gather_gradient(packed, w, g, moments, offset, alpha, scale, rate):
    """No step: ``moments`` gathers (g + alpha w) scale. Writes: moments. Reads: w, g."""
    for i in range(w.size):
        moments[offset + i] += fma(alpha, w[i], g[i]) * scale


@step.implementation(SGD)
def sgd(packed, w, g, moments, offset, alpha, scale, rate):
    """v <- momentum v - rate g;  w <- w + v, or w + momentum v - rate g with Nesterov's momentum.

    Without momentum v is not kept (size 0). Writes: w, moments. Reads: g.
    """
    plan = unpack(packed, w)[1]
    momentum = plan.momentum
    v = moments[offset : min(offset + w.size, moments.size)]
    if v.size == 0:
        for i in range(w.size):
            w[i] -= rate * (fma(alpha, w[i], g[i]) * scale)
    elif plan.nesterov:
        for i in range(w.size):
            drop = rate * (fma(alpha, w[i], g[i]) * scale)
            v[i] = fma(momentum, v[i], -drop)
            w[i] += fma(momentum, v[i], -drop)
    else:
        for i in range(w.size):
            v[i] = fma(momentum, v[i], -(rate * (fma(alpha, w[i], g[i]) * scale)))
            w[i] += v[i]


@step.implementation(ADAM)
def adam(packed, w, g, moments, offset, alpha, scale, rate):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - rate m / (sqrt(v) + epsilon).

    ``rate`` is lr sqrt(1 - b2^t) / (1 - b1^t), the "epsilon hat" form of Kingma & Ba, section 2.
    Writes: w, moments. Reads: g.
    """
    plan = unpack(packed, w)[1]
    beta_1, beta_2, one_minus_beta_1, one_minus_beta_2, epsilon = (
        plan.beta_1,
        plan.beta_2,
        plan.one_minus_beta_1,
        plan.one_minus_beta_2,
        plan.epsilon,
    )
    second = plan.moment_stride + offset
    m, v = moments[offset : offset + w.size], moments[second : second + w.size]
    for i in range(w.size):
        gradient = fma(alpha, w[i], g[i]) * scale
        m[i] = fma(beta_1, m[i], one_minus_beta_1 * gradient)
        v[i] = fma(beta_2, v[i], one_minus_beta_2 * (gradient * gradient))
        w[i] -= rate * m[i] / (math.sqrt(v[i]) + epsilon)


@step.implementation(RMSPROP)
def rmsprop(packed, w, g, moments, offset, alpha, scale, rate):
    """v <- rho v + (1 - rho) g^2;  w <- w - rate g / (sqrt(v) + epsilon).

    Tieleman & Hinton 2012; they have no epsilon. It stands outside of the root, as in Keras 2 and PyTorch.
    Writes: w, moments. Reads: g.
    """
    plan = unpack(packed, w)[1]
    rho, one_minus_rho, epsilon = plan.rho, plan.one_minus_rho, plan.epsilon
    v = moments[offset : offset + w.size]
    for i in range(w.size):
        gradient = fma(alpha, w[i], g[i]) * scale
        v[i] = fma(rho, v[i], one_minus_rho * (gradient * gradient))
        w[i] -= rate * gradient / (math.sqrt(v[i]) + epsilon)
