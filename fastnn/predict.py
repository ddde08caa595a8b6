"""Prediction of a fitted estimator: from X to outputs in float64. The weights may have been edited or assigned."""

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from . import persistence
from .encode import refuse_non_finite, rows_to_predict
from .infer import network, predict
from .parameters import dtype_for, hidden_activation
from .state import flat_params
from .threads import resolve_n_jobs
from .transaction import apart


class PredictionMixin:
    """The part of `BaseMLP` that predicts."""

    def _mlp_outputs(self, X, out_activation=None):
        """Outputs of the network in float64, and the dtype to return them in: float32 for float32 X, else float64.

        Returns
        -------
        outputs : ndarray of shape (n_samples, n_outputs)
            After ``out_activation``, by default ``out_activation_``.
        dtype : numpy.dtype
        """
        if "coefs_" not in vars(self):  # scikit-learn's check takes 20 us
            check_is_fitted(self)
            raise NotFittedError(f"This {type(self).__name__} instance has no coefs_: call 'fit' before predicting.")
        try:
            return apart(self._mlp_forward, X, self.out_activation_ if out_activation is None else out_activation)
        except Exception as error:
            self._mlp_blame_parameters(error)
            raise

    def _mlp_forward(self, X, out_activation):
        coefs, intercepts = self._mlp_weights()
        units = persistence.units_of(coefs, intercepts)
        X = rows_to_predict(self, X, units[0])
        dtype = self._mlp_network_dtype(X, True)
        answer = dtype_for("match", X)
        if isinstance(self.dtype, str) and self.dtype == "match":
            dtype = answer = np.result_type(answer, dtype)  # as scikit-learn multiplies X and coefs_
        n_threads = resolve_n_jobs(self.n_jobs)
        hidden = hidden_activation(self.activation, len(units) - 2)
        layout = network(units, hidden, out_activation, dtype)
        params = flat_params(layout, dtype, coefs, intercepts)
        outputs, suspect = predict(layout, params, X, n_threads=n_threads)
        if suspect:
            refuse_non_finite(X, owner=type(self).__name__)
            if dtype == np.float32:  # finite, but X or sums of it exceed this type
                layout = network(units, hidden, out_activation, np.dtype(np.float64))
                params = flat_params(layout, np.dtype(np.float64), coefs, intercepts)
                outputs, _ = predict(layout, params, X, n_threads=n_threads)
        return outputs, answer
