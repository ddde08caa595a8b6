"""The user's data as ``EncodedData``: checked by scikit-learn's validation, then read-only arrays of one dtype.

Arrays that already have the network's dtype and C order are not copied. Messages are scikit-learn's.
"""

import math

import numpy as np
import scipy.sparse as sp
from sklearn import get_config
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, assert_all_finite, validate_data

from .core.nn.loss_base import POSITIVE, REALS
from .core.records import EncodedData
from .csr import by_rows, refuse_corrupt
from .stopping import NON_FINITE
from .threads import share

UNCHECKED = {"accept_sparse": ["csr", "csc"], "ensure_all_finite": False}
PIECE = 1 << 18  # elements that one thread converts and checks at a time: they stay in L2
# Largest number in X, y and weights for float32: gradients have the same size, and optimizers square them.
LARGEST = 2.0**63
# Sample weights whose largest is outside this range are divided by a power of two before they become float32.
USUAL_WEIGHTS = (2.0**-40, 2.0**40)
HEAVIEST_PENALTY = {np.dtype(np.float32): 2.0**40, np.dtype(np.float64): 2.0**400}


def validated(estimator, X, y, *, reset, y_numeric=False):
    """X and y as ``validate_data`` returns them, except that X is not checked for NaN and inf yet.

    Numeric arrays keep their dtype: ``uint8`` images are not copied to float64. Where ``validate_data`` would find
    nothing, since X and y are plain arrays of numbers, it is left out. (For 200 rows it takes 0.18 ms, and all of
    `partial_fit` 1 to 2: Zen 3.)
    """
    if _plain_rows(X) and _plain_numbers(y, len(X)) and X.shape[1] and (reset or _fits(estimator, X)):
        if reset:  # as `validate_data` does
            estimator.n_features_in_ = X.shape[1]
            vars(estimator).pop("feature_names_in_", None)
        return X, y
    _refuse_corrupt_sparse(X=X, y=y)
    numeric = (isinstance(X, np.ndarray) or sp.issparse(X)) and X.dtype.kind in "biuf"
    options = {**UNCHECKED, "dtype": "numeric" if numeric else (np.float64, np.float32), "reset": reset}
    X, y = validate_data(estimator, X, y, multi_output=True, y_numeric=y_numeric, **options)
    if y.ndim == 2 and y.shape[1] == 1 and not sp.issparse(y):
        y = column_or_1d(y, warn=True)
    return X, y


def rows_to_predict(estimator, X, n_features):
    """X as ``validate_data`` returns it, of any real dtype and not checked for NaN and inf.

    The check is skipped, which takes a hundredth of its time, where it cannot fail: X is a plain array of real numbers
    with rows and the right number of columns, and the estimator was fitted without column names.

    Raises
    ------
    ValueError
        As ``validate_data``, and when X does not have ``n_features`` columns as the weights do.
    """
    if _plain_rows(X) and X.shape[1] == n_features and _fits(estimator, X):
        return X
    _refuse_corrupt_sparse(X=X)
    X = validate_data(estimator, X, dtype="numeric", reset=False, **UNCHECKED)
    if X.shape[1] != n_features:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting {n_features} features as input: "
            f"coefs_[0] has {n_features} rows."
        )
    return X if X.dtype.kind in "biuf" else X.astype(np.float64)


def _plain_rows(X):
    return type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in "biuf" and X.shape[0] > 0


def _plain_numbers(y, n):
    """Whether y is a plain array of ``n`` finite numbers."""
    if type(y) is not np.ndarray or y.shape != (n,):
        return False
    return y.dtype.kind in "biu" or (y.dtype.kind == "f" and bool(np.isfinite(y).all()))


def _fits(estimator, X):
    """Whether X has the columns of a fit whose columns had no names."""
    known = vars(estimator)
    return X.shape[1] == known.get("n_features_in_") and "feature_names_in_" not in known


def _refuse_corrupt_sparse(**given):
    """Check the indices of sparse matrices that SciPy converts without a check; `encode_features` checks the others."""
    for name, matrix in given.items():
        if sp.issparse(matrix):
            refuse_corrupt(matrix, name, later=UNCHECKED["accept_sparse"] if name == "X" else ())


def refuse_non_finite(X, *, owner):
    """Raise scikit-learn's error if validated X holds NaN or inf."""
    values = X.data if sp.issparse(X) else X
    if not get_config()["assume_finite"] and values.dtype.kind == "f" and values.size:
        assert_all_finite(values, estimator_name=owner, input_name="X")


def _too_large(name, size, dtype):
    return (
        f"{name} holds {size:.3g}, which is finite but too large to learn from in {dtype} (at most {LARGEST:.2g}): "
        'scale it, or use dtype="float64".'
    )


def encode_features(X, dtype, *, owner, n_threads=1):
    """Validated X for ``EncodedData``: ``(dense, None)`` or ``(None, (data, indices, indptr))``.

    Parameters
    ----------
    owner : str
        Name of the estimator, for messages.
    n_threads : int
        Number of Python threads that convert and check X.
    """
    if not sp.issparse(X):
        return cast(X, dtype, "X", owner=owner, n_threads=n_threads), None
    rows = by_rows(X).in_order()
    data = cast(rows.data, dtype, "X", owner=owner, n_threads=n_threads)
    return None, (data, read_only(rows.indices), read_only(rows.indptr))


