"""Powers, cosines and logarithms for schedules, the same to the last bit on every processor and with every library.

NumPy's are not (they come from a vector library where there is AVX-512, else from the C library), nor is Python's
``**``. So these are computed in integers, in decimal numbers, and in single additions, multiplications and divisions of
float64, whose results IEEE 754 defines.
"""

import decimal
import functools

import numpy as np

BLOCK = 512  # powers computed together
FIXED_BITS = 128  # fractional bits of a power in fixed point
LIMB_BITS = 26  # products of two limbs are exact in float64
WIDE = decimal.Context(prec=40, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])


@functools.lru_cache(maxsize=32)
def _squares(base):
    """base^(2^i), 0 <= base < 1, for i = 0, 1, ..., 63 as integers: multiples of 2^-FIXED_BITS, rounded down."""
    squares = [int(base * 2.0**FIXED_BITS)]
    while len(squares) < 64:
        squares.append(squares[-1] ** 2 >> FIXED_BITS)
    return squares


def _power(base, exponent):
    """base^exponent in fixed point; the error is some 2^-100 for an exponent of 10^9."""
    result = 1 << FIXED_BITS
    for square, bit in zip(_squares(base), reversed(f"{exponent:b}"), strict=False):
        if bit == "1":
            result = result * square >> FIXED_BITS
    return result


def _limbs(power):
    """The leading bits of a power in fixed point as float64 numbers of LIMB_BITS bits, the largest first."""
    mask = (1 << LIMB_BITS) - 1
    first, second, third = (FIXED_BITS - LIMB_BITS * (i + 1) for i in range(3))
    limbs = power >> first, power >> second & mask, power >> third & mask
    return limbs[0] * 2.0**-LIMB_BITS, limbs[1] * 2.0 ** (-2 * LIMB_BITS), limbs[2] * 2.0 ** (-3 * LIMB_BITS)


@functools.lru_cache(maxsize=32)
def _first_powers(base):
    """Limbs of base^0, ..., base^(BLOCK - 1): float64 (3, BLOCK)."""
    (factor, *_), power, rows = _squares(base), 1 << FIXED_BITS, []
    for _ in range(BLOCK):
        rows.append(_limbs(power))
        power = power * factor >> FIXED_BITS
    return np.array(rows).T.copy()


@functools.lru_cache(maxsize=64)
def powers(base, block):
    """base^(BLOCK block), ..., base^(BLOCK block + BLOCK - 1), 0 <= base < 1: float64 (BLOCK,), read-only.

    The products of limbs (a_0 + a_1 + a_2) (b_0 + b_1 + b_2) are added from the smallest to the largest; the rounding
    errors before the last sum are below 2^-77. So the result is the float64 number nearest to the power, except for one
    t in some million whose power lies almost half-way between two such numbers.
    """
    products = np.multiply.outer(_limbs(_power(base, BLOCK * block)), _first_powers(base))
    (large, middle, small), (medium, little, _), (least, *_) = products
    result = large + ((middle + medium) + (small + little + least))
    result.flags.writeable = False
    return result


def powers_from(base, exponent, n):
    """base^exponent, ..., base^(exponent + n - 1), 0 <= base < 1: float64 (n,)."""
    first, last = exponent // BLOCK, (exponent + n - 1) // BLOCK
    blocks = [powers(base, i) for i in range(first, last + 1)]
    joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return joined[exponent - BLOCK * first :][:n]


@functools.lru_cache(maxsize=4096)
def real_power(base, exponent):
    """base^exponent of two positive numbers, rounded to float64; 0 where it is too small."""
    return float(WIDE.power(decimal.Decimal(base), decimal.Decimal(exponent)))


def _taylor_terms(first):
    """Coefficients of x^first, x^(first + 2), ... of sin(pi x) or cos(pi x), beyond what float64 sees at x = 1/4."""
    terms, term = [], decimal.Decimal(1) if first == 0 else PI
    for k in range(first, first + 20, 2):
        terms.append(float(term))
        term = WIDE.divide(WIDE.multiply(WIDE.multiply(term, PI), -PI), decimal.Decimal((k + 1) * (k + 2)))
    return terms


PI = decimal.Decimal("3.141592653589793238462643383279502884197169")
SINE, COSINE = _taylor_terms(1), _taylor_terms(0)
TWO_BY_LN_2 = float(WIDE.divide(decimal.Decimal(2), WIDE.ln(decimal.Decimal(2))))
ROOT_OF_HALF = 0.70710678118654752


def _polynomial(coefficients, x):
    """Horner's rule, each operation rounded."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def sin_pi(x):
    """sin(pi x) for 0 <= x <= 1/2: float64, to some 2 ulp."""
    beyond = x > 0.25
    y = np.where(beyond, 0.5 - x, x)
    square = y * y
    return np.where(beyond, _polynomial(COSINE, square), _polynomial(SINE, square) * y)


def log_2(x):
    """Binary logarithm of x >= 1: float64, to some 2^-52.

    By log(m) = 2 artanh((m - 1) / (m + 1)) of the mantissa m between the root of 1/2 and that of 2.
    """
    mantissa, exponent = np.frexp(x)
    small = mantissa < ROOT_OF_HALF
    mantissa, exponent = np.where(small, 2 * mantissa, mantissa), exponent - small
    s = (mantissa - 1) / (mantissa + 1)
    return exponent + TWO_BY_LN_2 * (s * _polynomial([1 / (2 * i + 1) for i in range(12)], s * s))
