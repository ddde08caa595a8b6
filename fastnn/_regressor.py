"""The regressor."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import InvalidParameterError

from . import parameters
from ._base import BaseMLP, is_stochastic
from ._docs import with_common_entries
from ._typed import available_if, fit_context
from .core.nn.losses import LOSSES, special_case
from .encode import encode_values, read_only
from .quantiles import central, listed_quantiles, rearranged
from .scoring import r2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from numpy.typing import ArrayLike

    from . import _types


@with_common_entries
class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron regressor, trained by compiled kernels.

    A drop-in for ``sklearn.neural_network.MLPRegressor``, for one or several outputs.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber", "quantile", "gamma", "tweedie"}, \
            default="squared_error"
        What is minimized, the mean over rows; e is the error of an output, prediction minus target.
        "squared_error": ``e ** 2 / 2``. "absolute_error": ``abs(e)``, for the median. "huber": ``e ** 2 / 2`` up to
        ``abs(e) == huber_delta``, and linear beyond (Huber 1964; PyTorch's ``HuberLoss``). "quantile": the pinball loss
        ``max(-q * e, (1 - q) * e)`` with q = ``quantile`` (Koenker & Bassett 1978). "poisson", "gamma", "tweedie": half
        the deviance of these distributions, for counts, for positive amounts, and for amounts that may be zero; outputs
        are exponential, so that predictions are positive, and learn best from y of a mean near 1. "poisson" needs
        ``y >= 0``, "gamma" ``y > 0``, see ``tweedie_power`` for "tweedie".
        With several outputs, errors are averaged over outputs in the loss that is reported, and deviances are summed;
        the gradient is that of the sum in any case, as in scikit-learn for its two. The gradient of "absolute_error"
        and "quantile" at e = 0 is 0.
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
        Whether to stop when the R2 score (or ``scoring``) on validation data has not improved by ``tol`` for
        ``n_iter_no_change`` epochs, and to return to the weights of the best epoch, see ``restore_best``. The data are
        those given to ``fit``; without such, ``validation_fraction`` of the rows is held out. Not used by "lbfgs".
    %(validation_fraction)s
    %(beta_1)s
    %(epsilon)s
    %(n_iter_no_change)s
    %(max_fun)s
    %(rho)s
    %(init)s
    %(init_scale)s
    %(init_bias)s
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
        are no validation data. None: the R2 score. "loss": the negative validation loss, so that a lower loss is
        better. A name of ``sklearn.metrics.get_scorer_names()``, or a scorer ``scoring(estimator, X, y)`` whose result
        is better the higher it is; it is also given ``sample_weight`` where there are weights and it takes them.
    %(restore_best)s
    huber_delta : float, default=1.0
        Error from which on ``loss="huber"`` is linear, > 0, in units of y.
    quantile : float or list of float, default=0.5
        For ``loss="quantile"``, between 0 and 1. A list of distinct numbers makes one output for each quantile of a
        single-output y: ``predict`` returns an array of shape (n_samples, n_quantiles) whose rows are sorted, so that
        quantiles do not cross (Chernozhukov et al. 2010), and ``score`` is R2 of the quantile nearest .5.
    tweedie_power : float, default=1.5
        Power of ``loss="tweedie"``, 0 or >= 1: the variance goes with that power of the mean. 0 is
        ``loss="squared_error"``, 1 "poisson", 2 "gamma", 3 the inverse Gaussian deviance. Below 2 it needs ``y >= 0``
        (0 takes any y), from 2 on ``y > 0``.
    %(dropout)s
    %(ema_decay)s
    %(max_seconds)s

    Attributes
    ----------
    %(n_features_in_)s
    %(feature_names_in_)s
    %(coefs_)s
    %(intercepts_)s
    %(n_layers_)s
    %(n_outputs_)s
    out_activation_ : str
        Activation of the output: "exp" with ``loss="poisson"``, "gamma" and "tweedie" (but for power 0), else
        "identity".
    quantiles_ : ndarray of shape (n_outputs_,)
        Quantile of each column of ``predict``; there only if ``loss="quantile"`` with a list.
    %(loss_)s
    %(best_loss_)s
    %(loss_curve_)s
    %(validation_loss_curve_)s
    validation_scores_ : list of float or None
        R2 score, or ``scoring``, on the validation data after each epoch; None without early stopping. Not set by
        "lbfgs".
    %(best_validation_score_)s
    history_ : dict of list of float
        What was measured in each epoch, one entry an epoch; a warm start and ``partial_fit`` go on with the lists.

        - "loss": as in ``loss_curve_``;
        - "learning_rate": the rate of the epoch's last step, Adam's before its correction of the bias;
        - "seconds": wall time of training, evaluation excluded; a process's first epoch loads compiled code as well;
        - "val_loss", "val_score": loss without penalty, and R2 score or ``scoring``, of the validation data after the
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
    MLPClassifier : The same network for classification.
    Checkpoint : A callback that writes a file from which training goes on.

    Notes
    -----
    Results follow ``sklearn.neural_network.MLPRegressor`` of version 1.9, its quirks included, except:

    - Weights and training are float32 unless ``dtype`` says otherwise, whatever comes in; "lbfgs" computes in float64.
      Predictions have the float type of X, as there, and are computed in float64 from the network's last sums. What
      float32 cannot learn from, values or squares of gradients, is refused by name.
    - A loss that is not finite ends training at once with that message; with early stopping the best weights so far are
      restored instead, where there are some.
    - A mini-batch whose sample weights sum to zero makes no step.
    - With ``warm_start`` or ``partial_fit``, asking for other layer sizes raises ``ValueError`` before any work.
    - ``partial_fit`` does not exist under "lbfgs", as in the classifier.
    - ``loss="poisson"`` refuses negative targets.
    - A ``fit`` that fails leaves an earlier fit as it was.

    Examples
    --------
    >>> from fastnn import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> reg = MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X[:150], y[:150])
    >>> reg.predict(X[150:]).shape
    (50,)
    """

    quantiles_: _types.Floats

    _parameter_constraints: dict = {  # noqa: RUF012 - scikit-learn's convention
        **BaseMLP._parameter_constraints,
        **parameters.REGRESSOR_CONSTRAINTS,
    }

    def __init__(
        self,
        loss: _types.RegressionLoss = "squared_error",
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
        huber_delta: float = 1.0,
        quantile: float | Sequence[float] | _types.Floats = 0.5,
        tweedie_power: float = 1.5,
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
        self.huber_delta = huber_delta
        self.quantile = quantile
        self.tweedie_power = tweedie_power

    def _validate_params(self):
        try:
            super()._validate_params()
        except InvalidParameterError as error:
            if isinstance(self.loss, (Integral, list, tuple, np.ndarray)):  # which are layer sizes
                hint = f"As in scikit-learn, loss is the first argument: write hidden_layer_sizes={self.loss!r}."
                raise InvalidParameterError(f"{error} {hint}") from None
            raise
        listed_quantiles(self.quantile)

    @available_if(is_stochastic)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: _types.Matrix, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from one pass over the given data, going on with the weights and the optimizer of earlier calls.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss.

        Returns
        -------
        self : object
            The updated estimator.
        """
        return self._mlp_learn(X, y, sample_weight, incremental=True)

    def predict(self, X: _types.Matrix) -> _types.Floats:
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,), (n_samples, n_outputs) or (n_samples, n_quantiles)
            Predicted values; with a list of quantiles those of each row in the order of their quantiles.
        """
        outputs, dtype = self._mlp_outputs(X)
        return self._mlp_predicted(outputs, self.out_activation_).astype(dtype, copy=False)

    def score(self, X: _types.Matrix, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Coefficient of determination of the predictions, R2; with a list of quantiles of that nearest .5.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            What is right.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            ``sklearn.metrics.r2_score`` of the predictions, averaged over outputs.
        """
        quantiles = vars(self).get("quantiles_")
        if quantiles is None:
            return super().score(X, y, sample_weight)
        return r2_score(y, self.predict(X)[:, central(quantiles)], sample_weight=sample_weight)

    # ---- what BaseMLP asks for ---------------------------------------------------------------------------------------
    def _mlp_encode_y(self, y, dtype, incremental, indicator=None):
        known = {name: getattr(self, name) for name in LOSSES[self.loss].hyper_parameters}
        named = " with ".join([f"loss={self.loss!r}", *(f"{name}={value!r}" for name, value in known.items())])
        row = LOSSES[special_case(self.loss, self)]
        domain = row.domain(*(known[name] for name in row.hyper_parameters))
        quantiles = listed_quantiles(self.quantile) if self.loss == "quantile" else None
        targets = encode_values(y, dtype, loss=named, domain=domain)
        if self.loss == "huber" and dtype.type(self.huber_delta) < np.finfo(dtype).tiny:
            raise ValueError(f"huber_delta={self.huber_delta!r} is zero in {dtype}: scale y and huber_delta up.")
        vars(self).pop("quantiles_", None)
        if quantiles is not None:
            if targets.shape[1] != 1:
                raise ValueError(
                    f"quantile={self.quantile!r} makes an output for each quantile of a single-output y, but y has "
                    f"{targets.shape[1]} outputs: give one number as quantile, or fit one estimator for each output."
                )
            targets = read_only(np.repeat(targets, quantiles.size, axis=1))
            self.quantiles_ = quantiles
        return None, targets

    def _mlp_encode_y_val(self, y, dtype):
        return self._mlp_encode_y(y, dtype, incremental=False)

    def _mlp_objective(self):
        row = LOSSES[special_case(self.loss, self)]
        return row.users_name, row.output

    def _mlp_validation_score(self, outputs, data, rows):
        quantiles = vars(self).get("quantiles_")
        if quantiles is None:
            return r2(outputs, data, rows)
        chosen = central(quantiles)
        outputs = rearranged(outputs, quantiles)[:, chosen : chosen + 1]
        return r2(outputs, data._replace(targets=data.targets[:, chosen : chosen + 1]), rows)

    def _mlp_predicted(self, outputs, out_activation):
        quantiles = vars(self).get("quantiles_")
        if quantiles is not None:
            return rearranged(outputs, quantiles)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