def encode_weights(sample_weight, X, dtype, class_weights=None):
    """Sample weights of the rows of X, of size 0 when there are none, and their divisor.

    ``class_weights``, if given, are multiplied with them: float64 (n_samples,), the weight of each row by its class.

    The divisor is 1, or the power of two that brings the largest weight to about 1 if it is so small or so large that
    ``dtype`` would lose weights. Only ratios matter, but the L2 term must be divided by it too, see `scaled_alpha`.
    """
    if sample_weight is None and class_weights is None:
        return read_only(np.empty(0, dtype)), 1.0
    weights, divisor = class_weights, 1.0
    if sample_weight is not None:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if not weights.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        weights = weights if class_weights is None else weights * class_weights
    if not weights.any():
        raise ValueError("class_weight leaves no row a weight: some class of y must have a weight > 0.")
    largest = float(np.abs(weights).max())
    if not USUAL_WEIGHTS[0] <= largest <= USUAL_WEIGHTS[1]:
        exponent = math.frexp(largest)[1]
        weights, divisor = np.ldexp(weights, -exponent), math.ldexp(1.0, exponent - 1) * 2
    return cast(weights, dtype, "sample_weight"), divisor


def scaled_alpha(alpha, divisor, dtype):
    """``alpha`` for sample weights that `encode_weights` has divided by ``divisor``.

    Raises
    ------
    ValueError
        When the sample weights are so small that only the L2 term would matter.
    """
    scaled = alpha / divisor
    if scaled > HEAVIEST_PENALTY[dtype]:
        raise ValueError(
            f"alpha={alpha!r} is too large for the sample weights, of which the largest is about {divisor:.2g}: the L2 "
            "term counts against their sum, and nothing else would be learned. Scale sample_weight up, or use alpha=0."
        )
    return scaled


def encode_values(y, dtype, *, loss, domain):
    """Regression targets (n, n_outputs) for a loss, of which ``domain`` says what they may be: see `loss_base.Loss`.

    ``loss`` names it in messages.
    """
    if sp.issparse(y):
        raise ValueError("Sparse y is not supported: use a dense array of regression targets.")
    if y.dtype.kind not in "biuf":
        raise ValueError(f"y must hold numbers for regression, got dtype {y.dtype}.")
    if domain != REALS and (y.min() <= 0 if domain == POSITIVE else y.min() < 0):
        what = "zero or negative" if domain == POSITIVE else "negative"
        raise ValueError(f"Some values of y are {what}: {loss} needs y {domain}.")
    targets = cast(y.reshape(len(y), -1), dtype, "y")
    if domain == POSITIVE and targets.min() < np.finfo(dtype).tiny:
        wider = ', or use dtype="float64"' if targets.dtype == np.float32 else ""
        raise ValueError(
            f"Some values of y are as small as {y.min():.3g}, which is zero in {targets.dtype}: {loss} needs y "
            f"{domain}. Scale y up{wider}."
        )
    return targets


def encode_start(name, given, shapes, dtype):
    """Initial weights or biases from the user, as one read-only array of ``dtype`` for each layer.

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
    """``EncodedData``, with empty arrays for None."""
    return EncodedData(
        X=X,
        csr=csr,
        labels=read_only(np.empty(0, np.int32)) if labels is None else labels,
        targets=read_only(np.empty((0, 0), dtype)) if targets is None else targets,
        sample_weight=read_only(np.empty(0, dtype)) if sample_weight is None else sample_weight,
    )


def converted(array, dtype, n_threads):
    """``array`` as a C-contiguous array of ``dtype``, itself where it fits, and the maximum of abs(array), NaN for NaN.

    (60000 x 784 on two cores: float32 6 ms, 10 with scikit-learn's check alone; from float64 26 and 45.)
    """
    fits = array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    result = array if fits else np.empty(array.shape, dtype)
    step = max(1, PIECE // max(1, array[:1].size))
    extremes = [np.zeros(1)]

    def convert(start):
        piece = result[start : start + step]
        with np.errstate(all="ignore"):
            if not fits:
                piece[...] = array[start : start + step]
            if piece.size:
                extremes.append([np.maximum.reduce(piece, axis=None), -np.minimum.reduce(piece, axis=None)])

    pieces = range(0, len(array), step)
    share(lambda: convert, pieces, min(n_threads, max(1, len(pieces))))
    return result, float(np.maximum.reduce(np.concatenate(extremes)))


def cast(array, dtype, name, *, owner=None, too_large=NON_FINITE, n_threads=1):
    """``array`` as a read-only C-contiguous array of ``dtype``, without a copy where it fits.

    Raises
    ------
    ValueError
        When it holds NaN or inf, or a number that is too large for float32: see `LARGEST`.
    """
    result, largest = converted(array, np.dtype(dtype), n_threads)
    if largest <= LARGEST or (np.isfinite(largest) and result.dtype == np.float64):
        return read_only(result)
    with np.errstate(all="ignore"):  # scikit-learn adds all numbers up: inf - inf gives a warning
        if not np.isfinite(largest):
            if array.dtype not in (np.float32, np.float64):
                array = array.astype(np.float64)  # as scikit-learn does before it looks
            assert_all_finite(array, estimator_name=owner, input_name=name)
            if get_config()["assume_finite"]:
                return read_only(result)
            largest = float(np.abs(array).max())
    raise ValueError(f"{too_large} {_too_large(name, largest, result.dtype)}")


def read_only(array):
    """A read-only view; the caller's array does not change."""
    view = array.view()
    view.flags.writeable = False
    return view
