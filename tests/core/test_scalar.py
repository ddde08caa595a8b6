"""The scalar building blocks: compiled and plain Python agree, and refuse mixed dtypes."""

import numpy as np
import pytest
from numba import config, errors, njit

from fastnn.core.simd import scalar
from fastnn.core.simd.target import has_fma

DTYPES = [np.float32, np.float64]
compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

_pair = scalar.by_dtype((np.float32(1.5), np.float32(3)), (np.float64(2.5), np.float64(4)))


def call_fma(x):
    return scalar.fma(x, x, x)


def call_horner(x):
    return scalar.horner(x, _pair(x))


def call_select(x):
    return scalar.select(x > x * x, x, -x)


def call_bits(x):
    return scalar.bits_to_float(scalar.float_to_bits(x) + 3, x)


def call_constants(x):
    return _pair(x)[0]


EXPECTED = {
    call_fma: lambda x: x * x + x,
    call_horner: lambda x: _pair(x)[0] + x * _pair(x)[1],
    call_select: lambda x: x if x > x * x else -x,
    call_bits: lambda x: np.nextafter(np.nextafter(np.nextafter(x, x + x), x + x), x + x),
    call_constants: lambda x: 1.5 if x.dtype == np.float32 else 2.5,
}


@pytest.mark.nojit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", EXPECTED, ids=lambda call: call.__name__)
def test_compiled_and_python_give_the_definition(call, dtype):
    compiled = njit(call)
    for value in (0.375, 1.25, -2.5, 3.0):  # exact in every step, so all ways give the same bits
        x = dtype(value)
        python = call(x)
        assert python.dtype == dtype
        assert python == EXPECTED[call](x)
        assert compiled(x) == python


@compiled_only
@pytest.mark.skipif(not has_fma(), reason="the target rounds twice")
@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_rounds_once(dtype):
    tiny = dtype(np.finfo(dtype).eps)
    fused = njit(lambda a, b, c: scalar.fma(a, b, c))
    one = dtype(1)
    assert fused(one + tiny, one - tiny, -one) == -tiny * tiny  # the product rounds to 1


@compiled_only
@pytest.mark.parametrize("a, b", [(np.float32(1), np.float64(1)), (np.float64(1), np.int64(1)), (1, 1)])
def test_mixed_dtypes_are_refused(a, b):
    with pytest.raises(errors.TypingError):
        njit(lambda a, b: scalar.fma(a, b, a))(a, b)
    with pytest.raises(errors.TypingError):
        njit(lambda a, b: scalar.select(True, a, b))(a, b)


@pytest.mark.nojit
@pytest.mark.parametrize("dtype", DTYPES)
def test_python_twins_take_arrays(dtype):
    x = np.array([0.375, 1.25, -2.5], dtype)
    for call in (call_fma, call_horner, call_select, call_bits):
        np.testing.assert_array_equal(call(x), [call(element) for element in x])
        assert call(x).dtype == dtype


@compiled_only
@pytest.mark.skipif(scalar.PROCESSOR not in ("x86_64", "aarch64"), reason="this processor's mode is left alone")
@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_are_zero_until_the_mode_is_restored(dtype):
    @njit
    def halves(x, out):
        out[0] = x[0] * x[1]
        mode = scalar.flush_denormals()
        out[1] = x[0] * x[1]  # a subnormal result
        out[2] = x[2] * x[3]  # a subnormal operand
        scalar.restore_denormals(mode)
        out[3] = x[0] * x[1]

    tiny, out = np.finfo(dtype).tiny, np.full(4, np.nan, dtype)
    halves(np.array([tiny, 0.5, tiny / 2, 4], dtype), out)
    np.testing.assert_array_equal(out, [tiny / 2, 0, 0, tiny / 2])


@pytest.mark.nojit
def test_the_python_twins_change_no_mode():
    scalar.restore_denormals(scalar.flush_denormals())
    assert np.finfo(np.float32).tiny / np.float32(2) > 0
