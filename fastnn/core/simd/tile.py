"""The register tile: the one place that emits LLVM.

    C[r, j] = C0[r, j] + sum_k A[r, k] B[k, j]         r < rows, j < UNIT * units; or without C0

A is read one element at a time and broadcast (any strides), B and C by whole vectors (unit stride along j). The
accumulators stay in registers over the whole sum; each element is one chain of fused multiply-adds over k in order, so
its bits do not depend on the tile that computed it, nor on the width of the vectors. ``UNIT`` columns are 32 bytes: one
AVX vector or half an AVX-512 one. A tile always loads and stores whole units: the caller provides the room. In a full
tile the last unit may be a half one: the halves of two rows then share a vector.

A may also be read by a table: of where its rows lie, or its columns. So the rows of a batch are taken from X itself.
Which tiles there are says ``host``.
"""

import functools
import inspect

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from ..compile.private import target_data
from .target import (
    HALF,
    KINDS,
    LINE_BYTES,
    VECTOR_BYTES,
    has_fma,
    panel_bytes,
    register_limit,
    target_features,
    tile_rows,
    tile_size,
)

L1, L2 = 3, 2  # how near a line is asked for, in LLVM's terms
# Of so many rows of the next batch a first cache cannot hold what a product asks for. (Epochs of 784-100-10 with 200
# rows, Zen 5: .96 of the time on one thread, .97 on two with the second cache; of 128-96-10 with 32 rows 1.06, 1.01.)
FAR_ROWS = 128


def emit_fma(builder, vector, a, b, c):
    """Emit a * b + c on values of LLVM type ``vector``, fused where the host can."""
    if not has_fma():
        return builder.fadd(builder.fmul(a, b), c)
    scalar = vector.element if isinstance(vector, ir.VectorType) else vector
    width = f"v{vector.count}" if isinstance(vector, ir.VectorType) else ""
    name = f"llvm.fma.{width}{'f32' if isinstance(scalar, ir.FloatType) else 'f64'}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    return builder.call(function, [a, b, c])


def array_data(context, builder, array_type, value):
    """Pointer to the first element of an array value."""
    return context.make_array(array_type)(context, builder, value).data


def _vector_widths(n_vectors, lanes):
    """Widths in elements, and offsets, of the vectors that cover ``n_vectors`` units of ``lanes`` elements."""
    wide = 2 if "avx512f" in target_features() else 1
    full, half = divmod(n_vectors, wide)
    parts = [(v * wide * lanes, wide * lanes) for v in range(full)]
    return parts + [(full * wide * lanes, lanes)] * half


