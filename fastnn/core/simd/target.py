"""What the processor that code is compiled for has, and which register tiles and pieces of a product fit it.

Numba's view of the processor counts: ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` change what is here.

Tiles (rows for 1, 2, ... units) are chosen so that up to 24 accumulators are in flight with AVX-512 (32 registers), 12
with AVX (16 registers). Measured on Zen 4, float32, one core, 48 rows, sums of 200: 98 to 99 % of 116 GFLOP/s for 2, 4
and 6 to 8 units, 94 % for 5, 73 % for 1 and 3, the same by table; 87-91 GFLOP/s for OpenBLAS. With AVX on Zen 3 (100
GFLOP/s): 97 % for 2 and 3 units, 70 % for 1; OpenBLAS 86. A tile of four units, 3 rows, has a register too few: 40 %.
"""

import functools

import llvmlite.binding
from numba import config

from ..compile import private


def processor_of(triple):
    """Name of the processor's family, "x86_64" and "aarch64" among others, in LLVM's target triple.

    What Python says of the machine is spelt in a way of each system's own, and on some is not what the process runs as.
    """
    family = triple.split("-")[0].lower()
    if family.startswith("arm64"):  # Apple's spelling
        return "aarch64"
    return "x86_64" if family == "amd64" else family


PROCESSOR = processor_of(llvmlite.binding.get_process_triple())
VECTOR_BYTES = 32
LINE_BYTES = 64
ROWS_AVX512 = (8, 12, 8, 12, 8, 8, 6, 6)
ROWS_AVX = (8, 6, 4)
# Vectors of sums from which on registers are short: 6 rows of 4 units in two 64-byte vectors each are 12; with half the
# registers 8 rows of one unit (Zen 3: 70 GFLOP/s, 54 when LLVM may load a column ahead).
REGISTER_LIMIT_AVX512, REGISTER_LIMIT_AVX = 10, 8
# Units of which the last may be a half one; all eight numbers of them would take .7 s more to compile. (784-100-10 with
# 200 rows, Zen 4, one core: its forward product took 285 us with 13 units, 274 with 12.5; 784-50-10 153 and 142.)
HALF_TAILS_AVX512 = (2, 3, 7, 8)
# 4 rows of 2.5 units are 10 sums. (Zen 3, one core: 784-100-10 with 200 rows 866 us a step without, 858 with it;
# 784-50-10 with 100 rows 246 and 241.) 6 rows of 1.5 units are 9, too few: 59 GFLOP/s where 2 units give 71.
HALF_TAILS_AVX = (3,)
# Of each number of units there are tiles of these kinds: full, of TAIL_ROWS, and full with half a unit less. Numbered
# without gaps, or the choice among them is a search: 20-100-1 takes 3 % longer so.
KINDS, HALF = 5, 4
TAIL_ROWS = (4, 2, 1)  # what is left of a block of rows is done with these
LONGEST_PACKED = 256  # rows of a panel of B that is packed: of three units 24 KB, most of a first cache
# Rows of a piece of A that is read down its columns, and bytes of each that are packed. (Gradients in training, Zen 3,
# medians: of 784-512-512-10 with 128 rows 62.5 GFLOP/s, 59.6 with 192 bytes; of 784-100-10 with 200 rows 71, 62 with
# neither; of 256 x 256 weights over 256 rows 93, 89 in pieces of 128.)
LONGEST_DOWN, CHUNK_BYTES = 100, 384


@functools.cache
def target_features():
    """Set of the instruction-set features that Numba compiles for (``NUMBA_CPU_FEATURES`` included)."""
    if config.DISABLE_JIT:
        return frozenset()
    return frozenset(name[1:] for name in private.target_features().split(",") if name.startswith("+"))


def few_registers():
    """Whether vector registers are few, so that tiles are narrow and products mind the first cache: `gemm_packed`."""
    return "avx512f" not in target_features()


def tile_rows():
    """Rows of the full tile for 1, 2, ... units of columns on this host."""
    return ROWS_AVX if few_registers() else ROWS_AVX512


def register_limit():
    """Vectors of sums from which on a tile's loads are kept in order on this host; see `_finished`."""
    return REGISTER_LIMIT_AVX if few_registers() else REGISTER_LIMIT_AVX512


def half_vector_tails():
    """Numbers of units of columns for which there is a full tile with half a unit less."""
    return HALF_TAILS_AVX if few_registers() else HALF_TAILS_AVX512


def tile_size(kind):
    """Rows and half units of the tile of a number, (0, 0) where there is none."""
    n_vectors, which = kind // KINDS + 1, kind % KINDS
    full = tile_rows()[n_vectors - 1]
    if which in (0, HALF):
        return (full, 2 * n_vectors - which // HALF) if which == 0 or n_vectors in half_vector_tails() else (0, 0)
    rows = TAIL_ROWS[which - 1]
    return (rows, 2 * n_vectors) if rows < full else (0, 0)


def panel_bytes():
    """Most bytes of a panel of B, or of a chunk of A, that is packed."""
    return max(LONGEST_PACKED * len(tile_rows()) * VECTOR_BYTES, LONGEST_DOWN * CHUNK_BYTES)


def has_fma():
    """Whether the host fuses multiply and add; without it both are rounded."""
    return fuses(PROCESSOR, target_features())


def fuses(processor, features):
    """Whether a processor with these features does. ARM64's instruction is part of the architecture, so LLVM need not
    name it: on a Mac, and for ``NUMBA_CPU_NAME=generic``, it names no features at all."""
    return processor == "aarch64" or "fma" in features
