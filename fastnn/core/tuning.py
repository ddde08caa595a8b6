"""Every threshold that a measurement chose: its value, and the measurement with its machine.

No result depends on them but in the order of some sums: those that say so in `tests/golden`.
"""

# ------------------------------------------------------------------------------------------------- layers and blocks

# Most rows that go through the network at once; the same in training more than SMALL_WEIGHTS: activations stay in L2.
# (64-100-10, batches of 200, Zen 4: 45 us in blocks of 24 rows, 41 in blocks of 128, 40 all at once.)
BLOCK_ROWS, LARGE_BLOCK_ROWS = 256, 128
SMALL_WEIGHTS = 1 << 14
# Two to so many outputs let lanes run over rows in the last layer: 100-3 would use 3 of 8 lanes otherwise.
NARROW = 4
# Up to so many outputs lanes run over fan_in in the last layer's gradient, if the batch has MANY_ROWS. (Sums over 256
# rows of 256 x 7 weights: 11.5 us, 16.0 over outputs; 200 rows, 100 x 10: 3.9, 4.8; 10 rows, 30 x 10: .14, .13; Zen 4)
NARROW_GRADIENT, MANY_ROWS = 16, 64
# Weights of a layer from which on they are prefetched, with the optimizer's state, while the gradient's tiles compute:
# a core's L2 holds no more. (784-512-512-10, Zen 4: 2.5 % on one core, 4 % on two; nothing for 256 x 256.)
LARGE_LAYER = 1 << 17
# Vectors of columns of a panel of W' that is transposed on the fly: the widest tile where registers are few.
TRANSPOSED_VECTORS = 3
# Splits of the first layer's sums are whole groups of so many features: those of the sums of squares.
SPLIT_GRANULARITY = 8
# Bytes of rows between the one that is gathered and the one that is prefetched.
GATHER_AHEAD_BYTES = 4096

# ------------------------------------------------------------------------------------------------- tiles of weights

# Weight rows whose gradient is held in scratch before the optimizer's step, 2 x 12, 3 x 8, 4 x 6, ...
TILE_ROWS = 24
# ... or, of up to so many outputs, a multiple of that with about so many elements: 82 kB of float32. (Epochs of
# 784-30-10 with batches of 10, Zen 4, one core: 34.0 ms; 35.2 with a quarter of it, which is enough for wider layers.)
TILE_OUTPUTS, TILE_ELEMENTS = 128, 20480
# The same for more outputs where registers are few: deltas are read from L3 for each tile. (Zen 3, gradients of
# 784-512-512-10, the fastest of nine: 66 GFLOP/s, 59 with tiles of TILE_ROWS rows.)
FEW_REGISTERS_TILE_ELEMENTS = 49152
# Most elements of a tile of a sparse first layer's weight rows: half of L2. Few tiles, few turns of the cursors
# (1 << 14: 30 % more time).
SPARSE_TILE_ELEMENTS = 1 << 17
# Weights up to this size are found in the cores' own caches: those that another core has read are prefetched for
# writing (10000 x 16, 2 cores of Zen 4: gradient and update of a batch 84 us instead of 100). Larger ones are in none.
SHARED_BYTES = 1 << 21

# ------------------------------------------------------------------------------------------------------ work stealing

# About so many tiles of each layer has a block.
TILES_PER_THREAD = 4
# The next batch is multiplied in pieces if it has so many rows, of at least so many: weights are packed for each. (The
# 100 rows of 784-50-10 in two pieces: 2 % more work, and no less waiting.)
PIECES_ROWS, FEWEST_ROWS = 128, 48

# --------------------------------------------------------------------------------------------------------- prefetching

# Shorter rows of X are not prefetched one by one.
PREFETCH_BYTES = 256
