"""Activation functions, forward and derivative side by side, and the table of them.

Hidden activations work in place on flat slices of row-major activations. Derivatives are functions of the activation's
value, so the pre-activation is not kept. Output activations work in place on a transposed block (n_outputs, ldr): lanes
run over rows, so that one column wastes nothing and every sum over the outputs of a row is one chain in order.
Called by ``network``.
"""

from typing import NamedTuple

from .family import family
from .jit import IN, INT, OUT, kernel
from .vecmath import exp, sigmoid, tanh


class Activation(NamedTuple):
    """One row of the table: its id in compiled code and where it may stand."""

    id: int
    hidden: bool
    output: bool


IDENTITY, LOGISTIC, TANH, RELU, SOFTMAX, EXP = range(6)

ACTIVATIONS = {
    "identity": Activation(IDENTITY, hidden=True, output=True),
    "logistic": Activation(LOGISTIC, hidden=True, output=True),
    "tanh": Activation(TANH, hidden=True, output=False),
    "relu": Activation(RELU, hidden=True, output=False),
    "softmax": Activation(SOFTMAX, hidden=False, output=True),
    "exp": Activation(EXP, hidden=False, output=True),
}


# Apply a hidden activation to z (flat).
activate = family("activate", ("z", OUT))
# Multiply d (flat) by the derivative at the activation's value a.
differentiate = family("differentiate", ("a", IN), ("d", OUT))
# Apply an output activation to a transposed block z (n_outputs, ldr). Scratch: largest, total (ldr,).
activate_output = family(
    "activate_output", ("z", OUT), ("n_outputs", INT), ("ldr", INT), ("largest", OUT), ("total", OUT)
)


@kernel
def squash(z):
    """z <- 1 / (1 + exp(-z)). Writes: z."""
    for i in range(z.size):
        z[i] = sigmoid(z[i])


@activate.member(LOGISTIC)
def logistic_forward(z):
    """z <- 1 / (1 + exp(-z)). Writes: z."""
    squash(z)


@activate_output.member(LOGISTIC)
def logistic_output(z, n_outputs, ldr, largest, total):
    """z <- 1 / (1 + exp(-z)). Writes: z."""
    squash(z)


@differentiate.member(LOGISTIC)
def logistic_backward(a, d):
    """d <- d a (1 - a). Writes: d. Reads: a."""
    one = a.dtype.type(1)
    for i in range(d.size):
        d[i] *= a[i] * (one - a[i])


@activate.member(TANH)
def tanh_forward(z):
    """z <- tanh(z). Writes: z."""
    for i in range(z.size):
        z[i] = tanh(z[i])


@differentiate.member(TANH)
def tanh_backward(a, d):
    """d <- d (1 - a^2). Writes: d. Reads: a."""
    one = a.dtype.type(1)
    for i in range(d.size):
        d[i] *= one - a[i] * a[i]


@activate.member(RELU)
def relu_forward(z):
    """z <- max(z, 0), NaN kept. Writes: z."""
    zero = z.dtype.type(0)
    for i in range(z.size):
        z[i] = zero if z[i] < zero else z[i]


@differentiate.member(RELU)
def relu_backward(a, d):
    """d <- 0 where a == 0. Writes: d. Reads: a."""
    zero = a.dtype.type(0)
    for i in range(d.size):
        d[i] = zero if a[i] == zero else d[i]


@activate_output.member(EXP)
def exp_output(z, n_outputs, ldr, largest, total):
    """z <- exp(z). Writes: z."""
    for i in range(z.size):
        z[i] = exp(z[i])


@activate_output.member(SOFTMAX)
def softmax_forward(z, n_outputs, ldr, largest, total):
    """z[c, r] <- exp(z[c, r] - max_c z[c, r]) / sum_c exp(...), each column r by itself.

    Writes: z (n_outputs, ldr). Scratch: largest (ldr,), total (ldr,).
    """
    for r in range(ldr):
        largest[r] = z[r]
        total[r] = z.dtype.type(0)
    for c in range(1, n_outputs):
        row = z[c * ldr : (c + 1) * ldr]
        for r in range(ldr):
            largest[r] = largest[r] if row[r] < largest[r] else row[r]
    for c in range(n_outputs):
        row = z[c * ldr : (c + 1) * ldr]
        for r in range(ldr):
            row[r] = exp(row[r] - largest[r])
        for r in range(ldr):
            total[r] += row[r]
    for c in range(n_outputs):
        row = z[c * ldr : (c + 1) * ldr]
        for r in range(ldr):
            row[r] /= total[r]
