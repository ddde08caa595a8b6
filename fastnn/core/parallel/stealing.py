"""Work stealing in the weights pass: a block takes the tiles of its own weight rows, then those of other blocks.

A virtual core slows down for milliseconds, or for a few steps, while its neighbour is busy; fractions that follow past
speeds, see ``partition``, do not foresee that. So each block has a queue of tiles of its weight rows, and a thread that
has emptied its own queue takes tiles from the others. Each split of split-K, the product of the next batch with a part
of the first layer's weights, has a queue of rows, which is open once the split is published. No bit of a result depends
on which thread takes what.

(Zen 3, two busy virtual cores, weights passes of 784-50-10, 784-100-10 and 784-512-512-10: the slower thread took 145,
527 and 2812 us where both took 134, 479 and 2573 on average.)
"""

from ..compile.jit import kernel
from ..nn.update import GROUP, tile_height
from ..tuning import CHUNKED_ROWS, FEWEST_ROWS, TILE_ROWS, TILES_PER_THREAD
from .barrier import LINE, load_acquire, store_release
from .partition import WEIGHTS_PASS, fetch_add, share

# ``stealing`` has a cache line for the queue of each block and then of each split: the number of items taken, and
# whether the queue is closed. A queue is closed once it is empty, that of a split also until the split is published.
# (Without the flag all threads that look for work at the end of a step would write to the counter.)
TAKEN, CLOSED = 0, 1


def stealing_size(n_blocks, n_splits):
    """Number of int64 in ``stealing`` (plain Python)."""
    return (n_blocks + n_splits) * LINE


@kernel
def reset_stealing(stealing, n_blocks):
    """Before the weights pass: fill the queues of the blocks, close those of the splits. Writes: stealing."""
    for queue in range(stealing.size // LINE):
        stealing[queue * LINE + TAKEN] = 0
        stealing[queue * LINE + CLOSED] = queue >= n_blocks


@kernel
def weight_bounds(buffers, block, n_blocks, n):
    """First of a layer's n weight rows that a block has in the weights pass, and the end. Reads: fractions."""
    return share(buffers, WEIGHTS_PASS, block, n_blocks, n, GROUP)


@kernel
def tiles_of(layout, buffers, layer, owner, n_blocks):
    """A block's weight rows of a layer, first and end, and the rows of its tiles.

    A block alone has one tile for each layer. Reads: fractions.
    """
    lo, hi = weight_bounds(buffers, owner, n_blocks, layout.units[layer])
    if n_blocks == 1:
        return lo, hi, max(hi - lo, 1)
    few = (hi - lo + TILES_PER_THREAD * TILE_ROWS - 1) // (TILES_PER_THREAD * TILE_ROWS) * TILE_ROWS
    return lo, hi, max(min(few, tile_height(layout.units[layer + 1], buffers.params.itemsize)), TILE_ROWS)


@kernel
def may_have_work(stealing, queue):
    """Whether ``queue``, a block or ``n_blocks`` + a split, may have work. Reads: stealing."""
    return load_acquire(stealing, queue * LINE + CLOSED) == 0


@kernel
def next_tile(layout, plan, buffers, first_layer, owner, n_blocks, done):
    """Take the next tile from the queue of block ``owner``: its layer, first row and number of rows; 0 rows at the end.

    ``done`` is the number of tiles that the caller has taken from this queue. Writes: stealing. Reads: fractions.
    """
    index = next_item(buffers.stealing, owner, n_blocks, done)
    return tile_at(layout, plan, buffers, first_layer, owner, n_blocks, index)


@kernel
def next_item(stealing, owner, n_blocks, done):
    """Take the next item from the queue of block ``owner``: its index, -1 if the queue is closed. Writes: stealing."""
    if not may_have_work(stealing, owner):
        return -1
    return fetch_add(stealing, owner * LINE + TAKEN) if n_blocks > 1 else done


@kernel
def tile_at(layout, plan, buffers, first_layer, owner, n_blocks, tile_index):
    """The tile of this index in the queue of block ``owner``, as `next_tile`; behind the last one the queue is closed.

    Writes: stealing. Reads: fractions.
    """
    if tile_index < 0:
        return 0, 0, 0
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
def publish(stealing, n_blocks, split):
    """Open the queue of a split, whose weights are updated: any thread may multiply by them. Writes: stealing."""
    store_release(stealing, (n_blocks + split) * LINE + CLOSED, 0)


@kernel
def next_rows_of_split(stealing, n_blocks, split, n):
    """Take the next of n rows from the queue of a split: the first and their number; 0 rows at the end.

    Each call takes half of what is left, or all if it is little; nothing if the queue is closed. Writes: stealing.
    """
    if not may_have_work(stealing, n_blocks + split):
        return n, 0
    turn = fetch_add(stealing, (n_blocks + split) * LINE + TAKEN)
    start = 0
    while start < n:
        left = n - start
        few = n_blocks == 1 or n < CHUNKED_ROWS or left < 2 * FEWEST_ROWS
        rows = left if few else max(left // 24 * 12, FEWEST_ROWS)
        if turn == 0:
            return start, rows
        turn -= 1
        start += rows
    store_release(stealing, (n_blocks + split) * LINE + CLOSED, 1)
    return n, 0
