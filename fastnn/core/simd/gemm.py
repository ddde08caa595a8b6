"""Matrix products of any size, made of register tiles.

``product`` does all three products of a layer; only the strides differ:

    forward   Z (rows, out)  = b + A W      a = activations, b = W
    gradient  G (in, out)    = A' D         a = activations read down their columns, b = deltas
    backward  D (rows, in)   = D W'         a = deltas, b = W', a second copy or transposed on the fly

The last two have no C0: with ``ldc0 = NO_C0`` a tile starts at zero. (The gradient of 784 x 30 weights over 10 rows,
Zen 4: 5.5 us; 6.1 when the tiles load zeros.)

Matrices are slices of flat arrays: an offset and the distances between rows and between columns. Panels of whole
vectors (32 bytes), some with a half one at the end, cover the columns; the last vector of a row may reach beyond the
matrix. What it reads there is never used, what it writes there is garbage, for which the caller provides padding.
Panels run from right to left and rows downwards, so in a C without padding each row's overrun is overwritten by the row
below: only the last row needs padding.

The order of the tiles depends on the processor: `gemm_direct` with many registers, `gemm_packed` with few. Both give
the same bits. (Zen 3, AVX, one core, in training, the fastest of seven epochs: products of the wide layers of
54-256-256-256-7 at 85 to 90 GFLOP/s, of 784-512-512-10 at 79 to 83, of 784-100-10 at 72 and 80. `gemm_direct` with the
same narrow tiles: 73 to 79, 57 to 68, 62 and 70.)
"""

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from ..compile.jit import KERNEL_OPTIONS, kernel, leaf
from ..compile.packing import IN, INT, OUT, ROWS, as_read
from ..tuning import CHUNK_BYTES, LONGEST_DOWN, LONGEST_PACKED, PACKED_BYTES, PACKED_ROWS
from .llvm import address_of, prefetch_for_write, word_at
from .target import (
    HALF,
    KINDS,
    LINE_BYTES,
    VECTOR_BYTES,
    few_registers,
    half_vector_tails,
    tile_rows,
)
from .tile import panel_buffer, tile
from .vector import load_vector, store_vector

HEIGHTS = np.array(tile_rows(), dtype=np.int64)
MAX_VECTORS = len(HEIGHTS)
FEW_REGISTERS = few_registers()
HALF_TAILS = np.array(
    [HALF * (n_vectors in half_vector_tails()) for n_vectors in range(1, MAX_VECTORS + 1)], dtype=np.int64
)
NOWHERE = np.empty(0, dtype=np.int64)
NO_C0 = -1


# Kernels that `gemm_direct` and `gemm_packed` call as plain Python too.
kernel_or_python = register_jitable(**KERNEL_OPTIONS)


# --------------------------------------------------------------------------------------------------------- one panel


class Panel(NamedTuple):
    """Columns of C, at most as many vectors as the widest tile has."""

    left: int  # its first vector
    n_vectors: int
    kind: int  # of its full tiles
    is_first: bool  # whether it is the rightmost one
    to_next: int  # bytes from its B to that of the next panel, which lies to the left: negative; 0 in the last panel


