"""Gradients of parts of a batch, each by one thread, then added: the same training, less to exchange."""

import numpy as np
import pytest
from numba import config

from fastnn import threads
from fastnn.core.weights import FORTH_AND_BACK, learn_part
from fastnn.plan import make_plan, members_of
from fastnn.threads import PARTS_CROSSOVER_FLOPS, threads_for
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
@pytest.mark.parametrize("row_splits", [2, 4])
def test_parts_walk_the_reference_trajectory_on_any_number_of_threads(
    row_splits, loss, hidden, solver, batch, monkeypatch
):
    options = dict(SOLVERS[solver], batch_size=batch)
    found = []
    for n_threads in (1, 2, 3, 4):
        # Numba's pool may be smaller: then the blocks run one after the other.
        monkeypatch.setattr(threads, "_forked", n_threads > config.NUMBA_NUM_THREADS)
        monkeypatch.setattr(threads, "PARTS_CROSSOVER_FLOPS", 0)
        problem = split_problem(None, 6, monkeypatch, loss=loss, hidden=hidden, **options)
        problem.plan = problem.plan._replace(row_splits=np.int64(row_splits))
        records = problem.train(2, 0.01, n_threads=n_threads)
        found.append(([r.loss for r in records], problem.state.params.tobytes(), problem.state.moments.tobytes()))
    assert found.count(found[0]) == 4
    check_trajectory(problem, found[0][0], 0.01, options)


@pytest.mark.parametrize("skipped", [0, 2, 5])
def test_parts_of_a_batch_behind_one_without_weight(skipped, monkeypatch):
    found = []
    for row_splits, n_threads in ((1, 1), (2, 1), (2, 2)):
        problem = split_problem(None, 6, monkeypatch, hidden=(20,), batch_size=5, **SOLVERS["adam"])
        problem.plan = problem.plan._replace(row_splits=np.int64(row_splits))
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
    assert plan.row_splits == parts
    assert ((learn_part, FORTH_AND_BACK) in members_of(layout, plan)) == (parts > 1)
    assert make_plan(units=units, solver="lbfgs", **names)[1].row_splits == 1


def test_threads_share_parts():
    assert threads_for(PARTS_CROSSOVER_FLOPS, 16, parts=2) == 2
    assert threads_for(PARTS_CROSSOVER_FLOPS, 16, parts=1) == 1
    assert threads_for(PARTS_CROSSOVER_FLOPS, 1, parts=4) == 1
    assert threads_for(0.9 * PARTS_CROSSOVER_FLOPS, 16, parts=4) == 1
