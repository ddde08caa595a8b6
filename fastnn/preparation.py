"""Phases 1 and 2 of a fit: the user's data become encoded data, sizes and initial weights, or one clear error."""

from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from . import persistence
from ._typed import Part
from .encode import encode_features, encode_start, encode_weights, encoded, validated
from .evaluation import Sample
from .initial import draw_weights, per_layer
from .overrides import overridden
from .parameters import dtype_for, hidden_activation
from .threads import resolve_n_jobs


class Network(NamedTuple):
    """The network to be trained: sizes, names, and the strength of the L2 term relative to the sample weights."""

    units: tuple
    loss: str  # name in LOSSES
    out_activation: str
    dtype: np.dtype
    alpha: float


class PreparationMixin(Part):
    """The part of `BaseMLP` that looks at the user's data."""

    def _mlp_validated(self, X, y, *, incremental, reset):
        """X and y as `encode.validated` returns them, and None; ``reset`` says whether they set the number of features.

        Where someone has overridden scikit-learn's ``_validate_input``, its result is used instead. It contains an
        indicator matrix in place of labels, which is the third item.
        """
        if not overridden(self, "_validate_input"):
            return *validated(self, X, y, reset=reset, y_numeric=not self._mlp_classifies), None
        X, y = self._validate_input(X, y, incremental, reset)
        X, y = X if sp.issparse(X) else np.asarray(X), np.asarray(y)
        if not self._mlp_classifies:
            return X, y, None
        return X, self._label_binarizer.inverse_transform(y.reshape(len(y), -1).astype(np.int64)), y

    def _validate_input(self, X, y, incremental, reset):
        """As scikit-learn's method: X and y, labels as booleans with a column for each output.

        It exists for subclasses that override it.
        """
        X, y = validated(self, X, y, reset=reset, y_numeric=not self._mlp_classifies)
        if self._mlp_classifies:
            self._mlp_encode_y(y, np.dtype(np.float64), incremental)  # which sets the classes
            y = self._label_binarizer.transform(y).astype(bool)
        return X, y

    def _mlp_encode(self, X, y, sample_weight, encode_y, dtype, *, weigh_classes=False):
        """Phase 1: validated data as `Sample`, and the divisor of their sample weights."""
        dense, csr = encode_features(X, dtype, owner=type(self).__name__, n_threads=resolve_n_jobs(self.n_jobs))
        labels, targets = encode_y(y, dtype)
        by_class = self._mlp_class_weights(labels, targets) if weigh_classes else None
        weights, divisor = encode_weights(sample_weight, X, dtype, by_class)
        return Sample(encoded(dense, csr, dtype, labels=labels, targets=targets, sample_weight=weights), y), divisor

    def _mlp_class_weights(self, labels, targets):
        """The weight of each row by its class, from what `encoded` takes as labels or targets; None where all are 1."""

    def _mlp_encode_validation(self, X_val, y_val, sample_weight_val, n_outputs, dtype):
        if X_val is None:
            return None
        try:
            X_val, y_val = validated(self, X_val, y_val, reset=False, y_numeric=not self._mlp_classifies)
            validation, _ = self._mlp_encode(X_val, y_val, sample_weight_val, self._mlp_encode_y_val, dtype)
            if validation.data.targets.size and validation.data.targets.shape[1] != n_outputs:
                raise ValueError(f"y_val has {validation.data.targets.shape[1]} columns, y asks for {n_outputs}.")
        except (ValueError, TypeError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"Validation data (X_val, y_val, sample_weight_val): {error}") from error
        return validation

    def _mlp_asked_units(self, data, n_features, hidden, resumed):
        """The units of all levels, by the data and ``hidden_layer_sizes``."""
        n_outputs = len(self._label_binarizer.classes_) if data.labels.size else data.targets.shape[1]
        units = (n_features, *hidden, n_outputs)
        if resumed and units != self._mlp_units():
            raise ValueError(
                f"The layers have {self._mlp_units()} units since the previous fit, but hidden_layer_sizes and the "
                f"data ask for {units}: warm_start and partial_fit cannot change the network."
            )
        return units

    def _mlp_generator(self, drawn):
        """The generator of ``random_state``; a function that makes it where, perhaps, nothing is drawn from it.

        (Making one takes 0.24 ms, a `partial_fit` of 200 rows without it 1 to 2: Zen 3.)
        """
        seed = self.random_state
        if not drawn and type(seed) is int and 0 <= seed < 1 << 32:
            return cache(partial(check_random_state, seed))  # one generator, whoever asks first
        return check_random_state(seed)

    def _mlp_start(self, units, rng, resumed, dtype, coefs_init, intercepts_init):
        """Phase 2: the initial weights and biases: given, of an earlier fit, or drawn."""
        given, hidden = {}, hidden_activation(self.activation, len(units) - 2)
        if coefs_init is not None:
            given["coefs"] = encode_start("coefs_init", coefs_init, [*pairwise(units)], dtype)
        if intercepts_init is not None:
            given["intercepts"] = encode_start("intercepts_init", intercepts_init, [(n,) for n in units[1:]], dtype)
        if resumed:
            coefs, intercepts = self._mlp_weights()
        elif overridden(self, "_init_coef"):
            drawn = []
            for fan, name in zip(pairwise(units), per_layer(hidden, len(units) - 1), strict=True):
                self._random_state, self._drawn_by = rng, name
                drawn.append(self._init_coef(*fan, dtype))
            del self._drawn_by
            coefs = encode_start("_init_coef's coefs", [pair[0] for pair in drawn], [*pairwise(units)], dtype)
            shapes = [(n,) for n in units[1:]]
            intercepts = encode_start("_init_coef's intercepts", [pair[1] for pair in drawn], shapes, dtype)
        else:
            coefs, intercepts = draw_weights(rng, units, hidden, dtype, **self._mlp_init_options())
        return given.get("coefs", coefs), given.get("intercepts", intercepts)

    def _mlp_init_options(self):
        return dict(init=self.init, init_scale=self.init_scale, init_bias=self.init_bias)

    def _init_coef(self, fan_in, fan_out, dtype):
        """Weights (fan_in, fan_out) and biases (fan_out,) of a layer, drawn from ``self._random_state``.

        As scikit-learn's method. It exists for subclasses that override it.
        """
        units, options = (fan_in, fan_out), self._mlp_init_options()
        name = vars(self).get("_drawn_by", self.activation)
        [coef], [intercept] = draw_weights(self._random_state, units, name, np.dtype(dtype), **options)
        return coef, intercept

    def _mlp_weights(self):
        """The arrays of ``coefs_`` and ``intercepts_`` that are used: ``n_layers_`` - 1 of each, if it exists."""
        coefs, intercepts = self.coefs_, self.intercepts_
        n_arrays = getattr(self, "n_layers_", len(coefs) + 1) - 1
        if n_arrays == len(coefs) == len(intercepts):
            return coefs, intercepts
        if not 1 <= n_arrays <= min(len(coefs), len(intercepts)):
            raise ValueError(
                f"n_layers_ is {n_arrays + 1}, which takes {n_arrays} arrays in coefs_ and in intercepts_ and at least "
                f"one; they hold {len(coefs)} and {len(intercepts)}."
            )
        return coefs[:n_arrays], intercepts[:n_arrays]

    def _mlp_units(self):
        """Units of all levels by the present weights, which may have been edited or assigned."""
        return persistence.units_of(*self._mlp_weights())

    def _mlp_network_dtype(self, X, resumed):
        """Dtype of the network that is trained with X or predicts for X; that of existing weights comes first."""
        if not resumed:
            return dtype_for(self.dtype, X)
        if isinstance(self.dtype, str) and self.dtype == "match":
            return dtype_for(self.dtype, *map(np.asarray, [*self.coefs_, *self.intercepts_]))
        return dtype_for(self.dtype)

    def _mlp_blame_parameters(self, error):
        """Raise a better error if a parameter has been set to an illegal value since the fit.

        Later calls check no parameters, as in scikit-learn.
        """
        if isinstance(error, Exception):
            try:
                self._validate_params()
            except ValueError as named:
                raise named from error
