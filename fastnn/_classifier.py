"""The classifier: labels in and out, probabilities."""

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from ._base import BaseMLP, is_stochastic
from .encode import binarizer_of, encode_labels
from .scoring import accuracy


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier, trained by compiled kernels.

    A drop-in for ``sklearn.neural_network.MLPClassifier``: minimizes the cross-entropy of two classes (one logistic
    output), of several classes (softmax) or of several labels per row (one logistic output each).

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units of each hidden layer; a number is one layer, an empty list no hidden layer.
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        Activation of the hidden layers: x, 1 / (1 + exp(-x)), tanh(x), max(0, x).
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
        "lbfgs" takes the whole data set in each step and suits small data; "sgd" and "adam" learn from mini-batches.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights, not the biases; divided by the batch size where it enters the loss.
    batch_size : int or "auto", default="auto"
        Rows of a mini-batch; "auto" is ``min(200, n_samples)``. Not used by "lbfgs".
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Schedule of "sgd". "constant" keeps ``learning_rate_init``; "invscaling" sets
        ``learning_rate_init / (t_ + 1) ** power_t`` after each epoch; "adaptive" divides the rate by 5 whenever
        ``n_iter_no_change`` consecutive epochs bring no progress of ``tol``, and stops below 1e-6.
    learning_rate_init : float, default=0.001
        Initial learning rate of "sgd" and "adam".
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Most epochs ("sgd", "adam") or iterations ("lbfgs").
    shuffle : bool, default=True
        Whether rows are shuffled before each epoch.
    random_state : int, RandomState instance or None, default=None
        Draws the initial weights, the split of early stopping and the shuffles, in scikit-learn's order: the same seed
        gives scikit-learn's trajectory up to rounding.
    tol : float, default=1e-4
        Progress that counts: smaller gains of the loss (or of the validation score) are no progress. For "lbfgs" the
        gradient tolerance.
    verbose : bool or int, default=False
        Whether to print a line per epoch.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present weights. The optimizer starts anew.
    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether that momentum is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold out ``validation_fraction`` of the data, stop when the accuracy on it has not improved by
        ``tol`` for ``n_iter_no_change`` epochs, and return to the weights of the best epoch.
        The split of two classes is stratified.
    validation_fraction : float, default=0.1
        Share of the data held out, in [0, 1).
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the first and second moment of "adam", in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of the second moment of "adam".
    n_iter_no_change : int, default=10
        Epochs without progress that are tolerated; ``np.inf`` for any number.
    max_fun : int, default=15000
        Most evaluations of the loss by "lbfgs".
    n_jobs : int or None, default=None
        Threads. None: all that the process may use and the work is worth; k: at most k; -1: all, -2: all but one. The
        result is the same, bit for bit, for every number.
    dtype : {"float32", "float64"}, default="float32"
        Type of the weights, of all arithmetic, and of what ``predict_proba`` and ``predict_log_proba`` return.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels in order; the column numbers for multi-label targets.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.
    coefs_ : list of ndarray of shape (fan_in, fan_out)
        Weights of each layer. They may be written into or replaced: prediction and further training follow.
    intercepts_ : list of ndarray of shape (fan_out,)
        Biases of each layer; the same holds for them.
    n_layers_ : int
        Number of levels: hidden layers + 2.
    n_outputs_ : int
        Number of output units.
    out_activation_ : str
        Activation of the output: "logistic" (two classes, multi-label) or "softmax".
    loss_ : float
        Loss of the last epoch (under "lbfgs" the final loss), penalty included.
    best_loss_ : float or None
        Smallest loss of an epoch; None with early stopping. Not set by "lbfgs".
    loss_curve_ : list of float
        Loss of each epoch: that of the mini-batches before they are learned from, averaged. Not set by "lbfgs".
    validation_scores_ : list of float or None
        Accuracy on the held-out rows after each epoch; None without early stopping. Not set by "lbfgs".
    best_validation_score_ : float or None
        The best of them.
    n_iter_ : int
        Epochs, or iterations, of the last call.
    t_ : int
        Rows learned from so far, counted with repetition.

    See Also
    --------
    MLPRegressor : The same network for regression.

    Notes
    -----
    Results follow ``sklearn.neural_network.MLPClassifier`` of version 1.9, its quirks included, except:

    - Everything is float32 unless ``dtype="float64"``, whatever comes in, and under every solver. A finite value too
      large for float32 is refused with scikit-learn's message about non-finite weights.
    - A loss that is not finite ends training at once with that message; with early stopping the best weights so far are
      restored instead, where there are some.
    - A mini-batch whose sample weights sum to zero makes no step.
    - With ``warm_start`` or ``partial_fit``, asking for other layer sizes raises ``ValueError`` before any work.
    - A ``fit`` that fails leaves an earlier fit as it was.

    Examples
    --------
    >>> from fastnn import MLPClassifier
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> clf = MLPClassifier(random_state=1, max_iter=300).fit(X[:80], y[:80])
    >>> clf.predict(X[80:]).shape
    (20,)
    >>> clf.predict_proba(X[80:]).dtype
    dtype('float32')
    """

    loss = "log_loss"  # scikit-learn's estimator carries this attribute too; it is no parameter

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Learn from one pass over the given data, going on with the weights and the optimizer of earlier calls.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels; not all classes need to occur.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss.
        classes : array-like of shape (n_classes,), default=None
            All classes that will ever occur. Needed in the first call.

        Returns
        -------
        self : object
            The updated estimator.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X):
        """Predict classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Class labels, or a multi-label indicator (sparse if the classifier was fitted with a sparse one).
        """
        outputs = self._outputs(X)
        if self._label_binarizer.y_type_ == "multiclass":
            return self.classes_[outputs.argmax(axis=1)]
        return self._label_binarizer.inverse_transform(outputs)

    def predict_proba(self, X):
        """Predict probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probability of each class in the order of ``classes_``; for multi-label targets of each label, so that rows
            need not sum to 1.
        """
        outputs = self._outputs(X)
        if outputs.shape[1] > 1:
            return outputs
        return np.hstack([1 - outputs, outputs])

    def predict_log_proba(self, X):
        """Predict logarithms of probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``.
        """
        proba = self.predict_proba(X)
        return np.log(proba, out=proba)

    # ---- what BaseMLP asks for ---------------------------------------------------------------------------------------
    def _first_call(self, y, classes):
        if _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = binarizer_of(y if multilabel else classes)

    def _encode_y(self, y, dtype, incremental):
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = binarizer_of(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(y))
        return encode_labels(y, self._label_binarizer, dtype)

    def _check_classes(self, classes):
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

    def _objective(self):
        if self._label_binarizer.y_type_ == "multiclass":
            return "log_loss", "softmax"
        return "binary_log_loss", "logistic"

    def _validation_score(self, outputs, data, rows):
        if len(self.classes_) == 1:
            return 1.0
        return accuracy(outputs, data, rows)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
