"""Optimizer steps on contiguous slices of the parameters, and the table of them.

A step takes the summed gradient ``g`` of a slice, adds the L2 term and divides by the number of rows,
``g <- (g + alpha w) scale``, and updates the slice and its state in the same pass. Called by ``network`` on the
gradient tile it has just computed. Learning rates (and Adam's bias correction) are computed in Python, one a step.
"""

import math
from typing import NamedTuple

from .jit import IN, INT, OUT, PLAN, REAL, kernel, leaf
from .scalars import fma


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


@kernel
def sgd(w, v, g, alpha, scale, rate, momentum, nesterov):
    """v <- momentum v - rate g;  w <- w + v, or w + momentum v - rate g with Nesterov's momentum.

    Without momentum v is not kept (size 0). Writes: w, v. Reads: g.
    """
    if v.size == 0:
        for i in range(w.size):
            w[i] -= rate * (fma(alpha, w[i], g[i]) * scale)
    elif nesterov:
        for i in range(w.size):
            step = rate * (fma(alpha, w[i], g[i]) * scale)
            v[i] = fma(momentum, v[i], -step)
            w[i] += fma(momentum, v[i], -step)
    else:
        for i in range(w.size):
            v[i] = fma(momentum, v[i], -(rate * (fma(alpha, w[i], g[i]) * scale)))
            w[i] += v[i]


@kernel
def adam(w, m, v, g, alpha, scale, rate, beta_1, beta_2, rest_1, rest_2, epsilon):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - rate m / (sqrt(v) + epsilon).

    rest_1 = 1 - b1, rest_2 = 1 - b2.
    ``rate`` is lr sqrt(1 - b2^t) / (1 - b1^t), the "epsilon hat" form of Kingma & Ba, section 2.
    Writes: w, m, v. Reads: g.
    """
    for i in range(w.size):
        gradient = fma(alpha, w[i], g[i]) * scale
        m[i] = fma(beta_1, m[i], rest_1 * gradient)
        v[i] = fma(beta_2, v[i], rest_2 * (gradient * gradient))
        w[i] -= rate * m[i] / (math.sqrt(v[i]) + epsilon)


@kernel
def rmsprop(w, v, g, alpha, scale, rate, rho, rest_rho, epsilon):
    """v <- rho v + (1 - rho) g^2;  w <- w - rate g / (sqrt(v) + epsilon).

    rest_rho = 1 - rho. Tieleman & Hinton 2012; they have no epsilon. It stands outside of the root, as in Keras 2 and
    PyTorch. Writes: w, v. Reads: g.
    """
    for i in range(w.size):
        gradient = fma(alpha, w[i], g[i]) * scale
        v[i] = fma(rho, v[i], rest_rho * (gradient * gradient))
        w[i] -= rate * gradient / (math.sqrt(v[i]) + epsilon)


@leaf(PLAN, OUT, IN, OUT, INT, REAL, REAL, REAL)
def step(plan, w, g, moments, offset, alpha, scale, rate):
    """Update one slice of parameters by the planned optimizer.

    Writes: w (n,), and ``n`` elements at ``offset`` of each row of ``moments``, rows ``plan.moment_stride`` apart.
    Reads: g (n,).
    With the GRADIENT "optimizer" nothing is learned: ``moments`` gathers (g + alpha w) scale.
    """
    n = w.size
    if plan.solver == ADAM:
        second = plan.moment_stride + offset
        m, v = moments[offset : offset + n], moments[second : second + n]
        adam(w, m, v, g, alpha, scale, rate, plan.beta_1, plan.beta_2, plan.rest_1, plan.rest_2, plan.epsilon)
    elif plan.solver == SGD:
        v = moments[offset : min(offset + n, moments.size)]
        sgd(w, v, g, alpha, scale, rate, plan.momentum, plan.nesterov)
    elif plan.solver == RMSPROP:
        v = moments[offset : offset + n]
        rmsprop(w, v, g, alpha, scale, rate, plan.rho, plan.rest_rho, plan.epsilon)
    elif plan.solver == GRADIENT:
        for i in range(n):
            moments[offset + i] += fma(alpha, w[i], g[i]) * scale
