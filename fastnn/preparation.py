"""Phases 1 and 2 of a fit: what the user gives becomes encoded data, sizes and starting weights, or one clear error."""

from itertools import pairwise

import numpy as np
from sklearn.base import is_classifier

from . import persistence
from .encode import encode_features, encode_start, encode_weights, encoded, validated
from .evaluation import Sample
from .initial import draw_weights
from .threads import resolve_n_jobs


class PreparationMixin:
    """The part of `BaseMLP` that looks at the user's data."""

    def _encode(self, X, y, sample_weight, encode_y, reset):
        """Phase 1: data as the engine takes them; ``reset`` says whether they set the number of features."""
        dtype = np.dtype(self.dtype)
        X, y = validated(self, X, y, reset=reset, y_numeric=not is_classifier(self))
        dense, csr = encode_features(X, dtype, owner=type(self).__name__, n_threads=resolve_n_jobs(self.n_jobs))
        weights = encode_weights(sample_weight, X, dtype)
        labels, targets = encode_y(y, dtype)
        return Sample(encoded(dense, csr, dtype, labels=labels, targets=targets, sample_weight=weights), y)

    def _encode_validation(self, X_val, y_val, sample_weight_val, n_outputs):
        if X_val is None:
            return None
        try:
            validation = self._encode(X_val, y_val, sample_weight_val, self._encode_y_val, False)
            if validation.data.targets.size and validation.data.targets.shape[1] != n_outputs:
                raise ValueError(f"y_val has {validation.data.targets.shape[1]} columns, y asks for {n_outputs}.")
        except (ValueError, TypeError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"Validation data (X_val, y_val, sample_weight_val): {error}") from error
        return validation

    def _asked_units(self, data, hidden, resumed):
        """The units of all levels that the data and ``hidden_layer_sizes`` ask for."""
        n_outputs = len(self.classes_) if data.labels.size else data.targets.shape[1]
        units = (self.n_features_in_, *hidden, n_outputs)
        if resumed and units != self._units():
            raise ValueError(
                f"The layers have {self._units()} units since the previous fit, but hidden_layer_sizes and the data "
                f"ask for {units}: warm_start and partial_fit cannot change the network."
            )
        return units

    def _start(self, units, rng, resumed, coefs_init, intercepts_init):
        """Phase 2: the weights and biases to start from, given, of an earlier fit or drawn."""
        dtype = np.dtype(self.dtype)
        given = {}
        if coefs_init is not None:
            given["coefs"] = encode_start("coefs_init", coefs_init, [*pairwise(units)], dtype)
        if intercepts_init is not None:
            given["intercepts"] = encode_start("intercepts_init", intercepts_init, [(n,) for n in units[1:]], dtype)
        if resumed:
            coefs, intercepts = self.coefs_, self.intercepts_
        else:
            options = dict(init=self.init, init_scale=self.init_scale, init_bias=self.init_bias)
            coefs, intercepts = draw_weights(rng, units, self.activation, dtype, **options)
        return given.get("coefs", coefs), given.get("intercepts", intercepts)

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
