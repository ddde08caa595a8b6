"""The sums of a large first layer in parts, those of the next batch ahead of its turn: the same training, faster."""

from itertools import pairwise

import numpy as np
import pytest
from numba import config

import reference
import test_engine
from fastnn import threads, train
from fastnn.core.tuning import LARGE_LAYER
from fastnn.plan import make_plan
from test_engine import ALPHA, BATCHES, N_ROWS, SOLVERS, Problem, outputs_of, relative_error


def split_problem(n_splits, n_features, monkeypatch, *, loss="squared_error", hidden=(9,), dtype=np.float64, **options):
    """A problem whose first layer's sums are split, in so many parts if given."""
    monkeypatch.setattr(threads, "CROSSOVER_FLOPS", 0)
    monkeypatch.setattr(train, "TUNED_FLOPS", 0)
    monkeypatch.setattr(test_engine, "N_FEATURES", n_features)
    n_outputs = outputs_of(loss, True)
    problem = Problem(loss, hidden, "tanh", n_outputs=n_outputs, dtype=dtype, **options)
    if n_splits:
        problem.plan = problem.plan._replace(n_splits=np.int64(n_splits))
    return problem


def check_trajectory(problem, losses, rate, options):
    """Two epochs of the reference end where the problem has, with the same losses."""
    expected, coefs, intercepts = reference.train(
        problem.coefs, problem.intercepts, problem.X, problem.y, **problem.names, rng=np.random.RandomState(5),
        alpha=ALPHA, max_iter=2, learning_rate_init=rate, tol=-np.inf, **options,
    )  # fmt: skip
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert relative_error(problem.state.coefs + problem.state.intercepts, coefs + intercepts) < 1e-12


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("n_features", [3, 40, 70])  # parts of no feature, of whole groups, of whole groups and a rest
@pytest.mark.parametrize("n_splits", [2, 4])
def test_split_sums_walk_the_reference_trajectory_on_any_number_of_threads(n_splits, n_features, batch, monkeypatch):
    for solver, loss, hidden in (("adam", "log_loss", (13,)), ("nesterov", "squared_error", (20, 7))):
        options = dict(SOLVERS[solver], batch_size=batch)
        found = []
        for n_threads in (1, 2, 3, 4):
            # Numba's pool may be smaller: then the blocks run one after the other.
            monkeypatch.setattr(threads, "_forked", n_threads > config.NUMBA_NUM_THREADS)
            problem = split_problem(n_splits, n_features, monkeypatch, loss=loss, hidden=hidden, **options)
            records = problem.train(2, 0.01, n_threads=n_threads)
            found.append(([r.loss for r in records], problem.state.params.tobytes(), problem.state.moments.tobytes()))
        assert found.count(found[0]) == 4
        check_trajectory(problem, found[0][0], 0.01, options)


@pytest.mark.parametrize("solver", ["adam", "nesterov", "plain"])
@pytest.mark.parametrize("batch", [1, 10, 29])
def test_large_layers_walk_the_reference_trajectory(batch, solver, monkeypatch):
    """Weights of 130-1100-130-4 are asked for, with two, one or no arrays of the optimizer's state, before its step."""
    options = dict(SOLVERS[solver], batch_size=batch)
    for n_threads in (1, 2):
        problem = split_problem(None, 130, monkeypatch, hidden=(1100, 130), **options)
        assert problem.plan.n_splits == (2 if batch > 1 else 1)
        assert min(a * b for a, b in pairwise(problem.units[:3])) > LARGE_LAYER
        losses = [record.loss for record in problem.train(2, 0.001, n_threads=n_threads)]
        check_trajectory(problem, losses, 0.001, options)


@pytest.mark.parametrize("skipped", [0, 2, 5])
def test_split_sums_of_a_batch_behind_one_without_weight(skipped, monkeypatch):
    """Such a batch makes no step, and nothing that could prepare the sums of the next."""
    found = []
    for n_splits, n_threads in ((1, 1), (4, 1), (4, 2)):
        problem = split_problem(n_splits, 40, monkeypatch, batch_size=5, **SOLVERS["adam"])
        problem.weights = np.where(np.arange(N_ROWS) // 5 == skipped, 0.0, 1.0)
        losses = [record.loss for record in problem.train(3, 0.05, shuffle=False, n_threads=n_threads)]
        found.append(np.append(losses, problem.state.params))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    np.testing.assert_array_equal(found[2], found[1])


@pytest.mark.parametrize(
    ("units", "batch_size", "parts"),
    [
        ((784, 100, 10), 200, 2),
        ((784, 100, 10), 4, 1),  # too few rows to share
        ((784, 512, 512, 10), 128, 4),
        ((784, 50, 10), 100, 2),
        ((784, 30, 10), 10, 1),
        ((784, 10), 200, 1),  # no layer behind it
        ((54, 2000, 7), 200, 2),
        ((31, 2000, 7), 200, 1),
        ((80, 100, 3), 1000, 1),  # learns in parts of the batch
    ],
)
def test_first_layers_with_enough_work_have_split_sums(units, batch_size, parts):
    names = dict(hidden_activation="relu", out_activation="softmax", loss="log_loss")
    _, plan = make_plan(units=units, batch_size=batch_size, solver="adam", **names)
    assert plan.n_splits == parts
    assert make_plan(units=units, batch_size=batch_size, solver="lbfgs", **names)[1].n_splits == 1