@kernel_or_python
def panel_at(right, n_left, n, lanes):
    """The panel that ends before vector ``right``, the first of ``n_left`` panels."""
    n_vectors = (right + n_left - 1) // n_left
    left, overrun = right - n_vectors, right * lanes - n
    kind = KINDS * (n_vectors - 1) + (HALF_TAILS[n_vectors - 1] if overrun >= lanes // 2 else 0)
    to_next = -left // (n_left - 1) * VECTOR_BYTES if n_left > 1 else 0
    return Panel(left, n_vectors, kind, overrun >= 0, to_next)


class RowHints(NamedTuple):
    """Rows that tiles prefetch, see `multiply_panel`; distances in bytes."""

    line: int  # an address
    line_row: int
    offsets: int  # address of int64, or 0
    n_rows: int
    step: int


class OutputHints(NamedTuple):
    """The matrix that the caller writes next, with the arrays beside it, see `gemm_direct` and `multiply_panel`."""

    output: int
    lines: int
    extent: int
    size: int  # bytes of the matrix
    work: int  # ``done`` when all is prefetched; 0: nothing is


@kernel_or_python
def prefetch_rows_for_write(first, row, n_rows):
    """Prefetch n_rows rows for writing, of ``row`` bytes each, from address ``first`` on."""
    for r in range(n_rows):
        for byte in range(0, row, LINE_BYTES):
            prefetch_for_write(first + r * row + byte)


@kernel_or_python
def multiply_panel(
    c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, table, i_table, b, ib, b_k, m, n_k, panel, next_b, next_b_k,
    own, own_row, rows, matrix, next_row, done,
):  # fmt: skip
    """C = C0 + A B for m rows of one panel, tile by tile downwards. Matrices are given as in `gemm_direct`.

    Each tile prefetches one thing in its n_k steps. If A is read by a table of its columns, this is ``rows.line`` plus
    each of ``rows.offsets``, for row i ``i * rows.line_row`` further; without offsets, or in later panels, lines of
    ``matrix``. Otherwise it is the first of these that is left to do:

    1. a line of each row of the next panel of B: the rows lie ``next_b_k`` bytes apart, from ``next_b`` on in this one,
    2. row ``next_row`` of ``rows``,
    3. a piece of ``matrix`` and the arrays beside it: as large a part as its rows are of ``matrix.work`` rows.

    With ``own`` != 0 the m rows there, ``own_row`` bytes long, are prefetched for writing. Returns ``next_row`` and
    ``done`` for the next panel. Writes: c. Reads: c0, a, table, b.
    """
    n_vectors, kind, to_next, i = panel.n_vectors, panel.kind, panel.to_next, 0
    height, by_columns = HEIGHTS[n_vectors - 1], table.size > 0 and a_k == 0
    offsets = rows.offsets if panel.is_first else 0
    while i < m:
        while height > m - i:
            height = 4 if height > 4 else height // 2
            kind = KINDS * (n_vectors - 1) + 3 - height // 2
        if own != 0:
            prefetch_rows_for_write(own + i * own_row, own_row, height)
        hint, hint_step = address_of(b, ib), b_k * c.itemsize  # no hint: the elements that are being read
        if by_columns and offsets == 0 and done < matrix.work:
            hint, hint_step = matrix.output + done, matrix.lines
            done += matrix.extent
        elif by_columns:
            hint, hint_step = rows.line + i * rows.line_row, offsets
        elif to_next < 0:
            hint, hint_step = next_b + to_next, next_b_k
            to_next = min(to_next + LINE_BYTES, 0)
        elif next_row < rows.n_rows:
            hint, hint_step = rows.line + next_row * rows.line_row, rows.step
            if rows.offsets != 0:
                hint += word_at(rows.offsets, next_row)
            next_row += 1
        elif done < matrix.work:
            hint, hint_step = share_of_matrix(matrix, done, height, n_k)
            done += height
        tile(
            kind, c, ic + i * ldc, ldc, c0, ic0 + i * ldc0, ldc0,
            a, ia + i * a_row, a_row, a_k, table, i_table + (i if a_row == 0 else 0),
            b, ib, b_k, n_k, hint, hint_step,
        )  # fmt: skip
        i += height
    return next_row, done


# ---------------------------------------------------------------------------------------------------- many registers


def gemm_direct(
    c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, table, i_table, b, ib, b_k, m, n, n_k, line, line_row, offsets,
    output, shared, prefetch_lines, extent,
):  # fmt: skip
    """`product` of an A whose rows or columns may lie anywhere; its tiles prefetch meanwhile what is needed next.

    With many registers tiles are so wide that B and A are read where they lie, unpacked.

    Where ``a_row`` is 0, row i of A lies table[i_table + i] bytes behind a[ia]; where ``a_k`` is 0, column k lies
    table[i_table + k] bytes behind it. With an empty ``table`` both are strides.

    ``line``, ``line_row`` and ``offsets`` are prefetch hints; ``offsets`` is 0 or the address of n_k int64. If A is
    read down its columns (``a_row`` 1), the tiles of row i of C prefetch the lines at ``line + i * line_row`` plus each
    of these offsets: with ``line_row`` the itemsize, m elements of each row of the next batch. Else `gemm_packed`
    prefetches from ``line`` on, with rows ``line_row`` bytes apart, what lies offsets[0] bytes further.

    The rows of a panel of B are too far apart for the hardware prefetcher, so tiles prefetch the next panel. (64 x 784
    x 512, W in L3 of Zen 4, one core: 97 GFLOP/s, 80 without these prefetches.)

    ``output`` is the address of a matrix (m, n) without padding that the caller writes next. With ``shared``, other
    cores have read it: each tile gets the lines of its rows by `prefetch_for_write`. (On two cores of Zen 4 a step of
    784-100-10 with 200 rows took 396 us with gathered rows and plain stores, 384 without gathering, 350 with these.)

    With ``prefetch_lines`` != 0, tiles without other hints prefetch the matrix at ``output`` and the arrays of its
    shape beside it: the int64 at address ``prefetch_lines``, and ``extent``, come from `state.prefetch_lines_of`.

    Writes: c[ic + i*ldc + j], i < m, j < n rounded up to whole vectors.
    Reads: c0, a, table, b.
    """
    lanes, row = VECTOR_BYTES // c.itemsize, n * c.itemsize
    right, done = (n + lanes - 1) // lanes, 0
    rows = RowHints(line, line_row, offsets, 0, 0)
    work = m * row if prefetch_lines != 0 and table.size > 0 and a_k == 0 else 0
    matrix = OutputHints(output, prefetch_lines, extent, m * row, work)
    for n_left in range((right + MAX_VECTORS - 1) // MAX_VECTORS, 0, -1):
        panel = panel_at(right, n_left, n, lanes)
        right = panel.left
        j = right * lanes
        _, done = multiply_panel(
            c, ic + j, ldc, c0, ic0 + j, ldc0, a, ia, a_row, a_k, table, i_table, b, ib + j, b_k, m, n_k,
            panel, address_of(b, ib + j), b_k * c.itemsize,
            output if shared and panel.is_first else 0, row, rows, matrix, 0, done,
        )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- few registers


@kernel_or_python
def pack_rows(out, width, a, ia, lda, table, i_table, n, n_k):
    """Pack rows of n elements: out[k*width + j] <- a[ia + k*lda + j] for k < n_k, j < n.

    With ``lda = 0`` row k lies table[i_table + k] bytes behind a[ia]. Writes: out. Reads: a, table.
    """
    lanes = VECTOR_BYTES // out.itemsize
    whole = n - n % lanes
    for k in range(n_k):
        start = ia + k * lda
        if lda == 0:
            start += table[i_table + k] >> (2 + a.itemsize // 8)
        for j in range(0, whole, lanes):
            store_vector(out, k * width + j, load_vector(a, start + j))
        for j in range(whole, n):
            out[k * width + j] = a[start + j]


@kernel_or_python
def packing(down, by_columns, resumable, b_k, m, n_k, itemsize):
    """How `gemm_packed` divides a product: number of slices of k, rows of a chunk, whether A and whether B is packed.

    Panels of B are packed if its rows lie far apart, and chunks of A if it is read ``down`` its columns by a table,
    where a tile uses only 16 bytes of each line it touches. A C that is not ``resumable`` has no padding to whole
    vectors, so a row's overrun would destroy the partial sums of the row below: there is one slice.
    """
    n_slices = (n_k + LONGEST_DOWN - 1) // LONGEST_DOWN if down and resumable else 1
    packs_a = down and by_columns and n_k >= PACKED_ROWS and n_k <= n_slices * LONGEST_DOWN
    packs_b = not down and m >= PACKED_ROWS and n_k * b_k * itemsize >= PACKED_BYTES
    packs_b = packs_b and (resumable or n_k <= LONGEST_PACKED)
    if packs_b:
        n_slices = (n_k + LONGEST_PACKED - 1) // LONGEST_PACKED
    return max(n_slices, 1), CHUNK_BYTES // itemsize if packs_a else max(m, 1), packs_a, packs_b


@kernel_or_python
def rows_ahead(down, by_columns, chunk, packs_a, top, k0, k1, n_k, m, itemsize, line, line_row, offsets):
    """`RowHints` for the terms k0 .. k1 of the sums and the chunk of A from row ``top`` on; the last three as given.

    If A is read ``down`` its columns by a table, these are rows of the next batch; a tile of a packed chunk prefetches
    one of them. If A is read along its rows, they are the next slice of A, and during the last slice the rows at
    offsets[0] behind A.
    """
    if offsets == 0 or (down and not by_columns):
        return RowHints(0, 0, 0, 0, 0)
    if by_columns and not packs_a:
        return RowHints(line, line_row, offsets + 8 * k0, 0, 0)
    if packs_a:
        step = chunk * line_row // max(k1 - k0, 1) + 1
        return RowHints(line + top * line_row, 0, offsets + 8 * k0, k1 - k0, step)
    behind = k1 * itemsize if k1 < n_k else word_at(offsets, 0)
    return RowHints(line + behind, line_row, 0, m, itemsize)


@kernel_or_python
def share_of_matrix(matrix, done, height, n_k):
    """Address and step of the prefetches of a tile, ``height`` of ``matrix.work`` rows, ``done`` rows before it."""
    position = done * matrix.extent * matrix.size // matrix.work
    array = position // matrix.size
    hint = matrix.output + word_at(matrix.lines, array) + position - array * matrix.size
    return hint, height * matrix.extent * matrix.size // (matrix.work * n_k) + 1


def gemm_packed(
    c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, table, i_table, b, ib, b_k, m, n, n_k, line, line_row, offsets,
    output, shared, prefetch_lines, extent,
):  # fmt: skip
    """`gemm_direct` for few registers: narrow tiles read a panel of B many times, so panels fit L1.

    The sum is divided into slices of k; each later slice adds to C. Prefetches are spread evenly over the steps of all
    tiles. (All at once they cost as much as they saved: gradients of 784-512-512-10, Zen 3, at 61 instead of 80
    GFLOP/s. Prediction for 60000 rows of 784-100-10 takes 4 % less than with tiles of the first panel that prefetch
    rows twelve below.)
    """
    lanes, row, itemsize = VECTOR_BYTES // c.itemsize, n * c.itemsize, c.itemsize
    row_vectors = (n + lanes - 1) // lanes
    n_panels = (row_vectors + MAX_VECTORS - 1) // MAX_VECTORS
    down, by_columns, resumable = a_row == 1, table.size > 0 and a_k == 0, ldc >= row_vectors * lanes
    n_slices, chunk, packs_a, packs_b = packing(down, by_columns, resumable, b_k, m, n_k, itemsize)
    pack_buffer = panel_buffer(c)
    packed = as_read(pack_buffer)
    initial, tile_table, next_k = c0, table, a_k
    if packs_a:
        tile_table, next_k = table[:0], chunk
    # Tiles of four rows that prefetch the next rows of X, one each; the others prefetch the matrix at ``output``.
    tiles_ahead = n_k * ((m + chunk - 1) // chunk) if offsets != 0 and packs_a else 0
    work = n_slices * n_panels * m - 4 * tiles_ahead if prefetch_lines != 0 and (packs_a or not by_columns) else 0
    matrix, done = OutputHints(output, prefetch_lines, extent, m * row, work), 0
    for k_slice in range(n_slices):
        k0, k1 = k_slice * n_k // n_slices, (k_slice + 1) * n_k // n_slices
        if k_slice == 1:
            initial, ic0, ldc0 = as_read(c), ic, ldc
        for top in range(0, m, chunk):
            height = min(chunk, m - top)
            from_a, i_a = a, ia + top * a_row + k0 * a_k
            if packs_a:
                pack_rows(pack_buffer, chunk, a, i_a, 0, table, i_table + k0, height, k1 - k0)
                from_a, i_a = packed, 0
            rows = rows_ahead(down, by_columns, chunk, packs_a, top, k0, k1, n_k, m, itemsize, line, line_row, offsets)
            right, next_row = row_vectors, 0
            for n_left in range(n_panels, 0, -1):
                panel = panel_at(right, n_left, n, lanes)
                right, width = panel.left, panel.n_vectors * lanes
                j, i_b = right * lanes, ib + k0 * b_k + right * lanes
                from_b, i_from, k_from = b, i_b, b_k
                if packs_b:
                    pack_rows(pack_buffer, width, b, i_b, b_k, table, 0, width, k1 - k0)
                    from_b, i_from, k_from = packed, 0, width
                next_row, done = multiply_panel(
                    c, ic + top * ldc + j, ldc, initial, ic0 + top * ldc0 + j, ldc0,
                    from_a, i_a, a_row, next_k, tile_table, i_table + (0 if a_row == 0 else k0),
                    from_b, i_from, k_from, height, k1 - k0, panel, address_of(b, i_b), b_k * itemsize,
                    output + top * row if shared and panel.is_first and k_slice == 0 else 0, row,
                    rows, matrix, next_row, done,
                )  # fmt: skip


product_at = leaf(OUT, INT, INT, IN, INT, INT, IN, INT, INT, INT, ROWS, INT, IN, INT, *(INT,) * 11)(
    gemm_packed if FEW_REGISTERS else gemm_direct
)


@kernel
def product(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, b, ib, b_k, m, n, n_k):
    """Matrix product ``C (m, n) = C0 (m, n) + A (m, n_k) B (n_k, n)``.

    ``ldc0 = 0`` adds one row, such as a bias, to every row, ``NO_C0`` nothing. Strides as in `simd.tile.tile`.

    Writes: c[ic + i*ldc + j], i < m, j < n rounded up to whole vectors.
    Reads: c0, a, b.
    """
    product_at(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, NOWHERE, 0, b, ib, b_k, m, n, n_k, 0, 0, 0, 0, 0, 0, 0)
