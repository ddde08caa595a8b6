"""From what users pass to ``EncodedData``: checked by scikit-learn's validation, then read-only arrays of one dtype.

Arrays that already have the engine's dtype and C order are passed on without a copy. Messages are scikit-learn's.
"""

import numpy as np
import scipy.sparse as sp
from sklearn import get_config
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, assert_all_finite, validate_data

from .core.records import EncodedData
from .csr import by_rows, refuse_corrupt
from .stopping import NON_FINITE
from .threads import share

UNCHECKED = {"accept_sparse": ["csr", "csc"], "ensure_all_finite": False}
PIECE = 1 << 21  # elements that one thread converts and looks through at a time


def validated(estimator, X, y, *, reset, y_numeric=False):
    """X and y as ``validate_data`` leaves them, except that NaN and inf in X are not looked for yet.

    Numeric arrays keep their dtype: whoever passes ``uint8`` images does not pay for a float64 copy of them.
    """
    _refuse_corrupt_sparse(X=X, y=y)
    numeric = (isinstance(X, np.ndarray) or sp.issparse(X)) and X.dtype.kind in "biuf"
    options = {**UNCHECKED, "dtype": "numeric" if numeric else (np.float64, np.float32), "reset": reset}
    X, y = validate_data(estimator, X, y, multi_output=True, y_numeric=y_numeric, **options)
    if y.ndim == 2 and y.shape[1] == 1 and not sp.issparse(y):
        y = column_or_1d(y, warn=True)
    return X, y


def rows_to_predict(estimator, X):
    """X as ``validate_data`` leaves it, of any real dtype and not looked through for NaN and inf.

    It is X itself, in a hundredth of the time, where those checks can find nothing: X is a plain array of real numbers
    with rows, and with as many columns as the estimator was fitted with, neither of which has names.
    """
    plain = type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in "biuf" and X.shape[0] > 0
    if plain and X.shape[1] == getattr(estimator, "n_features_in_", 0) and not hasattr(estimator, "feature_names_in_"):
        return X
    _refuse_corrupt_sparse(X=X)
    X = validate_data(estimator, X, dtype="numeric", reset=False, **UNCHECKED)
    return X if X.dtype.kind in "biuf" else X.astype(np.float64)


def _refuse_corrupt_sparse(**given):
    """Look through what is converted without a look: SciPy trusts all indices. (`encode_features` sees to the rest.)"""
    for name, matrix in given.items():
        if sp.issparse(matrix):
            refuse_corrupt(matrix, name, later=UNCHECKED["accept_sparse"] if name == "X" else ())


def refuse_non_finite(X, dtype, *, owner):
    """Raise scikit-learn's error if validated X holds NaN or inf, or a like one for a value too large for ``dtype``."""
    values = X.data if sp.issparse(X) else X
    if get_config()["assume_finite"] or values.dtype.kind != "f" or not values.size:
        return
    assert_all_finite(values, estimator_name=owner, input_name="X")
    with np.errstate(over="ignore"):
        extremes = np.array([values.min(), values.max()]).astype(dtype)
    if np.isinf(extremes).any():
        raise ValueError(
            f"Input X contains infinity or a value too large for {dtype!r}. {_finite_but_too_large('X', dtype)}"
        )


def _finite_but_too_large(name, dtype):
    return f'{name} holds a value that is finite but too large for {dtype}: scale it, or use dtype="float64".'


def encode_features(X, dtype, *, owner, n_threads=1):
    """The engine's view of validated X: ``(dense, None)`` or ``(None, (data, indices, indptr))``.

    Parameters
    ----------
    owner : str
        Name of the estimator, for messages.
    n_threads : int
        Python threads that convert X and look through it.
    """
    if not sp.issparse(X):
        return cast(X, dtype, "X", owner=owner, n_threads=n_threads), None
    rows = by_rows(X).in_order()
    data = cast(rows.data, dtype, "X", owner=owner, n_threads=n_threads)
    return None, (data, read_only(rows.indices), read_only(rows.indptr))


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


