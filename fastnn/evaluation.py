"""Measurements after each epoch: loss and score of validation data, and metrics by the names of scorers.

There is one forward pass for each data set and epoch. Without validation data and metrics nothing here runs.
"""

import difflib
import inspect
import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, check_scoring, get_scorer, get_scorer_names, r2_score
from sklearn.model_selection import train_test_split

from .core.records import EncodedData
from .encode import rows_to_predict
from .infer import forward, predict
from .scoring import mean_loss


class Sample(NamedTuple):
    """Rows for training or validation."""

    data: EncodedData
    y: np.ndarray  # validated but not encoded, for scorers; may be sparse
    rows: np.ndarray | None = None  # of data and y; None for all

    @property
    def index(self):
        return slice(None) if self.rows is None else self.rows


def hold_out(sample, rng, fraction, classes=None, stratified=False):
    """``(training, validation)`` rows of a sample, drawn as scikit-learn's early stopping does.

    Parameters
    ----------
    sample : Sample
        All rows.
    rng : RandomState
    fraction : float
    classes : ndarray, optional
        The classes; None for regression.
    stratified : "auto" or bool
        Whether both have all classes (rows of labels) in the same shares; "auto" where there are two classes.
    """
    stratify = None
    labels, targets = sample.data.labels, sample.data.targets
    if isinstance(stratified, str):
        if targets.shape[1] == 1 or (labels.size and len(classes) == 2):
            second = labels == 1 if labels.size else targets[:, 0] > 0.5
            stratify = np.where(second, "True", "False")  # the names that scikit-learn's error messages list
    elif stratified:
        indices = (targets > 0.5).astype(np.intp)
        stratify = np.asarray(classes)[labels] if labels.size else indices
        if not labels.size and targets.shape[1] == 1:
            stratify = np.asarray(classes)[indices[:, 0]]
    rows = np.arange(sample.y.shape[0], dtype=np.int64)
    try:
        rows, held_out = train_test_split(rows, random_state=rng, test_size=fraction, stratify=stratify)
    except ValueError as error:
        how = f"early_stopping with validation_fraction={fraction!r}"
        how += f", validation_stratify={stratified}" if stratified not in ("auto", False) else ""
        raise ValueError(f"{error} ({how})") from None
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
    """Scorers by name, of one name or several; an unknown name raises ValueError with close matches."""
    names = (names,) if isinstance(names, str) else names
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"metrics must hold names of scorers, got {name!r}.")
    return {name: _scorer_of(name, f"metrics holds {name!r}") for name in names}


def find_scoring(estimator):
    """The parameter ``scoring`` as a scorer, or None and "loss" as they are.

    Raises
    ------
    ValueError
        When it is no name of a scorer, or a metric instead of a scorer.
    """
    scoring = estimator.scoring
    if scoring is None or (isinstance(scoring, str) and scoring == "loss"):
        return scoring
    if isinstance(scoring, str):
        return _scorer_of(scoring, f"scoring={scoring!r}", 'None and "loss" are legal too, and ')
    return check_scoring(estimator, scoring)  # which refuses metrics


def _scorer_of(name, what, more=""):
    known = get_scorer_names()
    if name in known:
        return get_scorer(name)
    close = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(f"neg_{name}", known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"{what}, which is not the name of a scorer.{hint} {more}sklearn.metrics.get_scorer_names() lists all."
    )


def check_given(X_val, y_val, sample_weight_val):
    """Raise ValueError if only some of the arguments for validation data are given."""
    arrays = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
    given = [name for name, array in arrays.items() if array is not None]
    for lacking in ("X_val", "y_val"):
        if given and lacking not in given:
            raise ValueError(f"{given[0]} is provided, but {lacking} was not provided.")


