"""The base class of both estimators: the phases of a fit, with mixins for data, prediction, conversion and pickles.

A fit is (1) validate and encode, (2) initial weights and held-out rows, (3) plan and state, (4) the training loop or
L-BFGS, (5) publish. Nothing before (5) changes the attributes of an earlier fit: see `transaction`.
Names of fastnn's own methods begin with ``_mlp_``, so that subclasses do not override them by chance: see `overrides`.
Fits and predictions run in a copy of the context, so that NumPy's ``errstate`` ends with them even if a signal handler
raises at a moment when a ``with`` block does not restore it.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator

from . import interop, parameters, persistence
from ._typed import fit_context
from .callbacks import CopyMixin, Tasks
from .core.compile.announcement import announcement
from .encode import scaled_alpha
from .evaluation import check_given, find_scorers, find_scoring
from .hidden import HiddenMixin
from .initial import check_init_scale
from .learning import Call, LearningMixin
from .overrides import refuse_overrides
from .predict import PredictionMixin
from .preparation import Network, PreparationMixin
from .schedules import refuse_contradictions
from .summary import SummaryMixin
from .transaction import Outcome, apart, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from numpy.typing import ArrayLike

    from . import _types

# Attributes of a fit; a fresh fit removes those of an earlier one, a warm start updates them.
PUBLISHED = (
    "coefs_",
    "intercepts_",
    "n_layers_",
    "n_outputs_",
    "out_activation_",
    "n_iter_",
    "best_epoch_",
    "t_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_loss_curve_",
    "validation_scores_",
    "history_",
    "best_validation_score_",
    "stop_reason_",
    "_no_improvement_count",
    "_optimizer",
    "_resume",
)


def is_stochastic(estimator):
    """Whether ``partial_fit`` exists; for ``available_if``."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


def refuse_early_stopping(estimator):
    """Raise ValueError if ``partial_fit`` is called with early stopping."""
    if estimator.early_stopping:
        raise ValueError(
            "partial_fit does not support early_stopping=True: each call is one epoch, and the program that makes the "
            "calls decides when to stop. Set early_stopping=False and stop when score(X_val, y_val) no longer rises, "
            "or call fit with X_val and y_val, which stops by itself."
        )


