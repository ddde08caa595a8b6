"""exp, log, tanh and sigmoid as branch-free arithmetic that LLVM turns into vector instructions.

They are called on one number, inside a flat loop over a contiguous slice; float32 and float64 have their own constants,
chosen at compile time. There is no branch, no call and no fast-math flag, so an element has the same bits in vector
loops of every width, in their scalar remainders and alone. Multiply-adds are fused where the target can.

Range reduction, with n the integer nearest to x / ln 2:
    exp x     = 2^n e^r          r = x - n ln 2, |r| <= ln 2 / 2;  e^r - 1 = r + r^2 Q(r)
    sigmoid x = 1 / (1 + exp(-x))
    tanh |x|  = m / (m + 2)      m = exp(2 |x|) - 1 = 2^n (e^r - 1) + (2^n - 1), accurate down to the smallest |x|
    log x     = k ln 2 + log(1 + f)                  x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2
    log(1 + f) = f - f^2/2 + s (f^2/2 + z L(z))      s = f / (2 + f), z = s^2, from 2 artanh(s) = 2 s + s z L(z)
n is rounded by adding 1.5 * 2^(mantissa bits): the sum ends in the bits of n. ln 2 comes in two parts, and n times the
first is exact. Q and L are minimax polynomials for the relative error, from a Remez exchange in 60 digits on
|r| <= 1.0005 ln 2 / 2 and 0 <= z <= 1.001 (3 - 2 sqrt 2)^2, then rounded; by themselves they are within 0.25 ulp.

``MAX_ULP`` bounds the error, subnormal arguments included. The worst measured with FMA, over every float32 and over
10^7 float64 (random bits, and random values where the functions bend):
    float32   exp 1.048  log 0.840  tanh 2.566  sigmoid 2.481 ulp
    float64   exp 1.034  log 0.798  tanh 2.639  sigmoid 2.361 ulp
Without FMA a 64th of float32 and 2 10^6 float64 stayed within the same bounds.
A result below the smallest normal number is 0 from ``exp`` and may be 0 from ``sigmoid``.

Zen 4, one core, ns an element with AVX-512 (with AVX2):
    float32   exp 0.22 (0.30)  log 0.36 (0.53)  tanh 0.28 (0.44)  sigmoid 0.27 (0.39)
    float64   exp 0.61 (0.91)  log 0.88 (1.43)  tanh 0.76 (1.23)  sigmoid 0.76 (1.24)
"""

from typing import NamedTuple

import numpy as np

from ..compile.jit import kernel
from .scalar import bits_to_float, by_dtype, float_to_bits, fma, horner, select

MAX_ULP = {"exp": (1.1, 1.1), "log": (0.9, 0.9), "tanh": (2.8, 2.8), "sigmoid": (2.6, 2.6)}  # (float32, float64)
FLUSHED = ("exp", "sigmoid")  # a subnormal result may be 0


class _Constants(NamedTuple):
    """What the four functions need in one dtype; integers are bit patterns or shifts."""

    one: np.floating
    two: np.floating
    half: np.floating
    zero: np.floating
    infinity: np.floating
    nan: np.floating
    log2_e: np.floating
    ln2_high: np.floating
    ln2_low: np.floating
    round_to_integer: np.floating  # 1.5 * 2^mantissa
    exp_low: np.floating  # log of the smallest normal number
    exp_high: np.floating  # log of the largest number
    tanh_high: np.floating  # tanh(tanh_high / 2) rounds to 1
    exp_terms: tuple  # Q
    log_terms: tuple  # L
    smallest_normal: np.floating
    lift: np.floating  # 2^lift_bits brings every subnormal number into the normal range
    lift_bits: np.floating
    mantissa_bits: np.integer
    mantissa_mask: np.integer
    exponent_mask: np.integer  # sign and exponent, shifted down
    sign_mask: np.integer
    one_bits: np.integer
    sqrt_half_bits: np.integer
    integer_bits: np.integer  # bits of 2^mantissa, whose low bits count in ones
    integer_bias: np.floating  # 2^mantissa + exponent bias


def _constants(dtype, integer, *, ln2, exp_range, tanh_high, lift_bits, exp_terms, log_terms):
    """Fill in what follows from the format of ``dtype``."""
    info = np.finfo(dtype)
    bits, width, bias = info.nmant, info.bits, info.maxexp - 1
    return _Constants(
        one=dtype(1),
        two=dtype(2),
        half=dtype(0.5),
        zero=dtype(0),
        infinity=dtype(np.inf),
        nan=dtype(np.nan),
        log2_e=dtype(1.4426950408889634),
        ln2_high=dtype(ln2[0]),
        ln2_low=dtype(ln2[1]),
        round_to_integer=dtype(1.5 * 2**bits),
        exp_low=dtype(exp_range[0]),
        exp_high=dtype(exp_range[1]),
        tanh_high=dtype(tanh_high),
        exp_terms=tuple(map(dtype, exp_terms)),
        log_terms=tuple(map(dtype, log_terms)),
        smallest_normal=dtype(info.smallest_normal),
        lift=dtype(2.0**lift_bits),
        lift_bits=dtype(lift_bits),
        mantissa_bits=integer(bits),
        mantissa_mask=integer(2**bits - 1),
        exponent_mask=integer(2 ** (width - bits) - 1),
        sign_mask=integer(-(2 ** (width - 1))),
        one_bits=dtype(1).view(integer),
        sqrt_half_bits=dtype(0.5**0.5).view(integer),
        integer_bits=dtype(2.0**bits).view(integer),
        integer_bias=dtype(2.0**bits + bias),
    )