def evaluation(estimator, objective, network, scorers, training, validation, n_threads):
    """An `Evaluation` with these arguments, or None if there is nothing to measure.

    Raises ValueError if a metric or the scoring cannot be computed for the data.
    """
    if validation is None and not scorers:
        return None
    made = Evaluation(estimator, objective, network, scorers, training, validation, n_threads)
    if scorers or (validation is not None and callable(made.scoring)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the network has learned nothing yet
            made()
    return made


class Snapshot:
    """An estimator during training, for scorers: for one data set it predicts from outputs already computed.

    Parameters
    ----------
    estimator : BaseMLP
    X : object
        What stands for that data set.
    outputs : ndarray of shape (n_rows, n_outputs)
        The network's outputs for it.
    out_activation : str
    forward : callable
        Outputs of the network for any other X.
    """

    def __init__(self, estimator, X, outputs, out_activation, forward):
        self._estimator, self._X, self._outputs, self._known = estimator, X, outputs, {}
        self._out_activation, self._forward = out_activation, forward

    def __sklearn_tags__(self):
        return self._estimator.__sklearn_tags__()

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        return self._answer("predict", self._estimator._mlp_predicted, X)

    def score(self, X, y, sample_weight=None):
        metric = accuracy_score if is_classifier(self._estimator) else r2_score
        return metric(y, self.predict(X), sample_weight=sample_weight)

    def _answer(self, name, answer, X):
        if X is not self._X:
            return answer(self._forward(X), self._out_activation)
        if name not in self._known:
            self._known[name] = answer(self._outputs, self._out_activation)
        return self._known[name]


class ClassifierSnapshot(Snapshot):
    """A snapshot with probabilities."""

    @property
    def classes_(self):
        return self._estimator.classes_

    def predict_proba(self, X):
        return self._answer("predict_proba", self._estimator._mlp_probabilities, X)

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
        self._scorers, self.scoring = scorers, find_scoring(estimator)
        self._snapshot = ClassifierSnapshot if hasattr(estimator, "predict_proba") else Snapshot
        # The training loop shuffles its rows in place; these keep their order.
        rows = None if training.rows is None else training.rows.copy()
        self._sets = [("", training._replace(rows=rows), training.y[training.index])] if scorers else []
        if validation is not None:
            self._sets.append(("val_", validation, validation.y[validation.index]))
        # Scorers of scikit-learn's kind only pass X on to the methods of the snapshot; others may do anything.
        own = callable(self.scoring) and not hasattr(self.scoring, "_score_func")
        n_features = int(network[0].units[0])
        self._X_val = _rows_of(validation, n_features) if own and validation is not None else None

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
                if self.scoring is None:
                    measured["val_score"] = self._estimator._mlp_validation_score(*place) if finite else np.nan
                elif not callable(self.scoring):
                    measured["val_score"] = -measured["val_loss"]
            weight = sample.data.sample_weight
            weight = weight[sample.index] if weight.size else None
            X = self._X_val if prefix else None
            snapshot = self._snapshot(self._estimator, X, outputs, self._out_activation, self._forward)
            if prefix and callable(self.scoring):
                how = f"scoring={self._estimator.scoring!r}"
                measured["val_score"] = score_of(self.scoring, how, snapshot, X, y, weight) if finite else np.nan
            for name, scorer in self._scorers.items():
                how = f"metrics holds {name!r}"
                measured[prefix + name] = score_of(scorer, how, snapshot, X, y, weight) if finite else np.nan
        return measured

    def _forward(self, X):
        layout, _, params = self._network
        return predict(layout, params, rows_to_predict(self._estimator, X, int(layout.units[0])), n_threads=1)[0]


def _rows_of(sample, n_features):
    """X of a sample as an array or a SciPy matrix, in the network's dtype."""
    X = sample.data.X
    if X is None:
        X = sp.csr_array(sample.data.csr, shape=(sample.y.shape[0], n_features))
    return X[sample.index]


def score_of(scorer, how, snapshot, X, y, weight):
    """What a scorer says of a snapshot, by weight if there are weights and it takes them.

    Raises
    ------
    ValueError
        With ``how``, which tells the user where the scorer comes from, when it cannot be computed.
    """
    try:
        parameters = inspect.signature(getattr(scorer, "_score_func", scorer)).parameters
        weighted = weight is not None and "sample_weight" in parameters
        return float(scorer(snapshot, X, y, **({"sample_weight": weight} if weighted else {})))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{how}, which cannot be computed for these data: {error}") from error
