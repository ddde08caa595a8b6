"""Plots of how training went, in the manner of scikit-learn's displays. matplotlib is needed only to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from typing import Any, Self

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from numpy.typing import ArrayLike
    from sklearn.base import BaseEstimator

VALIDATION = "val_"
# Curves differ in line style and in lightness, so that a print in grey tells them apart.
TRAINING_STYLE = {"color": "#0b3c5d", "linestyle": "-", "linewidth": 1.5}
VALIDATION_STYLE = {"color": "#e07b00", "linestyle": "--", "linewidth": 1.5}
FEW = 30  # epochs up to which each gets a marker


class LossCurveDisplay:
    """Training and validation curves of a fitted network.

    Made by `from_estimator`; the constructor takes the curves themselves.

    Parameters
    ----------
    training : array-like of shape (n_epochs,) or None
        A value for each epoch, of the training data.
    validation : array-like of shape (n_epochs,) or None, default=None
        The same of validation data.
    score_name : str, default="loss"
        What the values are, for the vertical axis: a key of ``history_`` or words.
    epochs : str, default="Epoch"
        What the horizontal axis counts.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the curves.
    figure_ : matplotlib Figure
        The figure they are in.
    lines_ : list of matplotlib Line2D
        The curves: training, then validation, where there is such.

    See Also
    --------
    MLPClassifier : Its ``history_`` holds the curves.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastnn import LossCurveDisplay, MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = MLPClassifier(max_iter=40, tol=0.01, early_stopping=True, random_state=0).fit(X / 16, y)
    >>> display = LossCurveDisplay.from_estimator(clf)
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('Epoch', 'Loss')
    """

    ax_: Axes
    figure_: Figure
    lines_: list[Line2D]

    def __init__(
        self,
        training: ArrayLike | None,
        validation: ArrayLike | None = None,
        *,
        score_name: str = "loss",
        epochs: str = "Epoch",
    ) -> None:
        self.training, self.validation = training, validation
        self.score_name, self.epochs = score_name, epochs

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        what: str = "loss",
        ax: Axes | None = None,
        name: str | None = None,
        negate_score: bool = False,
        score_name: str | None = None,
        log_scale: bool = False,
        training_kwargs: dict[str, Any] | None = None,
        validation_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw curves of a fitted estimator.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted. An estimator without ``history_``, scikit-learn's for one, shows its ``loss_curve_``.
        what : str, default="loss"
            A key of ``history_`` without "val_": "loss"; "score", which exists for validation data only;
            "learning_rate", "seconds", or a name in the estimator's ``metrics``. Validation data have their curve where
            they were recorded.
        ax, name, negate_score, score_name, log_scale, training_kwargs, validation_kwargs
            See `plot`.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        ValueError
            When the estimator has not recorded ``what``.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        history = getattr(estimator, "history_", None)
        if history is None:
            history = {"loss": estimator.loss_curve_} if hasattr(estimator, "loss_curve_") else {}
        training, validation = history.get(what), history.get(VALIDATION + what)
        if training is None and validation is None:
            known = dict.fromkeys(key.removeprefix(VALIDATION) for key in history)
            raise ValueError(f"what={what!r} was not recorded by this estimator; there is {', '.join(known)}.")
        by_epoch = getattr(estimator, "solver", None) != "lbfgs"
        display = cls(training, validation, score_name=what, epochs="Epoch" if by_epoch else "Iteration")
        return display.plot(
            ax,
            name=name,
            negate_score=negate_score,
            score_name=score_name,
            log_scale=log_scale,
            training_kwargs=training_kwargs,
            validation_kwargs=validation_kwargs,
        )

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        negate_score: bool = False,
        score_name: str | None = None,
        log_scale: bool = False,
        training_kwargs: dict[str, Any] | None = None,
        validation_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Whose curves they are, for the legend: tells several estimators in one plot apart.
        negate_score : bool, default=False
            Whether to draw the negative of the values: the error itself of a scorer whose name begins with "neg_".
        score_name : str, default=None
            Label of the vertical axis; None: made from the values' name.
        log_scale : bool, default=False
            Whether the vertical axis is logarithmic.
        training_kwargs, validation_kwargs : dict, default=None
            Passed on to matplotlib's ``plot`` of the one curve and of the other.

        Returns
        -------
        display : LossCurveDisplay
            Itself, with its attributes set.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        if ax is None:
            _, ax = plt.subplots()
        curves = (
            (self.training, "training", TRAINING_STYLE, training_kwargs),
            (self.validation, "validation", VALIDATION_STYLE, validation_kwargs),
        )
        self.lines_ = []
        for values, label, style, own in curves:
            if values is not None:
                label = label if name is None else f"{name}, {label}"
                values = np.asarray(values, dtype=np.float64) * (-1 if negate_score else 1)
                marker = {"marker": "o", "markersize": 3} if values.size <= FEW else {}
                options = {**style, **marker, "label": label, **(own or {})}
                self.lines_ += ax.plot(np.arange(1, values.size + 1), values, **options)
        ax.set(xlabel=self.epochs, ylabel=score_name or axis_label(self.score_name, negate_score))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log_scale:
            ax.set_yscale("log")
        ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure  # type: ignore[assignment]  # or a SubFigure, which can nearly as much
        return self


def axis_label(name, negated):
    """A history's key as words; time with its unit."""
    if name == "seconds":
        return "Time of an epoch [s]"
    if name.startswith("neg_"):
        name = name.removeprefix("neg_") if negated else f"negative_{name.removeprefix('neg_')}"
    elif negated:
        name = f"negative_{name}"
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
