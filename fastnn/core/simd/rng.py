"""Random numbers: RandomState's permutations, several times as fast, and random bits of a counter.

Permutations: the Mersenne Twister MT19937 and the shuffle on top of it.

The generator's state has 624 words. ``temper`` turns each into a random word; when all are used up, ``twist`` makes the
next 624. ``RandomState.shuffle`` swaps item i with item j <= i, i from the last to the second; j is the first of the
following random words that, masked to the bits of i, is no larger than i. Here a word that is too large swaps item i
with itself instead, so no branch depends on a random number. Zen 4, one core: 3 ns an item, NumPy 13.
Source: Matsumoto and Nishimura, ACM TOMACS 8 (1998) 3-30; the order of draws is NumPy's.

Random bits of a counter have no state, so any thread computes any of them. ``substream`` makes a key of 64 bits from a
key and a number: one output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) whose state is the key. The word of unit
j under a key is ``mix(j * 0x9E3779B9 + low half, high half)`` in 32-bit integers, of which vectors have eight or more:
the function "lowbias32" (Wellons, Prospecting for hash functions, 2018), xorshifts and multiplications, with the high
half added without carries before the last multiplication.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable

from ..compile.jit import entry, kernel
from .llvm import splat
from .vector import Vector

N_WORDS, SHIFT = 624, 397
UPPER, LOWER, MATRIX = np.uint32(0x80000000), np.uint32(0x7FFFFFFF), np.uint32(0x9908B0DF)
MASK_B, MASK_C = np.uint32(0x9D2C5680), np.uint32(0xEFC60000)
ONE = np.uint32(1)
GAMMA, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
UNIT, FIRST_WORD, SECOND_WORD = 0x9E3779B9, 0x7FEB352D, 0x846CA68B  # 32-bit factors


@kernel
def twisted(far, high, low):
    """One new word of state from three old ones."""
    y = (high & UPPER) | (low & LOWER)
    return far ^ (y >> ONE) ^ ((y & ONE) * MATRIX)


@kernel
def twist(key):
    """The next N_WORDS words of state. Writes: key (N_WORDS,)."""
    first = N_WORDS - SHIFT
    for i in range(first):
        key[i] = twisted(key[i + SHIFT], key[i], key[i + 1])
    for i in range(N_WORDS - first - 1):
        key[first + i] = twisted(key[i], key[first + i], key[first + i + 1])
    key[N_WORDS - 1] = twisted(key[SHIFT - 1], key[N_WORDS - 1], key[0])


@kernel
def temper(words, key):
    """The random words of a state. Writes: words (N_WORDS,). Reads: key."""
    for i in range(N_WORDS):
        y = key[i] ^ (key[i] >> np.uint32(11))
        y ^= (y << np.uint32(7)) & MASK_B
        y ^= (y << np.uint32(15)) & MASK_C
        words[i] = y ^ (y >> np.uint32(18))


@entry
def shuffle(rows, key, words, used):
    """Permute ``rows`` as ``RandomState.shuffle`` does from the state ``key``, of which ``used[0]`` words are used up.

    Writes: rows (n,), key (N_WORDS,), used (1,). Scratch: words (N_WORDS,).
    """
    temper(words, key)
    i, position = rows.size - 1, used[0]
    while i > 0:
        if position == N_WORDS:
            twist(key)
            temper(words, key)
            position = 0
        mask = 1
        while mask < i:
            mask = 2 * mask + 1
        while position < N_WORDS and i > mask >> 1:
            drawn = np.int64(words[position]) & mask
            position += 1
            fits = drawn <= i
            j = drawn if fits else i
            rows[i], rows[j] = rows[j], rows[i]
            i -= np.int64(fits)
    used[0] = position


@kernel
def substream(key, number):
    """The key of stream ``number`` >= 0 of those below a key, all uint64."""
    z = key + GAMMA * np.uint64(number + 1)
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


def if_kept(value, unit, key, threshold):
    """``value`` where the random word of its unit is not below ``threshold``, else 0.

    ``value`` is a float, of this unit, or a vector, of this unit and those behind it.
    """
    low, high = np.uint32(key & np.uint64(0xFFFFFFFF)), np.uint32(key >> np.uint64(32))
    x = np.arange(unit, unit + np.size(value)).astype(np.uint32) * np.uint32(UNIT) + low
    x = (x ^ (x >> np.uint32(16))) * np.uint32(FIRST_WORD)
    x = (x ^ (x >> np.uint32(15)) ^ high) * np.uint32(SECOND_WORD)
    x ^= x >> np.uint32(16)
    return np.where(x >= threshold, value, np.zeros_like(value)).reshape(np.shape(value))[()]


@type_callable(if_kept)
def _type_if_kept(context):
    def typer(value, unit, key, threshold):
        if isinstance(value, (Vector, types.Float)):
            return value(value, types.int64, types.uint64, types.int64)

    return typer


@lower_builtin(if_kept, Vector, types.Integer, types.Integer, types.Integer)
@lower_builtin(if_kept, types.Float, types.Integer, types.Integer, types.Integer)
def _lower_if_kept(context, builder, sig, args):
    value, unit, key, threshold = args
    i32, word = ir.IntType(32), ir.IntType(32)
    if isinstance(value.type, ir.VectorType):
        word = ir.VectorType(i32, value.type.count)

    def whole(number):
        """The low half of an i64 in every lane."""
        number = builder.trunc(number, i32)
        return number if word is i32 else splat(builder, word, number)

    def constant(number):
        return ir.Constant(word, number if word is i32 else [number] * word.count)

    def xorshift(x, bits):
        return builder.xor(x, builder.lshr(x, constant(bits)))

    x = whole(unit)
    if word is not i32:
        x = builder.add(x, ir.Constant(word, list(range(word.count))))
    x = builder.add(builder.mul(x, constant(UNIT)), whole(key))
    x = builder.mul(xorshift(x, 16), constant(FIRST_WORD))
    high = whole(builder.lshr(key, ir.Constant(key.type, 32)))
    x = builder.mul(builder.xor(xorshift(x, 15), high), constant(SECOND_WORD))
    kept = builder.icmp_unsigned(">=", xorshift(x, 16), whole(threshold))
    return builder.select(kept, value, ir.Constant(value.type, None))
