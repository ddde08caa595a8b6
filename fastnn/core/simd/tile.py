"""The register tile of the matrix products, as LLVM instructions.

    C[r, j] = C0[r, j] + sum_k A[r, k] B[k, j]         r < rows, j < lanes * vectors; or without C0

Elements of A are read one at a time and broadcast (any strides), B and C by vectors (stride one along j). The
accumulators stay in registers over the whole sum. Each element is one chain of fused multiply-adds over k in order, so
its bits depend neither on the tile that computed it nor on the width of the registers. A vector is 32 bytes: one AVX
register or half an AVX-512 one. A tile loads and stores whole vectors, so the caller provides padding. In a full tile
the last vector may be a half one: the halves of two rows then share a register.

A table of byte offsets may stand in for the stride between the rows of A, or between its columns: so a product reads
the rows of a batch in X itself. ``target`` has the sizes of the tiles.
"""

import inspect

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from ..compile.private import target_data
from ..tuning import FAR_ROWS
from .llvm import L1, L2, array_data, emit_fma, emit_prefetch, splat
from .target import (
    HALF,
    KINDS,
    LINE_BYTES,
    VECTOR_BYTES,
    panel_bytes,
    register_limit,
    target_features,
    tile_rows,
    tile_size,
)


def _vector_widths(n_vectors, lanes):
    """(offset, width) in elements of the registers that cover ``n_vectors`` vectors of ``lanes`` elements."""
    wide = 2 if "avx512f" in target_features() else 1
    full, half = divmod(n_vectors, wide)
    spans = [(v * wide * lanes, wide * lanes) for v in range(full)]
    return spans + [(full * wide * lanes, lanes)] * half


