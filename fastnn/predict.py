"""Prediction of a fitted estimator: from X to outputs in float64, and the classifier's labels and probabilities.

The weights may have been edited or assigned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from . import persistence
from ._typed import Part
from .encode import refuse_non_finite, rows_to_predict
from .infer import layout_of, predict
from .labels import log_probabilities, plain_labels, predicted_labels, probabilities
from .parameters import dtype_for, hidden_activation
from .scoring import accuracy
from .spec import NetworkSpec
from .state import flat_params
from .threads import resolve_n_jobs
from .transaction import apart

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

    from ._types import Floats, Matrix


class PredictionMixin(Part):
    """The part of `BaseMLP` that predicts."""

    def _mlp_outputs(self, X, out_activation=None):
        """Outputs of the network in float64, and the dtype to return them in: float32 for float32 X, else float64.

        Returns
        -------
        outputs : ndarray of shape (n_samples, n_outputs)
            After ``out_activation``, by default ``out_activation_``.
        dtype : numpy.dtype
        """
        return self._mlp_predicting(self._mlp_forward, X, out_activation)

    def _mlp_predicting(self, function, *args):
        """Call a function of a fitted network, with a better error where a parameter has become illegal."""
        self._mlp_check_fitted()
        try:
            return apart(function, *args)
        except Exception as error:
            self._mlp_blame_parameters(error)
            raise

    def _mlp_check_fitted(self):
        if "coefs_" not in vars(self):  # scikit-learn's check takes 20 us
            check_is_fitted(self)
            raise NotFittedError(f"This {type(self).__name__} instance has no coefs_: call 'fit' before predicting.")

    def _mlp_forward(self, X, out_activation):
        out_activation = self.out_activation_ if out_activation is None else out_activation
        weights = self._mlp_weights()
        units = persistence.units_of(*weights)
        return self._mlp_rows_forward(rows_to_predict(self, X, units[0]), weights, units, out_activation)

    def _mlp_rows_forward(self, X, weights, units, out_activation, n_layers=None):
        """`_mlp_outputs` of validated X, for a network of these weights, or for its first ``n_layers`` layers alone."""
        dtype = self._mlp_network_dtype(X, True)
        answer = dtype_for("match", X)
        if isinstance(self.dtype, str) and self.dtype == "match":
            dtype = answer = np.result_type(answer, dtype)  # as scikit-learn multiplies X and coefs_
        n_threads = resolve_n_jobs(self.n_jobs)
        hidden = hidden_activation(self.activation, len(units) - 2)

        def outputs_in(dtype):
            spec = NetworkSpec(units, hidden, out_activation, dtype)
            params = flat_params(layout_of(spec), dtype, *weights)
            if n_layers is not None:  # whose parameters are the first ones
                spec = spec.first_layers(n_layers)
            return predict(layout_of(spec), params, X, n_threads=n_threads)

        outputs, suspect = outputs_in(dtype)
        if suspect:
            refuse_non_finite(X, owner=type(self).__name__)
            if dtype == np.float32:  # finite, but X or sums of it exceed this type
                outputs, _ = outputs_in(np.dtype(np.float64))
        return outputs, answer


class ClassPredictionMixin(Part):
    """The part of the classifier that predicts labels and probabilities."""

    def predict(self, X: Matrix) -> Any:
        """Predict classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Predictions in the form of the ``y`` that the classifier was fitted with: class labels, or rows of a
            multi-label indicator (sparse if that was), with a single 1 each after softmax outputs.
        """
        return self._mlp_predicted(self._mlp_outputs(X)[0], self.out_activation_)

    def score(self, X: Matrix, y: Matrix, sample_weight: ArrayLike | None = None) -> float:
        """Share of rows whose predicted class, or whose labels all, are right.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            What is right.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            ``sklearn.metrics.accuracy_score`` of the predictions.
        """
        if sample_weight is None and plain_labels(y):
            predicted = self.predict(X)
            if predicted.shape == y.shape and predicted.dtype.kind in "biu":
                return float(np.mean(predicted == y))  # the checks of accuracy_score find nothing here, in 1 ms
        return super().score(X, y, sample_weight)  # type: ignore[misc]  # ClassifierMixin's

    def predict_proba(self, X: Matrix) -> Floats:
        """Predict probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probability of each class in the order of ``classes_``; for multi-label targets of each label, so that rows
            need not sum to 1. The logistic outputs of three or more classes are divided by their sum, as in
            ``sklearn.multiclass.OneVsRestClassifier``; where all are 0, all classes are equally probable.
        """
        outputs, dtype = self._mlp_outputs(X)
        return self._mlp_probabilities(outputs, self.out_activation_).astype(dtype, copy=False)

    def predict_log_proba(self, X: Matrix) -> Floats:
        """Predict logarithms of probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``, from the network's last sums: finite also where a probability is rounded to 0.
        """
        exact = getattr(self, "out_activation_", None) in ("softmax", "logistic")
        outputs, dtype = self._mlp_outputs(X, "identity" if exact else None)
        with np.errstate(all="ignore"):
            if exact:
                chosen = [self._mlp_chosen(self.out_activation_, name) for name in ("logistic", "softmax")]
                logs = log_probabilities(outputs, self._mlp_binarizer(), self.out_activation_, *chosen)
            else:
                logs = np.log(self._mlp_probabilities(outputs, self.out_activation_))
        if dtype == np.float32:
            logs[logs > -(2.0**-25)] = 0  # probabilities that are 1 in this type
        return logs.astype(dtype, copy=False)

    # ---- what BaseMLP asks for ---------------------------------------------------------------------------------------
    def _mlp_validation_score(self, outputs, data, rows):
        if len(self._label_binarizer.classes_) == 1:
            return 1.0
        return accuracy(outputs, data, rows)

    def _mlp_predicted(self, outputs, out_activation):
        return predicted_labels(outputs, self._mlp_binarizer(), self._mlp_chosen(out_activation, "softmax"))

    def _mlp_probabilities(self, outputs, out_activation):
        chosen = [self._mlp_chosen(out_activation, name) for name in ("logistic", "softmax")]
        return probabilities(outputs, self._mlp_binarizer(), *chosen)

    def _mlp_chosen(self, out_activation, name):
        """Whether outputs have this activation by the parameter, not by scikit-learn's rule or by hand."""
        return out_activation == self.out_activation == name
