"""Class labels: how they become targets, and how outputs of a network become labels and probabilities.

A ``LabelBinarizer`` knows the classes and whether a row may have several; like scikit-learn's, predictions go by it.
"""

from numbers import Real
from typing import TypeGuard

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logsumexp
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from ._typed import Part
from .encode import read_only


def plain_labels(y) -> TypeGuard[np.ndarray]:
    """Whether y is an array of integers that passes all of scikit-learn's checks of labels, which take 0.3 ms."""
    return type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biu" and y.size > 0


def binarizer_of(y):
    """``LabelBinarizer().fit(y)``."""
    binarizer = LabelBinarizer()
    if not plain_labels(y):
        return _explained(binarizer.fit, y)
    binarizer.classes_ = np.unique(y)
    binarizer.y_type_ = "multiclass" if binarizer.classes_.size > 2 else "binary"
    binarizer.sparse_input_ = False
    return binarizer


def _explained(function, y):
    """Call a function of scikit-learn's with labels. Where they are none it says so by printing them, or not at all."""
    try:
        return function(y)
    except ValueError as error:
        kind = type_of_target(y)
        if kind == "continuous":
            message = "Unknown label type: continuous. y holds numbers that are no integers, which MLPRegressor learns."
        elif kind.endswith("-multioutput"):
            message = (
                "Multioutput target data is not supported: with several columns y must hold 0 and 1 alone, a column "
                "for each label. Of probabilities, y.argmax(axis=1) makes classes."
            )
        else:
            raise
        raise ValueError(message) from error


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
    indices = positions_of(y, binarizer.classes_)
    if binarizer.y_type_ == "multiclass" or exclusive:
        return read_only(indices.astype(np.int32)), None
    return None, read_only((indices == 1).astype(dtype)[:, np.newaxis])


def positions_of(y, classes):
    """Where in ``classes``, which someone may have renamed so that they are not sorted, each label stands.

    Raises
    ------
    ValueError
        When a label is none of them.
    """
    classes = np.asarray(classes)
    found = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    if np.all(classes[found] == y):
        return found
    order = np.argsort(classes, kind="stable")
    found = order[np.searchsorted(classes, y, sorter=order).clip(max=len(classes) - 1)]
    strange = classes[found] != y
    if np.any(strange):
        raise ValueError(f"y holds labels that are none of the classes {classes}: {np.unique(np.asarray(y)[strange])}.")
    return found


def encode_indicator(indicator, binarizer, dtype, *, exclusive):
    """`encode_labels` of what ``LabelBinarizer.transform`` has made of y: booleans (n,), (n, 1) or (n, n_classes)."""
    indicator = np.asarray(indicator).reshape(len(indicator), -1) != 0
    if binarizer.y_type_.startswith("multilabel"):
        return encode_labels(indicator.astype(np.int64), binarizer, dtype, exclusive=exclusive)
    if indicator.shape[1] > 1:
        return read_only(indicator.argmax(axis=1).astype(np.int32)), None
    if exclusive:
        return read_only(indicator[:, 0].astype(np.int32)), None
    return None, read_only(indicator.astype(dtype))


def binarizer_for(classes, n_outputs, *, multilabel):
    """The binarizer of a classifier of which someone has set the classes alone, in their order, sorted or not."""
    classes = np.asarray(classes)
    binarizer = binarizer_of(classes)
    binarizer.classes_ = classes
    if multilabel and n_outputs == len(classes) > 1:
        binarizer.y_type_ = "multilabel-indicator"
    return binarizer


def is_multilabel(binarizer):
    """Whether each output is a label of its own, of which a row may have several."""
    return binarizer.y_type_.startswith("multilabel")


def predicted_labels(outputs, binarizer, exclusive):
    """What ``predict`` returns for outputs of the network; ``exclusive``: of several labels a row has the likeliest."""
    several, classes = outputs.shape[1] > 1, np.asarray(binarizer.classes_)
    if len(classes) not in ({outputs.shape[1]} if several else {1, 2}):
        raise ValueError(f"The network has {outputs.shape[1]} outputs, the classes are {len(classes)}: {classes}.")
    if several and not is_multilabel(binarizer):
        return classes[outputs.argmax(axis=1)]
    if binarizer.y_type_ == "binary" and len(classes) == 2:
        return classes[(outputs[:, 0] > 0.5).astype(np.intp)]  # what the binarizer says, without its checks
    if several and exclusive:
        outputs = np.eye(outputs.shape[1])[outputs.argmax(axis=1)]
    return binarizer.inverse_transform(outputs)


def probabilities(outputs, binarizer, one_versus_rest, exclusive):
    """What ``predict_proba`` returns for outputs of the network.

    A single output stands for two classes, unless ``exclusive`` says that there is one output for each class.
    ``one_versus_rest`` says that each of them is the probability of one class against all others: then they are divided
    by their sum, and where all are 0 all classes are equally probable.
    """
    if outputs.shape[1] == 1 and not exclusive:
        proba = np.empty((len(outputs), 2), outputs.dtype)
        np.subtract(1, outputs[:, 0], out=proba[:, 0])
        proba[:, 1] = outputs[:, 0]
        return proba
    if not one_versus_rest or is_multilabel(binarizer):
        return outputs
    outputs = np.where(outputs.any(axis=1, keepdims=True), outputs, outputs.dtype.type(1))
    return outputs / outputs.sum(axis=1, keepdims=True)


