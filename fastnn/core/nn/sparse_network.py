"""Both passes of a training step, and prediction, for sparse input: the first layer; ``network`` has the others.

Level 0 has no activations in memory: the first layer's product and its gradient read the sparse rows in place. In a
network without hidden layers the first layer is the last; while it is trained, several outputs are computed in the
place of the deltas and then transposed.
"""

from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, INTS, NUMBERS, OUT, RECORDS, ROWS, as_read
from ..records import unpack_all, unpack_pass
from ..simd.spmm import CSR, find_column, sparse_dots, sparse_gradient, sparse_product
from ..simd.transpose import transpose
from ..simd.vector import whole_vectors
from ..tuning import BLOCK_ROWS, SHARED_BYTES, SPARSE_TILE_ELEMENTS
from .activations import activate, outputs_of_sums
from .layer import LANES, forward_output, padded
from .network import copy, forward_backward_from, hidden_forward, losses_and_deltas
from .prediction import watch
from .update import GROUP, scratch_size, step_bias, step_weights


@kernel
def first_activation(layout, params, csr, rows, start, n, following, activations, inputs, lo):
    """A_1 = f(X W_0 + b_0) of n rows; the entries of the rows ``following`` are prefetched.

    Writes: activations, rows lo .. lo + n of level 1; the same of inputs, if it has a size. Reads: params, csr, rows.
    """
    stride = layout.stride[1]
    top = layout.level[1] + lo * stride
    weight, bias = layout.weight[0], layout.bias[0]
    sparse_product(activations, top, stride, csr, rows, start, n, following, params, weight, bias, layout.units[1])
    if inputs.size > 0:
        copy(inputs[top : top + n * stride], activations, top, n * stride)
    activate(layout.activation[0], activations[top : top + n * stride])


@kernel
def only_layer(layout, params, csr, rows, start, n, c, ic, z, scratch, ldr):
    """Z' = (X W_0 + b_0)', where layer 0 is the last.

    Writes: z (n_outputs, ldr); c (n, stride) from ``ic`` on as scratch. Reads: params, csr, rows. Scratch: scratch.
    """
    n_outputs, stride = layout.units[1], layout.stride[1]
    weight, bias = layout.weight[0], layout.bias[0]
    if n_outputs == 1:
        sparse_dots(z, csr, rows, start, n, params, weight, bias, scratch)
    else:
        sparse_product(c, ic, stride, csr, rows, start, n, rows[:0], params, weight, bias, n_outputs)
        transpose(z, 0, ldr, c, ic, stride, n, n_outputs)


@leaf(RECORDS, ROWS, INT, INT, ROWS, OUT, group="sparse")
def forward_backward_sparse(packed, rows, lo, hi, ahead, workspace):
    """The rows pass of rows lo .. hi of the batch.

    ``ahead`` are the next batch's rows; with hidden layers the entries of those from lo on are prefetched.

    Writes: activations, inputs, deltas, row_loss at rows lo .. hi. Reads: params, transposed, data at ``rows``.
    Scratch: workspace.
    """
    layout, plan, buffers, csr = unpack_all(packed, workspace)
    labels, targets, sample_weight = csr.labels, csr.targets, csr.sample_weight
    params, deltas = buffers.params, buffers.deltas
    for start in range(lo, hi, BLOCK_ROWS):
        block = rows[start : min(start + BLOCK_ROWS, hi)]
        n = block.size
        if plan.n_layers > 1:
            following = rows[start + n : hi] if start + n < hi else ahead[lo:]
            first_activation(layout, params, csr, block, 0, n, following, buffers.activations, buffers.inputs, start)
            forward_backward_from(packed, labels, targets, sample_weight, block, 1, start, 0, workspace)
            continue
        n_outputs, ldr = layout.units[1], padded(n)
        delta = layout.delta[1] + start * layout.stride[1]
        z, scratch = workspace[: n_outputs * ldr], workspace[n_outputs * ldr :]
        only_layer(layout, params, csr, block, 0, n, deltas, delta, z, scratch, ldr)
        losses_and_deltas(packed, labels, targets, sample_weight, block, start, z, ldr, scratch)