class _Accumulators:
    """The accumulators of a tile of ``rows`` rows, ``halves`` half vectors wide, and the part of C that each holds.

    They are one list: those of each row, a register for each of ``pieces`` of the row; then, where the width has a half
    vector at the end, those that the ends of the two rows of each of ``pairs`` share. The last of an odd number of rows
    is its own partner.
    """

    def __init__(self, scalar, rows, halves):
        lanes = VECTOR_BYTES // (4 if isinstance(scalar, ir.FloatType) else 8)
        self.rows, self.align = rows, scalar.get_abi_size(target_data())
        self.pieces = [(_int64(j), ir.VectorType(scalar, width)) for j, width in _vector_widths(halves // 2, lanes)]
        self.pairs = [(r, min(r + 1, rows - 1)) for r in range(0, rows, 2)] if halves % 2 else []
        self.end, self.half = _int64(halves // 2 * lanes), ir.VectorType(scalar, lanes // 2)
        self.joined, self.first_shared = ir.VectorType(scalar, lanes), rows * len(self.pieces)

    def load(self, builder, c0, ldc0):
        """Emit the accumulators with the elements of C0."""
        rows = [builder.gep(c0, [builder.mul(ldc0, _int64(r))]) for r in range(self.rows)]
        whole = [vector for row in rows for vector in self._load_pieces(builder, row)]
        return whole + [
            _concatenated(builder, *(self._load(builder, rows[r], self.end, self.half) for r in pair))
            for pair in self.pairs
        ]

    def add_products(self, builder, sums, a_element, b_row):
        """Emit ``sums`` plus the products of a column of A, ``a_element(r)`` emits its elements, and a row of B."""
        b_pieces = self._load_pieces(builder, b_row)
        if self.pairs:
            end = self._load(builder, b_row, self.end, self.half)
            b_ends = _concatenated(builder, end, end)
        ordered = self.first_shared >= register_limit()
        whole, shared, elements = [], [], []
        for r in range(self.rows):
            elements.append(a_element(r))
            splats = {vector.count: splat(builder, vector, elements[r]) for _, vector in self.pieces}
            row_sums = sums[len(whole) : len(whole) + len(b_pieces)]
            row = [
                emit_fma(builder, b.type, splats[b.type.count], b, total)
                for b, total in zip(b_pieces, row_sums, strict=True)
            ]
            whole += [_keep_order(builder, total) for total in row] if ordered else row
            if self.pairs and r == self.pairs[r // 2][1]:
                pair = _lower_and_upper(
                    builder, *(splat(builder, self.joined, elements[i]) for i in self.pairs[r // 2])
                )
                shared.append(emit_fma(builder, self.joined, pair, b_ends, sums[self.first_shared + r // 2]))
        return whole + shared

    def store(self, builder, c, ldc, sums):
        """Emit the stores of all accumulators to C."""
        for r in range(self.rows):
            row = builder.gep(c, [builder.mul(ldc, _int64(r))])
            for i, (j, vector) in enumerate(self.pieces):
                total = sums[r * len(self.pieces) + i]
                builder.store(total, _vector_pointer(builder, row, j, vector), align=self.align)
            if self.pairs:
                end = _half(builder, sums[self.first_shared + r // 2], r % 2)
                builder.store(end, _vector_pointer(builder, row, self.end, end.type), align=self.align)

    def _load_pieces(self, builder, row):
        return [self._load(builder, row, j, vector) for j, vector in self.pieces]

    def _load(self, builder, row, j, vector):
        return builder.load(_vector_pointer(builder, row, j, vector), align=self.align)


def _int64(value):
    return ir.Constant(ir.IntType(64), value)


def _vector_pointer(builder, base, offset, vector):
    """Emit a pointer to a vector ``offset`` elements behind ``base``."""
    return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())


def _tile_function(module, scalar, rows, halves, by_table, full):
    """The LLVM function of one tile, ``halves`` half vectors wide; defined in ``module`` on first use.

    Arguments: c, ldc, c0, ldc0, a, a_row, a_k, table, b, b_k, n_k (pointers to elements, strides in elements), and the
    prefetch hints of a ``full`` tile, line and offsets: an address, and if ``by_table`` the address of n_k offsets from
    it, else the distance from one line to the next. ``table`` points to byte offsets into A: of its columns if
    ``by_table``, else of its rows, or it is null. With a negative ``ldc0`` the sums start at zero, and C0 is not read.
    """
    i64, element = ir.IntType(64), scalar.as_pointer()
    name = f"fastnn_tile_{'s' if isinstance(scalar, ir.FloatType) else 'd'}_{rows}x{halves}{'_table' * by_table}"
    if name in module.globals:
        return module.globals[name]
    arguments = [element, i64, element, i64, element, i64, i64, i64.as_pointer(), element, i64, i64, i64, i64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    c, ldc, c0, ldc0, a, a_row, a_k, table, b, b_k, n_k, line, offsets = function.args
    accumulators = _Accumulators(scalar, rows, halves)
    entry, loop, done = (function.append_basic_block(block) for block in ("entry", "k", "done"))
    builder = ir.IRBuilder(entry)
    a_rows = _row_pointers(builder, a, a_row, None if by_table else table, rows)
    is_zero = builder.icmp_signed("<", ldc0, _int64(0))
    first = _loaded_or_zero(builder, is_zero, lambda: accumulators.load(builder, c0, ldc0))
    before = builder.block
    builder.cbranch(builder.icmp_signed(">", n_k, _int64(0)), loop, done)

    builder.position_at_end(loop)
    k = builder.phi(i64)
    k.add_incoming(_int64(0), before)
    sums = [builder.phi(total.type) for total in first]
    b_row = builder.gep(b, [builder.mul(k, b_k)])
    if full:
        _prefetch_in_step(builder, k, n_k, line, offsets, by_table)
    a_column = builder.load(builder.gep(table, [k]), align=8) if by_table else builder.mul(k, a_k)

    def a_element(r):
        row = a_rows[r]
        return builder.load(_plus_bytes(builder, row, a_column) if by_table else builder.gep(row, [a_column]))

    new_sums = accumulators.add_products(builder, sums, a_element, b_row)
    k_next, last = builder.add(k, _int64(1)), builder.block
    k.add_incoming(k_next, last)
    _add_incoming(sums, first, before, new_sums, last)
    builder.cbranch(builder.icmp_signed("<", k_next, n_k), loop, done)

    builder.position_at_end(done)
    totals = [builder.phi(total.type) for total in first]
    _add_incoming(totals, first, before, new_sums, last)
    accumulators.store(builder, c, ldc, totals)
    builder.ret_void()
    return function


def _prefetch_in_step(builder, k, n_k, line, offsets, by_table):
    """Emit the prefetch of step k of a full tile, see `_tile_function`."""
    if not by_table:
        emit_prefetch(builder, builder.add(line, builder.mul(k, offsets)), L2)
        return
    offset = builder.load(builder.gep(builder.inttoptr(offsets, ir.IntType(64).as_pointer()), [k]), align=8)
    prefetched = builder.add(line, offset)
    with builder.if_else(builder.icmp_signed(">=", n_k, _int64(FAR_ROWS))) as (far, near):
        with far:
            emit_prefetch(builder, prefetched, L2)
        with near:
            emit_prefetch(builder, prefetched, L1)


def _loaded_or_zero(builder, zero, load):
    """Emit the vectors that ``load()`` emits, or zeros if the condition ``zero`` holds."""
    start, given, end = builder.block, *(builder.append_basic_block(name) for name in ("given", "start"))
    builder.cbranch(zero, end, given)
    builder.position_at_end(given)
    loaded = load()
    builder.branch(end)
    builder.position_at_end(end)
    vectors = [builder.phi(vector.type) for vector in loaded]
    _add_incoming(vectors, [ir.Constant(v.type, [0.0] * v.type.count) for v in loaded], start, loaded, given)
    return vectors


def _add_incoming(phis, first, before, then, loop):
    """Give each of ``phis`` its value of ``first`` from block ``before``, and of ``then`` from block ``loop``."""
    for phi, start, new in zip(phis, first, then, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(new, loop)


def _concatenated(builder, lower, upper):
    """Emit the concatenation of two vectors."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), 2 * lower.type.count), list(range(2 * lower.type.count)))
    return builder.shuffle_vector(lower, upper, mask)


def _lower_and_upper(builder, lower, upper):
    """Emit a vector of the lower half of ``lower`` and the upper half of ``upper``."""
    count = lower.type.count
    lanes = [*range(count // 2), *range(count + count // 2, 2 * count)]
    return builder.shuffle_vector(lower, upper, ir.Constant(ir.VectorType(ir.IntType(32), count), lanes))


def _half(builder, vector, upper):
    """Emit the lower or the upper half of a vector."""
    count = vector.type.count // 2
    mask = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(upper * count, (upper + 1) * count)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _plus_bytes(builder, pointer, n_bytes):
    """Emit ``pointer`` plus a number of bytes."""
    byte = ir.IntType(8).as_pointer()
    return builder.bitcast(builder.gep(builder.bitcast(pointer, byte), [n_bytes]), pointer.type)


def _keep_order(builder, vector):
    """Emit an empty assembly statement that keeps later loads behind the instruction that computes ``vector``.

    Otherwise LLVM loads a whole column of A before the first multiplication and spills accumulators: an 8x6 tile took
    twice the time. The statement also keeps LLVM from unrolling the loop, which does the same harm.
    """
    if "avx" not in target_features():
        return vector
    same = ir.FunctionType(vector.type, [vector.type])
    return builder.asm(same, "", "=v,0,~{memory}", [vector], side_effect=True)


def _row_pointers(builder, a, a_row, table, rows):
    """Emit the pointers to the rows of A: ``a_row`` elements apart, or table[r] bytes behind ``a``."""
    strided = [builder.gep(a, [builder.mul(a_row, _int64(r))]) for r in range(rows)]
    if table is None:
        return strided
    start, by_table, end = builder.block, *(builder.append_basic_block(name) for name in ("table", "rows"))
    builder.cbranch(builder.icmp_unsigned("==", table, ir.Constant(table.type, None)), end, by_table)
    builder.position_at_end(by_table)
    row_offsets = [builder.load(builder.gep(table, [_int64(r)]), align=8) for r in range(rows)]
    looked_up = [_plus_bytes(builder, a, offset) for offset in row_offsets]
    builder.branch(end)
    builder.position_at_end(end)
    pointers = [builder.phi(a.type) for _ in range(rows)]
    for pointer, by_stride, by_offset in zip(pointers, strided, looked_up, strict=True):
        pointer.add_incoming(by_stride, start)
        pointer.add_incoming(by_offset, by_table)
    return pointers


def panel_buffer(like):
    """A flat array of ``like``'s dtype on the stack, at the start of a cache line, for packed panels and chunks."""
    return np.empty(panel_bytes() // like.itemsize, like.dtype)


@type_callable(panel_buffer)
def _type_panel_buffer(context):
    return lambda like: types.Array(like.dtype, 1, "C")(like)


@lower_builtin(panel_buffer, types.Array)
def _lower_panel_buffer(context, builder, sig, args):
    itemsize = sig.return_type.dtype.bitwidth // 8
    size, step = (_int64(value) for value in (panel_bytes() // itemsize, itemsize))
    with builder.goto_entry_block():
        memory = builder.alloca(context.get_data_type(sig.return_type.dtype), size=size)
        memory.align = LINE_BYTES
    array = context.make_array(sig.return_type)(context, builder)
    context.populate_array(array, data=memory, shape=[size], strides=[step], itemsize=step, meminfo=None)
    return array._getvalue()


def tile(kind, c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, table, i_table, b, ib, b_k, n_k, line, offsets):
    """One tile: ``C[r, j] = C0[r, j] + sum_k A[r, k] B[k, j]`` for the rows r and columns j of `tile_size(kind)`.

    Element (r, j) of C lies at ``c[ic + r*ldc + j]``, of C0 at ``c0[ic0 + r*ldc0 + j]``, element (r, k) of A at
    ``a[ia + r*a_row + k*a_k]``, element (k, j) of B at ``b[ib + k*b_k + j]``. With a negative ``ldc0`` C0 is zero. A
    kind that does not exist computes nothing. Rows are stored in order.

    Where ``table`` is not empty, its int64 from ``i_table`` on stand in for the stride of A that is 0: they are the
    distances in bytes of row r, or of column k, from ``a[ia]``.

    A full tile prefetches one cache line in each step of k. If it has a table of columns and ``offsets != 0``, that is
    the line at address ``line`` plus the k-th int64 at address ``offsets``. Without a table of columns it prefetches
    the lines at ``line``, ``line + offsets``, ``line + 2 offsets``, ...

    Writes: c. Reads: c0, a, b (flat arrays of one dtype), table. This body is the twin in plain Python; it neither
    reads nor writes behind the end of an array.
    """
    rows, halves = tile_size(kind)
    width = halves * VECTOR_BYTES // 2 // c.itemsize
    row_offset, k_offset = np.arange(rows) * a_row, np.arange(n_k) * a_k
    if table.size > 0 and a_row == 0:
        row_offset = table[i_table : i_table + rows] // a.itemsize
    elif table.size > 0 and a_k == 0:
        k_offset = table[i_table : i_table + n_k] // a.itemsize
    sums = np.zeros((rows, width), c.dtype)
    for r in range(rows if ldc0 >= 0 else 0):
        elements = c0[ic0 + r * ldc0 : ic0 + r * ldc0 + width]
        sums[r, : elements.size] = elements
    for k in range(n_k):
        column = np.array([a[ia + row_offset[r] + k_offset[k]] for r in range(rows)])
        elements = b[ib + k * b_k : ib + k * b_k + width]
        sums[:, : elements.size] += column[:, None] * elements
    for r in range(rows):
        elements = c[ic + r * ldc : ic + r * ldc + width]
        elements[:] = sums[r, : elements.size]


@type_callable(tile)
def _type_tile(context):
    def typer(*given):
        return types.void(*(t if i in (1, 4, 7, 11, 13) else types.int64 for i, t in enumerate(given)))

    typer.__signature__ = inspect.signature(tile)
    return typer


@lower_builtin(tile, types.VarArg(types.Any))
def _lower_tile(context, builder, sig, args):
    number, c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, table, i_table, b, ib, b_k, n_k, line, offsets = args
    scalar = context.get_data_type(sig.args[1].dtype)
    i64 = ir.IntType(64)
    zero = _int64(0)

    def pointer(position, value, offset):
        return builder.gep(array_data(context, builder, sig.args[position], value), [offset])

    table_array = context.make_array(sig.args[11])(context, builder, table)
    given = builder.icmp_signed(">", builder.extract_value(table_array.shape, 0), zero)
    by_row = builder.and_(given, builder.icmp_signed("==", a_row, zero))
    by_k = builder.and_(builder.and_(given, builder.icmp_signed("==", a_k, zero)), builder.not_(by_row))
    row_offsets = builder.gep(table_array.data, [i_table])
    row_offsets = builder.select(builder.or_(by_row, by_k), row_offsets, ir.Constant(row_offsets.type, None))
    first = pointer(7, a, ia)
    # A full tile always prefetches: without hints, the elements that it reads.
    idle = builder.and_(by_k, builder.icmp_signed("==", offsets, zero))
    line = builder.select(idle, builder.ptrtoint(first, i64), line)
    offsets = builder.select(idle, builder.ptrtoint(row_offsets, i64), offsets)
    call = [
        pointer(1, c, ic),
        ldc,
        pointer(4, c0, ic0),
        ldc0,
        first,
        a_row,
        a_k,
        row_offsets,
        pointer(13, b, ib),
        b_k,
        n_k,
    ]
    call += [line, offsets]
    done = builder.append_basic_block("tile.done")
    key = builder.add(builder.shl(number, _int64(1)), builder.zext(by_k, i64))
    switch = builder.switch(key, done)
    for kind in range(KINDS * len(tile_rows())):
        rows, halves = tile_size(kind)
        for by_table in (False, True) if rows else ():
            block = builder.append_basic_block(f"tile.{rows}x{halves}")
            switch.add_case(_int64(2 * kind + by_table), block)
            builder.position_at_end(block)
            full = kind % KINDS in (0, HALF)
            builder.call(_tile_function(builder.module, scalar, rows, halves, by_table, full), call)
            builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()
