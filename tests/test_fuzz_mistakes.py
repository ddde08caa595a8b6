"""Mistakes in every place, alone and together: an error of a kind and with words that help, as scikit-learn has one.

FASTNN_FUZZ sets the number of examples of each test; the usual run takes few.
"""

import os

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import neural_network

from fastnn import MLPClassifier, MLPRegressor

SETTINGS = settings(
    max_examples=int(os.environ.get("FASTNN_FUZZ", "80")),
    derandomize="FASTNN_FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
pytestmark = pytest.mark.filterwarnings("ignore")
pick = st.sampled_from
N, FEATURES = 12, 3
TOO_LARGE = 'X holds a value that is finite but too large for float32: scale it, or use dtype="float64"'


def spoiled(x, value, dtype=np.float64):
    x = x.astype(dtype)
    x[5, 1] = value
    return x


# name: what becomes of a good X, the words that the error must hold
WRONG_X = {
    "NaN": (lambda x: spoiled(x, np.nan), "Input X contains NaN"),
    "inf": (lambda x: spoiled(x, np.inf), "Input X contains infinity"),
    "-inf float32": (lambda x: spoiled(x, -np.inf, np.float32), "Input X contains infinity"),
    "inf float16": (lambda x: spoiled(x, np.inf, np.float16), "Input X contains infinity"),
    "NaN object": (lambda x: spoiled(x, np.nan, object), "Input X contains NaN"),
    "NaN csr": (lambda x: sp.csr_array(spoiled(x, np.nan)), "Input X contains NaN"),
    "inf csc": (lambda x: sp.csc_matrix(spoiled(x, np.inf)), "Input X contains infinity"),
    "NA": (lambda x: pd.DataFrame(x).astype("Float64").replace(x[5, 1], pd.NA), "Input X contains NaN"),
    "no rows": (lambda x: x[:0], "Found array with 0 sample"),
    "no columns": (lambda x: x[:, :0], "Found array with 0 feature"),
    "no rows csr": (lambda x: sp.csr_array(x[:0]), "Found array with 0 sample"),
    "empty list": (lambda x: [], "Expected 2D array, got 1D array|Found array with 0"),
    "1-D": (lambda x: x[:, 0], "Expected 2D array, got 1D array"),
    "3-D": (lambda x: x[:, :, None], "Found array with dim 3"),
    "number": (lambda x: 3.0, "Expected 2D array, got scalar|Singleton"),
    "None": (lambda x: None, "X|None"),
    "words": (lambda x: x.astype(str).astype(object) + "?", "could not convert string to float"),
    "text": (lambda x: np.full(x.shape, "abc"), "could not convert string to float|strings"),
    "bytes": (lambda x: np.full(x.shape, b"abc"), "could not convert string to float|bytes"),
    "one word": (lambda x: "X", "Expected 2D array|could not convert string"),
    "complex": (lambda x: x + 1j, "Complex data not supported"),
    "complex csr": (lambda x: sp.csr_array(x + 1j), "Complex data not supported"),
    "ragged": (lambda x: [[1, 2, 3], [4, 5]] * (N // 2), "setting an array element|inhomogeneous"),
    "dates": (lambda x: np.full(x.shape, np.datetime64("2020-01-01")), "X|dtype|datetime"),
    "dicts": (lambda x: [{"a": 1}] * N, "float|Expected 2D array"),
    "None inside": (lambda x: spoiled(x, None, object), "Input X contains NaN|float"),
    "fewer rows": (lambda x: x[:5], "inconsistent numbers of samples"),
}
WRONG_Y = {
    "short": (lambda y: y[:7], "inconsistent numbers of samples"),
    "long": (lambda y: np.tile(y, (2,) + (1,) * (y.ndim - 1)), "inconsistent numbers of samples"),
    "empty": (lambda y: y[:0], "inconsistent numbers of samples|0 sample"),
    "None": (lambda y: None, "requires y to be passed, but the target y is None"),
    "3-D": (lambda y: np.zeros((N, 2, 2)), "dim 3|Unknown label type|bad input shape|y"),
    "NaN": (lambda y: np.where(np.arange(N) == 3, np.nan, 1.5), "Input y contains NaN"),
    "inf": (lambda y: np.where(np.arange(N) == 3, np.inf, 1.5), "Input y contains infinity"),
    "complex": (lambda y: np.arange(N) * 1j, "Complex data not supported|y"),
    "number": (lambda y: 3, "[Ss]ingleton|scalar|len()|y"),
    "dicts": (lambda y: [{} for _ in range(N)], "y|label|dict|float"),
    "None inside": (lambda y: np.where(np.arange(N) == 3, None, "a"), "y|label|None|float"),
    "mixed": (lambda y: np.array([1, "a", None] * (N // 3), dtype=object), "y|label|uniformly|float"),
}
WRONG_WEIGHT = {
    "short": (np.ones(5), "sample_weight"),
    "empty": ([], "sample_weight|Found array with 0"),
    "2-D": (np.ones((N, 2)), "[Ss]ample.weights? must be 1D"),
    "zeros": (np.zeros(N), "Sample weights must contain at least one non-zero number"),
    "NaN": (np.r_[np.nan, np.ones(N - 1)], "sample_weight contains NaN"),
    "inf": (np.r_[np.inf, np.ones(N - 1)], "sample_weight contains infinity"),
    "words": (["much"] * N, "could not convert string|sample_weight"),
    "complex": (np.ones(N) * 1j, "Complex data not supported"),
}
WRONG_PARAMETER = {
    "hidden_layer_sizes": [0, -1, (3, 0), (3, -2), "3", None, 2.5],
    "activation": ["Relu", "softmax", None, 3],
    "solver": ["Adam", "newton", None],
    "alpha": [-1e-9, "small", None, np.nan],
    "batch_size": [0, -5, 2.5, "all", None],
    "learning_rate": ["fixed", None, 0.1],
    "learning_rate_init": [0, -1, "0.1", None],
    "power_t": [-0.5, "half"],
    "max_iter": [0, -1, 2.5, "many", None],
    "shuffle": ["yes", None, 2],
    "random_state": ["zero", -1, 1.5],
    "tol": [-1, None, "tiny"],
    "verbose": ["yes", -1, None],
    "warm_start": ["yes", None],
    "momentum": [-0.1, 1.1, "high"],
    "nesterovs_momentum": ["yes", None],
    "early_stopping": ["yes", None],
    "validation_fraction": [1.0, 1.5, -0.1, "tenth"],
    "beta_1": [1, -0.1, "high"],
    "beta_2": [1, -0.1, None],
    "epsilon": [0, -1e-8, None],
    "n_iter_no_change": [0, -1, 2.5, None],
    "max_fun": [0, -1, 10.5],
}
OWN_PARAMETER = {"n_jobs": [0, 1.5, "all"], "dtype": ["float16", "double", np.int32, None, 32]}
PARAMETER_MISTAKES = [(name, value) for name in WRONG_PARAMETER for value in WRONG_PARAMETER[name]]
FORGIVEN = {("shuffle", 2), ("random_state", -1)}


def good(kind, rng):
    x = rng.standard_normal((N, FEATURES)).round(2)
    return x, rng.permutation(np.arange(N) % 3) if kind is MLPClassifier else rng.standard_normal(N)


def quick(kind, **parameters):
    return kind(**{"hidden_layer_sizes": (2,), "max_iter": 2, "random_state": 0, **parameters})


def outcome(call):
    """The error of a call, or None."""
    try:
        call()
    except Exception as error:
        return error


def assert_told(error, words):
    assert isinstance(error, (ValueError, TypeError)), repr(error)
    assert any(pytest.raises(type(error), match=word) and __import__("re").search(word, str(error)) for word in words), (
        f"{error!r} says none of {words}"
    )
