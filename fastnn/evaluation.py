"""Measurements after each epoch: loss and score of validation data, and metrics by the names of scorers.

There is one forward pass for each data set and epoch. Without validation data and metrics nothing here runs.
"""

import difflib
import inspect
import warnings
from typing import NamedTuple

import numpy as np
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import train_test_split

from .core.records import EncodedData
from .infer import forward
from .scoring import mean_loss


class Sample(NamedTuple):
    """Rows for training or validation."""

    data: EncodedData
    y: np.ndarray  # validated but not encoded, for scorers; may be sparse
    rows: np.ndarray | None = None  # of data and y; None for all

    @property
    def index(self):
        return slice(None) if self.rows is None else self.rows


def hold_out(sample, rng, fraction, n_classes):
    """``(training, validation)`` rows of a sample, drawn as scikit-learn's early stopping does.

    ``n_classes`` is None for regression; the split of two classes is stratified.
    """
    stratify = None
    labels, targets = sample.data.labels, sample.data.targets
    if n_classes is not None and (targets.shape[1] == 1 or (labels.size and n_classes == 2)):
        second = labels == 1 if labels.size else targets[:, 0] > 0.5
        stratify = np.where(second, "True", "False")  # the names that its error messages list
    rows = np.arange(sample.y.shape[0], dtype=np.int64)
    try:
        rows, held_out = train_test_split(rows, random_state=rng, test_size=fraction, stratify=stratify)
    except ValueError as error:
        raise ValueError(f"{error} (early_stopping with validation_fraction={fraction!r})") from None
    if held_out.size < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    weights = sample.data.sample_weight
    for part, name in ((held_out, "held out"), (rows, "left to learn from")) if weights.size else ():
        if weights[part].sum(dtype=np.float64) == 0:
            raise ValueError(
                f"early_stopping with validation_fraction={fraction!r}: the sample weights of the rows that are {name} "
                "add up to zero. Leave out rows without weight before the fit, or give validation data: X_val, y_val."
            )
    return sample._replace(rows=rows), sample._replace(rows=held_out)


def find_scorers(names):
    """Scorers by name; an unknown name raises ValueError with close matches."""
    scorers = {}
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"metrics must hold names of scorers, got {name!r}.")
        known = get_scorer_names()
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(f"neg_{name}", known, n=3)
            hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise ValueError(
                f"metrics holds {name!r}, which is not the name of a scorer.{hint} "
                "sklearn.metrics.get_scorer_names() lists all."
            )
        scorers[name] = get_scorer(name)
    return scorers


def check_given(X_val, y_val, sample_weight_val):
    """Raise ValueError if only some of the arguments for validation data are given."""
    arrays = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
    given = [name for name, array in arrays.items() if array is not None]
    for lacking in ("X_val", "y_val"):
        if given and lacking not in given:
            raise ValueError(f"{given[0]} is provided, but {lacking} was not provided.")


def evaluation(estimator, objective, network, scorers, training, validation, n_threads):
    """An `Evaluation` with these arguments, or None if there is nothing to measure.

    Raises ValueError if a metric cannot be computed for the data.
    """
    if validation is None and not scorers:
        return None
    made = Evaluation(estimator, objective, network, scorers, training, validation, n_threads)
    if scorers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the network has learned nothing yet
            made()
    return made


class Snapshot:
    """An estimator during training, for scorers: it predicts for one data set, from outputs already computed.

    Parameters
    ----------
    estimator : BaseMLP
    outputs : ndarray of shape (n_rows, n_outputs)
    out_activation : str
    """

    def __init__(self, estimator, outputs, out_activation):
        self._estimator, self._outputs, self._known = estimator, (outputs, out_activation), {}

    def __sklearn_tags__(self):
        return self._estimator.__sklearn_tags__()

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        return self._once("predict", self._estimator._mlp_predicted)

    def _once(self, name, answer):
        if name not in self._known:
            self._known[name] = answer(*self._outputs)
        return self._known[name]


class ClassifierSnapshot(Snapshot):
    """A snapshot with probabilities."""

    @property
    def classes_(self):
        return self._estimator.classes_

    def predict_proba(self, X):
        return self._once("predict_proba", self._estimator._mlp_probabilities)

    def predict_log_proba(self, X):
        return np.log(self.predict_proba(X))


class Evaluation:
    """Called after each epoch; returns its measurements by name, as ``history_`` takes them.

    Parameters
    ----------
    estimator : BaseMLP
        Defines the score and the predictions for given outputs.
    objective : preparation.Network
        Defines the loss and the output activation.
    network : tuple
        ``(layout, plan, params)``; params may change between calls.
    scorers : dict
        By name, see `find_scorers`.
    training, validation : Sample
        The latter may be None.
    n_threads : int
    """

    def __init__(self, estimator, objective, network, scorers, training, validation, n_threads):
        self._estimator, self._network, self._n_threads = estimator, network, n_threads
        self._loss, self._out_activation = objective.loss, objective.out_activation
        self._scorers = scorers
        self._snapshot = ClassifierSnapshot if hasattr(estimator, "predict_proba") else Snapshot
        # The training loop shuffles its rows in place; these keep their order.
        rows = None if training.rows is None else training.rows.copy()
        self._sets = [("", training._replace(rows=rows), training.y[training.index])] if scorers else []
        if validation is not None:
            self._sets.append(("val_", validation, validation.y[validation.index]))

    def __call__(self):
        measured = {}
        for prefix, sample, y in self._sets:
            outputs = forward(*self._network, sample.data, rows=sample.rows, n_threads=self._n_threads)
            finite = np.isfinite(outputs).all()
            if prefix:
                place = (outputs, sample.data, sample.index)
                measured["val_loss"] = (
                    mean_loss(self._loss, *place, self._network[1].loss_constants) if finite else np.nan
                )
                measured["val_score"] = self._estimator._mlp_validation_score(*place) if finite else np.nan
            weight = sample.data.sample_weight
            weight = weight[sample.index] if weight.size else None
            snapshot = self._snapshot(self._estimator, outputs, self._out_activation)
            for name, scorer in self._scorers.items():
                measured[prefix + name] = self._metric(name, scorer, snapshot, y, weight) if finite else np.nan
        return measured

    def _metric(self, name, scorer, snapshot, y, weight):
        weighted = weight is not None and "sample_weight" in inspect.signature(scorer._score_func).parameters
        try:
            value = scorer(snapshot, None, y, **({"sample_weight": weight} if weighted else {}))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"metrics holds {name!r}, which cannot be computed for these data: {error}") from error
        return float(value)
