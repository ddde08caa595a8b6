"""The arrays that training changes: parameters, optimizer state and work buffers.

Only this module allocates arrays for compiled code. Parameters are one flat vector without gaps, W_0, b_0, W_1, ...;
``coefs`` and ``intercepts`` are views of it, so writing into them changes the network.
"""

import operator
import weakref
import zlib

import numpy as np
import scipy.sparse as sp

from .core.engine.shards import step_scalars_size
from .core.nn.optimizers import SINKS
from .core.nn.sparse_network import sparse_scratch_size
from .core.nn.update import GROUP, scratch_size
from .core.parallel.barrier import barrier_size
from .core.parallel.partition import CLOCK
from .core.parallel.stealing import stealing_size
from .core.records import ALIKE, EARLIER_MASKS, N_PROGRESS, SEED, Buffers
from .core.simd.target import LINE_BYTES, few_registers
from .core.tuning import LARGE_LAYER
from .plan import averaging_beta, copies_input, moment_stride, n_moments
from .spec import PADDING, keeps_inputs, n_params

PAGE_BYTES = 4096
EXCHANGED = 1 << 14  # parameters that are exchanged with their averages at a time


class State:
    """Parameters and optimizer state of one network.

    Attributes
    ----------
    params : ndarray of shape (n_params,)
        Weights and biases.
    moments : ndarray of shape (n_moments, n_params)
        Optimizer state; first and second moments for adam, the velocity for sgd with momentum. A view of the first
        columns of ``moment_rows``, whose rows have `plan.moment_stride` elements.
    learned : ndarray of shape (n_params,)
        What is evaluated and published: ``params``, or their averages where the optimizer keeps such, see
        `optimizers.schedule_free` and `optimizers.average_weights`.
    step : int
        Optimizer steps taken.
    coefs, intercepts : list of ndarray
        Views of ``params``, of shapes (fan_in, fan_out) and (fan_out,).
    masks : tuple of int
        Seed of dropout, and the steps made with it before the first of this optimizer.
    """

    def __init__(self, layout, params, moment_rows, step=0, beta=None, averaged=False):
        self.params = params
        self.moment_rows = moment_rows
        self.moments = moment_rows[:, : params.size]
        self._beta = beta  # beta_1 of schedule-free averages, else None
        self._averages = self.moments[-1] if averaged else None  # moving averages of the weights
        self.learned = self._averages if averaged else params if beta is None else self.moments[1]
        self.step, self.masks = step, (0, 0)
        self.coefs, self.intercepts = split(layout, params)

    def adopt(self, coefs, intercepts):
        """Copy weights of the right shapes into the parameters."""
        for own, given in zip(self.coefs + self.intercepts, [*coefs, *intercepts], strict=True):
            if own is not given:
                own[...] = _dense(given)

    def begin(self):
        """Begin with a new optimizer at the present parameters."""
        if self._beta is not None:
            self.moments[:2] = self.params
        if self._averages is not None:
            self._averages[...] = self.params

    def resume(self, moments, step, published=None):
        """Continue with an optimizer's moments after ``step`` steps; the present parameters are those learned.

        Where they are moving averages, and the checksum ``published`` is theirs, training goes on with the weights that
        the moments hold in their place. Averages that someone has changed since are what it goes on with.

        Raises
        ------
        ValueError
            When the shape of the moments does not fit this network and solver.
        """
        if np.shape(moments) != self.moments.shape:
            raise ValueError(
                f"The optimizer's moments have shape {np.shape(moments)}, this network's have {self.moments.shape}: "
                "weights were exchanged for those of another network. Delete _optimizer to begin anew."
            )
        self.moments[...] = moments
        if self._beta is not None:
            (z, x, _), self.moments[1] = self.moments, self.params
            self.params[...] = z + self._beta * (x - z)
        if self._averages is not None:
            self._exchange(keep=self.checksum() != published)
        self.step = step

    def restore(self, moments, step, params, averages):
        """Continue with ``params`` and, where there are averages of them, with ``averages``; else as `resume`."""
        self.moments[...], self.step = moments, step
        if self._averages is not None:
            self._averages[...] = averages
        self.params[...] = params

    def published_moments(self):
        """A copy of the moments as `publish` leaves them, and what `checksum` is then."""
        moments = self.moments.copy()
        if self._averages is None:
            return moments, None
        moments[-1] = self.params
        return moments, zlib.crc32(self._averages)

    @property
    def averaged(self):
        """Whether there are moving averages of the weights."""
        return self._averages is not None

    def _exchange(self, keep=False):
        """Exchange the parameters and their averages, piece by piece, or set the averages to parameters that stay."""
        for start in range(0, self.params.size, EXCHANGED):
            params, averages = (each[start : start + EXCHANGED] for each in (self.params, self._averages))
            given = params.copy()
            if not keep:
                params[...] = averages
            averages[...] = given

    def checksum(self):
        """A number that tells averages which were published from others; None where there are none."""
        return None if self._averages is None else zlib.crc32(self.params)

    def publish(self, params=None):
        """Set ``params`` to these, or to those learned. Training cannot go on with this state.

        The weights of which these are moving averages go to the place of the averages, for `resume`.
        """
        if self._averages is not None:
            self._exchange()
            self.learned = self.params
        params = self.learned if params is None else params
        if params is not self.params:
            self.params[...] = params

    @property
    def learns(self):
        """Whether no element of the last state array is infinite, else its weight would never change again.

        That array holds squares of gradients, where an optimizer keeps any: they overflow first.
        """
        moments = self.moments if self._averages is None else self.moments[:-1]
        return not moments.size or bool(np.isfinite(np.maximum.reduce(moments[-1])))

    def converted(self, layout, dtype):
        """The same parameters in another dtype, without moments; those that are too large become infinite."""
        params = with_padding(self.params.size, dtype)
        params[...] = self.params
        return State(layout, params, np.empty((0, params.size), dtype))