class BaseMLP(
    LearningMixin,
    PreparationMixin,
    PredictionMixin,
    HiddenMixin,
    SummaryMixin,
    CopyMixin,
    interop.ConversionMixin,
    persistence.PickleMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base class of the estimators; not for direct use."""

    _parameter_constraints: dict = parameters.CONSTRAINTS

    n_features_in_: int
    coefs_: list[_types.Floats]
    intercepts_: list[_types.Floats]
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    history_: dict[str, list[float]]
    n_iter_: int
    best_epoch_: int
    t_: int
    stop_reason_: _types.StopReason

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
        dropout: float | Sequence[float] | _types.Floats = 0.0,
        ema_decay: float | None = None,
        max_seconds: float | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.rho = rho
        self.init = init
        self.init_scale = init_scale
        self.init_bias = init_bias
        self.n_jobs = n_jobs
        self.dtype = dtype
        self.metrics = metrics
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.warmup = warmup
        self.decay_rate = decay_rate
        self.decay_every = decay_every
        self.n_hidden_layers = n_hidden_layers
        self.scoring = scoring
        self.restore_best = restore_best
        self.dropout = dropout
        self.ema_decay = ema_decay
        self.max_seconds = max_seconds

    # ---- where the two estimators differ ----------------------------------------------------------------------------
    _mlp_classifies = False  # what `is_classifier` says, without making all tags

    @abstractmethod
    def _mlp_encode_y(self, y, dtype, incremental, indicator=None):
        """``(labels, None)`` or ``(None, targets)`` of validated y; the classifier sets ``classes_``.

        If ``indicator`` is given, it is y as an indicator matrix, and ``classes_`` are set already.
        """

    @abstractmethod
    def _mlp_encode_y_val(self, y, dtype):
        """As `_mlp_encode_y`, for ``y_val``; the classes of y are known."""

    @abstractmethod
    def _mlp_objective(self):
        """The user's name of the loss, and the output activation."""

    @abstractmethod
    def _mlp_validation_score(self, outputs, data, rows):
        """Score of the network's ``outputs`` for ``rows`` of some data, higher is better."""

    @abstractmethod
    def _mlp_predicted(self, outputs, out_activation):
        """What ``predict`` returns for outputs of the network after this output activation."""

    def _mlp_first_call(self, y, classes):
        """What has to be known before the first ``partial_fit``."""

    # ---- fit ---------------------------------------------------------------------------------------------------------
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: _types.Matrix,
        y: _types.Matrix,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: _types.Matrix | None = None,
        y_val: _types.Matrix | None = None,
        sample_weight_val: ArrayLike | None = None,
        coefs_init: Sequence[ArrayLike] | None = None,
        intercepts_init: Sequence[ArrayLike] | None = None,
    ) -> Self:
        """Fit the network to X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. A C-contiguous array of ``dtype`` is used as it is, everything else is converted once.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, a (dense or sparse) multi-label indicator, or regression targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss; None means equal weights.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation data: their loss and score go to ``history_`` after each epoch, and early stopping, if asked for,
            judges by their score and learns from all of X. In a ``Pipeline`` with metadata routing
            ``transform_input=["X_val"]`` sends them through the same transformers as X; where a pipeline has left them
            as they were, a warning says so.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their labels, among those of y, or their targets. Needed with X_val.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights in loss, score and metrics.
        coefs_init : list of array-like of shape (fan_in, fan_out), default=None
            Weights to start from, one array for each layer, the output layer's last; they are copied. They come before
            ``init``, and before the present weights where ``warm_start`` would go on from those. Draws of the random
            state are made all the same, so that what follows is shuffled alike.
        intercepts_init : list of array-like of shape (fan_out,), default=None
            Biases to start from, likewise. Either argument may be given alone.

        Returns
        -------
        self : object
            The fitted estimator. If anything fails, an earlier fit stays as it was.
        """
        validation = (X_val, y_val, sample_weight_val)
        return self._mlp_learn(X, y, sample_weight, validation=validation, initial=(coefs_init, intercepts_init))

    def _mlp_learn(self, X, y, sample_weight, **more):
        announcement.due, announcement.loading_due, tasks = True, True, None
        if hasattr(self, "_skl_callbacks"):  # whose contexts must be on the estimator itself, where they are taken off
            tasks = self._mlp_tasks(X, y, sample_weight, more.get("incremental", False))
        own = self.__dict__
        try:
            try:  # what is set before all is done is set on a copy
                object.__setattr__(self, "__dict__", dict(own))
                outcome = apart(self._mlp_run_phases, X, y, sample_weight, tasks=tasks, **more)
                publish(own, outcome)
            finally:
                object.__setattr__(self, "__dict__", own)
        except BaseException as error:
            self._mlp_blame_parameters(error)
            raise
        if tasks is not None:
            tasks.finish()
        if outcome.remark is not None:  # which may be made an error: as in scikit-learn the model is fitted then
            outcome.remark()
        return self

    def _mlp_tasks(self, X, y, sample_weight, incremental):
        """The tasks for scikit-learn's callbacks; the call itself has begun then."""
        if self.solver == "lbfgs":
            return Tasks(self, "lbfgs-iter", self.max_iter + 1, X, y, sample_weight)
        return Tasks(self, "epoch", 1 if incremental else self.max_iter, X, y, sample_weight)

    @classmethod
    def _get_param_names(cls):
        """Names of the parameters, cached: scikit-learn reads ``__init__`` five times for each fit of a search.

        (53 us each, a quarter of the time around the training of a small network.)
        """
        known = cls.__dict__.get("_own_param_names")
        if known is None or known[0] is not cls.__init__:
            known = cls._own_param_names = (cls.__init__, tuple(super()._get_param_names()))
        return list(known[1])

    def _validate_params(self):
        cls = type(self)
        known = cls.__dict__.get("_legal_values")
        if known is None or known[0] is not cls._parameter_constraints:
            known = cls._legal_values = cls._parameter_constraints, set()
        parameters.validate(self, known[1])
        check_init_scale(self.init, self.init_scale)
        parameters.check_activation(self.activation)
        refuse_contradictions(self._mlp_settings())

    def _mlp_run_phases(
        self,
        X,
        y,
        sample_weight,
        *,
        tasks,
        incremental=False,
        classes=None,
        validation=(None,) * 3,
        initial=(None,) * 2,
    ):
        refuse_overrides(self)
        hidden = parameters.hidden_units(self.hidden_layer_sizes, self.n_hidden_layers)
        parameters.hidden_activation(self.activation, len(hidden))
        scorers = find_scorers(self.metrics)
        find_scoring(self)
        check_given(*validation)
        if validation[0] is not None:
            from .bypassed import warn_of_untransformed  # scikit-learn's pipelines take time to import

            warn_of_untransformed(self)
        if incremental:
            self._mlp_first_call(y, classes)
            refuse_early_stopping(self)
        resumed = hasattr(self, "coefs_") and (self.warm_start or incremental)

        X, y, indicator = self._mlp_validated(X, y, incremental=incremental, reset=not resumed)
        parameters.check_dropout(self, len(hidden), sparse=sp.issparse(X))
        dtype = self._mlp_network_dtype(X, resumed)
        # The line search of L-BFGS compares losses whose differences are below float32's rounding.
        computed = np.dtype(np.float64) if self.solver == "lbfgs" else dtype
        encode_y = partial(self._mlp_encode_y, incremental=incremental, indicator=indicator)
        training, divisor = self._mlp_encode(X, y, sample_weight, encode_y, computed, weigh_classes=True)
        units = self._mlp_asked_units(training.data, X.shape[1], hidden, resumed)
        validation = self._mlp_encode_validation(*validation, units[-1], computed)
        rng = self._mlp_generator(drawn=not (resumed and incremental))
        # A list, which is cleared once the state has a copy: weights are in memory only once.
        start = [*self._mlp_start(units, rng, resumed, computed, *initial)]
        earlier = self.__dict__ if resumed else {}
        network = Network(
            units, *self._mlp_trained_objective(earlier), computed, scaled_alpha(self.alpha, divisor, computed)
        )
        published = {"n_layers_": len(units), "n_outputs_": units[-1], "out_activation_": network.out_activation}
        if "n_features_in_" not in self.__dict__:
            published["n_features_in_"] = units[0]
        given = initial[0] is not None or initial[1] is not None
        call = Call(rng, earlier, incremental, tasks, published)
        call = self._mlp_resumed(call, network, [training, validation], begins=given)
        task = (network, training, validation, scorers, start, call)
        learn = partial(self._mlp_minimize, dtype=dtype) if self.solver == "lbfgs" else self._mlp_train
        state, fitted, lacking, remark = learn(*task)
        published = {**published, **fitted, "coefs_": state.coefs, "intercepts_": state.intercepts}
        # With early stopping scikit-learn, too, leaves other lists.
        written = self._mlp_in_place(state, published) if resumed and not self.early_stopping else []
        attributes = dict(self.__dict__)
        for name in ("_resume",) if resumed else PUBLISHED:
            attributes.pop(name, None)
        attributes.update(published)
        return Outcome(attributes, lacking, written, remark)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
