"""exp, log, tanh and their kin: error in ulp, edges, the same bits in every loop, vector code.

Run as a script, it saves what the functions return for `few_samples` in the mode that the environment sets.
"""

import os
import pathlib
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
from numba import config, njit

import reference_activations
from fastnn.core.simd import vecmath
from fastnn.core.simd.target import has_fma, target_features

DTYPES = [np.float32, np.float64]
NAMES = list(vecmath.MAX_ULP)
REFERENCE = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "elu": reference_activations.exp_minus_one,
    "softplus": reference_activations.softplus,
    "normal_cdf": reference_activations.normal_cdf,
}
CASES = [pytest.param(name, dtype, id=f"{name}-{dtype.__name__}") for name in NAMES for dtype in DTYPES]
compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")


def make_loop(name):
    function = getattr(vecmath, name)

    @njit(error_model="numpy")
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


LOOPS = {name: make_loop(name) for name in NAMES}


def evaluate(name, x):
    out = np.full_like(x, 12345)
    LOOPS[name](x, out)
    return out


def bits(x):
    return x.view({4: np.int32, 8: np.int64}[x.itemsize])


def edges(dtype):
    """Zeros, infinities, the ends of the normal and subnormal ranges, and both sides of where exp saturates."""
    info = np.finfo(dtype)
    points = [0, 1, info.smallest_subnormal, info.smallest_normal, info.max, np.inf, np.log(2) / 2, 0.5**0.5, 2**0.5]
    ends = np.array([np.log(np.longdouble(info.smallest_normal)), np.log(np.longdouble(info.max))]).astype(dtype)
    around = np.concatenate([np.nextafter(ends, -np.inf), ends, np.nextafter(ends, np.inf)])
    values = np.concatenate([np.array(points, dtype), around])
    return np.concatenate([values, -values]).astype(dtype)


def few_samples(dtype):
    rng = np.random.default_rng(5)
    wide = rng.uniform(-100, 100, 600) if dtype == np.float32 else rng.uniform(-750, 750, 600)
    small = np.ldexp(rng.uniform(-1, 1, 700), rng.integers(-30, 5, 700))
    return np.concatenate([edges(dtype), [np.nan], wide, small, 1 + small / 64]).astype(dtype)


def many_samples(dtype):
    """Bit patterns over the whole range, and random values where the functions bend."""
    rng = np.random.default_rng(6)
    if dtype == np.float32:
        patterns = np.arange(0, 2**32, 6151, dtype=np.uint64).astype(np.uint32).view(dtype)
    else:
        patterns = rng.integers(-(2**63), 2**63 - 1, 300_000).view(dtype)
    bends = [rng.uniform(-h, h, 150_000) for h in (1, 20, 90 if dtype == np.float32 else 720)]
    near_one = 1 + np.ldexp(rng.uniform(-1, 1, 100_000), rng.integers(-54, 0, 100_000))
    return np.concatenate([edges(dtype), patterns[~np.isnan(patterns)], *bends, near_one]).astype(dtype)


def ulp_error(result, exact, dtype):
    info = np.finfo(dtype)
    exponent = np.frexp(exact)[1] - (info.nmant + 1)
    spacing = np.ldexp(np.longdouble(1), np.maximum(exponent, info.minexp - info.nmant))
    return np.abs(result - exact) / spacing


@compiled_only
@pytest.mark.parametrize("name, dtype", CASES)
def test_error_stays_within_the_stated_bound(name, dtype):
    if dtype == np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("no yardstick longer than float64")
    x = many_samples(dtype)
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](x.astype(np.longdouble))
        rounded = exact.astype(dtype)
    result = evaluate(name, x)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(result), np.isinf(rounded))
    np.testing.assert_array_equal(result[np.isinf(rounded)], rounded[np.isinf(rounded)])
    subnormal = np.abs(exact) < np.finfo(dtype).smallest_normal
    flushed = subnormal & (result == 0) & (name in vecmath.FLUSHED)
    if name == "exp":
        assert np.all(result[subnormal] == 0)
    checked = np.isfinite(exact) & np.isfinite(rounded) & ~flushed
    assert checked.sum() > 100_000
    error = ulp_error(result[checked], exact[checked], dtype)
    assert error.max() <= vecmath.MAX_ULP[name][DTYPES.index(dtype)], x[checked][error.argmax()]