@leaf(RECORDS, ROWS, INTS, INT, INT, INT, OUT, group="sparse")
def update_weights_sparse(packed, rows, cursors, known, lo, hi, workspace):
    """The weights pass of the first layer's weight rows lo .. hi; with the last row also of its bias.

    Cursors that do not stand at column lo yet, as ``known`` says, are looked for; afterwards they stand at column hi.

    Every weight row is updated, also where its column is empty in the batch: the L2 term acts on all weights, and
    moments decay and go on changing a weight when its gradient is zero. A row could be skipped without changing a bit
    only where alpha and the row's moments are zero, which is not so with scikit-learn's defaults. The update of
    10000 x 16 weights by adam is 45 of 265 us of a batch of 512 rows on one core of Zen 4 (100 entries a row: 77 for
    the forward product, 105 for the gradient).

    Writes: cursors (rows.size,), and of these rows what the sink writes, and squares. Reads: deltas, csr at ``rows``.
    Scratch: workspace.
    """
    layout, _, buffers, csr = unpack_all(packed, workspace)
    fan_in, fan_out = layout.units[0], layout.units[1]
    cached = fan_in * fan_out * workspace.itemsize <= SHARED_BYTES
    shared = layout.weight[0] if hi - lo < fan_in and cached else -1
    indices, indptr = csr.indices, csr.indptr
    if not known:
        for r in range(rows.size):
            first = indptr[rows[r]]
            cursors[r] = find_column(indices, first, indptr[rows[r] + 1], lo) if lo > 0 else first
    height = max(GROUP, SPARSE_TILE_ELEMENTS // whole_vectors(fan_out, workspace.itemsize) // GROUP * GROUP)
    for i0 in range(lo, hi, height):
        n = min(height, hi - i0)
        sparse_gradient(
            workspace, i0, i0 + n, csr, rows, cursors, buffers.deltas, layout.delta[1], layout.stride[1], fan_out,
            buffers.params, shared,
        )  # fmt: skip
        step_weights(packed, 0, i0, n, workspace)
    if hi == fan_in:
        step_bias(packed, 0, rows.size, workspace)


@leaf(RECORDS, IN, CSR, ROWS, NUMBERS, NUMBERS, OUT, OUT, INTS, INT, INT, group="sparse")
def predict_rows_sparse(packed, params, csr, rows, out, wide, levels, workspace, suspect, start, n):
    """Outputs of n rows of X from ``start`` on; if ``rows`` is not empty, of the rows ``rows[start:]``.

    Without ``rows`` the entries are checked for NaN and inf; rows that training has chosen were checked before it.

    Writes: out (n, n_outputs) flat; suspect (1,). Reads: params, csr, rows. Scratch: wide, levels, workspace.
    """
    layout, sizes = unpack_pass(packed, params)
    n_layers = sizes.n_layers
    n_outputs = layout.units[n_layers]
    ldr = padded(n)
    if rows.size == 0:
        watch(csr.values[csr.indptr[start] : csr.indptr[start + n]], suspect)
    z, scratch = workspace[: n_outputs * ldr], workspace[n_outputs * ldr :]
    if n_layers > 1:
        first_activation(layout, params, csr, rows, start, n, rows[:0], levels, levels[:0], 0)
        top, stride = layout.level[1], layout.stride[1]
        hidden_forward(packed, 1, n_layers, params, as_read(levels), top, stride, levels, levels[:0], 0, n)
        top, stride = layout.level[n_layers - 1], layout.stride[n_layers - 1]
        forward_output(packed, n_layers, params, levels, top, stride, z, scratch, n, ldr)
    else:
        # Rows of outputs lie behind what `sparse_dots` uses of the scratch.
        only_layer(layout, params, csr, rows, start, n, scratch, 2 * ldr, z, scratch, ldr)
    outputs_of_sums(sizes.output, z, out, wide, n_outputs, ldr, n)


def sparse_scratch_size(units, strides):
    """Elements of a workspace that is large enough for every function here (plain Python, called once a fit)."""
    weights = max(GROUP * strides[1], SPARSE_TILE_ELEMENTS)
    outputs = (units[-1] + strides[-1] + 2) * (BLOCK_ROWS + 2 * LANES)
    size = max(scratch_size([0, *units[1:]], strides), weights + 8 * LANES, outputs + 8 * LANES)
    return (size + LANES - 1) // LANES * LANES  # each workspace starts a cache line
