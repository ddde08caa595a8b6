"""Products with sparse rows, vectorized over the columns of the dense matrix: the input is never made dense.

    forward    C[r, :] = C0 + sum_p values[p] B[columns[p], :]       over the entries p of row r
    gradient   G[column, :] += values[p] D[r, :]                     over the entries of all rows, row by row

The entries of a row are sorted by column, so both sums are the chains of fused multiply-adds of the dense products,
without the terms that are zero: their bits are the same. The gradient of a block of weight rows needs no transposed
input: each row of the batch has a cursor, which moves through its entries as the block moves over the columns. (A
counting sort of the batch by column, before any product, takes 270 us for 512 rows of IMDB's bag of 10,000 words; the
whole gradient for 16 units takes 90.)

Rows lie in flat arrays and are handled in panels of whole vectors (32 bytes): what is read behind the end of a row is
never used, what is written there is garbage in padding.
"""

import inspect

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..compile.jit import kernel
from ..compile.packing import IN, LABELS, ROWS
from ..records import Csr
from ..tuning import SPARSE_AHEAD_ENTRIES, SPARSE_AHEAD_ROWS
from .llvm import address_of, array_data, emit_fma, prefetch_for_write, splat
from .reduce import PRODUCTS
from .scalar import fma
from .target import LINE_BYTES, VECTOR_BYTES
from .transpose import prefetch
from .vector import whole_vectors

# Vectors of a panel: four 64-byte accumulators hide the latency of one chain, eight 32-byte ones fit 16 registers.
MAX_VECTORS = 8


def CSR(real):
    """Type of a sparse matrix that a leaf reads."""
    return types.BaseTuple.from_types([IN(real), LABELS(real), ROWS(real)], Csr)