def log_probabilities(sums, binarizer, out_activation, one_versus_rest, exclusive):
    """Logarithms of what `probabilities` makes of softmax or logistic outputs, from the sums before these."""
    if out_activation == "softmax" and (sums.shape[1] > 1 or exclusive):
        return log_softmax(sums, axis=1)
    if out_activation == "softmax":
        return np.log(probabilities(np.ones_like(sums), binarizer, one_versus_rest, exclusive))
    if sums.shape[1] == 1:
        return log_expit(np.hstack([-sums, sums]))
    logs = log_expit(sums)
    if not one_versus_rest or is_multilabel(binarizer):
        return logs
    logs -= logsumexp(logs, axis=1, keepdims=True)
    logs[~expit(sums).any(axis=1)] = -np.log(sums.shape[1])
    return logs


def weights_by_class(class_weight, indices, classes):
    """The weight of each row, float64 (n,), from the parameter ``class_weight``.

    Parameters
    ----------
    class_weight : dict, list of dict or "balanced"
    indices : ndarray of int, of shape (n,) or (n, n_labels)
        Where in ``classes`` each row's label stands; with two dimensions the 0 and 1 of each label, of which a list has
        a dict each.
    classes : ndarray
        All classes, of which ``indices`` need not have all.

    Raises
    ------
    ValueError
        When the weights do not fit the classes, or are no numbers >= 0.
    """
    if isinstance(class_weight, str):
        return compute_sample_weight(class_weight, indices)
    several = indices.ndim == 2
    if isinstance(class_weight, list) != several:
        legal = f"a list of {indices.shape[1]} dicts" if several else "a dict"
        raise ValueError(
            f'class_weight must be {legal}, "balanced" or None for {"multi-label" if several else "such"} targets, got '
            f"{class_weight!r}."
        )
    if several and len(class_weight) != indices.shape[1]:
        raise ValueError(f"class_weight must hold a dict for each of {indices.shape[1]} labels, got {class_weight!r}.")
    columns = zip(class_weight, indices.T) if several else [(class_weight, indices)]
    product = 1.0
    for each, column in columns:
        names = [0, 1] if several else np.asarray(classes).tolist()
        if not isinstance(each, dict):
            raise ValueError(f"class_weight must hold a dict for each label, got {each!r} among them.")
        wrong = [weight for weight in each.values() if not (isinstance(weight, Real) and 0 <= weight < np.inf)]
        if wrong:
            raise ValueError(f"class_weight must hold finite numbers >= 0, got {wrong[0]!r} in {each!r}.")
        lacking = [name for name in names if name not in each]
        if lacking and len(names) - len(lacking) < len(each):  # as in scikit-learn: a name is wrong, most likely
            raise ValueError(f"The classes, {lacking}, are not in class_weight, which is {each!r}.")
        product = product * np.array([each.get(name, 1.0) for name in names], np.float64)[column]
    return product


class LabelMixin(Part):
    """The part of the classifier that knows its classes."""

    _mlp_classifies = True

    def _mlp_class_weights(self, labels, targets):
        if self.class_weight is None:
            return None
        indices = labels if labels is not None else (targets > 0.5).astype(np.intp)
        if labels is None and not is_multilabel(self._label_binarizer):
            indices = indices[:, 0]
        return weights_by_class(self.class_weight, indices, self.classes_)

    def _mlp_first_call(self, y, classes):
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight {str(self.class_weight)!r} is not supported for partial_fit, which does not know how "
                "often each class will occur. Use compute_class_weight('balanced', classes=classes, y=y) of a large "
                "enough sample y, and pass the resulting weights as class_weight={label: weight, ...}."
            )
        known = vars(self).get("classes_")
        given = known if classes is None or known is None else np.asarray(classes)
        if classes is not None and plain_labels(given) and np.array_equal(given, known):
            return  # given once more, as in many programs: scikit-learn's look at them takes 0.3 ms
        if _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = binarizer_of(y if multilabel else classes)

    def _mlp_encode_y(self, y, dtype, incremental, indicator=None):
        if indicator is not None:
            exclusive = self._mlp_objective()[1] == "softmax"
            return encode_indicator(indicator, self._label_binarizer, dtype, exclusive=exclusive)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = binarizer_of(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._label_binarizer = self._mlp_binarizer()
            found = np.unique(y) if plain_labels(y) else _explained(unique_labels, y)
            if not np.array_equal(found, self.classes_):
                self._mlp_check_classes(found)
        return encode_labels(y, self._label_binarizer, dtype, exclusive=self._mlp_objective()[1] == "softmax")

    def _mlp_binarizer(self):
        """What a fit has left as ``_label_binarizer``, or what ``classes_`` says where someone has set that alone."""
        known = vars(self)
        if "_label_binarizer" in known:
            return self._label_binarizer
        if "classes_" not in known:
            raise NotFittedError(
                f"This {type(self).__name__} instance has neither classes_ nor _label_binarizer: set one of them, or "
                "call 'fit'."
            )
        # Scikit-learn has logistic outputs beside each other for several labels alone.
        multilabel = known.get("out_activation_") == "logistic" and self.out_activation == "auto"
        return binarizer_for(self.classes_, np.shape(self.coefs_[-1])[-1], multilabel=multilabel)

    def _mlp_encode_y_val(self, y, dtype):
        n_columns = len(self.classes_) if is_multilabel(self._label_binarizer) else None
        if (y.shape[1] if y.ndim == 2 else None) != n_columns:
            expected = "1-D like y" if n_columns is None else f"of shape (n_val, {n_columns}) like y"
            raise ValueError(f"y_val must be {expected}, got shape {y.shape}.")
        unknown = (
            [] if n_columns else sorted({*_explained(unique_labels, y).tolist()} - {*self.classes_.tolist()}, key=str)
        )
        if unknown:
            raise ValueError(f"y_val holds labels that y does not: {unknown}. The classes of y are {self.classes_}.")
        return encode_labels(y, self._label_binarizer, dtype, exclusive=self._mlp_objective()[1] == "softmax")

    def _mlp_check_classes(self, classes):
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )
