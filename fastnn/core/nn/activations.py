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
from ..simd.scalar import fma
from ..simd.target import VECTOR_BYTES
from ..simd.transpose import transpose_here
from ..simd.vecmath import exp, sigmoid, tanh
from ..simd.vector import broadcast, like, load_vector, maximum, store_vector, where_nonzero, zero_if_negative


class Activation(NamedTuple):
    """One row of the table. A network that only predicts may have any of them as its output activation."""

    id: int  # in compiled code
    hidden: bool  # whether hidden layers may have it
    output: bool  # whether it is the output activation of a loss
    keeps_input: bool = False  # whether its slope uses its input, not its value alone


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
activate = dispatch_table("activate", ("z", OUT))
# Multiply d (flat) by the derivative at the activation's value a.
differentiate = dispatch_table("differentiate", ("a", IN), ("d", OUT))
# The backward pass of a layer with a single output, see `_single_output_backward`. Ids are those of hidden activations.
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
# Outputs in float64, out (n, n_outputs), from a transposed block z (n_outputs, ldr) of sums; see `_in_float64`.
outputs_of_sums = dispatch_table(
    "outputs_of_sums", ("z", IN), ("out", NUMBERS), ("wide", NUMBERS), ("n_outputs", INT), ("ldr", INT), ("n", INT)
)


# ------------------------------------------------------------------------ what `define` makes of a value and a slope


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
        _named(activate_output, row.id, name, _on_block(value))
    _named(outputs_of_sums, row.id, name, _in_float64(_unchanged if value is None else _on_block(value)))
    if not row.hidden:
        return
    if value is not None:
        _named(activate, row.id, name, _forward_by_vectors(value) if on_vectors else _forward(value))
    if row.keeps_input:
        _named(differentiate_input, row.id, name, _backward_input(slope))
        _named(single_output_backward_input, row.id, name, _single_output_backward_input(slope))
        return
    _named(single_output_backward, row.id, name, _single_output_backward(slope))
    if value is not None:
        _named(differentiate, row.id, name, _backward_by_vectors(slope) if on_vectors else _backward(slope))


def _named(table, ident, name, function):
    """Register a function under a name of its own, since cached machine code is found by names."""
    function.__name__ = function.__qualname__ = f"{name}_{table.__name__}"
    table.implementation(ident)(function)


def _forward(value):
    """The function z <- f(z). Writes: z."""

    def forward(z):
        for i in range(z.size):
            z[i] = value(z[i])

    return forward


def _forward_by_vectors(value):
    """The same. Writes: z."""

    def forward(z):
        lanes = VECTOR_BYTES // z.itemsize
        for i in range(0, z.size - lanes + 1, lanes):
            store_vector(z, i, value(load_vector(z, i)))
        for i in range(z.size - z.size % lanes, z.size):
            z[i] = value(z[i])

    return forward


def _backward(slope):
    """The function d <- d f'. Writes: d. Reads: a."""

    def backward(a, d):
        for i in range(d.size):
            d[i] = slope(a[i], a[i], d[i])

    return backward


def _backward_by_vectors(slope):
    """The same. Writes: d. Reads: a."""

    def backward(a, d):
        lanes = VECTOR_BYTES // d.itemsize
        for i in range(0, d.size - lanes + 1, lanes):
            store_vector(d, i, slope(load_vector(a, i), load_vector(a, i), load_vector(d, i)))
        for i in range(d.size - d.size % lanes, d.size):
            d[i] = slope(a[i], a[i], d[i])

    return backward


def _backward_input(slope):
    """The function d <- d f' of an activation that keeps its input. Writes: d. Reads: a, z."""

    def backward(a, z, d):
        for i in range(d.size):
            d[i] = slope(a[i], z[i], d[i])

    return backward


