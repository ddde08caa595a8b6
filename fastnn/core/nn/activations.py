"""Activation functions, and the table of them.

An activation is a value and a slope: two kernels of floats or of vectors, from which `define` makes all functions that
the network needs. ``slope(a, z, d)`` is d times the derivative at the pre-activation z, whose value is a; only an
activation that keeps its input may use z. Hidden activations work in place on flat slices of row-major activations.
Output activations work in place on a transposed block (n_outputs, ldr): lanes run over rows, so a single output wastes
no lanes, and every sum over the outputs of a row is one chain in order. Training computes outputs in the network's
dtype, prediction in float64 from the last layer's sums, so that probabilities add up to 1 within float64's rounding.
"""

from typing import NamedTuple

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel
from ..compile.packing import IN, INT, NUMBERS, OUT
from ..simd.scalar import fma, select
from ..simd.target import VECTOR_BYTES
from ..simd.vecmath import elu, exp, normal, normal_cdf, sigmoid, softplus, tanh
from ..simd.vector import like, load_vector, maximum, store_vector, where_nonzero, where_positive, zero_if_negative
from . import activation_loops as loops


class Activation(NamedTuple):
    """One row of the table. A network that only predicts may have any of them as its output activation."""

    id: int  # in compiled code
    hidden: bool  # whether hidden layers may have it
    output: bool  # whether it is the output activation of a loss
    keeps_input: bool = False  # whether its slope uses its input, not its value alone


IDENTITY, LOGISTIC, TANH, RELU, SOFTMAX, EXP = range(6)
GELU, LEAKY_RELU, SILU, ELU, SELU, SOFTPLUS, MISH, HARD_SWISH = range(6, 14)

ACTIVATIONS = {
    "identity": Activation(IDENTITY, hidden=True, output=True),
    "logistic": Activation(LOGISTIC, hidden=True, output=True),
    "tanh": Activation(TANH, hidden=True, output=False),
    "relu": Activation(RELU, hidden=True, output=False),
    "softmax": Activation(SOFTMAX, hidden=False, output=True),
    "exp": Activation(EXP, hidden=False, output=True),
    "gelu": Activation(GELU, hidden=True, output=False, keeps_input=True),
    "leaky_relu": Activation(LEAKY_RELU, hidden=True, output=False),
    "silu": Activation(SILU, hidden=True, output=False, keeps_input=True),
    "elu": Activation(ELU, hidden=True, output=False),
    "selu": Activation(SELU, hidden=True, output=False),
    "softplus": Activation(SOFTPLUS, hidden=True, output=False, keeps_input=True),
    "mish": Activation(MISH, hidden=True, output=False, keeps_input=True),
    "hard_swish": Activation(HARD_SWISH, hidden=True, output=False, keeps_input=True),
}


# Apply a hidden activation to z (flat).
activate = dispatch_table("activate", ("z", OUT))
# Multiply d (flat) by the derivative at the activation's value a.
differentiate = dispatch_table("differentiate", ("a", IN), ("d", OUT))
# The backward pass of a layer with a single output, see `activation_loops`. Ids are those of hidden activations.
SINGLE_OUTPUT = (
    ("d", OUT), ("outer", IN), ("step", INT), ("weights", IN), ("n", INT), ("stride", INT), ("sums", OUT),
)  # fmt: skip
single_output_backward = dispatch_table("single_output_backward", ("a", IN), *SINGLE_OUTPUT)
# The same two for activations that keep their input z. An activation has a function in these tables or in those, and
# an id without a function does nothing.
differentiate_input = dispatch_table("differentiate_input", ("a", IN), ("z", IN), ("d", OUT))
single_output_backward_input = dispatch_table("single_output_backward_input", ("a", IN), ("z", IN), *SINGLE_OUTPUT)
# Apply an output activation to a transposed block z (n_outputs, ldr). Scratch: largest, total (ldr,).
activate_output = dispatch_table(
    "activate_output", ("z", OUT), ("n_outputs", INT), ("ldr", INT), ("largest", OUT), ("total", OUT)
)
# Outputs in float64, out (n, n_outputs), from a transposed block z (n_outputs, ldr) of sums; see `activation_loops`.
outputs_of_sums = dispatch_table(
    "outputs_of_sums", ("z", IN), ("out", NUMBERS), ("wide", NUMBERS), ("n_outputs", INT), ("ldr", INT), ("n", INT)
)


