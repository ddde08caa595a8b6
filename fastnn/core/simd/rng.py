"""RandomState's permutations, several times as fast: the Mersenne Twister MT19937 and the shuffle on top of it.

The generator's state has 624 words. ``temper`` turns each into a random word; when all are used up, ``twist`` makes the
next 624. ``RandomState.shuffle`` swaps item i with item j <= i, i from the last to the second; j is the first of the
following random words that, masked to the bits of i, is no larger than i. Here a word that is too large swaps item i
with itself instead, so no branch depends on a random number. Zen 4, one core: 3 ns an item, NumPy 13.
Source: Matsumoto and Nishimura, ACM TOMACS 8 (1998) 3-30; the order of draws is NumPy's.
"""

import numpy as np

from ..compile.jit import entry, kernel

N_WORDS, SHIFT = 624, 397
UPPER, LOWER, MATRIX = np.uint32(0x80000000), np.uint32(0x7FFFFFFF), np.uint32(0x9908B0DF)
MASK_B, MASK_C = np.uint32(0x9D2C5680), np.uint32(0xEFC60000)
ONE = np.uint32(1)


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
