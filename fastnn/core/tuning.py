"""Thresholds that a measurement chose: name, value, measurement and machine.

Results do not depend on them, except that some change the order of sums, which ``tests/golden.py`` would show. Others
are where tests replace them: in ``threads``, ``load_balance``, ``train`` and ``infer``. Sizes of register tiles are in
``simd.target``.
"""

# ------------------------------------------------------------------------------------------------- layers and blocks

# Rows that go through the network together, in prediction and, in training, with up to SMALL_WEIGHTS parameters;
# LARGE_BLOCK_ROWS with more, so that activations stay in L2. (64-100-10, batches of 200, Zen 4: 45 us with 24 rows, 41
# with 128, 40 with all at once.)
BLOCK_ROWS, LARGE_BLOCK_ROWS = 256, 128
SMALL_WEIGHTS = 1 << 14
# With two to NARROW outputs lanes run over rows in the last layer: 100-3 would use 3 of 8 lanes otherwise.
NARROW = 4
# With up to NARROW_GRADIENT outputs, and at least MANY_ROWS rows in the batch, lanes run over fan_in in the last
# layer's gradient. (Sums over 256 rows of 256 x 7 weights: 11.5 us, 16.0 with lanes over outputs; 200 rows, 100 x 10:
# 3.9, 4.8; 10 rows, 30 x 10: .14, .13; Zen 4.)
NARROW_GRADIENT, MANY_ROWS = 16, 64
# From this number of weights on, a layer's weights and optimizer state are prefetched while the gradient's tiles are
# computed: L2 does not hold more. (784-512-512-10, Zen 4: 2.5 % on one core, 4 % on two; nothing for 256 x 256.)
LARGE_LAYER = 1 << 17
# Where registers are few, and with at most TRANSPOSING_THREADS threads, layers of at least MANY_WEIGHTS weights keep no
# transposed copy. (784-512-512-10 with 128 rows, Zen 3: updating the second layer's copy took 183 us of a step of 6100.
# Whole fits on one and two threads take .95 and .96 of the time without, of 54-256-256-256-7 .86, .96 and 1.01; of the
# same code on Zen 4 .99 to 1.02. Not measured on more threads.)
MANY_WEIGHTS, TRANSPOSING_THREADS = 1 << 16, 3
# Width in vectors of a panel of W' that is transposed on the fly: that of the widest tile where registers are few.
TRANSPOSED_VECTORS = 3

# ------------------------------------------------------------------------------------------------- splits and shards

# A split of the first layer's sums has a multiple of this number of features: the groups of the sums of squares.
SPLIT_GRANULARITY = 8
# The first layer's sums are split (split-K) from this number of features, of weights, and of weights times rows of a
# batch on. Networks with fewer weights have gradient shards; with less work (four operations for each weight and row,
# 1.4e6) `threads_for` gives a step to one thread. (Epochs on two threads, with splits against without: Zen 3, medians
# of 25 to 40 pairs, 784-50-10 with batches of 100 in .88 of the time, 128-96-10 with 32 in .85 to .93, 101-77-53-3 with
# 100 in .96 to 1.02, 100-200-1 with 200 in .98; Zen 4, 784-100-10 with 32 in 21.4 and 23.3 ms, with 200 in 111 and 115.
# On one thread they take 0 to 2 % longer.)
SPLIT_FEATURES, SPLIT_WEIGHTS, SPLIT_WORK = 32, 1 << 13, 350_000
FOUR_SPLITS_WEIGHTS = 1 << 18  # from this number of weights on there are four splits: more threads, but more to add up
# A batch has gradient shards up to this number of parameters, and from this number of parameters times rows on; four
# shards from 2 SHARD_ROWS rows on. (Epochs with batches of 200 on two cores of Zen 4, with shards against without:
# 20-100-1 in 2.4 and 3.0 ms, 64-64-10 in .24 and .26, 64-100-10 in .34 and .37.)
SHARD_WEIGHTS, SHARD_WORK, SHARD_ROWS = SPLIT_WEIGHTS, 1 << 18, 200

# ------------------------------------------------------------------------------------------------- tiles of weights

