"""Scripts that tests run in processes of their own, in which everything is worth a second thread."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

LAYERS = ["omp", "workqueue", "tbb"]

PRELUDE = """
import os, sys, threading, warnings
import numpy as np, numba, scipy.sparse as sp
from fastnn import MLPClassifier, MLPRegressor, infer, threads

warnings.simplefilter("ignore")
threads.CROSSOVER_FLOPS = 1  # everything is worth a second thread
infer.AT_ONCE_BYTES, infer.CONVERTED_BYTES = 0, 1  # ... and is converted by several
X = np.random.RandomState(0).standard_normal((400, 64)).astype(np.float32)
CSR = sp.csr_array(np.where(X > 1, X, 0))
Y = np.argmax(X[:, :3], axis=1)


def fitted(seed, n_jobs):
    x = CSR if seed % 3 == 2 else X
    model = MLPClassifier((64,), max_iter=4, random_state=seed, n_jobs=n_jobs).fit(x, Y)
    return [*model.coefs_, *model.intercepts_, model.predict_proba(x), model.predict_proba(x.astype(np.float64))]


def same(found, expected):
    assert all(map(np.array_equal, found, expected)), "another number of threads gives another result"
"""


def run(code, **environment):
    """Run code in a process with two Numba threads, whatever the machine has, and return what it prints."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", **environment}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, f"exit status {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout.split()


def require(layer):
    if layer == "tbb":
        probe = "import numba.np.ufunc.tbbpool"
        if subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=60).returncode:
            pytest.skip("TBB's library is not on this machine")
    elif find_spec(f"numba.np.ufunc.{layer}pool" if layer == "omp" else "numba.np.ufunc.workqueue") is None:
        pytest.skip(f"this Numba has no {layer} layer")
