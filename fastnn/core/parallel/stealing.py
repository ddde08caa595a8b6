"""Who does which piece of the second half of a training step: its own block, then whoever has time.

A virtual core slows down for milliseconds, or for a few steps, while its neighbour is busy; shares cut by how fast
blocks were lately, see `balance`, do not foresee that. So a block claims its share of the weight rows strip by strip,
and those who are done with theirs claim what is left of others'. The same goes, by rows, for the product of the next
batch with a part of the first layer's weights, once that part is on offer. Who does a piece changes no bit of it.

(Zen 3, two busy virtual cores, second halves of steps of 784-50-10, 784-100-10 and 784-512-512-10: the slower thread
took 145, 527 and 2812 us where both took 134, 479 and 2573 on average.)
"""

from ..compile.jit import kernel
from ..nn.update import GROUP, TILE_ROWS, tile_height
from .barrier import LINE, load_acquire, store_release
from .partition import WEIGHTS_PASS, fetch_add, share

# Of ``stealing``, a cache line for each block and then for each part: how many pieces were claimed, and whether nobody
# need ask for one: of a block once all are gone, of a part also until it is on offer. (Many threads that look for work
# at the end of a step would all write there otherwise.)
TAKEN, CLOSED = 0, 1
TILES_PER_THREAD = 4  # about so many strips of each layer has a block
# The next batch is multiplied in pieces if it has so many rows, of at least so many: weights are packed for each. (The
# 100 rows of 784-50-10 in two pieces: 2 % more work, and no less waiting.)
MANY_ROWS, FEWEST_ROWS = 128, 48


def stealing_size(n_blocks, n_parts):
    """int64 that claims take (plain Python)."""
    return (n_blocks + n_parts) * LINE


@kernel
def reset_stealing(stealing, n_blocks):
    """Before the second half: no strip is claimed, no part on offer. Writes: claims."""
    for piece in range(stealing.size // LINE):
        stealing[piece * LINE + TAKEN] = 0
        stealing[piece * LINE + CLOSED] = piece >= n_blocks


@kernel
def weight_bounds(buffers, block, n_blocks, n):
    """First of a layer's n weight rows that belong to a block in the second half, and the end. Reads: ends."""
    return share(buffers, WEIGHTS_PASS, block, n_blocks, n, GROUP)


@kernel
def tiles_of(layout, buffers, layer, owner, n_blocks):
    """A block's share of a layer's weight rows, first and end, and the rows of its strips.

    A block alone takes its share at once. Reads: ends.
    """
    lo, hi = weight_bounds(buffers, owner, n_blocks, layout.units[layer])
    if n_blocks == 1:
        return lo, hi, max(hi - lo, 1)
    few = (hi - lo + TILES_PER_THREAD * TILE_ROWS - 1) // (TILES_PER_THREAD * TILE_ROWS) * TILE_ROWS
    return lo, hi, max(min(few, tile_height(layout.units[layer + 1], buffers.params.itemsize)), TILE_ROWS)


@kernel
def may_have_work(stealing, piece):
    """Whether there may be something left of a block's strips, or of part ``piece - n_blocks``, that is on offer."""
    return load_acquire(stealing, piece * LINE + CLOSED) == 0


@kernel
def next_tile(layout, plan, buffers, first_layer, owner, n_blocks, done):
    """Layer, first row and number of rows of the next strip of a block's share that nobody has; no rows at the end.

    ``done`` is how many strips of this share the caller has had so far. Writes: claims. Reads: ends.
    """
    if not may_have_work(buffers.stealing, owner):
        return 0, 0, 0
    tile_index = fetch_add(buffers.stealing, owner * LINE + TAKEN) if n_blocks > 1 else done
    for layer in range(first_layer, plan.n_layers):
        lo, hi, height = tiles_of(layout, buffers, layer, owner, n_blocks)
        n_tiles = (hi - lo + height - 1) // height
        if tile_index < n_tiles:
            i0 = lo + tile_index * height
            return layer, i0, min(height, hi - i0)
        tile_index -= n_tiles
    store_release(buffers.stealing, owner * LINE + CLOSED, 1)
    return 0, 0, 0


@kernel
def publish(stealing, n_blocks, part):
    """The weights of a part have made their step: whoever has time may multiply by them. Writes: claims."""
    store_release(stealing, (n_blocks + part) * LINE + CLOSED, 0)


@kernel
def next_rows_of_split(stealing, n_blocks, part, n):
    """First and number of the next of n rows that nobody has multiplied with a part's weights; 0 rows at the end.

    Each time half of what is left is taken, of little all; nothing of a part that is not on offer. Writes: claims.
    """
    if not may_have_work(stealing, n_blocks + part):
        return n, 0
    turn = fetch_add(stealing, (n_blocks + part) * LINE + TAKEN)
    start = 0
    while start < n:
        left = n - start
        few = n_blocks == 1 or n < MANY_ROWS or left < 2 * FEWEST_ROWS
        rows = left if few else max(left // 24 * 12, FEWEST_ROWS)
        if turn == 0:
            return start, rows
        turn -= 1
        start += rows
    store_release(stealing, (n_blocks + part) * LINE + CLOSED, 1)
    return n, 0