INF = np.inf
EDGES = {
    "exp": [(-INF, 0), (INF, INF), (0, 1), (-0.0, 1), (1000, INF), (-1000, 0)],
    "log": [(0, -INF), (-0.0, -INF), (1, 0), (INF, INF), (-1, np.nan), (-INF, np.nan), (-1e-40, np.nan)],
    "tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (30, 1), (-30, -1), (1e-30, 1e-30), (-1e-40, -1e-40)],
    "sigmoid": [(0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (1000, 1), (-1000, 0), (1e-30, 0.5)],
    "elu": [(0, 0), (-0.0, 0), (INF, INF), (-INF, -1), (1e30, 1e30), (-1e30, -1), (1e-30, 1e-30), (-1e-30, -1e-30)],
    "softplus": [(INF, INF), (-INF, 0), (1e30, 1e30), (-1e30, 0), (-1000, 0)],
    "normal_cdf": [(0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (1e30, 1), (-1e30, 0), (1e-30, 0.5), (-1e-30, 0.5)],
}


@pytest.mark.nojit
@pytest.mark.parametrize("name, dtype", CASES)
def test_edges(name, dtype):
    x, expected = np.array(EDGES[name] + [(np.nan, np.nan)]).T.astype(dtype)
    result = evaluate(name, x)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(np.signbit(result[expected == 0]), np.signbit(expected[expected == 0]))


@pytest.mark.nojit
@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd(dtype):
    x = few_samples(dtype)
    x = x[~np.isnan(x)]
    np.testing.assert_array_equal(bits(evaluate("tanh", -x)), bits(-evaluate("tanh", x)))


@pytest.mark.nojit
@pytest.mark.parametrize("name, dtype", CASES)
def test_never_falls(name, dtype):
    x = np.linspace(0.01 if name == "log" else -8, 8, 2001, dtype=dtype)
    assert np.all(np.diff(evaluate(name, x)) >= 0)


@compiled_only
@pytest.mark.parametrize("name, dtype", CASES)
def test_same_bits_in_vectors_remainders_and_alone(name, dtype):
    x = few_samples(dtype)
    x = x[~np.isnan(x)]
    expected = bits(evaluate(name, x))
    function = getattr(vecmath, name)
    one = njit(lambda element: function(element))
    alone = np.array([one(element) for element in x], dtype)
    np.testing.assert_array_equal(bits(alone), expected)
    for n in range(1, 80):
        start = 7 * n
        np.testing.assert_array_equal(bits(evaluate(name, x[start : start + n])), expected[start : start + n])


@compiled_only
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.skipif(not {"avx2", "fma"} <= target_features(), reason="no vectors with fused multiply-add")
@pytest.mark.parametrize("name, dtype", CASES)
def test_loop_is_vector_code_without_calls(name, dtype):
    evaluate(name, np.ones(3, dtype))
    assembly = next(text for types, text in LOOPS[name].inspect_asm().items() if types[0].dtype.name == dtype.__name__)
    # The loop itself; the wrappers for Python come after it. Older versions of LLVM end it without .cfi_endproc.
    body = re.split(r"\.cfi_endproc|\.Lfunc_end0", assembly, maxsplit=1)[0]
    suffix = "ps" if dtype == np.float32 else "pd"
    assert re.search(rf"vfn?m(add|sub)\d+{suffix}\s.*%[yz]mm", body)
    assert not re.search(r"\bcall", body)


def run_as_script(tmp_path, **environment):
    saved = tmp_path / "outputs.npz"
    paths = [str(pathlib.Path(vecmath.__file__).parents[3]), str(pathlib.Path(__file__).resolve().parents[1])]
    paths.append(os.environ.get("PYTHONPATH", ""))
    environment |= {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run([sys.executable, __file__, str(saved)], env=os.environ | environment, check=True, timeout=300)
    return np.load(saved)


@compiled_only
@pytest.mark.skipif(not {"avx2", "fma"} <= target_features(), reason="the target has no AVX2")
def test_avx2_gives_the_same_bits(tmp_path):
    other = run_as_script(tmp_path, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx2,+fma")
    assert not other["zmm"]
    for name in NAMES:
        for dtype in DTYPES:
            expected = bits(evaluate(name, few_samples(dtype)))
            np.testing.assert_array_equal(bits(other[f"{name} {dtype.__name__}"]), expected, err_msg=name)


@compiled_only
def test_plain_python_twin_agrees(tmp_path):
    """The twin's fma rounds a second time: 1 ulp. Where the target has none, both are within their own bound."""
    twin = run_as_script(tmp_path, NUMBA_DISABLE_JIT="1")
    for name in NAMES:
        for dtype in DTYPES:
            python, compiled = twin[f"{name} {dtype.__name__}"], evaluate(name, few_samples(dtype))
            assert python.dtype == dtype
            ulp = 1 if has_fma() else 2 * vecmath.MAX_ULP[name][DTYPES.index(dtype)]
            number = ~np.isnan(compiled)
            np.testing.assert_array_equal(np.isnan(python), ~number)
            np.testing.assert_array_max_ulp(python[number], compiled[number], maxulp=ulp)


def save_outputs(path):
    outputs = {f"{name} {dtype.__name__}": evaluate(name, few_samples(dtype)) for name in NAMES for dtype in DTYPES}
    assembly = "" if config.DISABLE_JIT else "".join("".join(loop.inspect_asm().values()) for loop in LOOPS.values())
    np.savez(path, zmm="zmm" in assembly, **outputs)


if __name__ == "__main__":
    save_outputs(sys.argv[1])
