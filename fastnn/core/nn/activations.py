"""Activation functions, forward and derivative side by side, and the table of them.

Hidden activations work in place on flat slices of row-major activations. Derivatives are functions of the activation's
value, so the pre-activation is not kept; each is one function, of floats or of units. Output activations work in place
on a transposed block (n_outputs, ldr): lanes run over rows, so that one column wastes nothing and every sum over the
outputs of a row is one chain in order. Training computes them in the network's dtype, prediction in float64 from the
network's last sums: probabilities add up to 1 as closely as float64 can say.
Called by ``network``, ``losses`` and ``prediction``.
"""

from typing import NamedTuple

from ..compile.dispatch import dispatch_table
from ..compile.jit import kernel
from ..compile.packing import IN, INT, NUMBERS, OUT
from ..simd.math import exp, sigmoid, tanh
from ..simd.scalar import fma
from ..simd.target import VECTOR_BYTES
from ..simd.transpose import transpose_here
from ..simd.vector import broadcast, like, load_vector, maximum, store_vector, where_nonzero, zero_if_negative


class Activation(NamedTuple):
    """One row of the table: its id in compiled code and where it may stand.

    Any of them may be the output of a network that only predicts; ``output`` is whether a loss goes with it.
    """

    id: int
    hidden: bool
    output: bool
    keeps_input: bool = False  # whether its derivative is a function of what it was applied to, not of its value


IDENTITY, LOGISTIC, TANH, RELU, SOFTMAX, EXP = range(6)

ACTIVATIONS = {
    "identity": Activation(IDENTITY, hidden=True, output=True),
    "logistic": Activation(LOGISTIC, hidden=True, output=True),
    "tanh": Activation(TANH, hidden=True, output=False),
    "relu": Activation(RELU, hidden=True, output=False),
    "softmax": Activation(SOFTMAX, hidden=False, output=True),
    "exp": Activation(EXP, hidden=False, output=True),
}


# Apply a hidden activation to z (flat); one that keeps its input copies z to ``inputs`` before, if that has a size.
activate = dispatch_table("activate", ("z", OUT), ("inputs", OUT))
# Multiply d (flat) by the derivative at the activation's value a, or at its input z where it keeps that.
differentiate = dispatch_table("differentiate", ("a", IN), ("z", IN), ("d", OUT))
# The whole way back through a single output; see `make_single_output_backward`. Ids are those of hidden activations.
single_output_backward = dispatch_table(
    "single_output_backward",
    ("a", IN), ("z", IN), ("d", OUT), ("outer", IN), ("step", INT), ("weights", IN), ("n", INT), ("stride", INT),
    ("sums", OUT),
)  # fmt: skip
# Apply an output activation to a transposed block z (n_outputs, ldr). Scratch: largest, total (ldr,).
activate_output = dispatch_table(
    "activate_output", ("z", OUT), ("n_outputs", INT), ("ldr", INT), ("largest", OUT), ("total", OUT)
)
# Outputs in float64, out (n, n_outputs), of a transposed block z (n_outputs, ldr) of sums; see `outputs_in_float64`.
outputs_of_sums = dispatch_table(
    "outputs_of_sums", ("z", IN), ("out", NUMBERS), ("wide", NUMBERS), ("n_outputs", INT), ("ldr", INT), ("n", INT)
)


def elementwise(function):
    """Make the kernel of an output activation that applies ``function`` to each element of z."""

    @kernel
    def kernel_of_function(z, n_outputs, ldr, largest, total):
        for i in range(z.size):
            z[i] = function(z[i])

    return kernel_of_function


def outputs_in_float64(activation):
    """Make the kernel that computes an output activation in float64, whatever the dtype of the sums.

    The kernel: out[r, c] <- f(z[c, r]) for r < n.

    Writes: out (n, n_outputs) flat. Reads: z (n_outputs, ldr). Scratch: wide ((n_outputs + 2) * ldr,).
    """

    @kernel
    def kernel_of_activation(z, out, wide, n_outputs, ldr, n):
        size = n_outputs * ldr
        sums = wide[:size]
        for i in range(size):
            sums[i] = z[i]
        activation(sums, n_outputs, ldr, wide[size : size + ldr], wide[size + ldr : size + 2 * ldr])
        if n_outputs == 1:
            for r in range(n):
                out[r] = sums[r]
        else:
            transpose_here(out, 0, n_outputs, sums, 0, ldr, n_outputs, n)

    return kernel_of_activation


