"""From what users pass to ``EncodedData``: checked by scikit-learn's validation, then read-only arrays of one dtype.

Arrays that already have the engine's dtype and C order are passed on without a copy. Messages are scikit-learn's.
"""

import numpy as np
import scipy.sparse as sp
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, assert_all_finite, validate_data

from .core.records import EncodedData
from .stopping import NON_FINITE


def validated(estimator, X, y="no_validation", *, reset, y_numeric=False):
    """X, or X and y, as ``validate_data`` leaves them, except that NaN and inf in X are not looked for yet.

    Numeric arrays keep their dtype: whoever passes ``uint8`` images does not pay for a float64 copy of them.
    """
    numeric = (isinstance(X, np.ndarray) or sp.issparse(X)) and X.dtype.kind in "biuf"
    options = {
        "accept_sparse": ["csr", "csc"],
        "dtype": "numeric" if numeric else (np.float64, np.float32),
        "ensure_all_finite": False,
        "reset": reset,
    }
    if isinstance(y, str) and y == "no_validation":
        return validate_data(estimator, X, **options)
    X, y = validate_data(estimator, X, y, multi_output=True, y_numeric=y_numeric, **options)
    if y.ndim == 2 and y.shape[1] == 1 and not sp.issparse(y):
        y = column_or_1d(y, warn=True)
    return X, y


def encode_features(X, dtype, *, owner, too_large=NON_FINITE):
    """The engine's view of validated X: ``(dense, None)`` or ``(None, (data, indices, indptr))``.

    Parameters
    ----------
    owner : str
        Name of the estimator, for messages.
    too_large : str
        How the message begins when a finite value has no finite counterpart in ``dtype``.
    """
    if not sp.issparse(X):
        return cast(X, dtype, "X", owner=owner, too_large=too_large), None
    X = X.tocsr()
    if not X.has_sorted_indices:
        X = X.sorted_indices()
    data = cast(X.data, dtype, "X", owner=owner, too_large=too_large)
    indices = read_only(np.require(X.indices, requirements=["C", "A"]))
    return None, (data, indices, read_only(np.require(X.indptr, np.int64, ["C", "A"])))


def encode_weights(sample_weight, X, dtype):
    """Weights of the rows of X, size 0 when there are none."""
    if sample_weight is None:
        return read_only(np.empty(0, dtype))
    weights = cast(_check_sample_weight(sample_weight, X), dtype, "sample_weight")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def binarizer_of(y):
    """``LabelBinarizer().fit(y)``; its checks of y, 0.3 ms, are left out where an array of integers passes them all."""
    binarizer = LabelBinarizer()
    if type(y) is not np.ndarray or y.ndim != 1 or y.dtype.kind not in "biu" or not y.size:
        return binarizer.fit(y)
    binarizer.classes_ = np.unique(y)
    binarizer.y_type_ = "multiclass" if binarizer.classes_.size > 2 else "binary"
    binarizer.sparse_input_ = False
    return binarizer


def encode_labels(y, binarizer, dtype):
    """Labels as class indices ``(labels, None)`` for more than two classes, else 0 and 1 as ``(None, targets)``.

    One-hot targets are never built: an index per row says the same. One class alone is encoded as 0.
    """
    if binarizer.y_type_.startswith("multilabel") or y.ndim == 2:
        return None, read_only((binarizer.transform(y) != 0).astype(dtype, order="C"))
    indices = np.searchsorted(binarizer.classes_, y)
    if binarizer.y_type_ == "multiclass":
        return read_only(indices.astype(np.int32)), None
    return None, read_only((indices == 1).astype(dtype)[:, np.newaxis])


def encode_values(y, dtype, *, non_negative):
    """Regression targets (n, n_outputs)."""
    if sp.issparse(y):
        raise ValueError("Sparse y is not supported: use a dense array of regression targets.")
    if y.dtype.kind not in "biuf":
        raise ValueError(f"y must hold numbers for regression, got dtype {y.dtype}.")
    if non_negative and y.min() < 0:
        raise ValueError("Some values of y are negative: loss='poisson' needs y >= 0.")
    return cast(y.reshape(len(y), -1), dtype, "y")


def encoded(X, csr, dtype, *, labels=None, targets=None, sample_weight=None):
    """``EncodedData`` with empty arrays for what is missing."""
    return EncodedData(
        X=X,
        csr=csr,
        labels=read_only(np.empty(0, np.int32)) if labels is None else labels,
        targets=read_only(np.empty((0, 0), dtype)) if targets is None else targets,
        sample_weight=read_only(np.empty(0, dtype)) if sample_weight is None else sample_weight,
    )


def cast(array, dtype, name, *, owner=None, too_large=NON_FINITE):
    """A read-only C-contiguous array of ``dtype`` holding finite values only; ``array`` itself where it fits."""
    with np.errstate(over="ignore"):
        result = np.require(array, dtype, ["C", "A"])
    try:
        assert_all_finite(result)
    except ValueError:
        assert_all_finite(array, estimator_name=owner, input_name=name)
        raise ValueError(
            f"{too_large} {name} holds a value that is finite but too large for {result.dtype}: "
            'scale it, or use dtype="float64".'
        ) from None
    return read_only(result)


def read_only(array):
    """A view that nobody can write through; the caller's array stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view
