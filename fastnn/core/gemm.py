"""Matrix products of any size over the register tiles.

``product`` serves all three products of a layer by its strides alone:

    forward   Z (rows, out)  = b + A W      a = activations, b = W
    gradient  G (in, out)    = A' D         a = activations read down their columns, b = deltas
    backward  D (rows, in)   = D W'         a = deltas, b = W', which a layer keeps as a second copy

The last two have no C0: with ``ldc0 = NO_C0`` a tile starts at zero. (The gradient of 784 x 30 weights over 10 rows,
Zen 4: 5.5 us; 6.1 when the tiles load zeros.)

Matrices are slices of flat arrays: an offset and the distances between rows and between columns. Columns are covered by
panels of whole units (32 bytes), but for a half one at the end of some; the last unit of a row may reach beyond the
matrix. What it reads there is never used, what it writes there is garbage that the caller makes room for. Panels run
from right to left and rows downwards, so in a C without padding each row's overrun is overwritten by the row below it:
only the room after the last row must be spare.
"""

import numpy as np

from .arguments import IN, INT, OUT, ROWS
from .jit import kernel, leaf
from .microkernel import HALF, KINDS, LINE_BYTES, UNIT_BYTES, claim, halved_units, tile, tile_rows

HEIGHTS = np.array(tile_rows(), dtype=np.int64)
MAX_UNITS = len(HEIGHTS)
HALVED = np.array([HALF * (units in halved_units()) for units in range(1, MAX_UNITS + 1)], dtype=np.int64)
NOWHERE = np.empty(0, dtype=np.int64)
NO_C0 = -1


@leaf(OUT, INT, INT, IN, INT, INT, IN, INT, INT, INT, ROWS, INT, IN, INT, *(INT,) * 11)
def product_at(
    c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, at, i_at, b, ib, b_k, m, n, n_k, line, line_row, offsets,
    own, shared, lines, reach,
):  # fmt: skip
    """`product` of an A whose rows or columns lie anywhere, that can prefetch meanwhile what is needed next.

    Where ``a_row`` is 0, row i of A lies at[i_at + i] bytes behind a[ia]; where ``a_k`` is 0, column k lies
    at[i_at + k] bytes behind it. With an empty ``at`` both are strides.

    With columns by table, tiles from row i of C on ask for the lines at address ``line + i * line_row`` plus each of
    the n_k int64 at address ``offsets``: with ``line_row`` the itemsize m consecutive elements of n_k rows in all, with
    the distance between A's rows what lies so far behind each of them. Nothing is asked for when ``offsets`` is 0.

    Without columns by table the tiles of a panel of B ask for the next one: B's rows are too far apart for a processor
    to foresee it. (64 x 784 x 512, W in the third cache of Zen 4, one core: 97 GFLOP/s, 80 when nobody asks.)

    ``own`` is the address of a matrix like C that will be written next. With ``shared`` other cores have read it: the
    tiles claim its lines, each those of its rows. (On two cores of Zen 4 a step of 784-100-10 with 200 rows took 396 us
    with rows gathered and nothing claimed, 384 without gathering, 350 so.)

    With ``lines`` != 0 tiles that have no ``offsets`` to ask for ask for the matrix at ``own`` and for what lies beside
    it, from its first line to its last: each for the n_k int64 at address ``lines`` behind a place that moves on by
    ``reach`` bytes from tile to tile.

    Writes: c[ic + i*ldc + j], i < m, j < n rounded up to whole units.
    Reads: c0, a, at, b.
    """
    unit = UNIT_BYTES // c.itemsize
    n_units = (n + unit - 1) // unit
    n_panels = (n_units + MAX_UNITS - 1) // MAX_UNITS
    right = n_units
    here, end = own, own + m * n * c.itemsize
    columns = at.size > 0 and a_k == 0
    for panel in range(n_panels, 0, -1):
        units = (right + panel - 1) // panel
        left = right - units
        j = left * unit
        height = HEIGHTS[units - 1]
        kind = KINDS * (units - 1) + (HALVED[units - 1] if right * unit - n >= unit // 2 else 0)
        i, idle = 0, lines != 0 and offsets == 0
        # Lines of the panel to the left, the next one: as bytes from this panel's.
        near = -left // (panel - 1) * UNIT_BYTES if panel > 1 else 0
        while i < m:
            while height > m - i:
                height = 4 if height > 4 else height // 2
                kind = KINDS * (units - 1) + 3 - height // 2
            if shared and right == n_units:
                for r in range(i, i + height):
                    for first in range(0, n, LINE_BYTES // c.itemsize):
                        claim(own + (r * ldc + first) * c.itemsize)
            ask, there = line + i * line_row, offsets
            if not columns:
                ask = near
                near = min(near + LINE_BYTES, 0)
            elif idle and here < end:
                ask, there = here, lines
                here += reach
            tile(
                kind, c, ic + i * ldc + j, ldc, c0, ic0 + i * ldc0 + j, ldc0,
                a, ia + i * a_row, a_row, a_k, at, i_at + (i if a_row == 0 else 0),
                b, ib + j, b_k, n_k, ask, there,
            )  # fmt: skip
            i += height
        right = left
        offsets = 0


@kernel
def product(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, b, ib, b_k, m, n, n_k):
    """Matrix product ``C (m, n) = C0 (m, n) + A (m, n_k) B (n_k, n)``.

    ``ldc0 = 0`` adds one row, such as a bias, to every row, ``NO_C0`` nothing. Strides as in ``microkernel.tile``.

    Writes: c[ic + i*ldc + j], i < m, j < n rounded up to whole units.
    Reads: c0, a, b.
    """
    product_at(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, NOWHERE, 0, b, ib, b_k, m, n, n_k, 0, 0, 0, 0, 0, 0, 0)
