"""Types of the public signatures, for editors and type checkers: legal strings, and data. Not imported at run time.

Checkers need each string written out. `tests/test_types.py` compares them with the tables that they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

ActivationName: TypeAlias = Literal[
    "identity",
    "logistic",
    "tanh",
    "relu",
    "gelu",
    "leaky_relu",
    "silu",
    "elu",
    "selu",
    "softplus",
    "mish",
    "hard_swish",
]
SolverName: TypeAlias = Literal["lbfgs", "sgd", "adam", "rmsprop", "nadam", "adagrad", "lion", "schedulefree"]
ScheduleName: TypeAlias = Literal[
    "constant", "invscaling", "adaptive", "cosine", "onecycle", "exponential", "step", "coslog"
]
InitName: TypeAlias = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal", "normal"]
BiasName: TypeAlias = Literal["match", "zeros"]
RegressionLoss: TypeAlias = Literal[
    "squared_error", "poisson", "absolute_error", "huber", "quantile", "gamma", "tweedie"
]
ClassificationLoss: TypeAlias = Literal["log_loss", "squared_error", "focal"]
OutActivation: TypeAlias = Literal["auto", "softmax", "logistic"]
DtypeName: TypeAlias = Literal["float32", "float64", "match"]
Auto: TypeAlias = Literal["auto"]
Dtype: TypeAlias = DtypeName | type[np.float32 | np.float64] | np.dtype[Any]
ClassWeight: TypeAlias = Mapping[Any, float] | Sequence[Mapping[int, float]] | Literal["balanced"] | None
StopReason: TypeAlias = Literal[
    "max_iter", "tol", "early stopping", "max_seconds", "interrupted", "callback", "diverged"
]

if TYPE_CHECKING:
    import os
    from typing import Protocol

    import scipy.sparse as sp
    from numpy.typing import ArrayLike, NDArray

    class Scorer(Protocol):
        """Judges a fitted estimator; the higher the better."""

        def __call__(self, estimator: Any, X: Any, y: Any) -> float: ...

    Matrix: TypeAlias = ArrayLike | sp.sparray | sp.spmatrix
    Floats: TypeAlias = NDArray[np.floating[Any]]
    Path: TypeAlias = str | os.PathLike[str]
    RandomState: TypeAlias = int | np.random.RandomState | None
    LayerSizes: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]]