def as_csr(csr):
    """``(values, indices, indptr)`` with the dtypes that compiled code takes; copies only indices of another width.

    Raises
    ------
    ValueError
        For more columns than int32 can count (their weights alone would take 8 GiB for each unit).
    """
    values, indices, indptr = csr
    if indices.dtype != np.int32 and indices.size and indices.max() > np.iinfo(np.int32).max:
        raise ValueError("X has too many columns: a sparse X may have at most 2**31 of them.")
    arrays = values, indices.astype(np.int32, copy=False), indptr.astype(np.int64, copy=False)
    views = [np.ascontiguousarray(array).view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return Csr(*views)


# ------------------------------------------------------------------------------------------------- two row operations


def gather(n_vectors, c, ic, c0, ic0, values, columns, lo, hi, b, ib, b_k):
    """``C[j] = C0[j] + sum_p values[p] B[columns[p], j]`` for lo <= p < hi and j < n_vectors * lanes.

    Element (k, j) of B is ``b[ib + k*b_k + j]``. Writes: c from ``ic`` on. Reads: c0 from ``ic0`` on, the others.
    """
    width = n_vectors * VECTOR_BYTES // c.itemsize
    total = c0[ic0 : ic0 + width].copy()
    for p in range(lo, hi):
        first = ib + columns[p] * b_k
        total += values[p] * b[first : first + width]
    c[ic : ic + width] = total


def scatter(n_vectors, g, ig, g_k, values, columns, lo, hi, stop, d, i_d):
    """``G[columns[p], j] += values[p] D[j]`` from p = lo on while p < hi and columns[p] < stop; j as in `gather`.

    Element (k, j) of G is ``g[ig + k*g_k + j]``; ``ig`` may be negative. Returns the first p that was not reached.
    Writes: g. Reads: values, columns, d from ``i_d`` on.
    """
    width = n_vectors * VECTOR_BYTES // g.itemsize
    p = lo
    while p < hi and columns[p] < stop:
        first = ig + columns[p] * g_k
        g[first : first + width] += values[p] * d[i_d : i_d + width]
        p += 1
    return p


def _typed(function, arrays, result):
    """Type ``function``: arrays at the positions ``arrays``, int64 elsewhere."""

    @type_callable(function)
    def type_function(context):
        def typer(*given):
            return result(*(t if i in arrays else types.int64 for i, t in enumerate(given)))

        typer.__signature__ = inspect.signature(function)
        return typer


_typed(gather, (1, 3, 5, 6, 9), types.void)
_typed(scatter, (1, 4, 5, 9), types.int64)


class _Emitter:
    """An internal LLVM function, one for each dtype and number of vectors, and the loads and stores in it."""

    def __init__(self, name, module, scalar, n_vectors, result, arguments):
        self.scalar = scalar
        self.name = f"fastnn_{name}_{'s' if isinstance(scalar, ir.FloatType) else 'd'}_{n_vectors}"
        self.known = self.name in module.globals
        if self.known:
            self.function = module.globals[self.name]
            return
        self.function = ir.Function(module, ir.FunctionType(result, arguments), self.name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        self.itemsize = 4 if isinstance(scalar, ir.FloatType) else 8
        lanes = VECTOR_BYTES // self.itemsize
        self.spans = [(2 * i * lanes, 2 * lanes) for i in range(n_vectors // 2)]
        self.spans += [((n_vectors - 1) * lanes, lanes)] * (n_vectors % 2)

    def load(self, builder, base):
        return [builder.load(p, align=self.itemsize) for p in self._pointers(builder, base)]

    def store(self, builder, base, vectors):
        for pointer, vector in zip(self._pointers(builder, base), vectors, strict=True):
            builder.store(vector, pointer, align=self.itemsize)

    def _pointers(self, builder, base):
        for offset, width in self.spans:
            pointer = builder.gep(base, [ir.Constant(ir.IntType(64), offset)])
            yield builder.bitcast(pointer, ir.VectorType(self.scalar, width).as_pointer())

    def multiply_add(self, builder, value, vectors, sums):
        splats = {v.type.count: splat(builder, v.type, value) for v in vectors}
        return [emit_fma(builder, v.type, splats[v.type.count], v, s) for v, s in zip(vectors, sums, strict=True)]


def _row_of(builder, base, columns, p, stride):
    """The column of entry p, and the address of that row of the matrix at ``base``."""
    column = builder.sext(builder.load(builder.gep(columns, [p])), ir.IntType(64))
    return column, builder.gep(base, [builder.mul(column, stride)])


def _gather_function(module, scalar, n_vectors):
    """Arguments: c, c0, values, columns, lo, hi, b, b_k (pointers to elements, counts in elements)."""
    i64, element, column = ir.IntType(64), scalar.as_pointer(), ir.IntType(32).as_pointer()
    arguments = [element, element, element, column, i64, i64, element, i64]
    emit = _Emitter("gather", module, scalar, n_vectors, ir.VoidType(), arguments)
    if emit.known:
        return emit.function
    c, c0, values, columns, lo, hi, b, b_k = emit.function.args
    entry, loop, done = (emit.function.append_basic_block(name) for name in ("entry", "loop", "done"))
    builder = ir.IRBuilder(entry)
    first = emit.load(builder, c0)
    builder.cbranch(builder.icmp_signed("<", lo, hi), loop, done)

    builder.position_at_end(loop)
    p = builder.phi(i64)
    sums = [builder.phi(v.type) for v in first]
    _, row = _row_of(builder, b, columns, p, b_k)
    fused = emit.multiply_add(builder, builder.load(builder.gep(values, [p])), emit.load(builder, row), sums)
    following = builder.add(p, ir.Constant(i64, 1))
    for phi, start, again in zip([p, *sums], [lo, *first], [following, *fused], strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(again, loop)
    builder.cbranch(builder.icmp_signed("<", following, hi), loop, done)

    builder.position_at_end(done)
    totals = [builder.phi(v.type) for v in first]
    for phi, start, again in zip(totals, first, fused, strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(again, loop)
    emit.store(builder, c, totals)
    builder.ret_void()
    return emit.function


def _scatter_function(module, scalar, n_vectors):
    """Arguments: g, g_k, values, columns, lo, hi, stop, d. Returns the first entry that was not reached."""
    i64, element, column = ir.IntType(64), scalar.as_pointer(), ir.IntType(32).as_pointer()
    arguments = [element, i64, element, column, i64, i64, i64, element]
    emit = _Emitter("scatter", module, scalar, n_vectors, i64, arguments)
    if emit.known:
        return emit.function
    g, g_k, values, columns, lo, hi, stop, d = emit.function.args
    blocks = (emit.function.append_basic_block(name) for name in ("entry", "more", "loop", "add", "done"))
    entry, more, loop, add, done = blocks
    builder = ir.IRBuilder(entry)
    delta = emit.load(builder, d)
    builder.branch(more)

    builder.position_at_end(more)
    p = builder.phi(i64)
    builder.cbranch(builder.icmp_signed("<", p, hi), loop, done)
    builder.position_at_end(loop)
    which, row = _row_of(builder, g, columns, p, g_k)
    builder.cbranch(builder.icmp_signed("<", which, stop), add, done)
    builder.position_at_end(add)
    value = builder.load(builder.gep(values, [p]))
    emit.store(builder, row, emit.multiply_add(builder, value, delta, emit.load(builder, row)))
    following = builder.add(p, ir.Constant(i64, 1))
    p.add_incoming(lo, entry)
    p.add_incoming(following, add)
    builder.branch(more)

    builder.position_at_end(done)
    builder.ret(p)
    return emit.function


def _lower(function, make, flatten, result):
    """Lower ``function`` to a switch over its first argument; ``flatten`` returns the arguments of the LLVM call."""

    @lower_builtin(function, types.VarArg(types.Any))
    def lower_function(context, builder, sig, args):
        scalar = context.get_data_type(next(t.dtype for t in sig.args if isinstance(t, types.Array)))

        def pointer(position, offset=None):
            base = array_data(context, builder, sig.args[position], args[position])
            return base if offset is None else builder.gep(base, [args[offset]])

        flat = flatten(pointer, args)
        value = cgutils.alloca_once(builder, ir.IntType(64)) if result else None
        done = builder.append_basic_block("vectors.done")
        switch = builder.switch(args[0], done)
        for n_vectors in range(1, MAX_VECTORS + 1):
            block = builder.append_basic_block(f"vectors.{n_vectors}")
            switch.add_case(ir.Constant(ir.IntType(64), n_vectors), block)
            builder.position_at_end(block)
            answer = builder.call(make(builder.module, scalar, n_vectors), flat)
            if result:
                builder.store(answer, value)
            builder.branch(done)
        builder.position_at_end(done)
        return builder.load(value) if result else context.get_dummy_value()


def _flatten_gather(pointer, args):
    return [pointer(1, 2), pointer(3, 4), pointer(5), pointer(6), args[7], args[8], pointer(9, 10), args[11]]


def _flatten_scatter(pointer, args):
    return [pointer(1, 2), args[3], pointer(4), pointer(5), args[6], args[7], args[8], pointer(9, 10)]


_lower(gather, _gather_function, _flatten_gather, result=False)
_lower(scatter, _scatter_function, _flatten_scatter, result=True)


# ------------------------------------------------------------------------------------------------------------ kernels


@kernel
def prefetch_entries(csr, lo, hi):
    """Prefetch the entries lo .. hi, SPARSE_AHEAD_ENTRIES at most. Rows of a shuffled batch lie anywhere in memory."""
    hi = min(hi, lo + SPARSE_AHEAD_ENTRIES)
    for p in range(lo, hi + LINE_BYTES // 4 - 1, LINE_BYTES // 4):
        prefetch(csr.indices, p)
    line = LINE_BYTES // csr.values.itemsize
    for p in range(lo, hi + line - 1, line):
        prefetch(csr.values, p)


@kernel
def sparse_product(c, ic, ldc, csr, rows, start, n, following, params, weight, bias, fan_out):
    """C <- X W + bias for n rows of X: ``rows[start : start + n]``, or from ``start`` on if ``rows`` is empty.

    ``following`` are the rows of the next call, whose entries are prefetched.

    Writes: c[ic + r*ldc + j], r < n, j < fan_out rounded up to whole vectors. Reads: csr, rows, params.
    """
    lanes = VECTOR_BYTES // c.itemsize
    for r in range(n):
        row = rows[start + r] if rows.size > 0 else start + r
        ahead = r + SPARSE_AHEAD_ROWS
        if ahead < n and rows.size > 0:
            prefetch_entries(csr, csr.indptr[rows[start + ahead]], csr.indptr[rows[start + ahead] + 1])
        elif 0 <= ahead - n < following.size:
            prefetch_entries(csr, csr.indptr[following[ahead - n]], csr.indptr[following[ahead - n] + 1])
        lo, hi = csr.indptr[row], csr.indptr[row + 1]
        for j in range(0, fan_out, MAX_VECTORS * lanes):
            n_vectors = min(MAX_VECTORS, (fan_out - j + lanes - 1) // lanes)
            gather(
                n_vectors, c, ic + r * ldc + j, params, bias + j, csr.values, csr.indices, lo, hi,
                params, weight + j, fan_out,
            )  # fmt: skip


@kernel
def sparse_dots(z, csr, rows, start, n, params, weight, bias, partial):
    """z[r] = b + x_r' w for a single output, with the partial sums and the tree of `simd.reduce.dot` on dense rows.

    Writes: z (n,). Reads: csr, rows, params. Scratch: partial (PRODUCTS,).
    """
    for r in range(n):
        row = rows[start + r] if rows.size > 0 else start + r
        partial[:PRODUCTS] = 0
        for k in range(csr.indptr[row], csr.indptr[row + 1]):
            column = csr.indices[k]
            lane = column % PRODUCTS
            partial[lane] = fma(csr.values[k], params[weight + column], partial[lane])
        half = PRODUCTS
        while half > 1:
            half //= 2
            for i in range(half):
                partial[i] += partial[i + half]
        z[r] = params[bias] + partial[0]


@kernel
def find_column(columns, lo, hi, column):
    """First of the sorted entries lo .. hi of a row whose column is at least ``column``."""
    while lo < hi:
        middle = (lo + hi) // 2
        if columns[middle] < column:
            lo = middle + 1
        else:
            hi = middle
    return lo


@kernel
def sparse_gradient(g, i0, i1, csr, rows, cursors, d, i_d, ldd, fan_out, params, weight):
    """g <- X' D of weight rows i0 .. i1, summed over the batch in order; cursors move from column i0 to column i1.

    Unless ``weight`` is negative, `prefetch_for_write` meanwhile gets these weights, W at ``weight`` in params, for the
    update that follows: other cores have read them.

    Rows of G are padded to whole vectors during the sums: a store that overlaps the next row would delay that row's
    load (fan_out 1: 4 ns an entry instead of 1.2). At the end they are moved together.

    Writes: g (i1 - i0, fan_out), and (i1 - i0, fan_out rounded up to whole vectors) as scratch; cursors (n_rows,).
    Reads: csr at ``rows`` (n_rows,), d (n_rows, ldd).
    """
    ld = whole_vectors(fan_out, g.itemsize)
    n = i1 - i0
    g[: n * ld] = 0
    panel = MAX_VECTORS * (VECTOR_BYTES // g.itemsize)
    line = LINE_BYTES // g.itemsize
    per_row = (n * fan_out // rows.size // line + 1) * line
    for r in range(rows.size):
        lo, hi = cursors[r], csr.indptr[rows[r] + 1]
        if r + SPARSE_AHEAD_ROWS < rows.size:
            prefetch_entries(csr, cursors[r + SPARSE_AHEAD_ROWS], csr.indptr[rows[r + SPARSE_AHEAD_ROWS] + 1])
        if weight >= 0:
            for i in range(r * per_row, min((r + 1) * per_row, n * fan_out), line):
                prefetch_for_write(address_of(params, weight + i0 * fan_out + i))
        for j in range(0, ld, panel):
            n_vectors = min(panel, ld - j) * g.itemsize // VECTOR_BYTES
            cursors[r] = scatter(
                n_vectors, g, j - i0 * ld, ld, csr.values, csr.indices, lo, hi, i1, d, i_d + r * ldd + j
            )  # fmt: skip
    if ld > fan_out:
        for i in range(1, n):
            for j in range(fan_out):
                g[i * fan_out + j] = g[i * ld + j]