def new_state(layout, plan):
    """State with all parameters and moments zero."""
    dtype = np.dtype(type(plan.alpha))
    n = int(plan.n_params)
    rows, stride = n_moments(plan), int(plan.moment_stride)
    moments = with_padding(rows * stride, dtype, moment_stride(0, rows) * dtype.itemsize)
    beta = averaging_beta(plan)
    averaged = plan.ema_weight > 0
    return State(layout, with_padding(n, dtype), moments.reshape(rows, stride), beta=beta, averaged=averaged)


def with_padding(n, dtype, phase=0):
    """Zeros of length ``n`` that start ``phase`` bytes into a page, with elements of padding behind them in memory.

    They start a cache line, so a weight row of 16 float32 is one line. (Products of 512 sparse rows of 100 entries with
    such weights, Zen 4: 81 us; 109 where a weight row lies on two lines.) The phase keeps loads from waiting for stores
    to other arrays, see `plan.moment_stride`.
    """
    return _placed(np.zeros(n + PADDING + PAGE_BYTES // np.dtype(dtype).itemsize, dtype), n, phase)


def with_padding_each(sizes, phases, dtype):
    """Several arrays as `with_padding` makes them, of one piece of memory; those of size 0 are nowhere.

    (Nine arrays take 19 us, and 50 one by one: Zen 3.)
    """
    page, itemsize, starts, end = PAGE_BYTES // dtype.itemsize, dtype.itemsize, [], 0
    for n, phase in zip(sizes, phases, strict=True):
        start = -(-end // page) * page + phase // itemsize
        starts.append(start)
        end = start + n + PADDING if n else end
    memory = with_padding(end, dtype)
    return [memory[start : start + n] for start, n in zip(starts, sizes, strict=True)]


def _placed(memory, n, phase=0):
    """The ``n`` elements of a flat array that start ``phase`` bytes into a page."""
    start = (phase - memory.ctypes.data) % PAGE_BYTES // memory.itemsize
    return memory[start : start + n]


def split(layout, params):
    """Views of a flat parameter vector: weights and biases of each layer."""
    coefs, intercepts = [], []
    for layer, (fan_in, fan_out) in enumerate(zip(layout.units[:-1], layout.units[1:], strict=True)):
        weight, bias = layout.weight[layer], layout.bias[layer]
        coefs.append(params[weight:bias].reshape(fan_in, fan_out))
        intercepts.append(params[bias : bias + fan_out])
    return coefs, intercepts


def flat_params(layout, dtype, coefs, intercepts):
    """The flat vector of lists of weights and biases.

    No copy is made where they are still the views of one vector of `State`; else they are copied into a new one.

    Raises
    ------
    ValueError
        When the number of layers or a shape is not that of ``layout``.
    """
    params = own_vector(layout, dtype, coefs, intercepts)
    if params is not None:
        return params
    params = with_padding(n_params(layout), dtype)
    own = split(layout, params)
    _check_shapes("coefs_", own[0], coefs)
    _check_shapes("intercepts_", own[1], intercepts)
    for target, source in zip(own[0] + own[1], [*coefs, *intercepts], strict=True):
        target[...] = _dense(source)
    return params


def _dense(weights):
    """Weights that someone has set as a sparse matrix, pruned ones for instance, as an array."""
    return weights.toarray() if sp.issparse(weights) else weights


# The last vector that `own_vector` found: weak references to its memory and to its views, and its first element.
_last_found = lambda: None, (), 0


def own_vector(layout, dtype, coefs, intercepts):
    """The vector, with padding behind it, of which these arrays still are the views; None where they are not.

    Array objects that were its views in the last call are so still, if their shapes are: that takes no look at
    addresses. (A prediction of one row, Zen 4: 20 us, with addresses 27.)
    """
    global _last_found
    n = n_params(layout)
    base = coefs[0].base if len(coefs) and isinstance(coefs[0], np.ndarray) else None
    if isinstance(base, np.ndarray) and base.dtype == dtype and base.ndim == 1:
        spare = base.size - n
        if spare in (PADDING, PADDING + PAGE_BYTES // base.itemsize):  # a pickle's vector, a vector of `with_padding`
            memory, views, start = _last_found
            arrays = [*coefs, *intercepts]
            known = memory() is base and len(arrays) == len(views)
            known = known and all(view() is array for view, array in zip(views, arrays, strict=True))
            params = base[start : start + n] if known else base[:n] if spare == PADDING else _placed(base, n)
            if _are_views(params, layout.units.tolist(), coefs, intercepts, known):
                if not known:
                    start = (_address(params) - _address(base)) // base.itemsize
                    _last_found = weakref.ref(base), tuple(map(weakref.ref, arrays)), start
                return params
    return None


def _are_views(base, units, coefs, intercepts, known):
    """Whether these are the arrays that `split` makes of ``base``. It runs in every prediction and makes no arrays.

    ``known`` says that their addresses are.
    """
    if not base.flags.c_contiguous or not base.flags.aligned or not len(coefs) == len(intercepts) == len(units) - 1:
        return False
    address = 0 if known else _address(base)
    for coef, intercept, *shape in zip(coefs, intercepts, units[:-1], units[1:], strict=True):
        for array, expected in ((coef, tuple(shape)), (intercept, (shape[1],))):
            fits = isinstance(array, np.ndarray) and array.dtype == base.dtype and array.shape == expected
            if not fits or not array.flags.c_contiguous or not (known or _address(array) == address):
                return False
            address += array.nbytes
    return True


def _address(array):
    return array.__array_interface__["data"][0]


def _check_shapes(name, expected, given):
    if len(expected) != len(given):
        raise ValueError(f"{name} must hold {len(expected)} arrays, one for each layer, got {len(given)}.")
    for i, (e, g) in enumerate(zip(expected, given, strict=True)):
        if np.shape(g) != e.shape:
            raise ValueError(f"{name}[{i}] must have shape {e.shape}, got {np.shape(g)}.")


def make_buffers(layout, plan, state, n_threads, sparse=False):
    """Work buffers for mini-batches of ``plan.batch_size`` rows on at most ``n_threads`` threads.

    Rows of X are gathered only for a dense network without hidden layers; else the layout must be `without_input`.

    Returns
    -------
    buffers : Buffers
        ``params`` and ``moments`` are those of ``state``; the other arrays are new.
    workspace_size : int
        Elements of each thread's workspace.
    """
    dtype, batch = state.params.dtype, int(plan.batch_size)
    units, strides = layout.units.tolist(), layout.stride.tolist()  # sums of few Python ints take less than NumPy's
    n_splits = int(plan.n_splits) if plan.n_splits > 1 else 0
    n_activations = sum(strides[int(sparse or len(units) > 2) : -1]) * batch
    workspace_size = (sparse_scratch_size if sparse else scratch_size)(units, strides)
    n_workspaces = 1 if plan.n_shards > 1 else n_threads  # with shards each thread has buffers: `shard_buffers`
    # Arrays start a cache line, each with its own phase, see `with_padding`. (20-100-1 with 200 rows, Zen 4: an epoch
    # takes 10 % less than with arrays that start anywhere; 784-30-10 with 10 rows 2 % less than with phase 0 for all.)
    placed = {
        "gradient": (int(plan.n_params) if plan.sink in SINKS else 0, 0),
        "transposed": (sum(map(operator.mul, strides[1:-1], units[2:])), 0),
        "activations": (n_activations, 1024),
        "inputs": (n_activations if keeps_inputs(layout) else 0, 3072),
        "deltas": (sum(strides[1:]) * batch, 3072),
        "dropped_input": (batch * units[0] if copies_input(plan) else 0, 0),
        "split_sums": (batch * strides[1] * n_splits, 0),
        "shard_gradients": (int(2 * plan.n_shards * plan.shard_stride) if plan.n_shards > 1 else 0, 0),
        "scratch": (n_workspaces * workspace_size, 2048),
    }
    progress = np.zeros(N_PROGRESS, np.int64)
    progress[ALIKE] = 1
    progress[SEED], progress[EARLIER_MASKS] = state.masks
    step_scalars = with_padding(step_scalars_size(int(plan.n_shards)), np.float64)
    step_scalars[:] = 1
    buffers = Buffers(
        params=state.params,
        moments=state.moment_rows.reshape(-1),
        row_loss=np.zeros(batch, dtype),
        squares=np.zeros(sum(-(-n // GROUP) for n in units[:-1]), dtype),
        one=np.ones(1, dtype),
        row_offsets=np.zeros(2 * batch, np.int64),
        offsets=np.zeros(n_threads * batch, np.int64),
        column_bounds=np.empty(0, np.int64),
        level_rows=_level_rows(units, strides, batch, dtype.itemsize),
        prefetch_lines=prefetch_lines_of(state, batch),
        fractions=np.tile(np.arange(1.0, n_threads + 1) / n_threads, 2),
        clocks=np.zeros(n_threads * CLOCK, np.int64),
        stealing=np.zeros(stealing_size(n_threads, n_splits), np.int64),
        barrier=np.zeros(barrier_size(n_threads), np.int64),
        progress=progress,
        step_scalars=step_scalars,
        **dict(zip(placed, with_padding_each(*zip(*placed.values(), strict=True), dtype), strict=True)),
    )
    return buffers, workspace_size


def _level_rows(units, strides, batch, itemsize):
    if max(map(operator.mul, units, units[1:])) < LARGE_LAYER:
        return np.empty(0, np.int64)
    return np.multiply.outer(np.array(strides[:-1], np.int64) * itemsize, np.arange(batch, dtype=np.int64)).reshape(-1)


def shard_buffers(layout, plan, buffers, n_threads):
    """The buffers of each thread that learns shards of a batch, with its own copy of the parameters and their state.

    Returns
    -------
    list of Buffers
        The first is ``buffers``; without shards it is the only one.
    """
    if plan.n_shards == 1:
        return [buffers]
    shared = {name: getattr(buffers, name) for name in ("shard_gradients", "barrier", "progress", "step_scalars")}
    sets = [buffers]
    for _ in range(1, n_threads):
        own, _ = make_buffers(layout, plan._replace(n_shards=np.int64(1)), new_state(layout, plan), 1)
        sets.append(own._replace(**shared))
    return sets


def prefetch_lines_of(state, n):
    """Offsets of n cache lines that an update of the first weights reads: of the parameters and of each state array.

    Returns
    -------
    lines : ndarray of int64
        Bytes from ``params`` to n lines, the same number in each array; the last element is the number of bytes that
        they cover of each. Where tiles are narrow: bytes to the first line of each array, and the number of arrays.
    """
    first = state.params.ctypes.data
    arrays = [first] + [row.ctypes.data for row in state.moment_rows]
    if few_registers():
        return np.array([address - first for address in arrays] + [len(arrays)], dtype=np.int64)
    each = n // len(arrays)
    prefetch_lines = np.zeros(n + 1, np.int64)
    for i, address in enumerate(arrays):
        prefetch_lines[i * each : (i + 1) * each] = address - first + LINE_BYTES * np.arange(each, dtype=np.int64)
    prefetch_lines[n] = LINE_BYTES * each
    return prefetch_lines
