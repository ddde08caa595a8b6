"""The training loop: shuffle, compiled calls, a record of each epoch. A generator, whose consumer decides when to stop.

It never uses the user's objects, prints, or calls the user's code, but for a schedule that is the user's function.
"""

import math
import time
from functools import partial
from typing import NamedTuple

import numpy as np

from .core.compile.packing import pack_sets
from .core.engine import entries
from .core.nn.optimizers import SINKS, STORE
from .core.nn.update import GROUP
from .core.records import ALPHA, BATCH, DERIVED, EARLIER_STEPS, RATE, SCALE, SCHEDULED, STEPS, WEIGHT_SUM, Examples
from .core.simd.spmm import as_csr
from .core.tuning import CHUNKS_PER_THREAD, MANY_DRAWS, ROW_COST, UPDATE_FLOPS
from .journal import training_begins
from .load_balance import LoadBalance
from .plan import copies_input, implementations_of, max_copied_weights, programmed
from .spec import make_layout, without_input
from .state import State, make_buffers, shard_buffers
from .threads import TRIAL_FLOPS, TUNED_FLOPS, ThreadCountTuner, runner, threads_for

CHUNK_ROWS = 1024  # rows of the full batch whose activations are in memory at the same time
CALL_FLOPS = 5e9  # work of one compiled call, about 0.1 s on one core: Python sees Ctrl-C between calls
EXACT = 32  # most losses that are added exactly, which takes a list
NO_INDICES, NO_ROWS, NOTHING_SCHEDULED = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0)
ONE_ROW = np.zeros(1, np.int64)


class EpochRecord(NamedTuple):
    """One epoch: a pass over the training rows."""

    loss: float  # as in scikit-learn's loss_curve_: losses of the batches before their steps, averaged over rows
    n_steps: int
    finite: bool
    seconds: float


def step_flops(layout, n_rows, csr=None):
    """Floating-point operations of one mini-batch: three products for each layer, two for the first.

    With sparse X the first layer's products are small, and the update of its weights is added.
    """
    products = (layout.units[:-1] * layout.units[1:]).astype(float)
    updates = 0.0
    if csr is not None:
        updates = UPDATE_FLOPS * products[0]
        products[0] = csr.values.size / (csr.indptr.size - 1) * layout.units[1]
    return 2.0 * n_rows * (3.0 * products.sum() - products[0]) + updates


def count_rows(data):
    """Rows of encoded data."""
    return data.csr[2].size - 1 if data.X is None else len(data.X)


def refuse_misfits(layout, data):
    """Raise ValueError if sizes or labels do not fit: compiled code does not check bounds."""
    n_features, n_outputs = int(layout.units[0]), int(layout.units[-1])
    n = count_rows(data)
    fits = data.X is None or data.X.shape[1] == n_features
    if data.labels.size:
        fits &= data.labels.size == n and np.maximum.reduce(data.labels.view(np.uint32)) < n_outputs
    else:
        fits &= data.targets.shape == (n, n_outputs)
    if not fits or data.sample_weight.size not in (0, n):
        raise ValueError(f"The data do not fit a network of {n_features} features and {n_outputs} outputs.")


