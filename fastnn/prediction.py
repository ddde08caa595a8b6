"""From a fitted estimator's weights to the outputs of its network, whatever the user has done to them since."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from . import persistence
from .core.losses import LOSSES
from .encode import encode_features, encoded, validated
from .infer import forward
from .plan import make_plan
from .state import flat_params
from .threads import resolve_n_jobs


class PredictionMixin:
    """What ``predict`` and its relatives stand on."""

    def _outputs(self, X):
        """Outputs (n_samples, n_outputs) of the network, after the output activation."""
        check_is_fitted(self)
        try:
            return self._forward(X)
        except Exception as error:
            self._blame_parameters(error)
            raise

    def _forward(self, X):
        X = validated(self, X, reset=False)
        dtype = np.dtype(self.dtype)
        too_large = f"Input X contains infinity or a value too large for {dtype!r}."
        data = encoded(*encode_features(X, dtype, owner=type(self).__name__, too_large=too_large), dtype)
        units = self._units()
        loss = next(name for name, row in LOSSES.items() if row.output == self.out_activation_)
        layout, plan = make_plan(
            units=units,
            hidden_activation=self.activation,
            out_activation=self.out_activation_,
            loss=loss,
            solver="lbfgs",  # any: there are no steps
            dtype=dtype,
        )
        params = flat_params(layout, dtype, self.coefs_, self.intercepts_)
        return forward(layout, plan, params, data, n_threads=resolve_n_jobs(self.n_jobs))

    def _units(self):
        """Units of all levels as the weights have them now; they may have been edited or assigned."""
        units = persistence.units_of(self.coefs_, self.intercepts_)
        if units[0] != self.n_features_in_ or units[-1] != self.n_outputs_:
            raise ValueError(
                f"coefs_ lead from {units[0]} to {units[-1]} units; the data have {self.n_features_in_} features and "
                f"{self.n_outputs_} outputs."
            )
        return units

    def _blame_parameters(self, error):
        """Name the parameter if one was set to nonsense since the fit: later calls check none, as in scikit-learn."""
        if isinstance(error, Exception):
            try:
                self._validate_params()
            except ValueError as named:
                raise named from error
