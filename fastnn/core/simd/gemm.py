"""Matrix products of any size over the register tiles.

``product`` serves all three products of a layer by its strides alone:

    forward   Z (rows, out)  = b + A W      a = activations, b = W
    gradient  G (in, out)    = A' D         a = activations read down their columns, b = deltas
    backward  D (rows, in)   = D W'         a = deltas, b = W', a second copy or turned when it is needed

The last two have no C0: with ``ldc0 = NO_C0`` a tile starts at zero. (The gradient of 784 x 30 weights over 10 rows,
Zen 4: 5.5 us; 6.1 when the tiles load zeros.)

Matrices are slices of flat arrays: an offset and the distances between rows and between columns. Columns are covered by
panels of whole units (32 bytes), but for a half one at the end of some; the last unit of a row may reach beyond the
matrix. What it reads there is never used, what it writes there is garbage that the caller makes room for. Panels run
from right to left and rows downwards, so in a C without padding each row's overrun is overwritten by the row below it:
only the room after the last row must be spare.

How a product goes about its tiles depends on the processor: `gemm_direct` with many registers, `gemm_packed` with few.
Neither changes a bit. (Zen 3, AVX, one core, in training, the fastest of seven epochs: products of the wide layers of
54-256-256-256-7 at 85 to 90 GFLOP/s, of 784-512-512-10 at 79 to 83, of 784-100-10 at 72 and 80. The wide walk with the
narrow tiles: 73 to 79, 57 to 68, 62 and 70.)
"""

import numpy as np
from numba.extending import register_jitable

from ..compile.jit import KERNEL_OPTIONS, kernel, leaf
from ..compile.packing import IN, INT, OUT, ROWS, as_read
from .target import (
    CHUNK_BYTES,
    HALF,
    KINDS,
    LINE_BYTES,
    LONGEST_DOWN,
    LONGEST_PACKED,
    VECTOR_BYTES,
    few_registers,
    half_vector_tails,
    tile_rows,
)
from .tile import address_of, panel_room, prefetch_for_write, tile, word_at
from .vector import load_vector, store_vector

HEIGHTS = np.array(tile_rows(), dtype=np.int64)
MAX_VECTORS = len(HEIGHTS)
FEW_REGISTERS = few_registers()
# Rows of A from which on it pays to pack B, if B is larger than a first cache (128 x 784 x 100, Zen 3: 80 GFLOP/s, 63
# unpacked; rows 2 KB apart fall into two sets of that cache: 128 x 784 x 512 at 79 and 47). For fewer rows of A read
# down their columns chunks are not worth packing (sums over 10 rows of 784 x 30: 8.7 us unpacked, 10.5 packed).
PACKED_ROWS, PACKED_BYTES = 32, 1 << 15
HALF_TAILS = np.array(
    [HALF * (n_vectors in half_vector_tails()) for n_vectors in range(1, MAX_VECTORS + 1)], dtype=np.int64
)
NOWHERE = np.empty(0, dtype=np.int64)
NO_C0 = -1