class TrainingData:
    """The data for compiled code.

    Attributes
    ----------
    n_rows : int
    csr : Csr or None
    examples : Examples
    """

    def __init__(self, data):
        self.csr = None if data.X is not None else as_csr(data.csr)
        self.n_rows = count_rows(data)
        dtype = data.targets.dtype
        X = np.empty((1, 0), dtype) if data.X is None else data.X
        entries = (np.empty(0, dtype), NO_INDICES, NO_ROWS) if self.csr is None else self.csr
        self.examples = Examples(X, *entries, data.labels, data.targets, data.sample_weight, np.empty((1, 0), dtype))

    def column_bounds(self, layout, batch, n_threads):
        """Bounds of the chunks of the first layer's weight rows where X is sparse; each block has the same number.

        Chunks have equal cost, not equal numbers of columns: words are often sorted by frequency, and then half of the
        columns hold nearly all entries.
        """
        if self.csr is None:
            return NO_ROWS.copy()
        fan_in = int(layout.units[0])
        n_chunks = n_threads * CHUNKS_PER_THREAD if n_threads > 1 else 1
        bounds = np.array([0] + [fan_in] * n_chunks, dtype=np.int64)
        if n_threads > 1:
            counts = np.bincount(self.csr.indices, minlength=fan_in)
            costs = np.cumsum(ROW_COST + counts * (batch / self.n_rows))
            cuts = np.searchsorted(costs, costs[-1] * np.arange(1.0, n_chunks) / n_chunks)
            bounds[1:-1] = np.minimum((cuts + GROUP // 2) // GROUP * GROUP, fan_in)
        return bounds


class Job:
    """One plan, one data set and one state for the compiled entry: decided once, in this order, and never rewritten.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
    state : State
        Changed in place.
    data : EncodedData
    n_threads : int
        At most so many threads.

    Attributes
    ----------
    plan : TrainPlan
        With its program.
    buffers : Buffers
    n_threads : int
    flops : float
        Operations of a step.
    balance : LoadBalance or None
    """

    def __init__(self, layout, plan, state, data, *, n_threads):
        refuse_misfits(layout, data)
        source, batch = TrainingData(data), int(plan.batch_size)
        self._sparse, self._state = source.csr is not None, state
        plan = programmed(plan, sparse=self._sparse)
        self.flops = step_flops(layout, batch, source.csr)
        self.n_threads = n_threads = threads_for(self.flops, n_threads, int(plan.n_shards))
        self.plan = plan = plan._replace(max_copied_weights=max_copied_weights(n_threads))
        layout = without_input(layout) if self._sparse or plan.n_layers > 1 else layout
        buffers, self._workspace_size = make_buffers(layout, plan, state, n_threads, self._sparse)
        self.buffers = buffers._replace(column_bounds=source.column_bounds(layout, batch, n_threads))
        several = n_threads > 1 and plan.n_shards == 1
        self.balance = LoadBalance(layout, plan, self.buffers, n_threads) if several else None
        self._layout, self._examples, self._kept = layout, source.examples, []
        if copies_input(plan):
            X = buffers.dropped_input.reshape(batch, -1)
            self._examples = source.examples._replace(X=X, given=source.examples.X)
        self._implementations = implementations_of(layout, plan)

    def packed(self, program=None):
        """What the entry takes the records from, with another program where one is given."""
        plan = self.plan if program is None else self.plan._replace(program=program)
        every = shard_buffers(self._layout, plan, self.buffers, self.n_threads)
        self._kept.append([(self._layout, plan, each, self._examples) for each in every])  # packed are addresses
        return pack_sets(self._kept[-1])

    def entry(self, n_threads):
        """The compiled entry for so many threads, and its last arguments."""
        run = runner(entries.train, self._state.params.dtype, n_threads, self._sparse, self._implementations)
        return run, (n_threads, self._workspace_size)


def make_epoch(layout, plan, state, data, walk, *, n_threads, budget=None):
    """Make the function that trains for one epoch of the rows of a `Walk`.

    The function takes the step at which the epoch began and the scalars of its steps, and returns the epoch's loss and
    whether all losses were finite; None where the time of ``budget`` ended in the middle. It changes ``state``, and
    begins where ``walk`` is. (A function and no method: an epoch of a small network takes 10 us.)
    """
    n_rows = len(walk.rows)
    job = Job(layout, plan, state, data, n_threads=n_threads)
    batch, packed, params, balance = int(plan.batch_size), job.packed(), state.params, job.balance
    tuned = job.n_threads > 1 and job.flops < TUNED_FLOPS
    training_begins(n_rows, int(layout.units[0]), params.dtype, job.n_threads, tuned)
    run, (n_blocks, workspace_size) = job.entry(job.n_threads)
    if tuned:
        run = ThreadCountTuner(_followed_by(run, (n_blocks, workspace_size)), _followed_by(*job.entry(1)))
    per_call, per_trial = (max(1, int(work / job.flops)) for work in (CALL_FLOPS, TRIAL_FLOPS))
    n_batches, shortest = -(-n_rows // batch), min(per_call, per_trial) if tuned else per_call
    losses, progress, order = np.zeros(n_batches), memoryview(job.buffers.progress), walk.rows
    losses[: walk.batch] = walk.losses[: walk.batch]
    walk.losses = losses
    progress[EARLIER_STEPS] = state.step

    def epoch(first, scalars):
        done = walk.batch
        while done < n_batches:
            n = n_batches - done
            if n > shortest:
                n = min(per_trial if tuned and run.tries else per_call, n)
            rows, rates, some = order, scalars, losses
            if n < n_batches:  # slices take 0.3 us, an epoch of a small network takes 10
                rows, some = order[done * batch : (done + n) * batch], losses[done : done + n]
                rates = scalars[SCHEDULED * (state.step - first) :]
            try:
                if tuned:
                    made = run(n, packed, params, rows, rates, some)
                else:  # spelled out: a star makes a list of them, and a tuple of that, in each epoch
                    made = run(packed, params, rows, rates, some, n_blocks, workspace_size)
            except BaseException:  # Ctrl-C raises before the call, or after it: then the weights have changed
                step = progress[EARLIER_STEPS] + progress[STEPS]
                if step > state.step:
                    state.step, walk.batch = step, done + progress[BATCH]
                raise
            state.step, walk.batch = state.step + progress[STEPS], done + made
            done += made
            if balance is not None:
                balance.follow(time.perf_counter())
            if made < n:
                break
            if budget is not None and done < n_batches and budget.spent():
                return None
        finite = done == n_batches
        mean = finite and n_batches > 1
        return mean_of_batches(losses, batch, n_rows) if mean else losses.item(min(done, n_batches - 1)), finite

    epoch.job = job  # keeps the records alive, whose addresses are packed
    return epoch


def train(layout, plan, state, data, *, walk, schedule, max_epochs, n_threads, budget=None):
    """Train for up to ``max_epochs`` epochs, yielding a record after each.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
    state : State
        Changed in place.
    data : EncodedData
    walk : Walk
        The rows, in the middle of an epoch perhaps.
    schedule : object
        ``scalars(step, n_steps)`` returns the step scalars of the next steps, see `schedules`.
    max_epochs, n_threads : int
    budget : Budget or None
        Begins with the first step. Where it ends in the middle of an epoch, no record of that is yielded.

    Yields
    ------
    EpochRecord
    """
    epoch = make_epoch(layout, plan, state, data, walk, n_threads=n_threads, budget=budget)
    n_rows = len(walk.rows)
    n_batches = -(-n_rows // int(plan.batch_size))
    # With a single batch the order of rows changes only rounding: a private generator need not draw it (3 us of 10).
    if walk.private and n_batches == 1:
        walk.rng = None
    orders = walk.orders(walk.private and n_rows * max_epochs >= MANY_DRAWS)
    if budget is not None:
        budget.begin()
    clock, scalars = time.perf_counter, schedule.scalars
    record = partial(tuple.__new__, EpochRecord)  # takes .1 us less than EpochRecord
    for _, _ in zip(range(max_epochs), orders, strict=False):
        start = clock()
        first = walk.first = walk.first if walk.batch else state.step
        found = epoch(first, scalars(first, n_batches))
        if found is None:
            return
        loss, finite = found
        yield record((loss, state.step - first, finite, clock() - start))
        walk.batch, walk.drawn = 0, False
        if not finite:
            return


def mean_of_batches(losses, batch, n_rows):
    """Mean loss of rows, from the means of batches of ``batch`` rows, of which the last may have fewer.

    The same on every processor: few losses are added exactly, many in NumPy's order. (The order of BLAS's dot product
    depends on the processor.)
    """
    n_full, last = losses.size - 1, losses.item(-1)
    if n_full > EXACT:
        with np.errstate(over="ignore"):
            total = float(np.add.reduce(losses[:-1]))
    else:
        try:
            total = math.fsum(losses[:-1].tolist())
        except OverflowError:
            total = math.inf
    return (total * batch + last * (n_rows - n_full * batch)) / n_rows


def _followed_by(run, last):
    """A function that calls ``run`` with its arguments, followed by these."""
    return lambda *args: run(*args, *last)


class Steps:
    """A training step in two parts: the gradient of a batch, and the update by a gradient. The bits are as in `train`.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
    state : State
        Changed in place.
    data : EncodedData
    n_threads : int

    Attributes
    ----------
    gradient : ndarray of shape (n_params,)
        Sums over the rows, without the L2 term; not divided by the sum of their weights.
    weight_sum : float
        Divisor of the gradient. If gradients of several machines are added up, their weight sums are added up too.
    """

    def __init__(self, layout, plan, state, data, *, n_threads):
        if plan.sink in SINKS:
            raise ValueError("A step in two parts has no clipping of its gradient: the gradient is the caller's.")
        job = Job(layout, plan._replace(sink=np.int64(STORE)), state, data, n_threads=n_threads)
        self._state, self._params, self._scalars = state, state.params, job.buffers.step_scalars
        self.gradient, self.weight_sum, self._alpha = job.buffers.gradient, 0.0, job.plan.alpha
        # All verbs but the last one, which updates by the gradient, and that one.
        self._packed = [job.packed(verbs.copy()) for verbs in np.split(job.plan.program, [-1])]
        self._progress = job.buffers.progress
        self._job, (self._run, self._own) = job, job.entry(job.n_threads)

    def loss(self, rows):
        """Compute the loss of these rows, at most a batch, and set ``gradient`` and ``weight_sum``."""
        losses = np.zeros(1)
        self._progress[EARLIER_STEPS], self._progress[STEPS] = self._state.step, 0
        self._run(self._packed[0], self._params, rows, np.zeros(SCHEDULED), losses, *self._own)
        self.weight_sum = float(self._scalars[WEIGHT_SUM])
        return losses.item()

    def step(self, scalars):
        """Update the weights by ``gradient`` and ``weight_sum``, with these step scalars of a schedule."""
        self._scalars[SCALE], self._scalars[ALPHA] = 1.0 / self.weight_sum, self._alpha
        self._scalars[RATE : RATE + SCHEDULED] = scalars
        self._progress[EARLIER_STEPS], self._progress[STEPS] = self._state.step + 1, 0
        self._run(self._packed[1], self._params, ONE_ROW, NOTHING_SCHEDULED, np.zeros(1), *self._own)
        self._state.step += 1


class FullBatch:
    """scikit-learn's loss of all rows, with the L2 term, and its gradient; called many times.

    Rows go through the network `CHUNK_ROWS` at a time, so memory does not grow with their number.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
        Made with ``solver="lbfgs"``.
    params : ndarray of shape (n_params,)
        Weights and biases, with padding behind them as in `State`; they may change between calls.
    data : EncodedData
    n_threads : int

    Attributes
    ----------
    gradient : ndarray of shape (n_params,)
        Gradient at the last call's ``params``.
    """

    def __init__(self, layout, plan, params, data, *, n_threads):
        n_rows = count_rows(data)
        chunk = max(1, min(CHUNK_ROWS, n_rows))
        layout = make_layout(layout.units, params.dtype, chunk)._replace(activation=layout.activation)
        state = State(layout, params, np.empty((0, params.size), params.dtype))
        job = Job(layout, plan._replace(batch_size=np.int64(chunk)), state, data, n_threads=n_threads)
        training_begins(n_rows, int(layout.units[0]), params.dtype, job.n_threads)
        self.gradient, self._balance = job.buffers.gradient, job.balance
        self._progress, self._scalars, self._alpha = job.buffers.progress, job.buffers.step_scalars, job.plan.alpha
        self._job, (self._run, self._own), self._packed = job, job.entry(job.n_threads), (job.packed(), params)
        weight = data.sample_weight
        self._weights = float(weight.sum(dtype=np.float64)) if weight.size else float(n_rows)
        rows, per_call = np.arange(n_rows, dtype=np.int64), chunk * max(1, int(CALL_FLOPS / job.flops))
        calls = [rows[start : start + per_call] for start in range(0, n_rows, per_call)]
        self._calls = [(some, np.zeros(-(-some.size // chunk))) for some in calls]

    def __call__(self):
        self.gradient[:] = 0
        self._progress[DERIVED] = 0  # weights change between calls
        loss, alpha = 0.0, self._alpha
        for rows, losses in self._calls:
            self._scalars[SCALE], self._scalars[ALPHA] = 1.0 / self._weights, alpha
            self._run(*self._packed, rows, NOTHING_SCHEDULED, losses, *self._own)
            loss += losses.item(-1) / self._weights
            alpha = 0.0
            if self._balance is not None:
                self._balance.follow(time.perf_counter())
        return loss
