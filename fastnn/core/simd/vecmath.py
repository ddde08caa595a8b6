"""exp, log, tanh and their kin as branch-free arithmetic that LLVM turns into vector instructions.

They are called on one number, inside a flat loop over a contiguous slice; float32 and float64 have their own constants,
chosen at compile time. There is no branch, no call and no fast-math flag, so an element has the same bits in vector
loops of every width, in their scalar remainders and alone. Multiply-adds are fused where the target can.

Range reduction, with n the integer nearest to x / ln 2:
    exp x     = 2^n e^r          r = x - n ln 2, |r| <= ln 2 / 2;  e^r - 1 = r + r^2 Q(r)
    sigmoid x = 1 / (1 + exp(-x))
    tanh |x|  = m / (m + 2)      m = exp(2 |x|) - 1 = 2^n (e^r - 1) + (2^n - 1), accurate down to the smallest |x|
    log x     = k ln 2 + log(1 + f)                  x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2
    log(1 + f) = f - f^2/2 + s (f^2/2 + z L(z))      s = f / (2 + f), z = s^2, from 2 artanh(s) = 2 s + s z L(z)
    elu x     = max(x, 0) + (2^n (e^r - 1) + (2^n - 1)), of min(x, 0) as in tanh
    softplus x = max(x, 0) + log(1 + exp(-|x|))      log(1 + y) = 2 s + s z M(z), s = y / (2 + y) <= 1/3, z = s^2
    normal_cdf(-|x|) = exp(-x^2 / 2) P(t) / (|x| + k)    t = (|x| - k) / (|x| + k), after Shepherd & Laframboise, 1981
n is rounded by adding 1.5 * 2^(mantissa bits): the sum ends in the bits of n. ln 2 comes in two parts, and n times the
first is exact. Q, L, M and P are minimax polynomials for the relative error, from a Remez exchange in 60 digits on
|r| <= 1.0005 ln 2 / 2, 0 <= z <= 1.001 (3 - 2 sqrt 2)^2, 0 <= z <= 1.0005 / 9 and wherever exp(-x^2 / 2) is not 0, then
rounded; by themselves they are within 0.25 ulp. x^2 comes in two parts, of which the first is exact.

``MAX_ULP`` bounds the error, subnormal arguments included. The worst measured with FMA, over every float32 and over
10^7 float64 (random bits, and random values where the functions bend):
    float32   exp 1.048  log 0.840  tanh 2.566  sigmoid 2.481 ulp
    float64   exp 1.034  log 0.798  tanh 2.639  sigmoid 2.361 ulp
and over a 256th of float32 and 2 10^6 random float32 and float64 each:
    float32   elu 0.93  softplus 2.71  normal_cdf 5.34 ulp
    float64   elu 1.12  softplus 2.64  normal_cdf 6.84 ulp
Without FMA a 64th of float32 and 2 10^6 float64 stayed within the same bounds (of the first four).
A result below the smallest normal number is 0 from ``exp`` and may be 0 from the functions in ``FLUSHED``.

Zen 4, one core, ns an element with AVX-512 (with AVX2):
    float32   exp 0.22 (0.30)  log 0.36 (0.53)  tanh 0.28 (0.44)  sigmoid 0.27 (0.39)
    float64   exp 0.61 (0.91)  log 0.88 (1.43)  tanh 0.76 (1.23)  sigmoid 0.76 (1.24)
Zen 5, as hidden activations:
    float32   tanh 0.15 (0.31)  elu 0.11 (0.23)  softplus 0.27 (0.56)  z normal_cdf(z) 0.34 (0.70)
    float64   tanh 0.48         elu 0.36         softplus 1.01         z normal_cdf(z) 1.34
"""

from typing import NamedTuple

import numpy as np

from ..compile.jit import kernel
from .scalar import bits_to_float, by_dtype, float_to_bits, fma, horner, select

# (float32, float64)
MAX_ULP = {
    "exp": (1.1, 1.1),
    "log": (0.9, 0.9),
    "tanh": (2.8, 2.8),
    "sigmoid": (2.6, 2.6),
    "elu": (1.2, 1.2),
    "softplus": (2.9, 2.9),
    "normal_cdf": (6, 7.5),
}
FLUSHED = ("exp", "sigmoid", "softplus", "normal_cdf")  # a subnormal result may be 0


class _Constants(NamedTuple):
    """What all functions need in one dtype; integers are bit patterns or shifts."""

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


def _of(dtype, *values):
    return tuple(map(dtype, values))


