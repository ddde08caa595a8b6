"""What the benchmarks share: the table of workloads, estimators of either library, and the limit on threads.

The workloads are those of scripts/peers/workloads.py, cut to `ROWS` rows: asv repeats each job for every commit, and
the time of an epoch is proportional to its rows from there on. scripts/compare_peers.py measures them in full.
fastnn is imported when a benchmark first asks for it, so that asv's fork server hands on no thread pool.
`n_jobs` is 1 or -1 (all cores); for scikit-learn it limits the threads of NumPy's BLAS.
"""

import importlib.util
import os
import sys
import warnings
from functools import lru_cache
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[2]
if importlib.util.find_spec("fastnn") is None:
    sys.path.append(str(ROOT))  # `asv run --python=same` without an installed package

from peers.estimators import parameters
from peers.workloads import BY_NAME, WORKLOADS, make_data

ROWS = 5_000
LIBRARIES = ("fastnn", "sklearn")
THREADS = (1, -1)
CORE = tuple(workload.name for workload in WORKLOADS if workload.group == "core")
SHAPES = tuple(workload.name for workload in WORKLOADS if workload.group == "shapes")
EPOCHS = {"moons": 300, "binary": 5, "boston": 3}  # of one fit; one epoch of the others is long enough
MODULES = {"fastnn": "fastnn", "sklearn": "sklearn.neural_network"}

warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of epochs ends at max_iter


def estimator_class(library, task="classes"):
    module = importlib.import_module(MODULES[library])
    return module.MLPRegressor if task == "regression" else module.MLPClassifier


def make_estimator(library, workload, epochs, n_jobs=1, **changes):
    """An estimator that trains `workload` for exactly `epochs` epochs."""
    arguments = {**parameters(workload, epochs), **changes}
    if library == "fastnn":
        arguments["n_jobs"] = n_jobs
    return estimator_class(library, workload.task)(**arguments)


@lru_cache(maxsize=1)
def data_of(name, rows=ROWS):
    """The workload with at most `rows` rows, and its X and y; kept, since asv calls setup before every sample."""
    workload = BY_NAME[name].shrunk(rows)
    return workload, *make_data(workload)


@lru_cache(maxsize=1)
def fitted(library, name, n_jobs=1, hidden=None):
    """A model of the workload's network after one epoch on 1000 rows: what it predicts does not matter."""
    workload, X, y = data_of(name, 1000)
    changes = {"hidden_layer_sizes": hidden} if hidden else {}
    return make_estimator(library, workload, 1, n_jobs, **changes).fit(X, y)


@lru_cache(maxsize=1)
def digits():
    """scikit-learn's 8 x 8 digits in [0, 1], float32: X_train, X_test, y_train, y_test."""
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype("float32"), y, test_size=0.25, random_state=0, stratify=y)


def extra_megabytes(call):
    """Memory that `call` needs at its peak beyond what the process holds before; Linux only."""

    def status(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = status("VmRSS")
        call()
        return max(0.0, status("VmHWM") - before)
    except OSError as reason:
        raise NotImplementedError("no /proc/self/clear_refs") from reason


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Limited:
    """Base of benchmarks whose parameters end in (..., n_jobs, library): BLAS gets as many threads as fastnn."""

    timeout = 300
    limits = None

    def setup(self, *arguments):
        n_jobs = arguments[-2]
        if n_jobs == -1 and cores() == 1:
            raise NotImplementedError("one core: nothing to add to n_jobs=1")
        self.limits = threadpool_limits(limits=cores() if n_jobs == -1 else n_jobs)

    def teardown(self, *arguments):
        if self.limits:  # asv calls teardown after a setup that skipped, too
            self.limits.unregister()