def define(name, value=None, slope=None, *, on_vectors=False):
    """Register the functions of one activation in the dispatch tables above.

    Parameters
    ----------
    name : str
        Name in ``ACTIVATIONS``.
    value, slope : kernel, optional
        See the module's docstring. None for the identity's value, and for the slope of a mere output activation.
    on_vectors : bool
        Whether they are applied to vectors, for functions that LLVM does not vectorize by itself.
    """
    row = ACTIVATIONS[name]
    if value is not None:
        _named(activate_output, row.id, name, loops.make_on_block(value))
    _named(
        outputs_of_sums,
        row.id,
        name,
        loops.make_in_float64(loops.unchanged if value is None else loops.make_on_block(value)),
    )
    if not row.hidden:
        return
    if value is not None:
        _named(
            activate, row.id, name, loops.make_forward_by_vectors(value) if on_vectors else loops.make_forward(value)
        )
    if row.keeps_input:
        _named(differentiate_input, row.id, name, loops.make_backward_input(slope))
        _named(single_output_backward_input, row.id, name, loops.make_single_output_backward_input(slope))
        return
    _named(single_output_backward, row.id, name, loops.make_single_output_backward(slope))
    if value is not None:
        _named(
            differentiate,
            row.id,
            name,
            loops.make_backward_by_vectors(slope) if on_vectors else loops.make_backward(slope),
        )


def _named(table, ident, name, function):
    """Register a function under a name of its own, since cached machine code is found by names."""
    function.__name__ = function.__qualname__ = f"{name}_{table.__name__}"
    table.implementation(ident)(function)


# ---------------------------------------------------------------------------------------------------- the activations


@kernel
def identity_slope(a, z, d):
    """d."""
    return d


@kernel
def logistic_slope(a, z, d):
    """d a (1 - a)."""
    return d * (a * (like(a, 1) - a))


@kernel
def tanh_slope(a, z, d):
    """d (1 - a^2)."""
    return d * (like(a, 1) - a * a)


@kernel
def relu_slope(a, z, d):
    """d, or 0 where a == 0. NaN stays NaN."""
    return where_nonzero(a, d)


@kernel
def gelu(z):
    """z P(Z <= z) of a standard normal Z (Hendrycks & Gimpel, Gaussian error linear units, 2016)."""
    return z * normal_cdf(z)


@kernel
def gelu_slope(a, z, d):
    """d (P(Z <= z) + z e^(-z^2 / 2) / sqrt(2 pi))."""
    cdf, e = normal(z)
    return d * fma(z * like(z, 0.3989422804014327), e, cdf)


@kernel
def leaky_relu(z):
    """z, or 0.01 z where it is not positive (Maas et al., Rectifier nonlinearities improve acoustic models, 2013)."""
    return where_positive(z, z, like(z, 0.01) * z)


@kernel
def leaky_relu_slope(a, z, d):
    """d, or 0.01 d where a is not positive."""
    return where_positive(a, d, like(a, 0.01) * d)


@kernel
def silu(z):
    """z / (1 + exp(-z)) (Elfwing et al., Sigmoid-weighted linear units, 2017; "swish")."""
    return z * sigmoid(z)


@kernel
def silu_slope(a, z, d):
    """d (s + a (1 - s)), s = 1 / (1 + exp(-z))."""
    s = sigmoid(z)
    return d * fma(a, like(a, 1) - s, s)


