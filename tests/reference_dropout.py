"""The random bits of dropout a second time, in NumPy: a counter of seed, step, level, row and unit, hashed.

Integers wrap, as those of compiled code do: uint64 for keys, uint32 for the words of units.
"""

import numpy as np


def substream(keys, numbers):
    """SplitMix64's output for the state ``key + (number + 1) * gamma``."""
    z = np.asarray(keys, np.uint64) + (np.asarray(numbers, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def words(seed, step, level, n_rows, n_units):
    """Random uint32 of shape (n_rows, n_units)."""
    with np.errstate(over="ignore"):
        keys = substream(substream(substream([seed], step), level), np.arange(n_rows))[:, np.newaxis]
        low, high = keys.astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)
        x = np.arange(n_units, dtype=np.uint32) * np.uint32(0x9E3779B9) + low
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15)) ^ high) * np.uint32(0x846CA68B)
        return x ^ (x >> np.uint32(16))


def factors(seed, step, level, n_rows, n_units, rate):
    """What each value of a level is multiplied by: 0, or 1 / (1 - rate)."""
    return (words(seed, step, level, n_rows, n_units) >= np.uint32(int(rate * 2.0**32))) / (1.0 - rate)
