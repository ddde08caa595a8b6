"""The epoch loop: shuffle, compiled epoch, record. A generator; whoever consumes it decides when to stop.

Never looks at the user's objects, prints, raises or calls the user's code.
"""

import time
from typing import NamedTuple

import numpy as np

from .core.epoch import loss_and_gradient, refresh, train_epoch
from .plan import make_layout
from .state import State, make_buffers
from .threads import call, threads_for

CHUNK_ROWS = 1024  # rows of the full batch whose activations are kept at the same time
CALL_FLOPS = 5e9  # work of one compiled call, about 0.1 s on one core: Python sees Ctrl-C between calls


class EpochRecord(NamedTuple):
    """What one pass over the training rows has to say."""

    loss: float  # scikit-learn's loss_curve_ value: batch losses before their steps, averaged over rows
    n_steps: int
    finite: bool
    seconds: float


def step_flops(layout, n_rows):
    """Floating-point operations of one mini-batch: three products a layer, two in the first."""
    products = (layout.units[:-1] * layout.units[1:]).astype(float)
    return 2.0 * n_rows * (3.0 * products.sum() - products[0])


def train(layout, plan, state, data, *, rows, rng, shuffle, schedule, max_epochs, n_threads):
    """Train for up to ``max_epochs`` epochs, yielding a record after each.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
    state : State
        Changed in place.
    data : EncodedData
    rows : ndarray of int64
        Rows of the data to learn from; shuffled in place.
    rng : numpy.random.RandomState
        Draws the permutations, the same as scikit-learn's.
    shuffle : bool
    schedule : object
        ``rates(step, n_steps)`` gives the learning rate of each of the coming steps.
    max_epochs, n_threads : int

    Yields
    ------
    EpochRecord
    """
    batch = int(plan.batch_size)
    n_batches = -(-len(rows) // batch)
    flops = step_flops(layout, batch)
    n_threads = threads_for(flops, n_threads)
    buffers, slot_size = make_buffers(layout, plan, state, n_threads)
    dtype = state.params.dtype
    call(refresh, dtype, 1, layout, plan, buffers)
    per_call = max(1, int(CALL_FLOPS / flops))
    losses = np.zeros(n_batches)
    sizes = np.full(n_batches, batch / len(rows))
    sizes[-1] = (len(rows) - batch * (n_batches - 1)) / len(rows)
    arrays = (data.X, data.labels, data.targets, data.sample_weight)
    for _ in range(max_epochs):
        start = time.perf_counter()
        if shuffle:
            rng.shuffle(rows)
        rates = schedule.rates(state.step, n_batches)
        done = 0
        while done < n_batches:
            n = min(per_call, n_batches - done)
            some = (rows[done * batch : (done + n) * batch], rates[done : done + n], losses[done : done + n])
            made = call(train_epoch, dtype, n_threads, layout, plan, buffers, *arrays, *some, n_threads, slot_size)
            done += made
            state.step += made
            if made < n:
                break
        finite = done == n_batches
        loss = float(losses @ sizes) if finite else float(losses[done])
        yield EpochRecord(loss, done, finite, time.perf_counter() - start)
        if not finite:
            return


class FullBatch:
    """scikit-learn's loss of all rows, L2 term included, and its gradient, to be evaluated many times.

    Rows go through the network `CHUNK_ROWS` at a time, so memory does not grow with their number.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
        Made with ``solver="lbfgs"``.
    params : ndarray of shape (n_params,)
        Weights and biases, with room behind them as `State` has; looked at anew in every call.
    data : EncodedData
    n_threads : int

    Attributes
    ----------
    gradient : ndarray of shape (n_params,)
        Gradient at the last call's ``params``.
    """

    def __init__(self, layout, plan, params, data, *, n_threads):
        n = len(data.X)
        chunk = min(CHUNK_ROWS, n)
        self.layout = make_layout(layout.units, params.dtype, chunk)._replace(activation=layout.activation)
        self.plan = plan._replace(batch_size=np.int64(chunk))
        self.n_threads = threads_for(step_flops(layout, chunk), n_threads)
        self.arrays = (data.X, data.labels, data.targets, data.sample_weight, np.arange(n))
        state = State(self.layout, params, np.zeros((1, params.size), params.dtype))
        self.gradient = state.moments[0]
        self.buffers, self.slot_size = make_buffers(self.layout, self.plan, state, self.n_threads)

    def __call__(self):
        self.gradient[:] = 0
        places = (self.layout, self.plan, self.buffers)
        call(refresh, self.gradient.dtype, 1, *places)
        sizes = (self.n_threads, self.slot_size)
        return call(loss_and_gradient, self.gradient.dtype, self.n_threads, *places, *self.arrays, *sizes)