_log1p_terms = by_dtype(  # M
    _of(
        np.float32, 0.6666666733288518, 0.39999702595624126, 0.2859253326571359, 0.21703955441180442, 0.2323653815124085
    ),
    _of(
        np.float64,
        0.6666666666666666,
        0.40000000000014885,
        0.2857142856703396,
        0.22222222724526075,
        0.18181789099153536,
        0.1538557904151388,
        0.13314003879087516,
        0.1200235032406507,
        0.08794471469521989,
        0.1617684709719962,
    ),
)


class _NormalConstants(NamedTuple):
    """What `normal` needs in one dtype."""

    shift: np.floating  # k
    high: np.floating  # exp(-high^2 / 2) is below the smallest normal number, high^2 is finite
    upper_half: np.integer  # sign, exponent and half of the mantissa: a number with no other bits has an exact square
    terms: tuple  # P


_SINGLE_NORMAL = _NormalConstants(
    shift=np.float32(3.5),
    high=np.float32(14),
    upper_half=np.int32(-(2**12)),
    terms=_of(
        np.float32,
        0.7444160752154468,
        -0.565561760469023,
        0.3154249619638956,
        -0.11605267195119154,
        0.017407598672940183,
        0.0064912526087740965,
        -0.0031812525380646634,
        -0.0004938768087603628,
        0.0004312553170705791,
        0.00011568582578869752,
    ),
)
_DOUBLE_NORMAL = _NormalConstants(
    shift=np.float64(5),
    high=np.float64(40),
    upper_half=np.int64(-(2**27)),
    terms=_of(
        np.float64,
        0.769193049750063,
        -0.6653825028900567,
        0.4953056159699771,
        -0.3135331566712965,
        0.16502036617034854,
        -0.06911863870655853,
        0.020795066800602,
        -0.002993376766934779,
        -0.0007978694054898956,
        0.0005448990359395958,
        -5.937569013470747e-05,
        -4.976267181118402e-05,
        1.6681097167821988e-05,
        3.9804537991678125e-06,
        -2.7690744232463946e-06,
        -3.357124502357406e-07,
        4.330311497056513e-07,
        4.114860350417127e-08,
        -6.608069978256661e-08,
        -8.521110069755055e-09,
        7.91443433300208e-09,
        1.5128416352334929e-09,
        -2.7202899388554345e-10,
    ),
)

_normal_by_dtype = by_dtype(_SINGLE_NORMAL, _DOUBLE_NORMAL)


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


@kernel
def elu(x):
    """``x`` where it is positive, else ``e^x - 1``, within 1.2 ulp. NaN gives NaN."""
    c = _by_dtype(x)
    negative = select(x < c.zero, x, c.zero)
    p, shifted = _expm1_reduced(select(negative < -c.tanh_high, -c.tanh_high, negative))
    power = bits_to_float((float_to_bits(shifted) << c.mantissa_bits) + c.one_bits, x)
    return select(x < c.zero, c.zero, x) + fma(power, p, power - c.one)


@kernel
def softplus(x):
    """``log(1 + e^x)``, within 2.9 ulp. NaN gives NaN; a subnormal result may be 0."""
    c = _by_dtype(x)
    y = exp(bits_to_float(float_to_bits(x) | c.sign_mask, x))
    s = y / (c.two + y)
    z = s * s
    return select(x < c.zero, c.zero, x) + fma(s, z * horner(z, _log1p_terms(x)), c.two * s)


@kernel
def normal(x):
    """The standard normal distribution's ``P(Z <= x) = (1 + erf(x / sqrt 2)) / 2``, and ``e^(-x^2 / 2)``.

    The first is within 6 ulp of float32 and 7.5 of float64. NaN gives NaN; a subnormal result may be 0.
    """
    c, own = _by_dtype(x), _normal_by_dtype(x)
    magnitude = bits_to_float(float_to_bits(x) & ~c.sign_mask, x)
    a = select(magnitude > own.high, own.high, magnitude)
    rounded = bits_to_float(float_to_bits(a) & own.upper_half, x)
    exponent = -c.half * (a * a)
    shifted = fma(exponent, c.log2_e, c.round_to_integer)
    n = shifted - c.round_to_integer
    r = fma(n, -c.ln2_low, fma(n, -c.ln2_high, -c.half * (rounded * rounded)))
    r = r - c.half * ((a - rounded) * (a + rounded))
    p = fma(r * r, horner(r, c.exp_terms), r)
    power = bits_to_float(float_to_bits(c.one + p) + (float_to_bits(shifted) << c.mantissa_bits), x)
    e = select(exponent > c.exp_low, power, a - a)  # the difference is 0, or NaN for NaN
    q = c.one / (a + own.shift)
    tail = e * (q * horner((a - own.shift) * q, own.terms))
    return select(x > c.zero, c.one - tail, tail), e


@kernel
def normal_cdf(x):
    """The first that `normal` returns."""
    cdf, _ = normal(x)
    return cdf