_SINGLE = _constants(
    np.float32,
    np.int32,
    ln2=(0.693145751953125, 1.4286068203094173e-06),
    exp_range=(-87.33654, 88.72283),
    tanh_high=20,
    lift_bits=24,
    exp_terms=(
        0.49999998149814606,
        0.16666543423747235,
        0.041667200673596756,
        0.008366547181085935,
        0.0013882518318234806,
    ),
    log_terms=(0.666667767179422, 0.3997749547598568, 0.29873075908963065),
)
_DOUBLE = _constants(
    np.float64,
    np.int64,
    ln2=(0.693147180559663, 2.8235290563031577e-13),
    exp_range=(-708.3964185322641, 709.782712893384),
    tanh_high=44,
    lift_bits=54,
    exp_terms=(
        0.5000000000000006,
        0.16666666666666588,
        0.041666666666576466,
        0.008333333333389733,
        0.001388888893166707,
        0.00019841269718713316,
        2.4801505142747708e-05,
        2.7557407683774538e-06,
        2.7626092811298794e-07,
        2.50537764406423e-08,
    ),
    log_terms=(
        0.6666666666666735,
        0.3999999999941109,
        0.28571428743262856,
        0.22222198475972088,
        0.181835697403969,
        0.15313903234428525,
        0.1479750780917591,
    ),
)

_by_dtype = by_dtype(_SINGLE, _DOUBLE)


@kernel
def _expm1_reduced(x):
    """``e^r - 1`` for r = x - n ln 2, and n, also as ``shifted``: the float whose low bits are the integer n."""
    c = _by_dtype(x)
    shifted = fma(x, c.log2_e, c.round_to_integer)
    n = shifted - c.round_to_integer
    r = fma(n, -c.ln2_low, fma(n, -c.ln2_high, x))
    return fma(r * r, horner(r, c.exp_terms), r), shifted


@kernel
def exp(x):
    """
    Exponential ``e^x``.

    NaN gives NaN; results below the smallest normal number are 0, results beyond the largest are inf. Within 1.1 ulp.
    """
    c = _by_dtype(x)
    p, shifted = _expm1_reduced(x)
    power = bits_to_float(float_to_bits(c.one + p) + (float_to_bits(shifted) << c.mantissa_bits), x)
    bounded = select(x <= c.exp_high, power, x + c.infinity)  # the sum is inf, or NaN for NaN
    return select(x < c.exp_low, c.zero, bounded)


@kernel
def sigmoid(x):
    """Logistic function ``1 / (1 + e^-x)``, within 2.6 ulp. NaN gives NaN; a subnormal result may be 0."""
    one = _by_dtype(x).one
    return one / (one + exp(-x))


@kernel
def tanh(x):
    """Hyperbolic tangent ``(e^2x - 1) / (e^2x + 1)``, within 2.8 ulp. NaN gives NaN, -0 gives -0."""
    c = _by_dtype(x)
    sign = float_to_bits(x) & c.sign_mask
    double = c.two * bits_to_float(float_to_bits(x) ^ sign, x)
    p, shifted = _expm1_reduced(select(double > c.tanh_high, c.tanh_high, double))
    power = bits_to_float((float_to_bits(shifted) << c.mantissa_bits) + c.one_bits, x)
    m = fma(power, p, power - c.one)
    return bits_to_float(float_to_bits(m / (m + c.two)) | sign, x)


@kernel
def log(x):
    """Natural logarithm, within 0.9 ulp. ``log(0) = -inf``; negative numbers and NaN give NaN."""
    c = _by_dtype(x)
    subnormal = x < c.smallest_normal
    bits = float_to_bits(select(subnormal, x * c.lift, x)) + (c.one_bits - c.sqrt_half_bits)
    exponent = (bits >> c.mantissa_bits) & c.exponent_mask
    k = bits_to_float(exponent | c.integer_bits, x) - select(subnormal, c.integer_bias + c.lift_bits, c.integer_bias)
    f = bits_to_float((bits & c.mantissa_mask) + c.sqrt_half_bits, x) - c.one
    s = f / (c.two + f)
    z = s * s
    half_square = c.half * f * f
    tail = fma(s, fma(z, horner(z, c.log_terms), half_square), k * c.ln2_low)
    finite = fma(k, c.ln2_high, f - (half_square - tail))
    positive_or_nan = select(x == c.infinity, c.infinity, finite)
    return select(x > c.zero, positive_or_nan, select(x == c.zero, -c.infinity, c.nan))
