"""The epoch loop: shuffle, compiled epoch, record. A generator; whoever consumes it decides when to stop.

Never looks at the user's objects, prints, raises or calls the user's code.
"""

import time
from typing import NamedTuple

import numpy as np

from .core.epoch import refresh, train_epoch
from .state import make_buffers
from .threads import call, threads_for

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


def loss_and_grad(layout, plan, params, data, gradient, *, n_threads):
    """scikit-learn's loss of the full batch, L2 term included, and its gradient.

    Parameters
    ----------
    layout, plan : Layout, TrainPlan
        Made with ``solver="lbfgs"``; ``plan.batch_size`` rows go through the network at a time.
    params : ndarray of shape (n_params,)
        With room behind it, as `State` has.
    data : EncodedData
    gradient : ndarray of shape (n_params,)
        Written.
    n_threads : int

    Returns
    -------
    float
    """
    raise NotImplementedError
