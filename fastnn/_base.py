"""What both estimators share: the phases of a fit, the consumer of the training loop, prediction and pickling.

``_fit`` runs (1) validate and encode, (2) starting weights and split, (3) plan and state, (4) the training loop or
L-BFGS, (5) publish. Nothing before (5) changes what an earlier fit left behind, except through names that are put back
when something fails.
"""

import operator
import warnings
from abc import ABCMeta, abstractmethod
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from . import interop, parameters, persistence
from .core.losses import LOSSES
from .core.optimizers import OPTIMIZERS
from .encode import encode_features, encode_weights, encoded, validated
from .infer import forward
from .initial import glorot_uniform
from .lbfgs import minimize_loss
from .plan import make_plan
from .schedules import Optimizer
from .state import flat_params, new_state
from .stopping import NON_FINITE, Progress
from .threads import resolve_n_jobs
from .train import train

# Attributes of a fit; a fresh fit leaves none of an earlier one, a warm one updates them.
PUBLISHED = (
    "coefs_",
    "intercepts_",
    "n_layers_",
    "n_outputs_",
    "out_activation_",
    "n_iter_",
    "t_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "_no_improvement_count",
    "_optimizer",
)


def is_stochastic(estimator):
    """Whether ``partial_fit`` exists; for ``available_if``."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


def _check_finite(params):
    if not np.isfinite(params).all():
        raise ValueError(NON_FINITE)


class BaseMLP(interop.ConversionMixin, persistence.PickleMixin, BaseEstimator, metaclass=ABCMeta):
    """Base class of the estimators; not for direct use."""

    _parameter_constraints: dict = parameters.CONSTRAINTS

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        n_jobs=None,
        dtype="float32",
    ):
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
        self.n_jobs = n_jobs
        self.dtype = dtype

    # ---- what the two estimators differ in ---------------------------------------------------------------------------
    @abstractmethod
    def _encode_y(self, y, dtype, incremental):
        """``(labels, None)`` or ``(None, targets)`` of validated y; the classifier sets ``classes_``."""

    @abstractmethod
    def _objective(self):
        """Names of the loss and of the output activation, both keys of the engine's tables."""

    @abstractmethod
    def _validation_score(self, outputs, data, rows):
        """Score of the network's ``outputs`` for ``rows`` of the training data, higher is better."""

    def _first_call(self, y, classes):
        """What has to be known before the first ``partial_fit``."""

    # ---- fit ---------------------------------------------------------------------------------------------------------
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the network to X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. A C-contiguous array of ``dtype`` is used as it is, everything else is converted once.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, a (dense or sparse) multi-label indicator, or regression targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss; None means equal weights.

        Returns
        -------
        self : object
            The fitted estimator. If anything fails, an earlier fit stays as it was.
        """
        return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight, incremental=False, classes=None):
        earlier = dict(self.__dict__)
        try:
            self._run_phases(X, y, sample_weight, incremental, classes)
        except BaseException as error:
            self.__dict__.clear()
            self.__dict__.update(earlier)
            self._blame_parameters(error)
            raise
        return self

    def _blame_parameters(self, error):
        """Name the parameter if one was set to nonsense since the fit: later calls check none, as in scikit-learn."""
        if isinstance(error, Exception):
            try:
                self._validate_params()
            except ValueError as named:
                raise named from error

    def _run_phases(self, X, y, sample_weight, incremental, classes):
        hidden = parameters.hidden_units(self.hidden_layer_sizes)
        if incremental:
            self._first_call(y, classes)
            if self.early_stopping:
                raise ValueError("partial_fit does not support early_stopping=True")
        resumed = hasattr(self, "coefs_") and (self.warm_start or incremental)

        units, data, n_samples = self._encode(X, y, sample_weight, hidden, incremental, resumed)
        rng = check_random_state(self.random_state)
        if resumed:
            coefs, intercepts = self.coefs_, self.intercepts_
        else:
            coefs, intercepts = glorot_uniform(rng, units, self.activation, np.dtype(self.dtype))
        published = {"n_layers_": len(units), "n_outputs_": units[-1], "out_activation_": self._objective()[1]}
        start = [coefs, intercepts]  # emptied by whoever adopts them: nothing is kept twice while training
        del coefs, intercepts
        earlier = self.__dict__ if resumed else {}
        if self.solver == "lbfgs":
            state, fitted = self._fit_lbfgs(units, data, n_samples, start, earlier)
        else:
            state, fitted = self._fit_stochastic(units, data, n_samples, start, rng, earlier, incremental)
        published.update(fitted, coefs_=state.coefs, intercepts_=state.intercepts)
        self._publish(published, resumed)

    def _encode(self, X, y, sample_weight, hidden, incremental, resumed):
        """Phase 1: the units of all levels, the data as the engine takes them, the number of rows."""
        dtype = np.dtype(self.dtype)
        X, y = validated(self, X, y, reset=not resumed, y_numeric=not is_classifier(self))
        dense, csr = encode_features(X, dtype, owner=type(self).__name__)
        weights = encode_weights(sample_weight, X, dtype)
        labels, targets = self._encode_y(y, dtype, incremental)
        n_outputs = len(self.classes_) if targets is None else targets.shape[1]
        units = (X.shape[1], *hidden, n_outputs)
        if resumed and units != self._units():
            raise ValueError(
                f"The layers have {self._units()} units since the previous fit, but hidden_layer_sizes and the data "
                f"ask for {units}: warm_start and partial_fit cannot change the network."
            )
        return units, encoded(dense, csr, dtype, labels=labels, targets=targets, sample_weight=weights), X.shape[0]

    def _split(self, data, n_samples, rng):
        """Phase 2: the rows to train on and, with early stopping, the rows to score; scikit-learn's very split."""
        rows = np.arange(n_samples, dtype=np.int64)
        if not self.early_stopping:
            return rows, None
        stratify = None
        if is_classifier(self) and data.targets.shape[1] == 1:
            stratify = np.where(data.targets[:, 0] > 0.5, "True", "False")  # the names that its error messages list
        fraction = self.validation_fraction
        try:
            rows, held_out = train_test_split(rows, random_state=rng, test_size=fraction, stratify=stratify)
        except ValueError as error:
            raise ValueError(f"{error} (early_stopping with validation_fraction={fraction!r})") from None
        if held_out.size < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return rows, held_out

    def _plan(self, units, settings, batch_size):
        """Phase 3: layout and plan of a network of ``units`` under an optimizer's ``settings``."""
        loss, out_activation = self._objective()
        return make_plan(
            units=units,
            hidden_activation=self.activation,
            out_activation=out_activation,
            loss=loss,
            solver=settings["solver"],
            alpha=self.alpha,
            batch_size=batch_size,
            momentum=settings["momentum"],
            nesterovs_momentum=settings["nesterovs_momentum"],
            beta_1=settings["beta_1"],
            beta_2=settings["beta_2"],
            epsilon=settings["epsilon"],
            dtype=np.dtype(self.dtype),
        )

    def _settings(self):
        return {name: getattr(self, name) for name in Optimizer.SETTINGS}

    def _clipped_batch_size(self, n_samples):
        if self.batch_size == "auto":
            return min(200, n_samples)
        if self.batch_size > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
            )
        return min(operator.index(self.batch_size), n_samples)

    def _fit_lbfgs(self, units, data, n_samples, start, earlier):
        layout, plan = self._plan(units, self._settings(), 1)
        state = new_state(layout, plan)
        state.adopt(*start)
        start.clear()
        loss, n_iter = minimize_loss(
            layout,
            plan,
            state.params,
            data,
            tol=self.tol,
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            verbose=self.verbose,
            n_threads=resolve_n_jobs(self.n_jobs),
        )
        if not np.isfinite(loss):
            raise ValueError(f"{NON_FINITE} The loss was {loss}.")
        _check_finite(state.params)
        return state, {"loss_": loss, "n_iter_": n_iter, "t_": earlier.get("t_", 0)}

    def _fit_stochastic(self, units, data, n_samples, start, rng, earlier, incremental):
        rows, held_out = self._split(data, n_samples, rng)
        bias_corrected = OPTIMIZERS[self.solver].bias_correction
        if incremental and "_optimizer" in earlier:
            optimizer = earlier["_optimizer"].successor()
        else:
            optimizer = Optimizer(self._settings(), bias_corrected)
        layout, plan = self._plan(units, optimizer.settings, self._clipped_batch_size(rows.size))
        state = new_state(layout, plan)
        state.adopt(*start)
        start.clear()
        if optimizer.moments is not None:
            state.moments[...] = optimizer.moments
            state.step = optimizer.step
        progress = Progress(self.tol, self.early_stopping, earlier)
        n_threads = resolve_n_jobs(self.n_jobs)

        def score():
            outputs = forward(layout, plan, state.params, data, rows=held_out, n_threads=n_threads)
            return self._validation_score(outputs, data, held_out) if np.isfinite(outputs).all() else float("nan")

        epochs = train(
            layout,
            plan,
            state,
            data,
            rows=rows,
            rng=rng,
            shuffle=self.shuffle,
            private_rng=isinstance(self.random_state, Integral),
            schedule=optimizer.schedule,
            max_epochs=1 if incremental else self.max_iter,
            n_threads=n_threads,
        )
        progress.follow(
            epochs,
            rows.size,
            state.params,
            optimizer.schedule,
            score=score if self.early_stopping else None,
            n_iter_no_change=self.n_iter_no_change,
            verbose=self.verbose,
        )
        if not (incremental or progress.stopped):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if progress.best_params is not None:
            state.params[...] = progress.best_params
        _check_finite(state.params)
        optimizer.moments, optimizer.step = state.moments, state.step
        return state, {**progress.attributes(), "_optimizer": optimizer}

    def _publish(self, fitted, resumed):
        """Phase 5: the fitted attributes, all at once."""
        if not resumed:
            for name in PUBLISHED:
                self.__dict__.pop(name, None)
        self.__dict__.update(fitted)

    # ---- prediction --------------------------------------------------------------------------------------------------
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
