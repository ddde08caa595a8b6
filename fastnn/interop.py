"""To and from scikit-learn's own estimators, and the ONNX converter's registry.

``to_sklearn`` needs nothing but scikit-learn and opens the way to whatever knows its estimators (skl2onnx, SHAP,
skops); ``register_onnx`` lets skl2onnx convert fastnn's estimators as they are, also inside a pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import is_classifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

from ._typed import Part
from .parameters import dtype_for, hidden_activation, hidden_units

if TYPE_CHECKING:
    from typing import Self

    from ._types import Dtype

# Beside coefs_ and intercepts_, which are copied: what a fit leaves behind in both libraries, where it is there.
SHARED = (
    "n_features_in_",
    "feature_names_in_",
    "classes_",
    "_label_binarizer",
    "n_layers_",
    "n_outputs_",
    "out_activation_",
    "n_iter_",
    "t_",
    "loss_",
    "best_loss_",
    "best_validation_score_",
    "_no_improvement_count",
)
LISTS = ("loss_curve_", "validation_scores_")
THEIR_ACTIVATIONS = ("identity", "logistic", "tanh", "relu")


class ConversionMixin(Part):
    """``to_sklearn`` and ``from_sklearn`` of the estimators."""

    def to_sklearn(self) -> MLPClassifier | MLPRegressor:
        """A fitted scikit-learn estimator with this one's weights.

        For tools that look for scikit-learn's own classes. Weights and attributes are copied, except the optimizer's
        moments: ``partial_fit`` on the result starts a new optimizer. Parameters that scikit-learn has not are left
        out, so that fitting the result again is what scikit-learn makes of the others; it refuses the solvers,
        schedules and regression losses that it has not, and has no other loss for a classifier than "log_loss".

        Returns
        -------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

        Raises
        ------
        ValueError
            When scikit-learn's classifier would read the outputs otherwise: softmax outputs for two classes or for
            one-hot rows, logistic ones for three or more classes. When hidden layers have an activation that
            scikit-learn has not, or not all the same. When the regressor predicts a list of quantiles, whose outputs
            scikit-learn's does not sort.

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> clf = MLPClassifier(tol=1, random_state=0).fit([[0.0], [1.0]], [0, 1])
        >>> type(clf.to_sklearn()).__module__.partition(".")[0]
        'sklearn'
        """
        check_is_fitted(self)
        _refuse_other_outputs(self)
        kind = _counterpart(self)
        result = kind(**{**_parameters_for(kind, self), "activation": _their_activation(self)})
        _copy_fit(self, result, self._mlp_network_dtype(None, True))
        # Early stopping under warm_start falls back on these.
        result._best_coefs, result._best_intercepts = result.coefs_, result.intercepts_
        return result

    @classmethod
    def from_sklearn(
        cls, estimator: MLPClassifier | MLPRegressor, *, n_jobs: int | None = None, dtype: Dtype = "float32"
    ) -> Self:
        """An estimator of this class with the weights of a fitted one of scikit-learn's.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
            Fitted, and of the kind of this class. Its parameters, weights and attributes are copied, except the
            optimizer's moments.
        n_jobs : int or None, default=None
            As in the constructor.
        dtype : {"float32", "float64", "match"}, default="float32"
            As in the constructor; predictions equal the original's to rounding in this type.

        Returns
        -------
        self : object
            The fitted estimator.

        Examples
        --------
        >>> from sklearn import neural_network
        >>> from fastnn import MLPClassifier
        >>> theirs = neural_network.MLPClassifier(tol=1, random_state=0).fit([[0.0], [1.0]], [0, 1])
        >>> MLPClassifier.from_sklearn(theirs).coefs_[0].dtype
        dtype('float32')
        """
        kind = _counterpart(cls())
        if not isinstance(estimator, kind):
            raise TypeError(f"Expected a fitted sklearn.neural_network.{kind.__name__}, got {type(estimator)}.")
        check_is_fitted(estimator)
        result = cls(**_parameters_for(cls, estimator), n_jobs=n_jobs, dtype=dtype)
        _copy_fit(estimator, result, dtype_for(dtype, *map(np.asarray, estimator.coefs_)))
        return result


def _counterpart(estimator):
    return MLPClassifier if is_classifier(estimator) else MLPRegressor


def _refuse_other_outputs(estimator):
    """Raise ValueError unless the output activation is the one that scikit-learn has for such targets."""
    if not is_classifier(estimator):
        _refuse_quantiles(estimator, "scikit-learn's MLPRegressor")
        return
    kind = estimator._label_binarizer.y_type_
    theirs = "softmax" if kind == "multiclass" else "logistic"
    if estimator.out_activation_ != theirs:
        targets = {"binary": "two classes", "multiclass": "three or more classes"}.get(kind, "rows of an indicator")
        raise ValueError(
            f"scikit-learn's MLPClassifier has {theirs} outputs for {targets}, this one has "
            f"{estimator.out_activation_} outputs and cannot be converted: fit it with out_activation='auto' on class "
            "labels."
        )


def _their_activation(estimator):
    """The one name that scikit-learn has for the hidden activations; ValueError where it has none."""
    names = hidden_activation(estimator.activation, len(estimator.coefs_) - 1)
    names = {names} if isinstance(names, str) else set(names) or {"relu"}
    if len(names) == 1 and names.issubset(THEIR_ACTIVATIONS):
        return names.pop()
    legal = ", ".join(map(repr, THEIR_ACTIVATIONS))
    raise ValueError(
        f"scikit-learn's MLP has one activation for all hidden layers, one of {legal}; activation="
        f"{estimator.activation!r} cannot be converted."
    )


def _refuse_quantiles(estimator, owner):
    """Raise ValueError if the regressor has fitted a list of quantiles."""
    if "quantiles_" in vars(estimator):
        raise ValueError(
            f"{owner} does not sort the quantiles {estimator.quantiles_.tolist()} of a row as predict does: fit one "
            "estimator with a single number as quantile for each."
        )


def _parameters_for(kind, source):
    known = kind().get_params(deep=False)
    given = source.get_params(deep=False)
    if given.get("n_hidden_layers") is not None:
        given["hidden_layer_sizes"] = hidden_units(given["hidden_layer_sizes"], given["n_hidden_layers"])
    return {name: value for name, value in given.items() if name in known}


def _copy_fit(source, target, dtype):
    for name in SHARED:
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
    for name in LISTS:
        if hasattr(source, name):
            values = getattr(source, name)
            setattr(target, name, None if values is None else list(values))
    target.coefs_ = [np.array(coef, dtype=dtype) for coef in source.coefs_]
    target.intercepts_ = [np.array(intercept, dtype=dtype) for intercept in source.intercepts_]


def _refuse_other_classes(estimator):
    """Raise ValueError unless skl2onnx exports the classes as they are."""
    classes = np.asarray(estimator.classes_)
    if len(classes) < 2:
        raise ValueError(f"skl2onnx exports no classifier of one class: {classes}.")
    if classes.dtype.kind in "US" or all(isinstance(label, str) for label in classes.tolist()):
        return
    numbers = classes.dtype.kind in "biuf"
    if not (numbers and (classes == np.clip(classes, -(2**31), 2**31 - 1).astype(np.int32)).all()):
        raise ValueError(f"skl2onnx exports classes as strings or as integers of 32 bits, which {classes} are not.")


def _refuse_other_values(estimator):
    """Raise ValueError unless skl2onnx exports what the regressor predicts."""
    n_outputs = np.shape(estimator.coefs_[-1])[-1]
    _refuse_quantiles(estimator, "skl2onnx")
    if estimator.out_activation_ not in THEIR_ACTIVATIONS:
        raise ValueError(
            f"skl2onnx does not know out_activation_={estimator.out_activation_!r} (loss={estimator.loss!r}), only "
            f"{', '.join(map(repr, THEIR_ACTIVATIONS))}."
        )
    if n_outputs != 1:
        raise ValueError(
            f"skl2onnx puts {n_outputs} outputs of a regressor below each other: export one for each output."
        )


def _refuse_other_activations(estimator):
    """Raise ValueError unless the hidden activation is one name that skl2onnx knows."""
    name = _their_activation(estimator)
    if estimator.activation != name:
        raise ValueError(
            f"skl2onnx reads one name for all hidden layers, got activation={estimator.activation!r}: use "
            f"set_params(activation={name!r}), which is the same network."
        )


def register_onnx(classifier, regressor):
    """Tell skl2onnx, which must be installed, how to convert these two classes. Calling it again does no harm.

    skl2onnx looks converters up by exact type. Its own converters for scikit-learn's estimators are used. What they
    would export wrongly is refused with ValueError: hidden activations that scikit-learn has not, more than one
    regression output, exponential outputs (``loss="poisson"``, "gamma", "tweedie"), a list of quantiles, classes that
    are no strings and no integers of 32 bits, a single class, and a classifier whose outputs scikit-learn has not for
    its targets.
    """
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )
    from skl2onnx.operator_converters.multilayer_perceptron import (
        convert_sklearn_mlp_classifier,
        convert_sklearn_mlp_regressor,
    )

    def convert_classifier(scope, operator, container):
        _refuse_other_activations(operator.raw_operator)
        _refuse_other_outputs(operator.raw_operator)
        _refuse_other_classes(operator.raw_operator)
        convert_sklearn_mlp_classifier(scope, operator, container)

    def convert_regressor(scope, operator, container):
        _refuse_other_activations(operator.raw_operator)
        _refuse_other_values(operator.raw_operator)
        convert_sklearn_mlp_regressor(scope, operator, container)

    update_registered_converter(
        classifier,
        "FastnnMLPClassifier",
        calculate_linear_classifier_output_shapes,
        convert_classifier,
        options={"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]},
    )
    update_registered_converter(
        regressor, "FastnnMLPRegressor", calculate_linear_regressor_output_shapes, convert_regressor
    )