@kernel
def elu_slope(a, z, d):
    """d, or d (a + 1) where a is not positive (Clevert et al., Exponential linear units, 2015)."""
    return d * where_positive(a, like(a, 1), a + like(a, 1))


# Klambauer et al., Self-normalizing neural networks, 2017: lambda and lambda alpha.
SELU_SCALE, SELU_LIMIT = 1.0507009873554804934193349852946, 1.7580993408473768599402175208123


@kernel
def selu(z):
    """lambda z, or lambda alpha (e^z - 1) where z is not positive."""
    return elu(z) * where_positive(z, like(z, SELU_SCALE), like(z, SELU_LIMIT))


@kernel
def selu_slope(a, z, d):
    """lambda d, or d (a + lambda alpha) where a is not positive."""
    return d * where_positive(a, like(a, SELU_SCALE), a + like(a, SELU_LIMIT))


@kernel
def softplus_slope(a, z, d):
    """d / (1 + exp(-z)). (1 - exp(-a) is the same, but vectors have no exponential.)"""
    return d * sigmoid(z)


@kernel
def mish_terms(z):
    """min(z, 20), e = exp of it, and n = e (e + 2), so that tanh(log(1 + e)) = n / (n + 2); 1 where z >= 20."""
    bounded = select(z > like(z, 20), like(z, 20), z)
    e = exp(bounded)
    return bounded, e, fma(e, e, e + e)


@kernel
def mish(z):
    """z tanh(log(1 + e^z)) (Misra, Mish: a self regularized non-monotonic activation function, 2019)."""
    _, _, n = mish_terms(z)
    return z * (n / (n + like(z, 2)))


@kernel
def mish_slope(a, z, d):
    """d (n + 4 z e (1 + e) / (n + 2)) / (n + 2), with e and n of `mish_terms`."""
    bounded, e, n = mish_terms(z)
    q = like(z, 1) / (n + like(z, 2))
    return d * (q * fma(like(z, 4) * bounded * fma(e, e, e), q, n))


@kernel
def hard_swish(z):
    """z min(max(z + 3, 0), 6) / 6 (Howard et al., Searching for MobileNetV3, 2019)."""
    shifted = zero_if_negative(z + like(z, 3))
    return z * (select(shifted > like(z, 6), like(z, 6), shifted) * like(z, 1 / 6))


@kernel
def hard_swish_slope(a, z, d):
    """d (z / 3 + 1 / 2), 0 where z <= -3, d where z >= 3."""
    between = fma(z, like(z, 1 / 3), like(z, 0.5))
    return d * select(z <= like(z, -3), like(z, 0), select(z >= like(z, 3), like(z, 1), between))


define("identity", slope=identity_slope)
define("logistic", sigmoid, logistic_slope)
define("tanh", tanh, tanh_slope)
define("relu", zero_if_negative, relu_slope, on_vectors=True)
define("exp", exp)
define("gelu", gelu, gelu_slope)
define("leaky_relu", leaky_relu, leaky_relu_slope, on_vectors=True)
define("silu", silu, silu_slope)
define("elu", elu, elu_slope)
define("selu", selu, selu_slope)
define("softplus", softplus, softplus_slope)
define("mish", mish, mish_slope)
define("hard_swish", hard_swish, hard_swish_slope)


@activate_output.implementation(SOFTMAX)
def softmax(z, n_outputs, ldr, largest, total):
    """z[c, r] <- exp(z[c, r] - max_c z[c, r]) / sum_c exp(...), each column r by itself.

    Writes: z (n_outputs, ldr), ldr whole vectors. Scratch: largest (ldr,), total (ldr,).
    """
    for r in range(0, ldr, VECTOR_BYTES // z.itemsize):
        most = load_vector(z, r)
        for c in range(1, n_outputs):
            most = maximum(most, load_vector(z, c * ldr + r))
        store_vector(largest, r, most)
    for r in range(ldr):
        total[r] = z.dtype.type(0)
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


_named(outputs_of_sums, SOFTMAX, "softmax", loops.make_in_float64(softmax))