@register_jitable(**KERNEL_OPTIONS)  # `product_at` calls it as plain Python too
def pack_rows(out, width, a, ia, lda, at, i_at, n, n_k):
    """Rows of n elements one behind the other: out[k*width + j] <- a[ia + k*lda + j] for k < n_k, j < n.

    With a lda of 0 row k lies at[i_at + k] bytes behind a[ia]. Writes: out. Reads: a, at.
    """
    vector_lanes = VECTOR_BYTES // out.itemsize
    whole = n - n % vector_lanes
    for k in range(n_k):
        start = ia + k * lda
        if lda == 0:
            start += at[i_at + k] >> (2 + a.itemsize // 8)
        for j in range(0, whole, vector_lanes):
            store_vector(out, k * width + j, load_vector(a, start + j))
        for j in range(whole, n):
            out[k * width + j] = a[start + j]


def gemm_direct(
    c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, at, i_at, b, ib, b_k, m, n, n_k, line, line_row, offsets,
    own, shared, prefetch_lines, reach,
):  # fmt: skip
    """`product` of an A whose rows or columns lie anywhere, that can prefetch meanwhile what is needed next.

    Where ``a_row`` is 0, row i of A lies at[i_at + i] bytes behind a[ia]; where ``a_k`` is 0, column k lies
    at[i_at + k] bytes behind it. With an empty ``at`` both are strides.

    While tiles compute they ask for lines. Where ``offsets`` is not 0 it is the address of n_k int64. Where A is read
    down its columns (``a_row`` 1) tiles that compute row i of C ask for n_k lines at ``line + i * line_row`` plus each
    of those: with ``line_row`` the itemsize, m elements of each of the next batch's rows. Else for what lies offsets[0]
    from ``line`` on behind each row of A, ``line_row`` bytes.

    Rows of a panel of B are too far apart for a processor to foresee the next one, so tiles ask for that. (64 x 784 x
    512, W in the third cache of Zen 4, one core: 97 GFLOP/s, 80 when nobody asks.)

    ``own`` is the address of a matrix (m, n) without padding that will be written next. With ``shared`` other cores
    have read it: the tiles claim its lines, each those of its rows. (On two cores of Zen 4 a step of 784-100-10 with
    200 rows took 396 us with rows gathered and nothing claimed, 384 without gathering, 350 so.)

    With ``prefetch_lines`` != 0 tiles with nothing else to prefetch do so with the matrix at ``own`` and those that lie
    beside it: what is at address ``prefetch_lines``, and ``reach``, come from `state.prefetch_lines_of`.

    Writes: c[ic + i*ldc + j], i < m, j < n rounded up to whole units.
    Reads: c0, a, at, b.

    With many registers tiles are so wide that B and the rows or columns of A are read where they lie.
    """
    vector_lanes = VECTOR_BYTES // c.itemsize
    n_units = (n + vector_lanes - 1) // vector_lanes
    n_panels = (n_units + MAX_VECTORS - 1) // MAX_VECTORS
    right = n_units
    here, end = own, own + m * n * c.itemsize
    columns = at.size > 0 and a_k == 0
    for panel in range(n_panels, 0, -1):
        n_vectors = (right + panel - 1) // panel
        left = right - n_vectors
        j = left * vector_lanes
        height = HEIGHTS[n_vectors - 1]
        kind = KINDS * (n_vectors - 1) + (
            HALF_TAILS[n_vectors - 1] if right * vector_lanes - n >= vector_lanes // 2 else 0
        )
        i, idle = 0, prefetch_lines != 0 and offsets == 0
        # Lines of the panel to the left, the next one: as bytes from this panel's.
        near = -left // (panel - 1) * VECTOR_BYTES if panel > 1 else 0
        while i < m:
            while height > m - i:
                height = 4 if height > 4 else height // 2
                kind = KINDS * (n_vectors - 1) + 3 - height // 2
            if shared and right == n_units:
                for r in range(i, i + height):
                    for first in range(0, n, LINE_BYTES // c.itemsize):
                        prefetch_for_write(own + (r * n + first) * c.itemsize)
            ask, there = line + i * line_row, offsets
            if not columns:
                ask, there = address_of(b, ib + j) + near, b_k * c.itemsize
                near = min(near + LINE_BYTES, 0)
            elif idle and here < end:
                ask, there = here, prefetch_lines
                here += reach
            tile(
                kind, c, ic + i * ldc + j, ldc, c0, ic0 + i * ldc0 + j, ldc0,
                a, ia + i * a_row, a_row, a_k, at, i_at + (i if a_row == 0 else 0),
                b, ib + j, b_k, n_k, ask, there,
            )  # fmt: skip
            i += height
        right = left
        offsets = 0


def gemm_packed(
    c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, at, i_at, b, ib, b_k, m, n, n_k, line, line_row, offsets,
    own, shared, prefetch_lines, reach,
):  # fmt: skip
    """`gemm_direct` with few registers: narrow tiles read a panel of B many times, so it is made to fit L1.

    The sum is cut into pieces, in which C is resumed. Panels of B are packed where its rows lie far apart, and chunks
    of A where it is read down columns by table: a tile reads 16 bytes of each of the lines that it touches.

    Tiles ask for a line once in so many steps of k that what is asked for comes evenly while all of them compute: the
    next panel of B first; then a row each, down columns of the next batch, else of the next piece of A, and with the
    last piece of the first one behind A, at offsets[0]; then what is at ``own``. (Asked for at once it cost as much as
    it saved: 784-512-512-10, Zen 3, gradients at 61 and at 80 GFLOP/s. Prediction for 60000 rows of 784-100-10 takes
    4 % less than where the first panel's tiles ask for rows twelve below.)
    """
    vector_lanes = VECTOR_BYTES // c.itemsize
    n_units = (n + vector_lanes - 1) // vector_lanes
    n_panels = (n_units + MAX_VECTORS - 1) // MAX_VECTORS
    down, columns = a_row == 1, at.size > 0 and a_k == 0
    # Without room for whole units behind C's rows a row's overrun would spoil what the row below has summed up so far.
    resumable = ldc >= n_units * vector_lanes
    n_pieces = (n_k + LONGEST_DOWN - 1) // LONGEST_DOWN if down and resumable else 1
    packs_a = down and columns and n_k >= PACKED_ROWS and n_k <= n_pieces * LONGEST_DOWN
    packs_b = not down and m >= PACKED_ROWS and n_k * b_k * c.itemsize >= PACKED_BYTES
    packs_b = packs_b and (resumable or n_k <= LONGEST_PACKED)
    if packs_b:
        n_pieces = (n_k + LONGEST_PACKED - 1) // LONGEST_PACKED
    n_pieces = max(n_pieces, 1)
    chunk, next_k = max(m, 1), a_k
    if packs_a:
        chunk = next_k = CHUNK_BYTES // c.itemsize
    room = panel_room(c)
    packed = as_read(room)
    before = c0
    row_offsets = at
    if packs_a:
        row_offsets = at[:0]
    size = m * n * c.itemsize
    # Tiles of four rows that ask for the next rows of X, one each, and those that are left to ask for what is at `own`.
    tiles_ahead = n_k * ((m + chunk - 1) // chunk) if offsets != 0 and packs_a else 0
    done, work = 0, n_pieces * n_panels * m - 4 * tiles_ahead
    for piece in range(n_pieces):
        k0 = piece * n_k // n_pieces
        length = (piece + 1) * n_k // n_pieces - k0
        apart_ahead = chunk * line_row // max(length, 1) + 1
        if piece == 1:
            before = as_read(c)
            ic0 = ic
            ldc0 = ldc
        for top in range(0, m, chunk):
            rows = min(chunk, m - top)
            from_a = a
            i_a = ia + top * a_row + k0 * a_k
            if packs_a:
                pack_rows(room, chunk, a, i_a, 0, at, i_at + k0, rows, length)
                from_a = packed
                i_a = 0
            right = n_units
            row = 0
            for panel in range(n_panels, 0, -1):
                n_vectors = (right + panel - 1) // panel
                left = right - n_vectors
                j = left * vector_lanes
                width = n_vectors * vector_lanes
                i_b = ib + k0 * b_k + j
                from_b = b
                i_from = i_b
                k_from = b_k
                if packs_b:
                    pack_rows(room, width, b, i_b, b_k, at, 0, width, length)
                    from_b = packed
                    i_from = 0
                    k_from = width
                height = HEIGHTS[n_vectors - 1]
                kind = KINDS * (n_vectors - 1) + (
                    HALF_TAILS[n_vectors - 1] if right * vector_lanes - n >= vector_lanes // 2 else 0
                )
                # Lines of the panel to the left, the next one: as bytes from this panel's.
                near = -left // (panel - 1) * VECTOR_BYTES if panel > 1 else 0
                i = 0
                while i < rows:
                    while height > rows - i:
                        height = 4 if height > 4 else height // 2
                        kind = KINDS * (n_vectors - 1) + 3 - height // 2
                    if shared and right == n_units and piece == 0:
                        for r in range(top + i, top + i + height):
                            for first in range(0, n, LINE_BYTES // c.itemsize):
                                prefetch_for_write(own + (r * n + first) * c.itemsize)
                    ask = address_of(from_b, i_from)  # nothing: what is being read
                    apart = k_from * c.itemsize
                    if columns and not packs_a:  # as `gemm_direct` does
                        ask = line + i * line_row
                        apart = offsets + 8 * k0 if offsets != 0 and right == n_units else 0
                    elif near < 0:
                        ask = address_of(b, i_b) + near
                        apart = b_k * c.itemsize
                        near = min(near + LINE_BYTES, 0)
                    elif row < length and tiles_ahead > 0:
                        ask = line + top * line_row + word_at(offsets, k0 + row)
                        apart = apart_ahead
                        row += 1
                    elif offsets != 0 and not down and row < m:
                        behind = word_at(offsets, 0) if piece == n_pieces - 1 else (k0 + length) * c.itemsize
                        ask = line + row * line_row + behind
                        apart = c.itemsize
                        row += 1
                    elif prefetch_lines != 0 and done < work:
                        place = done * reach * size // work
                        array = place // size
                        ask = own + word_at(prefetch_lines, array) + place - array * size
                        apart = height * reach * size // (work * length) + 1
                        done += height
                    tile(
                        kind, c, ic + (top + i) * ldc + j, ldc,
                        before, ic0 + (top + i) * ldc0 + j, ldc0,
                        from_a, i_a + i * a_row, a_row, next_k, row_offsets, i_at + (i if a_row == 0 else k0),
                        from_b, i_from, k_from, length, ask, apart,
                    )  # fmt: skip
                    i += height
                right = left


product_at = leaf(OUT, INT, INT, IN, INT, INT, IN, INT, INT, INT, ROWS, INT, IN, INT, *(INT,) * 11)(
    gemm_packed if FEW_REGISTERS else gemm_direct
)


@kernel
def product(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, b, ib, b_k, m, n, n_k):
    """Matrix product ``C (m, n) = C0 (m, n) + A (m, n_k) B (n_k, n)``.

    ``ldc0 = 0`` adds one row, such as a bias, to every row, ``NO_C0`` nothing. Strides as in ``microkernel.tile``.

    Writes: c[ic + i*ldc + j], i < m, j < n rounded up to whole units.
    Reads: c0, a, b.
    """
    product_at(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, NOWHERE, 0, b, ib, b_k, m, n, n_k, 0, 0, 0, 0, 0, 0, 0)