def encode_labels(y, binarizer, dtype, *, exclusive):
    """Labels as class indices ``(labels, None)`` for more than two classes, else 0 and 1 as ``(None, targets)``.

    One-hot targets are never built: an index per row says the same. One class alone is encoded as 0.

    Parameters
    ----------
    exclusive : bool
        Whether outputs exclude each other (softmax): then two classes have two outputs, and a row of an indicator must
        hold a single one, whose column is the class.
    """
    if binarizer.y_type_.startswith("multilabel") or y.ndim == 2:
        indicator = binarizer.transform(y) != 0
        if not exclusive:
            return None, read_only(indicator.astype(dtype, order="C"))
        counts = indicator.sum(axis=1)
        if (counts != 1).any():
            row = int(np.argmax(counts != 1))
            raise ValueError(
                f"out_activation='softmax' takes one class for each row: y must be one-hot, but row {row} holds "
                f"{counts[row]} ones. For several labels use out_activation='logistic' or 'auto'."
            )
        return read_only(indicator.argmax(axis=1).astype(np.int32)), None
    indices = np.searchsorted(binarizer.classes_, y)
    if binarizer.y_type_ == "multiclass" or exclusive:
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


def encode_start(name, given, shapes, dtype):
    """Initial weights or biases that the user gives, one read-only array of ``dtype`` for each layer.

    Parameters
    ----------
    name : str
        Of the parameter, for messages.
    given : sequence of array-like
    shapes : list of tuple
        The shape of each layer's array.
    """
    try:
        given = list(given)
    except TypeError:
        raise ValueError(f"{name} must be a list of arrays, one for each layer, got {given!r}.") from None
    if len(given) != len(shapes):
        raise ValueError(f"{name} must hold {len(shapes)} arrays, one for each layer, got {len(given)}.")
    arrays = []
    for layer, (values, shape) in enumerate(zip(given, shapes, strict=True)):
        own = f"{name}[{layer}]"
        try:
            array = np.asarray(values)
        except ValueError:
            raise ValueError(f"{own} must have shape {shape}, got rows of different lengths.") from None
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{own} must hold numbers, got {type(values).__name__} of dtype {array.dtype}.")
        if array.shape != shape:
            raise ValueError(f"{own} must have shape {shape}, got {array.shape}.")
        arrays.append(cast(array, dtype, own, too_large="Initial weights must be finite."))
    return arrays


def encoded(X, csr, dtype, *, labels=None, targets=None, sample_weight=None):
    """``EncodedData`` with empty arrays for what is missing."""
    return EncodedData(
        X=X,
        csr=csr,
        labels=read_only(np.empty(0, np.int32)) if labels is None else labels,
        targets=read_only(np.empty((0, 0), dtype)) if targets is None else targets,
        sample_weight=read_only(np.empty(0, dtype)) if sample_weight is None else sample_weight,
    )


def converted(array, dtype, n_threads):
    """``array`` C-contiguous and of ``dtype``, itself where it fits, and the sums of its pieces.

    A sum is finite where all that is added up is, but for the largest numbers. (60000 x 784 on two cores: float32 6 ms,
    10 with scikit-learn's check alone; from float64 26 and 45.)
    """
    fits = array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    result = array if fits else np.empty(array.shape, dtype)
    step = max(1, PIECE // max(1, array[:1].size))
    sums = []

    def convert(start):
        piece = result[start : start + step]
        with np.errstate(over="ignore", invalid="ignore"):
            if not fits:
                piece[...] = array[start : start + step]
            sums.append(np.add.reduce(piece, axis=None))

    pieces = range(0, len(array), step)
    share(lambda: convert, pieces, min(n_threads, max(1, len(pieces))))
    return result, sums


def cast(array, dtype, name, *, owner=None, too_large=NON_FINITE, n_threads=1):
    """A read-only C-contiguous array of ``dtype`` holding finite values only; ``array`` itself where it fits."""
    result, sums = converted(array, np.dtype(dtype), n_threads)
    if np.isfinite(sums).all():
        return read_only(result)
    with np.errstate(invalid="ignore"):  # scikit-learn adds up too: infinity and its opposite are no news
        try:
            assert_all_finite(result)
        except ValueError:
            if array.dtype not in (np.float32, np.float64):
                array = array.astype(np.float64)  # as scikit-learn does before it looks
            assert_all_finite(array, estimator_name=owner, input_name=name)
            raise ValueError(f"{too_large} {_finite_but_too_large(name, result.dtype)}") from None
    return read_only(result)


def read_only(array):
    """A view that nobody can write through; the caller's array stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view
