"""The forward pass of prediction, for a block of rows of X. Called by ``engine.entries``."""

import numpy as np

from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, INTS, MATRIX, NUMBERS, OUT, RECORDS, ROWS, as_flat, as_read
from ..records import unpack_pass
from ..simd.gemm import product_at
from ..simd.llvm import address_of
from ..simd.scalar import by_dtype
from ..simd.transpose import transpose
from .activations import activate, outputs_of_sums
from .layer import forward_output, padded
from .network import GATHER_ROWS, gather, hidden_forward

_largest_square = by_dtype(np.float32(2.0**120), np.float64(2.0**1000))


@kernel
def watch(z, suspect):
    """suspect[0] <- 1 if an element of z is NaN, inf, or so large that later sums may be. Writes: suspect. Reads: z."""
    limit, finite = _largest_square(z.dtype.type(0)), True
    for i in range(z.size):
        finite &= z[i] * z[i] < limit
    if not finite:
        suspect[0] = 1


@leaf(RECORDS, IN, MATRIX, ROWS, NUMBERS, NUMBERS, OUT, OUT, INTS, INT, INT, group="predict")
def predict_rows(packed, params, X, rows, out, wide, levels, workspace, suspect, start, n):
    """Outputs of n rows of X from ``start`` on; if ``rows`` is not empty, of the rows ``rows[start:]``.

    A NaN or inf in a row of X makes every sum of the first layer in that row NaN or inf, so with hidden layers one sum
    of each row, looked at before its activation, is enough: X is read once, and later rows are prefetched meanwhile.
    Large weights can have the same effect, so ``suspect`` is only a suspicion. Without hidden layers all of X is looked
    at.

    Writes: out (n, n_outputs) flat; suspect (1,). Reads: params, X, rows. Scratch: wide, levels, workspace.
    """
    layout, sizes = unpack_pass(packed, params)
    n_layers = sizes.n_layers
    n_outputs = layout.units[n_layers]
    ldr = padded(n)
    a, ia, lda = as_flat(X), start * X.shape[1], X.shape[1]
    line, offsets = address_of(a, ia), address_of(sizes.ahead, 0) if sizes.ahead.size > 0 else 0
    if rows.size > 0:
        gather(GATHER_ROWS, levels, layout.stride[0], X, rows[start:], n)
        a, ia, lda = as_read(levels), 0, layout.stride[0]
    elif sizes.by_columns:
        transpose(levels, 0, layout.stride[0], a, start, lda, X.shape[0], n)
        a, ia, lda = as_read(levels), 0, layout.stride[0]
    z, scratch = workspace[: n_outputs * ldr], workspace[n_outputs * ldr :]
    if n_layers > 1:
        top, stride = layout.level[1], layout.stride[1]
        product_at(
            levels, top, stride, params, layout.bias[0], 0,
            a, ia, lda, int(sizes.columns.size == 0), sizes.columns, 0,
            params, layout.weight[0], layout.units[1], n, layout.units[1], layout.units[0],
            line, lda * a.itemsize, offsets, 0, 0, 0, 0,
        )  # fmt: skip
        watch(levels[top : top + n * stride : stride], suspect)
        activate(layout.activation[0], levels[top : top + n * stride])
        hidden_forward(packed, 1, n_layers, params, as_read(levels), top, stride, levels, levels[:0], 0, n)
        a, ia, lda = as_read(levels), layout.level[n_layers - 1], layout.stride[n_layers - 1]
    else:
        for r in range(n):
            watch(a[ia + r * lda : ia + r * lda + layout.units[0]], suspect)
    forward_output(packed, n_layers, params, a, ia, lda, z, scratch, n, ldr)
    outputs_of_sums(sizes.output, z, out, wide, n_outputs, ldr, n)
