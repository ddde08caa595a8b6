"""The product and the transposition over awkward sizes: exact on integers, rounded on reals, and what they write.

Whole numbers small enough make every sum exact, so the compiled code, its plain-Python twin and float64 must agree to
the last bit. Everything the functions must not use is NaN: padding, the cells between columns, the cells behind.
"""

import functools

import numpy as np
import pytest
from numba import config, njit

from fastnn.core.compile.jit import callable_leaf, load_leaves
from fastnn.core.simd import gemm
from fastnn.core.simd import transpose as transposition
from fastnn.core.simd.target import VECTOR_BYTES, has_fma

DTYPES = [np.float32, np.float64]
SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100)
SUMS = (0, *SIZES)
PADDING = 32  # elements behind the last row that a product may write and read
compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


@njit
def call_product(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, b, ib, b_k, m, n, n_k):
    gemm.product(c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, b, ib, b_k, m, n, n_k)


@functools.cache
def compiled(function, dtype):
    if config.DISABLE_JIT:
        return function
    if function is gemm.product:  # a kernel: it is compiled into its callers
        load_leaves(dtype)
        return call_product
    return callable_leaf(function, dtype)


python_product = getattr(gemm.product, "py_func", gemm.product)


def whole(n, dtype):
    """n rounded up to whole vectors of 32 bytes."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return -(-n // lanes) * lanes


def embed(matrix, ld, offset, dtype):
    """The matrix in a flat array of NaN whose rows lie ``ld`` apart, with padding behind."""
    rows, columns = matrix.shape
    flat = np.full(offset + rows * ld + columns + PADDING, np.nan, dtype)
    for r in range(rows):
        flat[offset + r * ld : offset + r * ld + columns] = matrix[r]
    return flat


def draw(rng, kind, shape):
    return rng.integers(-4, 5, shape).astype(float) if kind == "whole" else rng.standard_normal(shape)


# pattern -> (A is read down the columns of its memory, rows of C0, extra columns of A, of B, of C)
PATTERNS = {
    "forward": (False, "one", 3, 0, None),  # A W + b into rows of whole vectors
    "by features": (True, "one", 5, 0, None),  # the same with A transposed
    "gradient": (True, "none", 5, 9, 0),  # A' D into rows without padding
    "backward": (False, "all", 0, 4, None),  # D W' + C0
}


class Problem:
    """One product: arguments, expected values, and which cells of C it may change."""

    def __init__(self, pattern, m, n, k, dtype, kind="whole", seed=0):
        down, c0_rows, a_extra, b_extra, c_extra = PATTERNS[pattern]
        rng = np.random.default_rng([seed, m, n, k])
        a, b = draw(rng, kind, (m, k)).astype(dtype), draw(rng, kind, (k, n)).astype(dtype)
        c0 = draw(rng, kind, (m if c0_rows == "all" else 1, n)).astype(dtype)
        stored = a.T if down else a
        lda, ldb = stored.shape[1] + a_extra, n + b_extra
        self.ldc = n if c_extra == 0 else whole(n, dtype) + 2
        self.m, self.n, self.k, self.ic, self.dtype = m, n, k, 3, dtype
        self.c0 = (embed(c0, n + 1, 1, dtype), 1, {"all": n + 1, "one": 0, "none": gemm.NO_C0}[c0_rows])
        if c0_rows == "none":  # what is there must not be used
            self.c0[0][:], c0 = np.nan, np.zeros_like(c0)
        a_strides = (1, lda) if down else (lda, 1)
        self.a = (embed(stored, lda, 2, dtype), 2, *a_strides)
        self.b = (embed(b, ldb, 1, dtype), 1, ldb)
        wide = [x.astype(np.float64) for x in (a, b, c0)]
        self.expected = wide[0] @ wide[1] + wide[2]
        self.scale = np.abs(wide[0]) @ np.abs(wide[1]) + np.abs(wide[2])

    def blank(self):
        return np.full(self.ic + (self.m - 1) * self.ldc + self.n + PADDING, np.nan, self.dtype)

    def run(self, product, c=None):
        c = self.blank() if c is None else c
        product(c, self.ic, self.ldc, *self.c0, *self.a, *self.b, self.m, self.n, self.k)
        return c

    def cells(self, columns):
        starts = self.ic + self.ldc * np.arange(self.m)
        return starts[:, None] + np.arange(columns)

    def result(self, c):
        return c[self.cells(self.n)]

    def untouched(self, c):
        outside = np.ones(c.size, bool)
        outside[self.cells(whole(self.n, self.dtype)).clip(max=c.size - 1)] = False
        return c[outside]


def problems(sizes_m, sizes_n, sums, dtype, **options):
    return (
        (f"{pattern} {m}x{k} {k}x{n}", Problem(pattern, m, n, k, dtype, **options))
        for pattern in PATTERNS
        for m in sizes_m
        for n in sizes_n
        for k in sums
    )


@compiled_only
@by_dtype
def test_product_is_exact_on_whole_numbers_and_writes_only_its_cells(dtype):
    product = compiled(gemm.product, dtype)
    for name, problem in problems(SIZES, SIZES, (0, 1, 2, 9, 100), dtype):
        c = problem.run(product)
        np.testing.assert_array_equal(problem.result(c), problem.expected, err_msg=name)
        assert np.isnan(problem.untouched(c)).all(), name


@compiled_only
@by_dtype
def test_product_of_every_sum_length(dtype):
    product = compiled(gemm.product, dtype)
    for name, problem in problems((5, 13), (10, 65), SUMS, dtype):
        np.testing.assert_array_equal(problem.result(problem.run(product)), problem.expected, err_msg=name)


@pytest.mark.nojit
@by_dtype
def test_plain_python_twin_computes_the_same(dtype):
    for name, problem in problems((1, 3, 7, 17), (1, 8, 9, 33), (0, 1, 17), dtype):
        c = problem.run(python_product)
        np.testing.assert_array_equal(problem.result(c), problem.expected, err_msg=name)
        assert np.isnan(problem.untouched(c)).all(), name
        np.testing.assert_array_equal(problem.run(compiled(gemm.product, dtype)), c, err_msg=name)  # the overrun too


@compiled_only
@by_dtype
def test_product_of_reals_within_rounding(dtype):
    """A chain of k fused multiply-adds errs by at most k half-ulps of the sum of magnitudes; twice that without FMA."""
    product = compiled(gemm.product, dtype)
    half_ulp = np.finfo(dtype).eps / 2
    for name, problem in problems((1, 9, 31), (1, 15, 64), (1, 33, 1000), dtype, kind="real"):
        error = np.abs(problem.result(problem.run(product)) - problem.expected)
        allowed = (problem.k + 1) * (1 if has_fma() else 2) * half_ulp * problem.scale
        assert (error <= allowed * 1.001).all(), name


@compiled_only
@by_dtype
def test_product_resumes_from_a_stored_result(dtype):
    """C = C + A B with C as its own C0, one slice of the sum at a time, has the bits of one long sum."""
    product = compiled(gemm.product, dtype)
    for m, n, k, first_part in ((1, 1, 9, 4), (13, 21, 40, 17), (7, 64, 33, 1), (33, 100, 100, 64), (2, 3, 5, 0)):
        problem = Problem("forward", m, n, k, dtype, kind="real")
        whole_sum = problem.run(product)
        (a, ia, a_row, a_k), (b, ib, b_k) = problem.a, problem.b
        c = problem.blank()
        c_at = (c, problem.ic, problem.ldc)
        product(*c_at, *problem.c0, a, ia, a_row, a_k, b, ib, b_k, m, n, first_part)
        product(*c_at, *c_at, a, ia + first_part * a_k, a_row, a_k, b, ib + first_part * b_k, b_k, m, n, k - first_part)
        np.testing.assert_array_equal(problem.result(c), problem.result(whole_sum))


@compiled_only
@by_dtype
def test_a_cell_has_the_same_bits_in_every_tile(dtype):
    """Rows and columns of a large product are those of the small products that hold them alone."""
    product = compiled(gemm.product, dtype)
    problem = Problem("backward", 29, 75, 50, dtype, kind="real")
    all_cells = problem.result(problem.run(product))
    (c0, i0, ld0), (a, ia, a_row, a_k), (b, ib, b_k) = problem.c0, problem.a, problem.b
    for i, j, rows, columns in ((0, 0, 1, 1), (28, 74, 1, 1), (3, 5, 2, 9), (11, 16, 13, 40), (0, 0, 29, 8)):
        c = np.full(rows * 80 + PADDING, np.nan, dtype)
        where = (c0, i0 + i * ld0 + j, ld0, a, ia + i * a_row, a_row, a_k, b, ib + j, b_k)
        product(c, 0, 80, *where, rows, columns, problem.k)
        part = c[: rows * 80].reshape(rows, 80)[:, :columns]
        np.testing.assert_array_equal(part, all_cells[i : i + rows, j : j + columns])


@compiled_only
@by_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_product_shows_what_is_not_finite(dtype, bad):
    problem = Problem("forward", 9, 11, 7, dtype)
    a, ia, a_row, a_k = problem.a
    a[ia + 4 * a_row + 2 * a_k] = bad
    finite = np.isfinite(problem.result(problem.run(compiled(gemm.product, dtype))))
    assert not finite[4].any()  # 0 times NaN or inf is NaN as well
    assert np.delete(finite, 4, axis=0).all()


# pattern -> which stride of A a table replaces
TABLES = {"forward": "rows", "by features": "columns", "backward": "rows", "gradient": "columns"}


def by_table(pattern, problem):
    """Strides of A, one of them 0, and the table of byte offsets that stands in for it."""
    _, _, a_row, a_k = problem.a
    itemsize = np.dtype(problem.dtype).itemsize
    if TABLES[pattern] == "rows":
        return (0, a_k), np.arange(problem.m) * (a_row * itemsize)
    return (a_row, 0), np.arange(problem.k) * (a_k * itemsize)


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("pattern", TABLES)
def test_product_by_table_has_the_bits_of_strides(pattern, dtype):
    """Whatever it prefetches meanwhile, and without changing the lines that it prefetches for writing."""
    product, product_at = compiled(gemm.product, dtype), compiled(gemm.product_at, dtype)
    itemsize = np.dtype(dtype).itemsize
    for m, n, k in ((1, 1, 1), (2, 9, 3), (7, 16, 17), (13, 21, 40), (33, 100, 64), (24, 64, 9), (12, 3, 100)):
        problem = Problem(pattern, m, n, k, dtype, kind="real")
        (a, ia, *_), (strides, table) = problem.a, by_table(pattern, problem)
        table = np.append(-1, table)
        output = np.arange(m * problem.ldc + PADDING, dtype=dtype)
        prefetch_lines = np.arange(k, dtype=np.int64) % 3 * 64
        prefetched = (a.ctypes.data, table[1:].ctypes.data, output.ctypes.data, 1, prefetch_lines.ctypes.data, 192)
        for line, offsets, *own in ((0,) * 6, prefetched, (0, 0, *prefetched[2:])):
            if config.DISABLE_JIT:
                line, offsets, *own = (0,) * 6
            c = problem.blank()
            product_at(
                c, problem.ic, problem.ldc, *problem.c0, a, ia, *strides, table, 1, *problem.b, m, n, k,
                line, itemsize, offsets if TABLES[pattern] == "columns" else 0, *own,
            )  # fmt: skip
            np.testing.assert_array_equal(c, problem.run(product), err_msg=f"{m}x{k} {k}x{n}")
            np.testing.assert_array_equal(output, np.arange(output.size))


def assert_exact(product_at, problem, strides, table):
    """A product with these strides and table of A: C is right, and nothing beside it is written."""
    m, n, k, c = problem.m, problem.n, problem.k, problem.blank()
    a, ia, *_ = problem.a
    product_at(c, problem.ic, problem.ldc, *problem.c0, a, ia, *strides, table, 0, *problem.b, m, n, k, *[0] * 7)
    np.testing.assert_array_equal(problem.result(c), problem.expected, err_msg=f"{m}x{k} {k}x{n}")
    assert np.isnan(problem.untouched(c)).all()


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("gemm_function", [gemm.gemm_direct, gemm.gemm_packed])
@pytest.mark.parametrize("pattern", TABLES)
def test_both_orders_of_tiles_are_exact_on_any_processor(pattern, gemm_function, dtype):
    """In plain Python, so that the one for other processors is tested too; by strides and by table."""
    for m, n, k in ((3, 9, 40), (34, 25, 140), (40, 7, 300)):
        problem = Problem(pattern, m, n, k, dtype)
        (_, _, *own), way = problem.a, by_table(pattern, problem)
        for strides, table_of_a in ((own, gemm.NOWHERE), way):
            assert_exact(gemm_function, problem, strides, table_of_a)


@compiled_only
@by_dtype
def test_product_without_rows_does_nothing(dtype):
    c = np.full(64, np.nan, dtype)
    ones = np.ones(64, dtype)
    compiled(gemm.product, dtype)(c, 0, 8, ones, 0, 0, ones, 0, 1, 1, ones, 0, 1, 0, 8, 4)
    assert np.isnan(c).all()


@pytest.mark.nojit
@by_dtype
def test_transpose(dtype):
    functions = [compiled(transposition.transpose, dtype)] + (
        [] if config.DISABLE_JIT else [transposition.transpose_here.py_func]
    )
    for transpose in functions:
        for rows in SIZES if transpose is functions[0] else (1, 7, 8, 17):
            for columns in SIZES if transpose is functions[0] else (1, 9, 16):
                source = np.arange(rows * columns, dtype=dtype).reshape(rows, columns)
                lda, ld_out = columns + 3, rows + 2
                out = np.full(5 + (columns - 1) * ld_out + rows + PADDING, np.nan, dtype)
                transpose(out, 5, ld_out, embed(source, lda, 2, dtype), 2, lda, rows, columns)
                cells = 5 + ld_out * np.arange(columns)[:, None] + np.arange(rows)
                np.testing.assert_array_equal(out[cells], source.T, err_msg=f"{rows} x {columns}")
                rest = np.delete(out, cells.ravel())
                assert np.isnan(rest).all(), f"{rows} x {columns}"


@compiled_only
@by_dtype
@pytest.mark.parametrize("pattern", TABLES)
def test_long_sums_and_large_products_are_exact(pattern, dtype):
    """Slices of the sum, packed panels and chunks, C with and without padding between its rows."""
    product, product_at = compiled(gemm.product, dtype), compiled(gemm.product_at, dtype)
    for m, n, k in ((40, 100, 300), (100, 25, 129), (130, 64, 256), (33, 48, 1000), (97, 7, 700)):
        problem = Problem(pattern, m, n, k, dtype)
        np.testing.assert_array_equal(
            problem.result(problem.run(product)), problem.expected, err_msg=f"{m}x{k} {k}x{n}"
        )
        for columns in (problem.ldc, whole(n, dtype) + 2):
            problem.ldc = columns
            assert_exact(product_at, problem, *by_table(pattern, problem))