def _single_output_backward(slope):
    """The backward pass of a layer with a single output: derivative, weight gradient and bias gradient in one pass.

    D = f' * (delta w'); A' delta and the sums of the columns of D are added to ``sums``, four rows at a time. So each
    row is loaded and stored once: beyond L1 a pass over the rows takes longer than its arithmetic. (100 rows of 100
    units, Zen 4: 1.2 us; 2.8 for the product, the derivative and the two sums one after the other.)

    Writes: d (n, stride), sums (2, stride). Reads: a (n, stride), outer[r * step] (delta of row r), weights (stride,).
    """

    def backward(a, d, outer, step, weights, n, stride, sums):
        lanes = VECTOR_BYTES // d.itemsize
        for r in range(0, n - 3, 4):
            delta_0, delta_1 = broadcast(outer[r * step]), broadcast(outer[(r + 1) * step])
            delta_2, delta_3 = broadcast(outer[(r + 2) * step]), broadcast(outer[(r + 3) * step])
            for j in range(0, stride, lanes):
                i_0 = r * stride + j
                i_1, i_2, i_3 = i_0 + stride, i_0 + 2 * stride, i_0 + 3 * stride
                w = load_vector(weights, j)
                a_0, a_1, a_2, a_3 = load_vector(a, i_0), load_vector(a, i_1), load_vector(a, i_2), load_vector(a, i_3)
                d_0 = slope(a_0, a_0, delta_0 * w)
                d_1 = slope(a_1, a_1, delta_1 * w)
                d_2 = slope(a_2, a_2, delta_2 * w)
                d_3 = slope(a_3, a_3, delta_3 * w)
                store_vector(d, i_0, d_0)
                store_vector(d, i_1, d_1)
                store_vector(d, i_2, d_2)
                store_vector(d, i_3, d_3)
                total = fma(delta_1, a_1, fma(delta_0, a_0, load_vector(sums, j)))
                store_vector(sums, j, fma(delta_3, a_3, fma(delta_2, a_2, total)))
                store_vector(sums, stride + j, load_vector(sums, stride + j) + ((d_0 + d_1) + (d_2 + d_3)))
        for r in range(n - n % 4, n):
            delta = broadcast(outer[r * step])
            for j in range(0, stride, lanes):
                i = r * stride + j
                a_0 = load_vector(a, i)
                d_0 = slope(a_0, a_0, delta * load_vector(weights, j))
                store_vector(d, i, d_0)
                store_vector(sums, j, fma(delta, a_0, load_vector(sums, j)))
                store_vector(sums, stride + j, load_vector(sums, stride + j) + d_0)

    return backward


def _single_output_backward_input(slope):
    """The same sums in the same order for a slope that is no function of vectors, as one with exp in it is not."""

    def backward(a, z, d, outer, step, weights, n, stride, sums):
        lanes = VECTOR_BYTES // d.itemsize
        for r in range(n):
            row = d[r * stride : (r + 1) * stride]
            for j in range(stride):
                i = r * stride + j
                row[j] = slope(a[i], z[i], outer[r * step] * weights[j])
        for r in range(0, n - 3, 4):
            delta_0, delta_1 = broadcast(outer[r * step]), broadcast(outer[(r + 1) * step])
            delta_2, delta_3 = broadcast(outer[(r + 2) * step]), broadcast(outer[(r + 3) * step])
            for j in range(0, stride, lanes):
                i_0 = r * stride + j
                i_1, i_2, i_3 = i_0 + stride, i_0 + 2 * stride, i_0 + 3 * stride
                total = fma(delta_1, load_vector(a, i_1), fma(delta_0, load_vector(a, i_0), load_vector(sums, j)))
                total = fma(delta_3, load_vector(a, i_3), fma(delta_2, load_vector(a, i_2), total))
                store_vector(sums, j, total)
                pairs = (load_vector(d, i_0) + load_vector(d, i_1)) + (load_vector(d, i_2) + load_vector(d, i_3))
                store_vector(sums, stride + j, load_vector(sums, stride + j) + pairs)
        for r in range(n - n % 4, n):
            delta = broadcast(outer[r * step])
            for j in range(0, stride, lanes):
                i = r * stride + j
                store_vector(sums, j, fma(delta, load_vector(a, i), load_vector(sums, j)))
                store_vector(sums, stride + j, load_vector(sums, stride + j) + load_vector(d, i))

    return backward


def _on_block(value):
    """The function z <- f(z) for a transposed block. Writes: z."""

    def on_block(z, n_outputs, ldr, largest, total):
        for i in range(z.size):
            z[i] = value(z[i])

    return on_block


def _unchanged(z, n_outputs, ldr, largest, total):
    """The identity of a transposed block."""


def _in_float64(on_block):
    """The function that computes an output activation in float64, whatever the dtype of the sums.

    out[r, c] <- f(z[c, r]) for r < n.

    Writes: out (n, n_outputs) flat. Reads: z (n_outputs, ldr). Scratch: wide ((n_outputs + 2) * ldr,).
    """
    compiled = kernel(on_block)

    def in_float64(z, out, wide, n_outputs, ldr, n):
        size = n_outputs * ldr
        sums = wide[:size]
        for i in range(size):
            sums[i] = z[i]
        compiled(sums, n_outputs, ldr, wide[size : size + ldr], wide[size + ldr : size + 2 * ldr])
        if n_outputs == 1:
            for r in range(n):
                out[r] = sums[r]
        else:
            transpose_here(out, 0, n_outputs, sums, 0, ldr, n_outputs, n)

    return in_float64


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


define("identity", slope=identity_slope)
define("logistic", sigmoid, logistic_slope)
define("tanh", tanh, tanh_slope)
define("relu", zero_if_negative, relu_slope, on_vectors=True)
define("exp", exp)


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


_named(outputs_of_sums, SOFTMAX, "softmax", _in_float64(softmax))