def make_single_output_backward(derivative):
    """Make the kernel of a derivative that goes back through a single output: the derivative and all sums in one pass.

    The kernel: D = f'(A) * (delta w'), and to the sums are added A' delta and the columns of D, four rows at a time.
    All that is read and written of a row goes through registers once: beyond the first cache a pass over the rows takes
    longer than what it computes. (100 rows of 100 units, Zen 4: 1.2 us; 2.8 for the product, the derivative and the two
    sums one after the other.)

    Writes: d (n, stride), sums (2, stride). Reads: a (n, stride), outer[r * step] (delta of row r), weights (stride,).
    """

    @kernel
    def kernel_of_derivative(a, d, outer, step, weights, n, stride, sums):
        lanes = VECTOR_BYTES // d.itemsize
        for r in range(0, n - 3, 4):
            delta_0, delta_1 = broadcast(outer[r * step]), broadcast(outer[(r + 1) * step])
            delta_2, delta_3 = broadcast(outer[(r + 2) * step]), broadcast(outer[(r + 3) * step])
            for j in range(0, stride, lanes):
                at_0 = r * stride + j
                at_1, at_2, at_3 = at_0 + stride, at_0 + 2 * stride, at_0 + 3 * stride
                w = load_vector(weights, j)
                a_0, a_1, a_2, a_3 = (
                    load_vector(a, at_0),
                    load_vector(a, at_1),
                    load_vector(a, at_2),
                    load_vector(a, at_3),
                )
                d_0, d_1 = derivative(a_0, delta_0 * w), derivative(a_1, delta_1 * w)
                d_2, d_3 = derivative(a_2, delta_2 * w), derivative(a_3, delta_3 * w)
                store_vector(d, at_0, d_0)
                store_vector(d, at_1, d_1)
                store_vector(d, at_2, d_2)
                store_vector(d, at_3, d_3)
                total = fma(delta_1, a_1, fma(delta_0, a_0, load_vector(sums, j)))
                store_vector(sums, j, fma(delta_3, a_3, fma(delta_2, a_2, total)))
                store_vector(sums, stride + j, load_vector(sums, stride + j) + ((d_0 + d_1) + (d_2 + d_3)))
        for r in range(n - n % 4, n):
            delta = broadcast(outer[r * step])
            for j in range(0, stride, lanes):
                at = r * stride + j
                a_0 = load_vector(a, at)
                d_0 = derivative(a_0, delta * load_vector(weights, j))
                store_vector(d, at, d_0)
                store_vector(sums, j, fma(delta, a_0, load_vector(sums, j)))
                store_vector(sums, stride + j, load_vector(sums, stride + j) + d_0)

    return kernel_of_derivative


@kernel
def identity_derivative(a, d):
    """d."""
    return d


identity_through_one = make_single_output_backward(identity_derivative)


@single_output_backward.implementation(IDENTITY)
def identity_single_output(a, z, d, outer, step, weights, n, stride, sums):
    """`make_single_output_backward`."""
    identity_through_one(a, d, outer, step, weights, n, stride, sums)


@kernel
def identity_output(z, n_outputs, ldr, largest, total):
    """z."""


identity_in_float64 = outputs_in_float64(identity_output)


@outputs_of_sums.implementation(IDENTITY)
def identity_of_sums(z, out, wide, n_outputs, ldr, n):
    """`outputs_in_float64`."""
    identity_in_float64(z, out, wide, n_outputs, ldr, n)


@activate.implementation(LOGISTIC)
def logistic_forward(z, inputs):
    """z <- 1 / (1 + exp(-z)). Writes: z."""
    for i in range(z.size):
        z[i] = sigmoid(z[i])


squash = elementwise(sigmoid)


@activate_output.implementation(LOGISTIC)
def logistic_output(z, n_outputs, ldr, largest, total):
    """z <- 1 / (1 + exp(-z)). Writes: z."""
    squash(z, n_outputs, ldr, largest, total)


logistic_in_float64 = outputs_in_float64(squash)


@outputs_of_sums.implementation(LOGISTIC)
def logistic_of_sums(z, out, wide, n_outputs, ldr, n):
    """`outputs_in_float64`."""
    logistic_in_float64(z, out, wide, n_outputs, ldr, n)


@kernel
def logistic_derivative(a, d):
    """d a (1 - a)."""
    return d * (a * (like(a, 1) - a))


logistic_through_one = make_single_output_backward(logistic_derivative)


@differentiate.implementation(LOGISTIC)
def logistic_backward(a, z, d):
    """d <- d a (1 - a). Writes: d. Reads: a."""
    for i in range(d.size):
        d[i] = logistic_derivative(a[i], d[i])


@single_output_backward.implementation(LOGISTIC)
def logistic_single_output(a, z, d, outer, step, weights, n, stride, sums):
    """`make_single_output_backward`."""
    logistic_through_one(a, d, outer, step, weights, n, stride, sums)