# Weight rows of a tile of the weights pass, whose gradient is held in the workspace: 2 x 12, 3 x 8, 4 x 6, ...
TILE_ROWS = 24
# With up to TILE_OUTPUTS outputs it is a multiple of that, with about TILE_ELEMENTS elements: 82 kB of float32. (Epochs
# of 784-30-10 with batches of 10, Zen 4, one core: 34.0 ms; 35.2 with a quarter of it. Wider layers need no more.)
TILE_OUTPUTS, TILE_ELEMENTS = 128, 20480
# The same with more outputs where registers are few: deltas are read from L3 for each tile. (Zen 3, gradients of
# 784-512-512-10, the fastest of nine: 66 GFLOP/s, 59 with tiles of TILE_ROWS rows.)
FEW_REGISTERS_TILE_ELEMENTS = 49152
# Most elements of a tile of a sparse first layer: half of L2. With few tiles cursors stop seldom. (1 << 14: 30 % more
# time.)
SPARSE_TILE_ELEMENTS = 1 << 17
# Weights of up to this size stay in the cores' own caches, so those that another core has read are prefetched for
# writing. (10000 x 16, 2 cores of Zen 4: gradient and update of a batch 84 us, 100 without.)
SHARED_BYTES = 1 << 21

# ------------------------------------------------------------------------------------------------- dense products

# B is packed if A has at least PACKED_ROWS rows, and B at least PACKED_BYTES, more than fits L1. (128 x 784 x 100, Zen
# 3: 80 GFLOP/s, 63 unpacked; rows 2 KB apart fall into two sets of L1: 128 x 784 x 512 at 79 and 47.) Chunks of A are
# packed for sums of at least PACKED_ROWS terms. (Sums over 10 rows of 784 x 30: 8.7 us unpacked, 10.5 packed.) A needs
# PACKED_COLUMNS columns too: fewer stay in L1 anyway. (AVX2 code on Emerald Rapids, an epoch of 2000 rows, packed and
# not: 2-3-1 73 and 60 us, 8-16-1 86 and 78, 16-16-1 106 and 97, 32-3-1 102 and 103, 64-3-1 141 and 154.)
PACKED_ROWS, PACKED_COLUMNS, PACKED_BYTES = 32, 32, 1 << 15
LONGEST_PACKED = 256  # rows of a packed panel of B: 24 KB for three vectors, most of L1
# For an A that is read down its columns: rows of a slice of the sum, and bytes of each row in a packed chunk.
# (Gradients in training, Zen 3, medians: of 784-512-512-10 with 128 rows 62.5 GFLOP/s, 59.6 with 192 bytes; of
# 784-100-10 with 200 rows 71, 62 with neither; of 256 x 256 weights over 256 rows 93, 89 in slices of 128.)
LONGEST_DOWN, CHUNK_BYTES = 100, 384

# ------------------------------------------------------------------------------------------------- prefetches

# Shorter rows of X are not prefetched one by one.
PREFETCH_BYTES = 256
# From this number of rows on the next batch is prefetched into L2: L1 cannot hold it. (Time with L2 over time with L1,
# Zen 5: epochs of 784-100-10 with 200 rows .96 on one thread, .97 on two; of 128-96-10 with 32 rows 1.06 and 1.01.)
FAR_ROWS = 128
# Bytes from the row that is gathered to the one that is prefetched.
GATHER_AHEAD_BYTES = 4096
# Rows from the one that a prediction reads to the one that it prefetches. (784-100-10: 48.5 ms without, 45 with it.)
PREDICTION_AHEAD_ROWS = 12
# The same for the entries of sparse rows; 2 to 16 do the same. Without prefetches an entry of the forward product takes
# 1.8 to 2.9 ns instead of 1.5 (Zen 4, 25000 shuffled rows of 100 entries, 16 units). At most so many entries of a row:
# the hardware prefetcher loads the rest of a long row.
SPARSE_AHEAD_ROWS, SPARSE_AHEAD_ENTRIES = 4, 128

# ------------------------------------------------------------------------------------------------- threads

# Tiles of each layer in a block's queue, about.
TILES_PER_THREAD = 4
# Chunks of the first layer's weight rows in a block's queue where X is sparse.
CHUNKS_PER_THREAD = 4
# A next batch of at least CHUNKED_ROWS is multiplied in chunks of at least FEWEST_ROWS: each chunk packs the weights.
# (The 100 rows of 784-50-10 in two chunks: 2 % more work, and no less waiting.)
CHUNKED_ROWS, FEWEST_ROWS = 128, 48
PATIENCE = 400  # polls of a barrier's phase before a thread takes another's block: some 10 us
SPINS_BEFORE_YIELD = 1000  # polls after which a waiting thread yields its processor
ROW_COST = 6  # entries of a sparse batch whose gradient costs as much as the update of one weight row
UPDATE_FLOPS = 16  # cost of the update of a weight, in operations of the products

# ------------------------------------------------------------------------------------------------- around the training

# Activations and rows of X in a block of a prediction take at most so many bytes: half of L2.
PREDICTION_BLOCK_BYTES = 1 << 19
# From this number of rows times epochs on it pays to copy the generator's state, which takes 10 us.
MANY_DRAWS = 10_000
