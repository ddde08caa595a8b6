"""JAX: one jit per epoch, a lax.scan over its batches, with the parameters and the optimizer's state donated.

The permutation comes from NumPy, inside the clock: on a CPU it costs less than jax.random.permutation, which sorts.
A last short batch is one more step after the scan, within the same jit. The host waits once, after the last epoch.
"""

import time
from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from peers.workloads import ALPHA, BETA_1, BETA_2, EPSILON, initial_weights

VERSION = jax.__version__
ACTIVATIONS = {"identity": lambda z: z, "logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}


def thread_choices(threads: int) -> list[int]:
    return [threads]  # fixed by the environment in which the child process was started


def forward(params, x, activation):
    for W, b in params[:-1]:
        x = ACTIVATIONS[activation](x @ W + b)
    W, b = params[-1]
    return x @ W + b


def loss_of(params, x, y, w):
    z = forward(params, x, w.activation)
    if w.output == "softmax":
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1))
    if w.output == "logistic":
        return jnp.mean(jnp.logaddexp(0.0, z) - y * z)
    return 0.5 * jnp.mean(jnp.sum((z - y) ** 2, axis=1))


def step(state, x, y, w):
    """One mini-batch; the state is (params, first moments or velocities, second moments, powers of the betas)."""
    params, first, second, powers = state
    loss, grads = jax.value_and_grad(loss_of)(params, x, y, w)
    decay = ALPHA / x.shape[0]
    grads = [(dW + decay * W, db) for (dW, db), (W, _) in zip(grads, params, strict=True)]
    tree = jax.tree.map
    if w.solver == "adam":
        powers = powers * jnp.array([BETA_1, BETA_2], jnp.float32)
        rate = w.rate * jnp.sqrt(1 - powers[1]) / (1 - powers[0])
        first = tree(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, grads)
        second = tree(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, second, grads)
        params = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), params, first, second)
    elif w.momentum > 0:
        first = tree(lambda v, g: w.momentum * v - w.rate * g, first, grads)
        params = tree(lambda p, v, g: p + w.momentum * v - w.rate * g, params, first, grads)
    else:
        params = tree(lambda p, g: p - w.rate * g, params, grads)
    return (params, first, second, powers), loss


@partial(jax.jit, static_argnames="w", donate_argnums=0)
def epoch(state, X, y, permutation, w):
    """All batches of one epoch in the order of the permutation; returns the state and the mean loss."""
    batch = w.batch_rows
    whole = w.n // batch
    rows = permutation[: whole * batch].reshape(whole, batch)
    state, losses = lax.scan(lambda state, r: step(state, X[r], y[r], w), state, rows)
    total = batch * losses.sum()
    if whole * batch < w.n:
        r = permutation[whole * batch :]
        state, loss = step(state, X[r], y[r], w)
        total = total + len(r) * loss
    return state, total / w.n


@partial(jax.jit, static_argnames="w")
def predict(params, X, w):
    return jax.nn.softmax(forward(params, X, w.activation))


class JaxJob:
    def __init__(self, workload, X, y):
        self.workload = workload
        self.X = jnp.asarray(X)
        shaped = y.astype(np.int32) if workload.output == "softmax" else y.astype(np.float32).reshape(len(y), -1)
        self.y = jnp.asarray(shaped)
        self.params = self._initial()

    def _initial(self):
        coefs, intercepts = initial_weights(self.workload)
        return [(jnp.asarray(W), jnp.asarray(b)) for W, b in zip(coefs, intercepts, strict=True)]

    def run(self, epochs: int) -> float:
        w = self.workload
        if w.kind == "predict":
            return self._predict(epochs)
        params = self._initial()
        first = jax.tree.map(jnp.zeros_like, params)
        second = jax.tree.map(jnp.zeros_like, params)
        state = jax.block_until_ready((params, first, second, jnp.ones(2, jnp.float32)))
        order = np.arange(w.n, dtype=np.int32)
        rng = np.random.default_rng(0)
        losses = []
        start = time.perf_counter()
        for _ in range(epochs):
            rng.shuffle(order)
            state, loss = epoch(state, self.X, self.y, order.copy(), w)  # the epoch may still read the last order
            losses.append(loss)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        self.params = state[0]
        return seconds

    def _predict(self, times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            np.asarray(predict(self.params, self.X, self.workload))
        return time.perf_counter() - start

    def weights(self):
        return [np.asarray(W) for W, _ in self.params], [np.asarray(b) for _, b in self.params]


def make_job(workload, X, y, threads: int):
    if workload.data == "words" or workload.kind == "search":
        raise NotImplementedError("no sparse input, no searches")
    return JaxJob(workload, X, y)
