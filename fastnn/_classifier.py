"""The classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.base import ClassifierMixin

from . import parameters
from ._base import BaseMLP, is_stochastic
from ._docs import with_common_entries
from ._typed import available_if, fit_context
from .labels import LabelMixin
from .predict import ClassPredictionMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

    from numpy.typing import ArrayLike, NDArray

    from . import _types


@with_common_entries
class MLPClassifier(ClassPredictionMixin, LabelMixin, ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier, trained by compiled kernels.

    A drop-in for ``sklearn.neural_network.MLPClassifier``: minimizes the cross-entropy of two classes (one logistic
    output), of several classes (softmax) or of several labels per row (one logistic output each). Other losses and
    outputs can be asked for.

    Parameters
    ----------
    %(hidden_layer_sizes)s
    %(activation)s
    %(solver)s
    %(alpha)s
    %(batch_size)s
    %(learning_rate)s
    %(learning_rate_init)s
    %(power_t)s
    %(max_iter)s
    %(shuffle)s
    %(random_state)s
    %(tol)s
    %(verbose)s
    %(warm_start)s
    %(momentum)s
    %(nesterovs_momentum)s
    early_stopping : bool, default=False
        Whether to stop when the accuracy (or ``scoring``) on validation data has not improved by ``tol`` for
        ``n_iter_no_change`` epochs, and to return to the weights of the best epoch, see ``restore_best``. The data are
        those given to ``fit``; without such, ``validation_fraction`` of the rows is held out, see
        ``validation_stratify``. Not used by "lbfgs".
    %(validation_fraction)s
    %(beta_1)s
    %(epsilon)s
    %(n_iter_no_change)s
    %(max_fun)s
    %(rho)s
    %(init)s
    %(init_scale)s
    %(init_bias)s
    loss : {"log_loss", "squared_error", "focal"}, default="log_loss"
        What is minimized, the mean over rows. "log_loss" is the cross-entropy; after logistic outputs the sum over
        outputs of their binary cross-entropies. "squared_error" is ``0.5 * sum((a - y) ** 2)`` over the outputs a of a
        row and its one-hot (or multi-label) targets y. It is a sum, not a mean: after logistic outputs the delta is
        ``(a - y) * a * (1 - a)``. "focal" (Lin et al. 2017) is ``-(1 - p) ** focal_gamma * log(p)`` of the probability
        p of what is right: the row's class; after logistic outputs, each label by itself, and summed.
    out_activation : {"auto", "softmax", "logistic"}, default="auto"
        Activation of the outputs. "auto": as in scikit-learn, "softmax" for three or more classes, "logistic" for two
        and for multi-label targets. "softmax": one output for each class, also of two; ``y`` may be one-hot rows, which
        then train exactly as the numbers of their columns would, and ``predict`` returns one-hot rows. "logistic": one
        output for each class where there are three or more, and ``predict`` takes the largest.
    %(n_jobs)s
    %(dtype)s
    %(metrics)s
    %(weight_decay)s
    %(max_grad_norm)s
    %(warmup)s
    %(decay_rate)s
    %(decay_every)s
    %(n_hidden_layers)s
    scoring : None, "loss", str or callable, default=None
        What "val_score" of ``history_`` is, and what early stopping and ``restore_best`` judge by; not used where there
        are no validation data. None: the accuracy. "loss": the negative validation loss, so that a lower loss is
        better. A name of ``sklearn.metrics.get_scorer_names()``, or a scorer ``scoring(estimator, X, y)`` whose result
        is better the higher it is; it is also given ``sample_weight`` where there are weights and it takes them.
    %(restore_best)s
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes in the loss, ``{label: weight}``, 1 for classes not named; they multiply
        ``sample_weight``. "balanced": ``n_samples / (n_classes * count)`` by the rows of ``fit``; not in
        ``partial_fit``. Multi-label targets take a list with a dict for each label, ``[{0: 1, 1: 5}, ...]``, or
        "balanced", and the weights of a row's labels are multiplied. One-hot rows under ``out_activation="softmax"``
        take a dict by column. Only ratios count, except against ``alpha``. As in scikit-learn's gradient boosting,
        losses and scores (``metrics`` too) of the rows of X carry these weights, those that early stopping holds out
        included; validation data given to ``fit`` carry ``sample_weight_val`` alone.
    validation_stratify : {"auto", True, False}, default="auto"
        Whether the rows that early stopping holds out have the classes' shares of all rows. "auto": of two classes, as
        in scikit-learn; True: of any number of classes, or of rows of labels; False: never.
    label_smoothing : float, default=0.0
        For ``loss="log_loss"``, in [0, 1): targets become ``(1 - label_smoothing) * y + label_smoothing / k``, where k
        is the number of classes, and 2 for each logistic output (Szegedy et al. 2016). ``loss_curve_`` and "val_loss"
        in ``history_`` are the loss of these targets, as that of PyTorch's ``CrossEntropyLoss(label_smoothing=...)``;
        so they do not go to 0. ``metrics=["neg_log_loss"]`` records that of the labels.
    focal_gamma : float, default=2.0
        How much ``loss="focal"`` turns from what is already right, >= 0; with 0 it is the log loss.
    %(dropout)s
    %(ema_decay)s
    %(max_seconds)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels in order; the column numbers for multi-label and one-hot targets.
    %(n_features_in_)s
    %(feature_names_in_)s
    %(coefs_)s
    %(intercepts_)s
    %(n_layers_)s
    %(n_outputs_)s
    out_activation_ : str
        Activation of the output: "logistic" or "softmax".
    %(loss_)s
    %(best_loss_)s
    %(loss_curve_)s
    %(validation_loss_curve_)s
    validation_scores_ : list of float or None
        Accuracy, or ``scoring``, on the validation data after each epoch; None without early stopping. Not set by
        "lbfgs".
    %(best_validation_score_)s
    history_ : dict of list of float
        What was measured in each epoch, one entry an epoch; a warm start and ``partial_fit`` go on with the lists.

        - "loss": as in ``loss_curve_``;
        - "learning_rate": the rate of the epoch's last step, Adam's before its correction of the bias;
        - "seconds": wall time of training, evaluation excluded; a process's first epoch loads compiled code as well;
        - "val_loss", "val_score": loss without penalty, and accuracy or ``scoring``, of the validation data after the
          epoch, where there are some: those given to ``fit``, or the rows that early stopping holds out;
        - each name in ``metrics``, after the epoch, and "val_" + name where there are validation data.

        NaN stands for what an epoch did not measure. Under "lbfgs" an entry is an iteration, "loss" is that of all rows
        after it, and there is no rate.
    %(n_iter_)s
    %(best_epoch_)s
    %(t_)s
    %(stop_reason_)s

    See Also
    --------
    MLPRegressor : The same network for regression.
    Checkpoint : A callback that writes a file from which training goes on.

    Notes
    -----
    Results follow ``sklearn.neural_network.MLPClassifier`` of version 1.9, its quirks included, except:

    - Weights and training are float32 unless ``dtype`` says otherwise, whatever comes in; "lbfgs" computes in float64.
      Predictions have the float type of X, as there, and are computed in float64 from the network's last sums. What
      float32 cannot learn from, values or squares of gradients, is refused by name.
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
    >>> clf.coefs_[0].dtype, clf.predict_proba(X[80:]).dtype
    (dtype('float32'), dtype('float64'))
    """

    classes_: NDArray[Any]

    _parameter_constraints: dict = {  # noqa: RUF012 - scikit-learn's convention
        **BaseMLP._parameter_constraints,
        **parameters.CLASSIFIER_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden_layer_sizes: _types.LayerSizes = (100,),
        activation: _types.ActivationName | Sequence[_types.ActivationName] = "relu",
        *,
        solver: _types.SolverName = "adam",
        alpha: float = 0.0001,
        batch_size: int | _types.Auto = "auto",
        learning_rate: _types.ScheduleName | Callable[[int], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: _types.RandomState = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        rho: float = 0.9,
        init: _types.InitName = "glorot_uniform",
        init_scale: float | None = None,
        init_bias: _types.BiasName = "match",
        loss: _types.ClassificationLoss = "log_loss",
        out_activation: _types.OutActivation = "auto",
        n_jobs: int | None = None,
        dtype: _types.Dtype = "float32",
        metrics: str | tuple[str, ...] | list[str] = (),
        weight_decay: float = 0.0,
        max_grad_norm: float | None = None,
        warmup: float = 0,
        decay_rate: float = 0.1,
        decay_every: float = 10,
        n_hidden_layers: int | None = None,
        scoring: str | _types.Scorer | None = None,
        restore_best: bool | _types.Auto = "auto",
        class_weight: _types.ClassWeight = None,
        validation_stratify: bool | _types.Auto = "auto",
        label_smoothing: float = 0.0,
        focal_gamma: float = 2.0,
        dropout: float | Sequence[float] | _types.Floats = 0.0,
        ema_decay: float | None = None,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            rho=rho,
            init=init,
            init_scale=init_scale,
            init_bias=init_bias,
            n_jobs=n_jobs,
            dtype=dtype,
            metrics=metrics,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            warmup=warmup,
            decay_rate=decay_rate,
            decay_every=decay_every,
            n_hidden_layers=n_hidden_layers,
            scoring=scoring,
            restore_best=restore_best,
            dropout=dropout,
            ema_decay=ema_decay,
            max_seconds=max_seconds,
        )
        self.loss = loss
        self.out_activation = out_activation
        self.class_weight = class_weight
        self.validation_stratify = validation_stratify
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma

    def _validate_params(self):
        super()._validate_params()
        parameters.check_smoothing(self.loss, self.label_smoothing)

    @available_if(is_stochastic)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: _types.Matrix,
        y: _types.Matrix,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
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
        return self._mlp_learn(X, y, sample_weight, incremental=True, classes=classes)

    # ---- what BaseMLP asks for ---------------------------------------------------------------------------------------
    def _mlp_objective(self):
        if self.out_activation != "auto":
            return self.loss, self.out_activation
        return self.loss, "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
