"""How little is compiled: nothing by the import, and one signature for each dtype by a grid of all options."""

import os

import pytest
from numba import config

from processes import ROOT, files, run

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

IMPORT = """
import sklearn.neural_network, scipy.sparse, numba
out["tasks"] = [len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1]
out["threads"] = [threading.active_count()]
import fastnn
from numba.core.dispatcher import Dispatcher
from fastnn.core.compile.jit import Entry
out["tasks"].append(len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1)
out["threads"].append(threading.active_count())
modules = [module for name, module in sys.modules.items() if name.startswith("fastnn.core.")]
kernels = {f.__name__: len(f.overloads) for m in modules for f in vars(m).values() if isinstance(f, Dispatcher)}
entries = {f.__name__: sorted(map(str, f.twins)) for m in modules for f in vars(m).values()
           if isinstance(f, Entry)}
out.update(kernels=kernels, entries=entries)
"""


def test_import_compiles_nothing_and_starts_no_thread(tmp_path):
    result = run(ROOT, tmp_path, IMPORT, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    assert result["compiled"] == 0
    assert result["warnings"] == []
    assert files(tmp_path, "*") == []
    assert result["tasks"] == [1, 1]
    assert result["threads"] == [1, 1]
    assert len(result["kernels"]) > 10
    assert set(result["kernels"].values()) == {0}
    assert {"train", "forward", "forward_sparse"} <= set(result["entries"])
    assert all(twins == [] for twins in result["entries"].values())


GRID = """
import itertools
import numba
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from fastnn import MLPClassifier, MLPRegressor, threads
from fastnn.core.engine import entries
from fastnn.core.compile import jit
threads.CROSSOVER_FLOPS = 0
warnings.simplefilter("ignore")
dense = os.environ["EXTENT"] == "dense"
rng = np.random.RandomState(0)
X = rng.standard_normal((30, 4))
readonly = X.astype(np.float32)
readonly.flags.writeable = False
wide = sp.csr_matrix(X)
wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
inputs = [X, np.asfortranarray(X), readonly, X.tolist(), np.repeat(X, 2, axis=0)[::2], X[:, ::-1].astype(np.float16),
          (X * 3).astype(int)]
if not dense:
    inputs += [sp.csr_matrix(X), sp.csc_matrix(X), sp.coo_array(X), wide]
signal = X @ rng.standard_normal((4, 3))
weights = [None, rng.uniform(0.1, 1, 30), np.ones(30, int), None]
early = dict(early_stopping=True, validation_fraction=0.3)
tasks = [
    (MLPClassifier, signal[:, 0] > 0, {}),
    (MLPClassifier, signal.argmax(axis=1), {}),
    (MLPClassifier, np.array(["a", "b", "c"])[signal.argmax(axis=1)], early),
    (MLPClassifier, (signal > 0).astype(int), {}),
    (MLPClassifier, np.eye(3)[signal.argmax(axis=1)], dict(out_activation="softmax", loss="squared_error")),
    (MLPClassifier, signal.argmax(axis=1), dict(out_activation="logistic", loss="squared_error", init="he_normal")),
    (MLPRegressor, signal[:, 0], {}),
    (MLPRegressor, np.asfortranarray(signal), dict(shuffle=False)),
    (MLPRegressor, np.floor(np.exp(signal[:, 0])).astype(int), dict(loss="poisson")),
    (MLPRegressor, np.exp(signal[:, 0]), dict(loss="tweedie")),
    (MLPRegressor, signal[:, 0], dict(loss="quantile", quantile=[0.1, 0.9])),
    (MLPClassifier, signal.argmax(axis=1), dict(label_smoothing=0.1)),
]
options = itertools.product(
    ("identity", "logistic", "tanh", "relu"), ("sgd", "adam", "rmsprop", "lbfgs"), ((), (5,), (6, 3)),
    ("float32", "float64"), (1,) if dense else (1, 2))
fits = 0
for i, (activation, solver, hidden, dtype, n_jobs) in enumerate(options):
    for j, (estimator, y, extra) in enumerate(tasks):
        if (i + j) % 3:
            continue
        names = dict(hidden_layer_sizes=hidden, activation=activation, solver=solver, dtype=dtype, n_jobs=n_jobs)
        numbers = dict(batch_size=(7, 30, 1)[i % 3], momentum=(0.9, 0.0)[j % 2], learning_rate_init=1e-4, max_iter=2)
        model = estimator(**names, **numbers, random_state=0, **extra)
        given = inputs[(i + j) % len(inputs)]
        model.fit(given, y, sample_weight=weights[(i // 3 + j) % 4])
        model.predict(inputs[(i + 2 * j + 1) % len(inputs)])
        if solver != "lbfgs" and not extra.get("early_stopping"):
            model.partial_fit(given, y)
        fits += 1
out["fits"] = fits
modules = vars(entries)
out["entries"] = {name: [[dtype, parallel, len(twin.signatures)] for (dtype, parallel), twin in f.twins.items()]
                  for name, f in modules.items() if isinstance(f, jit.Entry)}
groups = ["dense"] if dense else list(jit._leaves)
reals = [numba.from_dtype(np.dtype(dtype)) for dtype in ("float32", "float64")]
loaded = [load(real) for real in reals for group in groups for load in jit._leaves[group]]
single = [leaf for found in loaded for leaf in (found if isinstance(found, list) else [found])]  # a family's members
out["leaves"] = [len(leaf.signatures) for leaf in single]
"""


@pytest.mark.parametrize("extent", ["dense", pytest.param("all", marks=pytest.mark.slow)])
def test_one_signature_for_each_dtype_whatever_the_options(extent):
    """Dense input on one thread; and, with three times as much to compile, sparse input and several threads too."""
    cache = os.environ.get("NUMBA_CACHE_DIR", "")
    result = run(ROOT, cache, GRID, NUMBA_NUM_THREADS="2", EXTENT=extent)
    assert result["fits"] > 150
    assert len(result["entries"]) > 2
    for name, twins in result["entries"].items():
        assert all(n_signatures == 1 for _, _, n_signatures in twins), name
        made = {(dtype, parallel) for dtype, parallel, _ in twins}
        kinds = (False,) if extent == "dense" else (False, True)
        dtypes = () if name == "forward_sparse" and extent == "dense" else ("float32", "float64")
        assert made == {(dtype, parallel) for dtype in dtypes for parallel in kinds}, name
    assert len(result["leaves"]) > 20
    assert set(result["leaves"]) == {1}
