"""Gradients of parts of a batch, each by one thread, then added: the same training, less to exchange."""

import numpy as np
import pytest
from numba import config

from fastnn import threads, train
from fastnn.core.engine.programs import STEP_THEN_SHARDS, work
from fastnn.plan import implementations_of, make_plan
from fastnn.state import make_buffers, new_state, shard_buffers
from fastnn.threads import SHARDS_CROSSOVER_FLOPS, threads_for
from test_engine import BATCHES, N_ROWS, SOLVERS
from test_split_sums import check_trajectory, split_problem

# Loss, hidden layers, solver: one output behind few and behind many units, several outputs, one row alone in a part.
NETWORKS = [
    ("squared_error", (20,), "adam"),
    ("squared_error", (17, 33), "nesterov"),
    ("squared_error", (5,), "plain"),
    ("log_loss", (13,), "adam"),
    ("log_loss", (20, 16), "plain"),
]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("loss", "hidden", "solver"), NETWORKS)
@pytest.mark.parametrize("n_shards", [2, 4])
def test_parts_walk_the_reference_trajectory_on_any_number_of_threads(
    n_shards, loss, hidden, solver, batch, monkeypatch
):
    options = dict(SOLVERS[solver], batch_size=batch)
    found = []
    for n_threads in (1, 2, 3, 4):
        # Numba's pool may be smaller: then the blocks run one after the other.
        monkeypatch.setattr(threads, "_forked", n_threads > config.NUMBA_NUM_THREADS)
        monkeypatch.setattr(threads, "SHARDS_CROSSOVER_FLOPS", 0)
        problem = split_problem(None, 6, monkeypatch, loss=loss, hidden=hidden, **options)
        problem.plan = problem.plan._replace(n_shards=np.int64(n_shards))
        records = problem.train(2, 0.01, n_threads=n_threads)
        found.append(([r.loss for r in records], problem.state.params.tobytes(), problem.state.moments.tobytes()))
    assert found.count(found[0]) == 4
    check_trajectory(problem, found[0][0], 0.01, options)


@pytest.mark.parametrize("solver", ["adam", "plain"])
def test_each_thread_has_weights_of_its_own_and_takes_over_what_others_made_of_them(solver, monkeypatch):
    """Calls on several threads and on one take turns, and an epoch is cut into several calls: always the same bits."""
    found = []
    monkeypatch.setattr(threads.ThreadCountTuner, "PERIOD", 6)
    for n_threads, tuned, per_call in ((1, 0, 1e9), (2, np.inf, 1e9), (2, np.inf, 1), (4, 0, 1)):
        monkeypatch.setattr(threads, "_forked", n_threads > config.NUMBA_NUM_THREADS)
        monkeypatch.setattr(threads, "SHARDS_CROSSOVER_FLOPS", 0)
        problem = split_problem(None, 6, monkeypatch, hidden=(20, 9), batch_size=10, **SOLVERS[solver])
        monkeypatch.setattr(train, "TUNED_FLOPS", tuned)
        monkeypatch.setattr(train, "CALL_FLOPS", per_call)
        problem.plan = problem.plan._replace(n_shards=np.int64(4 if n_threads == 4 else 2))
        losses = [record.loss for record in problem.train(9, 0.02, n_threads=n_threads)]
        found.append((losses, problem.state.params.tobytes(), problem.state.moments.tobytes()))
    assert found[1] == found[0] and found[2] == found[0]
    np.testing.assert_allclose(found[3][0], found[0][0], rtol=1e-12)  # four parts are added in another order


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_what_threads_share_where_a_batch_is_learned_in_parts(n_threads):
    names = dict(hidden_activation="relu", out_activation="identity", loss="squared_error", batch_size=1000)
    layout, plan = make_plan(units=(20, 100, 1), solver="adam", **names)
    state = new_state(layout, plan)
    buffers, _ = make_buffers(layout, plan, state, n_threads)
    sets = shard_buffers(layout, plan, buffers, n_threads)
    assert len(sets) == n_threads and sets[0] is buffers
    for i, own in enumerate(sets):
        for other in sets[:i]:
            shared = {name for name, array in own._asdict().items() if np.shares_memory(array, getattr(other, name))}
            assert shared == {"shard_gradients", "barrier", "progress", "step_scalars"}
    assert shard_buffers(layout, plan._replace(n_shards=np.int64(1)), buffers, n_threads) == [buffers]


def test_a_loss_that_is_not_finite_ends_the_call_before_its_step(monkeypatch):
    monkeypatch.setattr(threads, "SHARDS_CROSSOVER_FLOPS", 0)
    for n_threads in (1, 2):
        monkeypatch.setattr(threads, "_forked", n_threads > config.NUMBA_NUM_THREADS)
        problem = split_problem(None, 6, monkeypatch, hidden=(20,), batch_size=10, **SOLVERS["plain"])
        problem.plan = problem.plan._replace(n_shards=np.int64(2))
        problem.X[15] = np.inf
        records = list(problem.train(3, 0.01, shuffle=False, n_threads=n_threads))
        assert [(r.n_steps, r.finite) for r in records] == [(1, False)]
        assert np.isfinite(problem.state.params).all()


@pytest.mark.parametrize("skipped", [0, 2, 5])
def test_parts_of_a_batch_behind_one_without_weight(skipped, monkeypatch):
    found = []
    monkeypatch.setattr(threads, "SHARDS_CROSSOVER_FLOPS", 0)
    for n_shards, n_threads in ((1, 1), (2, 1), (2, 2)):
        monkeypatch.setattr(threads, "_forked", n_threads > config.NUMBA_NUM_THREADS)
        problem = split_problem(None, 6, monkeypatch, hidden=(20,), batch_size=5, **SOLVERS["adam"])
        problem.plan = problem.plan._replace(n_shards=np.int64(n_shards))
        problem.weights = np.where(np.arange(N_ROWS) // 5 == skipped, 0.0, 1.0)
        losses = [record.loss for record in problem.train(3, 0.05, shuffle=False, n_threads=n_threads)]
        found.append(np.append(losses, problem.state.params))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    np.testing.assert_array_equal(found[2], found[1])


@pytest.mark.parametrize(
    ("units", "batch_size", "parts"),
    [
        ((20, 100, 1), 200, 2),
        ((20, 100, 1), 1000, 4),
        ((20, 100, 1), 10, 1),  # little work
        ((2, 3, 1), 200, 1),
        ((64, 100, 10), 200, 2),
        ((64, 200, 10), 200, 1),  # many weights
        ((300, 10), 200, 1),  # no hidden layer
    ],
)
def test_small_networks_learn_large_batches_in_parts(units, batch_size, parts):
    names = dict(hidden_activation="relu", out_activation="identity", loss="squared_error", batch_size=batch_size)
    layout, plan = make_plan(units=units, solver="adam", **names)
    assert plan.n_shards == parts
    assert ((work, STEP_THEN_SHARDS) in implementations_of(layout, plan)) == (parts > 1)
    assert make_plan(units=units, solver="lbfgs", **names)[1].n_shards == 1


def test_threads_share_parts():
    assert threads_for(SHARDS_CROSSOVER_FLOPS, 16, parts=2) == 2
    assert threads_for(SHARDS_CROSSOVER_FLOPS, 16, parts=1) == 1
    assert threads_for(SHARDS_CROSSOVER_FLOPS, 1, parts=4) == 1
    assert threads_for(0.9 * SHARDS_CROSSOVER_FLOPS, 16, parts=4) == 1
