"""Transposition by square blocks in registers, and prefetching of cache lines.

A block has LANES x LANES elements, with LANES in a 32-byte vector (8 floats, 4 doubles). It takes LANES loads,
log2(LANES) rounds of two-input shuffles and LANES stores. Measured on Zen 4, 200 x 100 float32: 2.0 us against 14 us
element by element.
"""

import inspect

from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from ..compile.jit import kernel, leaf
from ..compile.packing import IN, INT, OUT
from .llvm import L1, array_data, emit_prefetch
from .target import VECTOR_BYTES


def transpose_block(out, i_out, ld_out, a, ia, lda):
    """``OUT[j, i] = A[i, j]`` for i, j < LANES. Writes: out. Reads: a."""
    lanes = VECTOR_BYTES // out.itemsize
    block = [[a[ia + i * lda + j] for i in range(lanes)] for j in range(lanes)]
    for j in range(lanes):
        out[i_out + j * ld_out : i_out + j * ld_out + lanes] = block[j]


@type_callable(transpose_block)
def _type_transpose_block(context):
    def typer(*given):
        return types.void(*(t if i in (0, 3) else types.int64 for i, t in enumerate(given)))

    typer.__signature__ = inspect.signature(transpose_block)
    return typer


@lower_builtin(transpose_block, types.VarArg(types.Any))
def _lower_transpose_block(context, builder, sig, args):
    out, i_out, ld_out, a, ia, lda = args
    scalar = context.get_data_type(sig.args[0].dtype)
    align = context.get_abi_sizeof(scalar)
    lanes = VECTOR_BYTES // align
    vector = ir.VectorType(scalar, lanes)

    def rows(position, array, offset, stride):
        base = builder.gep(array_data(context, builder, sig.args[position], array), [offset])
        for i in range(lanes):
            row = builder.gep(base, [builder.mul(stride, ir.Constant(ir.IntType(64), i))])
            yield builder.bitcast(row, vector.as_pointer())

    block = [builder.load(pointer, align=align) for pointer in rows(3, a, ia, lda)]
    distance = lanes // 2
    while distance:  # exchange the off-diagonal quarters of every 2 distance x 2 distance block
        low = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
        high = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), lanes), mask) for mask in (low, high)]
        for i in range(lanes):
            if not i & distance:
                pair = block[i], block[i + distance]
                block[i], block[i + distance] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        distance //= 2
    for pointer, row in zip(rows(0, out, i_out, ld_out), block, strict=True):
        builder.store(row, pointer, align=align)
    return context.get_dummy_value()


@kernel
def transpose_here(out, i_out, ld_out, a, ia, lda, rows, columns):
    """Transposition ``OUT[j, i] = A[i, j]`` for i < rows, j < columns. The last blocks overlap those before them.

    Writes: out[i_out + j*ld_out + i]. Reads: a[ia + i*lda + j].
    """
    lanes = VECTOR_BYTES // out.itemsize
    if rows < lanes or columns < lanes:
        for i in range(rows):
            for j in range(columns):
                out[i_out + j * ld_out + i] = a[ia + i * lda + j]
        return
    for i0 in range(0, rows, lanes):
        i = min(i0, rows - lanes)
        for j0 in range(0, columns, lanes):
            j = min(j0, columns - lanes)
            transpose_block(out, i_out + j * ld_out + i, ld_out, a, ia + i * lda + j, lda)


@leaf(OUT, INT, INT, IN, INT, INT, INT, INT)
def transpose(out, i_out, ld_out, a, ia, lda, rows, columns):
    """`transpose_here` as a leaf, compiled once. Writes: out[i_out + j*ld_out + i]. Reads: a[ia + i*lda + j]."""
    transpose_here(out, i_out, ld_out, a, ia, lda, rows, columns)


def prefetch(a, i):
    """Prefetch the cache line of ``a[i]``; changes nothing."""


@type_callable(prefetch)
def _type_prefetch(context):
    return lambda a, i: types.void(a, types.int64)


@lower_builtin(prefetch, types.Array, types.Integer)
def _lower_prefetch(context, builder, sig, args):
    pointer = builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])
    emit_prefetch(builder, builder.ptrtoint(pointer, ir.IntType(64)), L1)
    return context.get_dummy_value()
