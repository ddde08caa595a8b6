"""A cache that several processes filled, each with what it needed, serves one that needs it all."""

import pytest
from numba import config

from processes import ROOT, run

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

NAMES = ["relu", "logistic", "tanh", "identity"]

# Kernels that one function makes have one name; Numba tells them apart by a count, here the same in each process.
ONE_LEAF = """
from numba import types
from fastnn.core.nn.activations import ACTIVATIONS, single_output_backward
single_output_backward.load_implementation(ACTIVATIONS[NAME].id, types.float64)
"""
# Networks of one output, whose derivative is one of these kernels, against scikit-learn's.
FITS = """
from sklearn import neural_network
import fastnn
warnings.simplefilter("ignore")
rng = np.random.RandomState(0)
X = rng.standard_normal((200, 8))
y = X[:, 0] + X[:, 1] ** 2
for activation in NAMES:
    options = dict(hidden_layer_sizes=(16,), activation=activation, max_iter=4, random_state=0)
    ours = fastnn.MLPRegressor(dtype="float64", n_jobs=1, **options).fit(X, y)
    theirs = neural_network.MLPRegressor(**options).fit(X, y)
    out[activation] = max(abs(a - b).max() for a, b in zip(ours.coefs_, theirs.coefs_))
"""


def test_code_of_several_processes_goes_together(tmp_path):
    for name in NAMES:
        assert run(ROOT, tmp_path, f"NAME = {name!r}\n{ONE_LEAF}")["compiled"] > 0
    found = run(ROOT, tmp_path, f"NAMES = {NAMES}\n{FITS}")
    assert {name: found[name] < 1e-12 for name in NAMES} == dict.fromkeys(NAMES, True), found
