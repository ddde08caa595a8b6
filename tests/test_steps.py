"""A gradient and the step by it, apart, have the bits of the fused step."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastnn import threads
from fastnn.core.nn.optimizers import OPTIMIZERS, STORE, STORE_SCALED
from fastnn.core.records import SCHEDULED, EncodedData
from fastnn.optimizer import Optimizer
from fastnn.plan import make_plan
from fastnn.state import new_state
from fastnn.train import Steps, train
from fastnn.walk import Walk

RNG = np.random.RandomState(1)
N, BATCH = 90, 30
X = RNG.randint(-9, 10, size=(N, 12)) / 8 * (RNG.uniform(size=(N, 12)) < 0.6)
LABELS = RNG.randint(0, 3, size=N).astype(np.int32)
WEIGHTS = RNG.randint(1, 4, size=N) / 2
SETTINGS = {
    "learning_rate": "constant", "learning_rate_init": 0.01, "power_t": 0.5, "momentum": 0.9,
    "nesterovs_momentum": True, "beta_1": 0.9, "beta_2": 0.999, "rho": 0.9, "epsilon": 1e-8,
}  # fmt: skip


def read_only(array):
    array.flags.writeable = False
    return array


def problem(solver, hidden, dtype, sparse):
    names = dict(hidden_activation="tanh", out_activation="softmax", loss="log_loss", solver=solver)
    layout, plan = make_plan(units=(12, *hidden, 3), batch_size=BATCH, alpha=0.01, dtype=dtype, **names, **SETTINGS)
    state, optimizer = new_state(layout, plan), Optimizer(SETTINGS | {"solver": solver})
    state.params[:] = np.random.RandomState(2).uniform(-0.5, 0.5, state.params.size)
    csr = sp.csr_array(X.astype(dtype))
    dense, arrays = (None, (csr.data, csr.indices, csr.indptr)) if sparse else (read_only(X.astype(dtype)), None)
    rest = read_only(LABELS.copy()), read_only(np.empty((0, 0), dtype)), read_only(WEIGHTS.astype(dtype))
    return layout, plan, state, EncodedData(dense, arrays, *rest), optimizer.schedule


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("hidden", [(), (9,), (17, 6)], ids=str)
@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_gradient_and_step_are_the_fused_step(solver, hidden, sparse, n_threads, monkeypatch):
    monkeypatch.setattr(threads, "CROSSOVER_FLOPS", 0)
    for dtype in (np.float32, np.float64):
        layout, plan, state, data, schedule = problem(solver, hidden, dtype, sparse)
        rows = np.arange(N, dtype=np.int64)
        how = dict(walk=Walk(rows), max_epochs=2, n_threads=n_threads)
        losses = [record.loss for record in train(layout, plan, state, data, schedule=schedule, **how)]
        layout, plan, apart, data, schedule = problem(solver, hidden, dtype, sparse)
        steps, found = Steps(layout, plan, apart, data, n_threads=n_threads), []
        for step in range(6):
            start = step % 3 * BATCH
            found.append(steps.loss(rows[start : start + BATCH]))
            assert steps.weight_sum == WEIGHTS[start : start + BATCH].sum()
            steps.step(schedule.scalars(step, 1)[:SCHEDULED])
        np.testing.assert_array_equal(apart.params, state.params)
        np.testing.assert_array_equal(apart.moments, state.moments)
        assert apart.step == state.step == 6
        np.testing.assert_allclose([np.mean(found[:3]), np.mean(found[3:])], losses, rtol=1e-14)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
def test_a_program_that_stores_gradients_has_the_bits_of_the_fused_one(sparse, n_threads, monkeypatch):
    monkeypatch.setattr(threads, "CROSSOVER_FLOPS", 0)
    found = []
    for sink in (None, STORE):
        layout, plan, state, data, schedule = problem("adam", (17, 6), np.float32, sparse)
        plan = plan if sink is None else plan._replace(sink=np.int64(sink))
        walk = Walk(np.arange(N, dtype=np.int64), np.random.RandomState(0))
        how = dict(walk=walk, max_epochs=3, n_threads=n_threads)
        losses = [each.loss for each in train(layout, plan, state, data, schedule=schedule, **how)]
        found.append((losses, state.params.tobytes(), state.moments.tobytes()))
    assert found[0] == found[1]


def test_a_step_in_two_parts_leaves_the_gradient_to_the_caller():
    layout, plan, state, data, _ = problem("adam", (9,), np.float64, False)
    clipped = plan._replace(sink=np.int64(STORE_SCALED), max_norm=np.float64(1))
    with pytest.raises(ValueError, match="has no clipping"):
        Steps(layout, clipped, state, data, n_threads=1)


def test_gradients_of_two_halves_add_up_to_that_of_a_batch():
    """As on several machines: sums of gradients and of weights are all that they exchange."""
    layout, plan, state, data, _ = problem("adam", (9,), np.float64, False)
    steps = Steps(layout, plan, state, data, n_threads=1)
    rows = np.arange(BATCH, dtype=np.int64)
    steps.loss(rows)
    whole, weights = steps.gradient.copy(), steps.weight_sum
    halves = []
    for part in (rows[:10], rows[10:]):
        steps.loss(part)
        halves.append((steps.gradient.copy(), steps.weight_sum))
    np.testing.assert_allclose(halves[0][0] + halves[1][0], whole, rtol=1e-12, atol=1e-14)
    assert halves[0][1] + halves[1][1] == weights
