"""``transform``: the activations of a hidden layer, by a network that ends there.

Parameters are one flat vector, W_0, b_0, W_1, ..., so that the first layers' are the beginning of it, and the rows go
the way of a prediction. The mixin gives what scikit-learn asks of a transformer; its tags of a predictor stay.
"""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from sklearn.base import TransformerMixin
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import _generate_get_feature_names_out

from ._typed import Part, available_if
from .encode import rows_to_predict
from .parameters import activation_names, hidden_units

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike, NDArray

    from ._types import Floats, Matrix

LOGITS = "logits"
BLOCK_BYTES = 1 << 25  # of float64 results that are in memory at a time, before they become the float32 of X


def has_hidden_layer(estimator):
    """Whether ``transform`` and ``fit_transform`` exist; for ``available_if``."""
    if "coefs_" in vars(estimator):
        hidden = len(estimator.coefs_) > 1
    else:
        try:
            hidden = bool(hidden_units(estimator.hidden_layer_sizes, estimator.n_hidden_layers))
        except (ValueError, TypeError):
            hidden = True  # fit will say what is wrong
    if not hidden:
        raise AttributeError(
            "transform returns the activations of a hidden layer, and this network has none: ask for one with "
            "hidden_layer_sizes."
        )
    return True


class LayerNames:
    """What scikit-learn's output containers ask of an estimator, for one of its layers."""

    def __init__(self, estimator, layer):
        self._estimator, self._layer = estimator, layer
        self._sklearn_output_config = getattr(estimator, "_sklearn_output_config", {})
        self._sklearn_auto_wrap_output_keys = estimator._sklearn_auto_wrap_output_keys

    def get_feature_names_out(self):
        return self._estimator.get_feature_names_out(layer=self._layer)


class HiddenMixin(TransformerMixin, Part, auto_wrap_output_keys=None):
    """The part of `BaseMLP` that transforms.

    scikit-learn's wrapper of ``transform`` would name the columns of the last hidden layer whichever is asked for, so
    ``transform`` makes its container itself.
    """

    @available_if(has_hidden_layer)
    def transform(self, X: Matrix, layer: int | Literal["logits"] = -1) -> Floats:
        """Activations of a hidden layer.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        layer : int or "logits", default=-1
            The hidden layer: 0 is the first, -1 the last. "logits": the sums of the output layer before its activation.

        Returns
        -------
        activations : ndarray of shape (n_samples, n_units)
            Of X's float type: float32 for float32 X, else float64. A data frame where ``set_output`` asks for one.

        Raises
        ------
        ValueError
            When there is no such layer.

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> clf = MLPClassifier((8, 4), tol=1, random_state=0).fit([[0.0], [1.0]], [0, 1])
        >>> clf.transform([[0.0], [0.5], [1.0]]).shape, clf.transform([[0.5]], layer=0).shape
        ((3, 4), (1, 8))
        """
        return _wrap_data_with_container(
            "transform", self._mlp_predicting(self._mlp_hidden_forward, X, layer), X, LayerNames(self, layer)
        )

    fit_transform = available_if(has_hidden_layer)(TransformerMixin.fit_transform)

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None, *, layer: int | Literal["logits"] = -1
    ) -> NDArray[np.object_]:
        """Names of the columns that ``transform`` returns: the class name in lower case and a number.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Only compared with the names seen in ``fit``.
        layer : int or "logits", default=-1
            As in ``transform``.

        Returns
        -------
        names : ndarray of str of shape (n_units,)
        """
        self._mlp_check_fitted()
        n_units = self._mlp_units()[self._mlp_layer(layer)]
        return _generate_get_feature_names_out(self, n_units, input_features)

    def _mlp_layer(self, layer):
        """Number of the level, in 1, 2, ..., that ``layer`` means."""
        n_hidden = len(self._mlp_weights()[0]) - 1
        if isinstance(layer, str) and layer == LOGITS:
            return n_hidden + 1
        known = isinstance(layer, Integral) and not isinstance(layer, bool)
        if not known or not -n_hidden <= layer < n_hidden:
            legal = f'0 to {n_hidden - 1}, -{n_hidden} to -1, or "{LOGITS}"'
            raise ValueError(
                f"layer must be the number of one of the {n_hidden} hidden layers, {legal}, got {layer!r}."
                if n_hidden
                else f"This network has no hidden layer: ask for one with hidden_layer_sizes. Got layer={layer!r}."
            )
        return int(layer) % n_hidden + 1

    def _mlp_hidden_forward(self, X, layer):
        level, weights, units = self._mlp_layer(layer), self._mlp_weights(), self._mlp_units()
        out_activation = (*activation_names(self.activation, len(units) - 2), "identity")[level - 1]
        X = rows_to_predict(self, X, units[0])
        n, height = X.shape[0], max(1, BLOCK_BYTES // (8 * units[level]))
        if n <= height:
            outputs, dtype = self._mlp_rows_forward(X, weights, units, out_activation, level)
            return outputs.astype(dtype, copy=False)
        X = X.tocsr() if sp.issparse(X) else X
        activations = None
        for start in range(0, n, height):
            outputs, dtype = self._mlp_rows_forward(X[start : start + height], weights, units, out_activation, level)
            if activations is None:
                activations = np.empty((n, units[level]), dtype)
            activations[start : start + height] = outputs
        return activations
