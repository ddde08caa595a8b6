"""The target processor, and the sizes of register tiles that fit it.

Numba's view of the processor counts: ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` change the values here.

A vector is 32 bytes: one AVX register, or half an AVX-512 one. Tiles (rows for 1, 2, ... vectors) are chosen so that up
to 24 accumulators are in flight with AVX-512 (32 registers), 12 with AVX (16 registers). Measured on Zen 4, float32,
one core, 48 rows, sums of 200: 98 to 99 % of 116 GFLOP/s for 2, 4 and 6 to 8 vectors, 94 % for 5, 73 % for 1 and 3, the
same by table; 87-91 GFLOP/s for OpenBLAS. With AVX on Zen 3 (100 GFLOP/s): 97 % for 2 and 3 vectors, 70 % for 1;
OpenBLAS 86. A tile of four vectors, 3 rows, has a register too few: 40 %.
"""

import functools

import llvmlite.binding
from numba import config

from ..compile import private
from ..tuning import CHUNK_BYTES, LONGEST_DOWN, LONGEST_PACKED


def processor_of(triple):
    """The processor architecture in LLVM's target triple, "x86_64" and "aarch64" among others.

    Python's name of the machine differs between systems, and on some it is not the architecture of the process.
    """
    architecture = triple.split("-")[0].lower()
    if architecture.startswith("arm64"):  # Apple's spelling
        return "aarch64"
    return "x86_64" if architecture == "amd64" else architecture


PROCESSOR = processor_of(llvmlite.binding.get_process_triple())
VECTOR_BYTES = 32
LINE_BYTES = 64
# Distance of words that different threads write. Apple's cache lines have 128 bytes, other ARM64 processors' 64: which
# one runs the code is not asked.
APART_BYTES = 128 if PROCESSOR == "aarch64" else LINE_BYTES
ROWS_AVX512 = (8, 12, 8, 12, 8, 8, 6, 6)
ROWS_AVX = (8, 6, 4)
# Accumulators from which on registers are short: 6 rows of 4 vectors, in two 64-byte registers each, are 12; with half
# the registers 8 rows of one vector (Zen 3: 70 GFLOP/s, 54 when LLVM may load a column ahead).
REGISTER_LIMIT_AVX512, REGISTER_LIMIT_AVX = 10, 8
# Widths in vectors that also have a tile whose last vector is a half one; all eight widths would take .7 s more to
# compile. (784-100-10 with 200 rows, Zen 4, one core: its forward product took 285 us with 13 vectors, 274 with 12.5;
# 784-50-10 153 and 142.)
HALF_TAILS_AVX512 = (2, 3, 7, 8)
# 4 rows of 2.5 vectors are 10 accumulators. (Zen 3, one core: 784-100-10 with 200 rows 866 us a step without, 858 with
# it; 784-50-10 with 100 rows 246 and 241.) 6 rows of 1.5 vectors are 9, too few: 59 GFLOP/s where 2 vectors give 71.
HALF_TAILS_AVX = (3,)
# Each width has tiles of these kinds: full, one for each of TAIL_ROWS, and full with half a vector less. Their
# numbers have no gaps, since LLVM turns a switch with gaps into a search: 20-100-1 takes 3 % longer with it.
KINDS, HALF = 5, 4
TAIL_ROWS = (4, 2, 1)  # for the rows that do not fill a full tile


@functools.cache
def target_features():
    """Set of the instruction-set features that Numba compiles for (``NUMBA_CPU_FEATURES`` included)."""
    if config.DISABLE_JIT:
        return frozenset()
    return frozenset(name[1:] for name in private.target_features().split(",") if name.startswith("+"))


def few_registers():
    """Whether vector registers are few, so that tiles are narrow and products pack for L1, see `gemm_packed`."""
    return "avx512f" not in target_features()


def tile_rows():
    """Rows of the full tiles that are 1, 2, ... vectors wide."""
    return ROWS_AVX if few_registers() else ROWS_AVX512


def register_limit():
    """Accumulators from which on a tile's loads are kept in order, see `_keep_order`."""
    return REGISTER_LIMIT_AVX if few_registers() else REGISTER_LIMIT_AVX512


def half_vector_tails():
    """Widths in vectors that also have a full tile with half a vector less."""
    return HALF_TAILS_AVX if few_registers() else HALF_TAILS_AVX512


def tile_size(kind):
    """Rows, and columns in half vectors, of a kind of tile; (0, 0) where there is none."""
    n_vectors, variant = kind // KINDS + 1, kind % KINDS
    full = tile_rows()[n_vectors - 1]
    if variant in (0, HALF):
        return (full, 2 * n_vectors - variant // HALF) if variant == 0 or n_vectors in half_vector_tails() else (0, 0)
    rows = TAIL_ROWS[variant - 1]
    return (rows, 2 * n_vectors) if rows < full else (0, 0)


def panel_bytes():
    """Bytes of the largest packed panel of B or chunk of A."""
    return max(LONGEST_PACKED * len(tile_rows()) * VECTOR_BYTES, LONGEST_DOWN * CHUNK_BYTES)


def loads_masked(processor=PROCESSOR):
    """Whether the processor loads some of a vector's elements at once; LLVM makes a branch for each one elsewhere."""
    return processor == "x86_64"


def has_fma():
    """Whether the target fuses multiply and add; otherwise both are rounded."""
    return fuses(PROCESSOR, target_features())


def fuses(processor, features):
    """Whether a processor with these features fuses multiply and add.

    ARM64's instruction is part of the architecture, so LLVM need not name it: on a Mac, and for
    ``NUMBA_CPU_NAME=generic``, it names no features at all.
    """
    return processor == "aarch64" or "fma" in features
