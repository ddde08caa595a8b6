"""What a fit needs besides the data, as fastnn/README.md states it; NumPy tells tracemalloc of every array."""

import tracemalloc
import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastnn import MLPClassifier, MLPRegressor
from fastnn.core.tuning import BLOCK_ROWS

# Wide enough for parameters to weigh more than what Python allocates beside them, narrow enough to be quick.
N, UNITS, BATCH, N_JOBS = 3000, (300, 500, 400, 3), 100, 2
SCRATCH_ROWS = 320  # a thread's work space: so many rows of the last hidden layer and the outputs ...
STRIP_ROWS, TILE_ROWS = 30, 50_000  # ... and so many weight rows of the widest layer, and a little
ROW_BYTES = 64  # per training row: the order of the rows and of the next epoch, labels, targets and how they came
SLACK = 300_000  # Python's own objects, imports in the first fit

# name -> (parameters, copies of the parameters beside weights and their transposed copy, is X copied?, form of X)
CASES = {
    "adam": ({}, 2, False, np.asarray),
    "sgd with momentum": ({"solver": "sgd"}, 1, False, np.asarray),
    "plain sgd": ({"solver": "sgd", "momentum": 0.0}, 0, False, np.asarray),
    "schedule-free averages": ({"solver": "schedulefree"}, 3, False, np.asarray),
    "clipped gradients": ({"solver": "lion", "max_grad_norm": 1.0}, 2, False, np.asarray),
    "averages": ({"ema_decay": 0.99}, 3, False, np.asarray),
    "dropout": ({"dropout": [0.2, 0.5, 0.5]}, 2, False, np.asarray),
    "early stopping": ({"early_stopping": True}, 3, False, np.asarray),
    "an activation that keeps its input": ({"activation": ["relu", "gelu"]}, 2, False, np.asarray),
    "best epoch": ({"restore_best": True}, 4, False, np.asarray),
    "no shuffle": ({"shuffle": False}, 2, False, np.asarray),
    "float64 X": ({}, 2, True, lambda X: X.astype(np.float64)),
    "Fortran order": ({}, 2, True, np.asfortranarray),
    "integers": ({}, 2, True, lambda X: (100 * X).astype(np.int32)),
    "double precision": ({"dtype": "float64"}, 2, False, lambda X: X.astype(np.float64)),
    "double precision of float32": ({"dtype": "float64"}, 2, True, np.asarray),
}


def peak_of(call):
    """Bytes at the peak of a call beyond those before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def stated(itemsize, copies, X_copied, predicts, keeps_input, drops_input):
    """Bytes by the formula of fastnn/README.md: parameters, batch, scratch, copy of X, some numbers for each row."""
    inputs, outputs = sum(UNITS[:-1]), sum(UNITS[1:])
    n_params = sum(a * b + b for a, b in pairwise(UNITS))
    scratch = SCRATCH_ROWS * sum(UNITS[-2:]) + STRIP_ROWS * max(UNITS[1:]) + TILE_ROWS
    numbers = n_params * (2 + copies) + BATCH * (inputs + outputs) + N_JOBS * scratch
    numbers += BATCH * sum(UNITS[1:-1]) * keeps_input + BATCH * UNITS[0] * drops_input
    numbers += N_JOBS * (BLOCK_ROWS * inputs + scratch) * predicts  # the held-out rows pass through in blocks
    return itemsize * (numbers + X_copied * N * UNITS[0]) + ROW_BYTES * N


@pytest.mark.parametrize("task", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("name", CASES)
def test_a_fit_needs_what_the_readme_states(name, task):
    options, copies, X_copied, form = CASES[name]
    X = form(np.random.default_rng(0).random((N, UNITS[0]), dtype=np.float32))
    y = np.arange(N) % UNITS[-1] if task is MLPClassifier else np.random.default_rng(0).random((N, UNITS[-1]))
    model = task(hidden_layer_sizes=UNITS[1:-1], batch_size=BATCH, max_iter=2, random_state=0, n_jobs=N_JOBS, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        task(**model.get_params()).fit(X[:BATCH], y[:BATCH])  # compiled code is loaded
        peak = peak_of(lambda: model.fit(X, y))
    has = [option in options for option in ("early_stopping", "activation", "dropout")]
    limit = stated(model.coefs_[0].itemsize, copies, X_copied, *has)
    assert peak < limit + SLACK
    assert peak > 0.7 * limit  # the formula says something


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_fit_that_learns_in_parts_needs_what_the_readme_states(n_threads):
    units, batch, parts, copies = (20, 300, 1), 2000, 4, 2
    X = np.random.default_rng(0).random((2 * batch, units[0]), dtype=np.float32)
    model = MLPRegressor(hidden_layer_sizes=units[1:-1], batch_size=batch, max_iter=2, random_state=0, n_jobs=n_threads)
    n_params = sum(a * b + b for a, b in pairwise(units))
    own = n_params * (2 + copies) + batch * (sum(units[:-1]) + sum(units[1:]))
    scratch = SCRATCH_ROWS * sum(units[-2:]) + STRIP_ROWS * max(units[1:]) + TILE_ROWS
    limit = 4 * (n_threads * (own + scratch) + 2 * parts * n_params) + ROW_BYTES * len(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, X[:, 0])
        peak = peak_of(lambda: model.fit(X, X[:, 0]))
    assert 0.7 * limit < peak < limit + SLACK


def test_the_memory_of_a_fit_does_not_grow_with_rows_nor_epochs():
    """Beside a few numbers for each row."""
    X = np.random.default_rng(0).random((20 * N, 20), dtype=np.float32)
    y = np.arange(len(X)) % 3
    options = dict(hidden_layer_sizes=(50,), batch_size=BATCH, random_state=0, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        MLPClassifier(max_iter=2, **options).fit(X, y)  # compiled code is loaded
        few, many = (
            peak_of(lambda n=n, epochs=epochs: MLPClassifier(max_iter=epochs, **options).fit(X[:n], y[:n]))
            for n, epochs in ((N, 1), (20 * N, 5))
        )
    assert many - few < ROW_BYTES * 19 * N
    assert many - few < 0.8 * (X.nbytes - X[:N].nbytes)  # X itself is not among it
