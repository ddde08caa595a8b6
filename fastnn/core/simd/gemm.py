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

import numpy as np
from numba.extending import register_jitable

from ..compile.jit import KERNEL_OPTIONS, kernel, leaf
from ..compile.packing import IN, INT, OUT, ROWS, as_read
from ..tuning import CHUNK_BYTES, LONGEST_DOWN, LONGEST_PACKED, PACKED_BYTES, PACKED_COLUMNS, PACKED_ROWS
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


@kernel_or_python
def panel_at(right, n_left, n, lanes):
    """The panel of C that ends before vector ``right``, the first of ``n_left`` that are left to do.

    Returns its first vector, its width in vectors, the height and kind of its full tiles, and the bytes from its B to
    that of the next panel, which lies to the left: a negative number, or 0 in the last panel.
    """
    n_vectors = (right + n_left - 1) // n_left
    left = right - n_vectors
    kind = KINDS * (n_vectors - 1) + (HALF_TAILS[n_vectors - 1] if right * lanes - n >= lanes // 2 else 0)
    to_next = -left // (n_left - 1) * VECTOR_BYTES if n_left > 1 else 0
    return left, n_vectors, HEIGHTS[n_vectors - 1], kind, to_next


@kernel_or_python
def prefetch_rows_for_write(first, row, n_rows):
    """Prefetch n_rows rows for writing, of ``row`` bytes each, from address ``first`` on."""
    for r in range(n_rows):
        for byte in range(0, row, LINE_BYTES):
            prefetch_for_write(first + r * row + byte)


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

    Writes: c[ic + i*ldc + j], i < m, j < n rounded up to whole vectors. Reads: c0, a, table, b.
    """
    lanes, row, by_columns = VECTOR_BYTES // c.itemsize, n * c.itemsize, table.size > 0 and a_k == 0
    right = (n + lanes - 1) // lanes
    next_line, lines_end = output, output + m * row
    for n_left in range((right + MAX_VECTORS - 1) // MAX_VECTORS, 0, -1):
        left, n_vectors, height, kind, to_next = panel_at(right, n_left, n, lanes)
        j, i, idle = left * lanes, 0, prefetch_lines != 0 and offsets == 0
        while i < m:
            while height > m - i:
                height = 4 if height > 4 else height // 2
                kind = KINDS * (n_vectors - 1) + 3 - height // 2
            if shared and right * lanes >= n:  # the first panel
                prefetch_rows_for_write(output + i * row, row, height)
            hint, hint_step = line + i * line_row, offsets
            if not by_columns:
                hint, hint_step = address_of(b, ib + j) + to_next, b_k * c.itemsize
                to_next = min(to_next + LINE_BYTES, 0)
            elif idle and next_line < lines_end:
                hint, hint_step = next_line, prefetch_lines
                next_line += extent
            tile(
                kind, c, ic + i * ldc + j, ldc, c0, ic0 + i * ldc0 + j, ldc0,
                a, ia + i * a_row, a_row, a_k, table, i_table + (i if a_row == 0 else 0),
                b, ib + j, b_k, n_k, hint, hint_step,
            )  # fmt: skip
            i += height
        right, offsets = left, 0


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
    packs_a = down and by_columns and m >= PACKED_COLUMNS and n_k >= PACKED_ROWS and n_k <= n_slices * LONGEST_DOWN
    packs_b = not down and m >= PACKED_ROWS and n_k * b_k * itemsize >= PACKED_BYTES
    packs_b = packs_b and (resumable or n_k <= LONGEST_PACKED)
    if packs_b:
        n_slices = (n_k + LONGEST_PACKED - 1) // LONGEST_PACKED
    return max(n_slices, 1), CHUNK_BYTES // itemsize if packs_a else max(m, 1), packs_a, packs_b


@kernel_or_python
def next_hint(
    i, height, is_first, to_next, next_row, done, work, m, size, top_line, row_step, k0, k1, n_k, down, by_columns,
    packs_a, next_b, next_b_k, own_b, own_b_k, hints,
):  # fmt: skip
    """Address and step of the prefetches of a tile of `gemm_packed`, then the next ``to_next``, ``next_row``, ``done``.

    Each tile prefetches the first of these that is left to do: the next panel of B, ``to_next`` bytes from ``next_b``;
    row ``next_row`` of the next batch if chunks of A are packed, from ``top_line`` on, else of the next slice of A if
    it is read along its rows, and during the last slice of the rows at offsets[0] behind A; the matrix at ``output``
    and the arrays beside it, of which ``done`` of ``work`` rows are done. ``hints`` are arguments of `gemm_packed`.
    """
    line, line_row, offsets, output, lines, extent = hints
    if by_columns and not packs_a:  # as `gemm_direct` does
        return line + i * line_row, offsets + 8 * k0 if offsets != 0 and is_first else 0, 0, 0, 0
    if to_next < 0:
        return next_b + to_next, next_b_k, min(to_next + LINE_BYTES, 0), next_row, done
    if offsets != 0 and packs_a and next_row < k1 - k0:
        return top_line + word_at(offsets, k0 + next_row), row_step, 0, next_row + 1, done
    if offsets != 0 and not down and next_row < m:
        behind = k1 * row_step if k1 < n_k else word_at(offsets, 0)
        return line + next_row * line_row + behind, row_step, 0, next_row + 1, done
    if done < work:
        position = done * extent * size // work
        array = position // size
        hint = output + word_at(lines, array) + position - array * size
        return hint, height * extent * size // (work * (k1 - k0)) + 1, 0, next_row, done + height
    return own_b, own_b_k, 0, next_row, done  # no hint: the elements that are being read


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
    lanes, row, by_columns, down = VECTOR_BYTES // c.itemsize, n * c.itemsize, table.size > 0 and a_k == 0, a_row == 1
    row_vectors = (n + lanes - 1) // lanes
    n_panels, resumable = (row_vectors + MAX_VECTORS - 1) // MAX_VECTORS, ldc >= row_vectors * lanes
    n_slices, chunk, packs_a, packs_b = packing(down, by_columns, resumable, b_k, m, n_k, c.itemsize)
    pack_buffer = panel_buffer(c)
    packed = as_read(pack_buffer)
    initial, tile_table, next_k, hints = c0, table, a_k, (line, line_row, offsets, output, prefetch_lines, extent)
    if packs_a:
        tile_table, next_k = table[:0], chunk
    # Tiles of four rows that prefetch the next rows of X, one each; the others prefetch the matrix at ``output``.
    tiles_ahead = n_k * ((m + chunk - 1) // chunk) if offsets != 0 and packs_a else 0
    done, work = 0, n_slices * n_panels * m - 4 * tiles_ahead if prefetch_lines != 0 else 0
    for k_slice in range(n_slices):
        k0, k1 = k_slice * n_k // n_slices, (k_slice + 1) * n_k // n_slices
        row_step = chunk * line_row // max(k1 - k0, 1) + 1 if packs_a else c.itemsize
        if k_slice == 1:
            initial, ic0, ldc0 = as_read(c), ic, ldc
        for top in range(0, m, chunk):
            from_a, i_a, bottom = a, ia + top * a_row + k0 * a_k, min(top + chunk, m)
            if packs_a:
                pack_rows(pack_buffer, chunk, a, i_a, 0, table, i_table + k0, bottom - top, k1 - k0)
                from_a, i_a = packed, 0
            right, next_row = row_vectors, 0
            for n_left in range(n_panels, 0, -1):
                left, n_vectors, height, kind, to_next = panel_at(right, n_left, n, lanes)
                j, width, i_b, k_from = left * lanes, n_vectors * lanes, ib + k0 * b_k + left * lanes, b_k
                from_b, i_from, next_b = b, i_b, address_of(b, i_b)
                if packs_b:
                    pack_rows(pack_buffer, width, b, i_b, b_k, table, 0, width, k1 - k0)
                    from_b, i_from, k_from = packed, 0, width
                i, is_first = top, right == row_vectors
                while i < bottom:
                    while height > bottom - i:
                        height = 4 if height > 4 else height // 2
                        kind = KINDS * (n_vectors - 1) + 3 - height // 2
                    if shared and is_first and k_slice == 0:
                        prefetch_rows_for_write(output + i * row, row, height)
                    hint, hint_step, to_next, next_row, done = next_hint(
                        i, height, is_first, to_next, next_row, done, work, m, m * row, line + top * line_row, row_step,
                        k0, k1, n_k, down, by_columns, packs_a, next_b, b_k * c.itemsize,
                        address_of(from_b, i_from), k_from * c.itemsize, hints,
                    )  # fmt: skip
                    tile(
                        kind, c, ic + i * ldc + j, ldc, initial, ic0 + i * ldc0 + j, ldc0,
                        from_a, i_a + (i - top) * a_row, a_row, next_k, tile_table, i_table + (i if a_row == 0 else k0),
                        from_b, i_from, k_from, k1 - k0, hint, hint_step,
                    )  # fmt: skip
                    i += height
                right = left


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