def _tile_function(module, scalar, rows, halves, by_table, full):
    """The LLVM function of one tile of ``halves`` half units; defined in ``module`` on first use.

    Arguments: c, ldc, c0, ldc0, a, a_row, a_k, at, b, b_k, n_k (pointers to elements, strides in elements), and what a
    ``full`` tile prefetches: an address, and if ``by_table`` the address of n_k offsets from it, else the distance from
    one line to the next. ``at`` points to byte offsets into A: of its columns if ``by_table``, else of its rows, or it
    is null. With a negative ``ldc0`` the sums start at zero, and C0 is not read.
    """
    i64, element = ir.IntType(64), scalar.as_pointer()
    const, align = functools.partial(ir.Constant, i64), scalar.get_abi_size(target_data())
    name = f"fastnn_tile_{'s' if isinstance(scalar, ir.FloatType) else 'd'}_{rows}x{halves}{'_table' * by_table}"
    if name in module.globals:
        return module.globals[name]
    arguments = [element, i64, element, i64, element, i64, i64, i64.as_pointer(), element, i64, i64, i64, i64]
    signature = ir.FunctionType(ir.VoidType(), arguments)
    function = ir.Function(module, signature, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    c, ldc, c0, ldc0, a, a_row, a_k, at, b, b_k, n_k, line, offsets = function.args
    lanes = VECTOR_BYTES // (4 if isinstance(scalar, ir.FloatType) else 8)
    parts = _vector_widths(halves // 2, lanes)
    vectors = [ir.VectorType(scalar, width) for _, width in parts]
    # All sums in one list: those of each row, then those that two rows share.
    pairs = [(r, min(r + 1, rows - 1)) for r in range(0, rows, 2)] if halves % 2 else []
    n_parts, shared = len(parts), rows * len(parts)
    tail, half, joined = const(halves // 2 * lanes), ir.VectorType(scalar, lanes // 2), ir.VectorType(scalar, lanes)

    def address(builder, base, offset, vector):
        pointer = builder.gep(base, [offset])
        return builder.bitcast(pointer, vector.as_pointer())

    def load(builder, base, offset, vector):
        return builder.load(address(builder, base, offset, vector), align=align)

    entry = function.append_basic_block("entry")
    loop, done = function.append_basic_block("k"), function.append_basic_block("done")
    builder = ir.IRBuilder(entry)
    a_rows = _row_pointers(builder, a, a_row, None if by_table else at, rows)

    def load_c0():
        bases = [builder.gep(c0, [builder.mul(ldc0, const(r))]) for r in range(rows)]
        loaded = [load(builder, b, const(j), v) for b in bases for (j, _), v in zip(parts, vectors, strict=True)]
        return loaded + [_joined(builder, *(load(builder, bases[r], tail, half) for r in pair)) for pair in pairs]

    first = _loaded_or_zero(builder, builder.icmp_signed("<", ldc0, const(0)), load_c0)
    before = builder.block
    builder.cbranch(builder.icmp_signed(">", n_k, const(0)), loop, done)

    builder.position_at_end(loop)
    k = builder.phi(i64)
    k.add_incoming(const(0), before)
    sums = [builder.phi(v.type) for v in first]
    b_row = builder.gep(b, [builder.mul(k, b_k)])
    if full and by_table:
        offset = builder.load(builder.gep(builder.inttoptr(offsets, i64.as_pointer()), [k]), align=8)
        asked = builder.add(line, offset)
        with builder.if_else(builder.icmp_signed(">=", n_k, const(FAR_ROWS))) as (far, near):
            with far:
                emit_prefetch(builder, asked, L2)
            with near:
                emit_prefetch(builder, asked, L1)
    elif full:
        emit_prefetch(builder, builder.add(line, builder.mul(k, offsets)), L2)
    a_k0 = builder.load(builder.gep(at, [k]), align=8) if by_table else builder.mul(k, a_k)
    b_vectors = [load(builder, b_row, const(j), v) for (j, _), v in zip(parts, vectors, strict=True)]
    if pairs:
        end = load(builder, b_row, tail, half)
        b_pair = _joined(builder, end, end)
    fused, values, fused_pairs = [], [], []
    for r in range(rows):
        value = builder.load(_beyond(builder, a_rows[r], a_k0) if by_table else builder.gep(a_rows[r], [a_k0]))
        values.append(value)
        splats = {v.count: splat(builder, v, value) for v in vectors}
        row = [
            emit_fma(builder, v, splats[v.count], b_vectors[i], sums[r * n_parts + i]) for i, v in enumerate(vectors)
        ]
        fused += [_finished(builder, value) for value in row] if shared >= register_limit() else row
        if pairs and r == pairs[r // 2][1]:
            pair = _halves_of(builder, *(splat(builder, joined, values[i]) for i in pairs[r // 2]))
            fused_pairs.append(emit_fma(builder, joined, pair, b_pair, sums[shared + r // 2]))
    fused += fused_pairs
    k_next = builder.add(k, const(1))
    last = builder.block
    k.add_incoming(k_next, last)
    _meet(sums, first, before, fused, last)
    builder.cbranch(builder.icmp_signed("<", k_next, n_k), loop, done)

    builder.position_at_end(done)
    totals = [builder.phi(v.type) for v in first]
    _meet(totals, first, before, fused, last)
    for r in range(rows):
        base = builder.gep(c, [builder.mul(ldc, const(r))])
        for i, ((j, _), v) in enumerate(zip(parts, vectors, strict=True)):
            builder.store(totals[r * n_parts + i], address(builder, base, const(j), v), align=align)
        if pairs:
            end = _half_of(builder, totals[shared + r // 2], r % 2)
            builder.store(end, address(builder, base, tail, end.type), align=align)
    builder.ret_void()
    return function


def _loaded_or_zero(builder, zero, load):
    """Emit zeros if ``zero``, else the vectors that ``load()`` emits, as many."""
    start, given, end = builder.block, *(builder.append_basic_block(name) for name in ("given", "start"))
    builder.cbranch(zero, end, given)
    builder.position_at_end(given)
    loaded = load()
    builder.branch(end)
    builder.position_at_end(end)
    vectors = [builder.phi(vector.type) for vector in loaded]
    _meet(vectors, [ir.Constant(v.type, [0.0] * v.type.count) for v in loaded], start, loaded, given)
    return vectors


def _meet(phis, first, before, then, loop):
    """Let each of ``phis`` be its value of ``first`` on the way from one block, of ``then`` on the way from another."""
    for phi, start, new in zip(phis, first, then, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(new, loop)


def _joined(builder, lower, upper):
    """Emit the vector of the elements of two."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), 2 * lower.type.count), list(range(2 * lower.type.count)))
    return builder.shuffle_vector(lower, upper, mask)


def _halves_of(builder, lower, upper):
    """Emit the lower half of one vector and the upper half of another as one."""
    count = lower.type.count
    lanes = [*range(count // 2), *range(count + count // 2, 2 * count)]
    return builder.shuffle_vector(lower, upper, ir.Constant(ir.VectorType(ir.IntType(32), count), lanes))


def _half_of(builder, vector, upper):
    """Emit half of a vector, the lower or the upper one."""
    count = vector.type.count // 2
    mask = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(upper * count, (upper + 1) * count)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _beyond(builder, pointer, n_bytes):
    """Emit a pointer moved by a number of bytes."""
    byte = ir.IntType(8).as_pointer()
    return builder.bitcast(builder.gep(builder.bitcast(pointer, byte), [n_bytes]), pointer.type)


def _finished(builder, vector):
    """Emit nothing, but keep what is loaded later behind the instruction that makes ``vector``.

    LLVM likes to load a whole column of A before the first multiplication, and then some sums have no register: an 8x6
    tile took twice the time. It also keeps it from unrolling the loop, for the same harm.
    """
    if "avx" not in target_features():
        return vector
    same = ir.FunctionType(vector.type, [vector.type])
    return builder.asm(same, "", "=v,0,~{memory}", [vector], side_effect=True)


def _row_pointers(builder, a, a_row, at, rows):
    """Emit the pointers to the first elements of a tile's rows of A: ``a_row`` apart, or at[r] bytes from ``a``."""
    strided = [builder.gep(a, [builder.mul(a_row, ir.Constant(ir.IntType(64), r))]) for r in range(rows)]
    if at is None:
        return strided
    start, table, end = builder.block, *(builder.append_basic_block(name) for name in ("table", "rows"))
    builder.cbranch(builder.icmp_unsigned("==", at, ir.Constant(at.type, None)), end, table)
    builder.position_at_end(table)
    row_offsets = [builder.load(builder.gep(at, [ir.Constant(ir.IntType(64), r)]), align=8) for r in range(rows)]
    placed = [_beyond(builder, a, place) for place in row_offsets]
    builder.branch(end)
    builder.position_at_end(end)
    pointers = [builder.phi(a.type) for _ in range(rows)]
    for pointer, stride, place in zip(pointers, strided, placed, strict=True):
        pointer.add_incoming(stride, start)
        pointer.add_incoming(place, table)
    return pointers


def emit_prefetch(builder, address, cache):
    """Emit a request for the cache line at an address given as an integer, FIRST_CACHE or SECOND_CACHE."""
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    function_type = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    read, keep, data = (ir.Constant(i32, value) for value in (0, cache, 1))
    builder.call(function, [builder.inttoptr(address, byte), read, keep, data])


def splat(builder, vector, value):
    """Emit a vector of type ``vector`` whose elements all are ``value``."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def address_of(array, i):
    """Address of ``array[i]`` as an integer; in plain Python, where nothing is prefetched, 0."""
    return 0


@type_callable(address_of)
def _type_address_of(context):
    return lambda array, i: types.int64(array, types.int64)


@lower_builtin(address_of, types.Array, types.Integer)
def _lower_address_of(context, builder, sig, args):
    element = builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]])
    return builder.ptrtoint(element, ir.IntType(64))


def panel_room(like):
    """A flat array of ``like``'s dtype on the stack, that begins a cache line: room for what a product packs."""
    return np.empty(panel_bytes() // like.itemsize, like.dtype)


@type_callable(panel_room)
def _type_panel_room(context):
    return lambda like: types.Array(like.dtype, 1, "C")(like)


@lower_builtin(panel_room, types.Array)
def _lower_panel_room(context, builder, sig, args):
    itemsize = sig.return_type.dtype.bitwidth // 8
    size, step = (ir.Constant(ir.IntType(64), value) for value in (panel_bytes() // itemsize, itemsize))
    with builder.goto_entry_block():
        memory = builder.alloca(context.get_data_type(sig.return_type.dtype), size=size)
        memory.align = LINE_BYTES
    array = context.make_array(sig.return_type)(context, builder)
    context.populate_array(array, data=memory, shape=[size], strides=[step], itemsize=step, meminfo=None)
    return array._getvalue()


def word_at(address, i):
    """The i-th int64 at an address; in plain Python, where there are none, 0."""
    return 0


@type_callable(word_at)
def _type_word_at(context):
    return lambda address, i: types.int64(types.int64, types.int64)


@lower_builtin(word_at, types.Integer, types.Integer)
def _lower_word_at(context, builder, sig, args):
    words = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
    return builder.load(builder.gep(words, [args[1]]), align=8)


def prefetch_for_write(address):
    """Make the cache line at an address this core's to write, by storing there the word it holds; 0 is no address.

    A store to a line that another core has read waits until that core has given it up, and stores wait in line.
    Nobody else may be writing the word.
    """


@type_callable(prefetch_for_write)
def _type_prefetch_for_write(context):
    return lambda address: types.void(types.int64)


@lower_builtin(prefetch_for_write, types.Integer)
def _lower_prefetch_for_write(context, builder, sig, args):
    word = ir.IntType(32)
    pointer = builder.inttoptr(args[0], word.as_pointer())
    value = builder.load_atomic(pointer, ordering="monotonic", align=4)  # "atomic": or the compiler would drop it
    builder.store_atomic(value, pointer, ordering="monotonic", align=4)
    return context.get_dummy_value()


def tile(kind, c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, at, i_at, b, ib, b_k, n_k, line, offsets):
    """One tile: ``C[r, j] = C0[r, j] + sum_k A[r, k] B[k, j]`` for as many r and j as `tile_size` of its kind says.

    Element (r, j) of C lies at ``c[ic + r*ldc + j]``, of C0 at ``c0[ic0 + r*ldc0 + j]``, element (r, k) of A at
    ``a[ia + r*a_row + k*a_k]``, element (k, j) of B at ``b[ib + k*b_k + j]``. With a negative ``ldc0`` C0 is zero. A
    kind that does not exist computes nothing. Rows are stored in order.

    Where ``at`` is not empty, its int64 from ``i_at`` on stand in for the stride of A that is 0: row r, or column k,
    lies so many bytes behind ``a[ia]``.

    While it sums over columns by table, a full tile with ``offsets != 0`` asks for the cache lines at address ``line``
    plus the k-th int64 at address ``offsets``: one line for each step of k, so memory works while the tile computes. A
    full tile that has no columns by table asks for the lines at ``line``, ``line + offsets``, ``line + 2 offsets``, ...

    Writes: c. Reads: c0, a, b (flat arrays of one dtype), at. This body is the slow, obvious twin of the emitted code;
    it neither reads nor writes what lies behind the end of an array.
    """
    rows, halves = tile_size(kind)
    width = halves * VECTOR_BYTES // 2 // c.itemsize
    row_at, k_at = np.arange(rows) * a_row, np.arange(n_k) * a_k
    if at.size > 0 and a_row == 0:
        row_at = at[i_at : i_at + rows] // a.itemsize
    elif at.size > 0 and a_k == 0:
        k_at = at[i_at : i_at + n_k] // a.itemsize
    sums = np.zeros((rows, width), c.dtype)
    for r in range(rows if ldc0 >= 0 else 0):
        elements = c0[ic0 + r * ldc0 : ic0 + r * ldc0 + width]
        sums[r, : elements.size] = elements
    for k in range(n_k):
        column = np.array([a[ia + row_at[r] + k_at[k]] for r in range(rows)])
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
    number, c, ic, ldc, c0, ic0, ldc0, a, ia, a_row, a_k, at, i_at, b, ib, b_k, n_k, line, offsets = args
    scalar = context.get_data_type(sig.args[1].dtype)
    i64 = ir.IntType(64)
    zero = ir.Constant(i64, 0)

    def pointer(position, value, offset):
        return builder.gep(array_data(context, builder, sig.args[position], value), [offset])

    table = context.make_array(sig.args[11])(context, builder, at)
    given = builder.icmp_signed(">", builder.extract_value(table.shape, 0), zero)
    by_row = builder.and_(given, builder.icmp_signed("==", a_row, zero))
    by_k = builder.and_(builder.and_(given, builder.icmp_signed("==", a_k, zero)), builder.not_(by_row))
    row_offsets = builder.gep(table.data, [i_at])
    row_offsets = builder.select(builder.or_(by_row, by_k), row_offsets, ir.Constant(row_offsets.type, None))
    first = pointer(7, a, ia)
    # A full tile always prefetches: with nothing to ask for, it asks for what it is reading.
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
    key = builder.add(builder.shl(number, ir.Constant(i64, 1)), builder.zext(by_k, i64))
    switch = builder.switch(key, done)
    for kind in range(KINDS * len(tile_rows())):
        rows, halves = tile_size(kind)
        for by_table in (False, True) if rows else ():
            block = builder.append_basic_block(f"tile.{rows}x{halves}")
            switch.add_case(ir.Constant(i64, 2 * kind + by_table), block)
            builder.position_at_end(block)
            full = kind % KINDS in (0, HALF)
            builder.call(_tile_function(builder.module, scalar, rows, halves, by_table, full), call)
            builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()