@activate.implementation(TANH)
def tanh_forward(z, inputs):
    """z <- tanh(z). Writes: z."""
    for i in range(z.size):
        z[i] = tanh(z[i])


tanh_each = elementwise(tanh)


@activate_output.implementation(TANH)
def tanh_output(z, n_outputs, ldr, largest, total):
    """z <- tanh(z). Writes: z."""
    tanh_each(z, n_outputs, ldr, largest, total)


tanh_in_float64 = outputs_in_float64(tanh_each)


@outputs_of_sums.implementation(TANH)
def tanh_of_sums(z, out, wide, n_outputs, ldr, n):
    """`outputs_in_float64`."""
    tanh_in_float64(z, out, wide, n_outputs, ldr, n)


@kernel
def tanh_derivative(a, d):
    """d (1 - a^2)."""
    return d * (like(a, 1) - a * a)


tanh_through_one = make_single_output_backward(tanh_derivative)


@differentiate.implementation(TANH)
def tanh_backward(a, z, d):
    """d <- d (1 - a^2). Writes: d. Reads: a."""
    for i in range(d.size):
        d[i] = tanh_derivative(a[i], d[i])


@single_output_backward.implementation(TANH)
def tanh_single_output(a, z, d, outer, step, weights, n, stride, sums):
    """`make_single_output_backward`."""
    tanh_through_one(a, d, outer, step, weights, n, stride, sums)


@activate.implementation(RELU)
def relu_forward(z, inputs):
    """z <- max(z, 0), NaN kept. Writes: z."""
    lanes = VECTOR_BYTES // z.itemsize
    for i in range(0, z.size - lanes + 1, lanes):
        store_vector(z, i, zero_if_negative(load_vector(z, i)))
    for i in range(z.size - z.size % lanes, z.size):
        z[i] = zero_if_negative(z[i])


rectify = elementwise(zero_if_negative)


@activate_output.implementation(RELU)
def relu_output(z, n_outputs, ldr, largest, total):
    """z <- max(z, 0), NaN kept. Writes: z."""
    rectify(z, n_outputs, ldr, largest, total)


relu_in_float64 = outputs_in_float64(rectify)


@outputs_of_sums.implementation(RELU)
def relu_of_sums(z, out, wide, n_outputs, ldr, n):
    """`outputs_in_float64`."""
    relu_in_float64(z, out, wide, n_outputs, ldr, n)


@kernel
def relu_derivative(a, d):
    """d, or 0 where a == 0."""
    return where_nonzero(a, d)


relu_through_one = make_single_output_backward(relu_derivative)


@differentiate.implementation(RELU)
def relu_backward(a, z, d):
    """d <- 0 where a == 0. Writes: d. Reads: a."""
    lanes = VECTOR_BYTES // d.itemsize
    for i in range(0, d.size - lanes + 1, lanes):
        store_vector(d, i, relu_derivative(load_vector(a, i), load_vector(d, i)))
    for i in range(d.size - d.size % lanes, d.size):
        d[i] = relu_derivative(a[i], d[i])


@single_output_backward.implementation(RELU)
def relu_single_output(a, z, d, outer, step, weights, n, stride, sums):
    """`make_single_output_backward`."""
    relu_through_one(a, d, outer, step, weights, n, stride, sums)


exp_each = elementwise(exp)


@activate_output.implementation(EXP)
def exp_output(z, n_outputs, ldr, largest, total):
    """z <- exp(z). Writes: z."""
    exp_each(z, n_outputs, ldr, largest, total)


exp_in_float64 = outputs_in_float64(exp_each)


@outputs_of_sums.implementation(EXP)
def exp_of_sums(z, out, wide, n_outputs, ldr, n):
    """`outputs_in_float64`."""
    exp_in_float64(z, out, wide, n_outputs, ldr, n)


@kernel
def softmax(z, n_outputs, ldr, largest, total):
    """z[c, r] <- exp(z[c, r] - max_c z[c, r]) / sum_c exp(...), each column r by itself.

    Writes: z (n_outputs, ldr), ldr whole units. Scratch: largest (ldr,), total (ldr,).
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


@activate_output.implementation(SOFTMAX)
def softmax_output(z, n_outputs, ldr, largest, total):
    """`softmax`. Writes: z. Scratch: largest, total (ldr,)."""
    softmax(z, n_outputs, ldr, largest, total)


softmax_in_float64 = outputs_in_float64(softmax)


@outputs_of_sums.implementation(SOFTMAX)
def softmax_of_sums(z, out, wide, n_outputs, ldr, n):
    """`outputs_in_float64`."""
    softmax_in_float64(z, out, wide, n_outputs, ldr, n)
