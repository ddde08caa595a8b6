"""How far training has come and whether it still improves: scikit-learn's rules, its counters, its attributes."""

import math
import warnings
from contextlib import closing

from .history import grown

NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class Progress:
    """Losses and scores of the epochs of one call, and the best of them; a warm start goes on from earlier calls.

    Parameters
    ----------
    tol : float
        Gain below which an epoch counts as "no improvement".
    by_score : bool
        Judge epochs by the validation score (early stopping), not by the training loss.
    earlier : dict
        Attributes that an earlier call published; empty for a fresh start.
    """

    def __init__(self, tol, by_score, earlier):
        self.tol, self.by_score = tol, by_score
        self.n_iter = 0
        self.n_seen = earlier.get("t_", 0)
        self.losses, self.scores = [], []
        self.learning_rates, self.seconds = [], []
        self.measured = {}
        self.no_improvement_count = earlier.get("_no_improvement_count", 0)
        best_loss, best_score = earlier.get("best_loss_"), earlier.get("best_validation_score_")
        self.best_loss = math.inf if best_loss is None else best_loss
        self.best_score = -math.inf if best_score is None else best_score
        self.best_params = None
        self.stopped = False
        self._earlier = earlier

    def epoch_done(self, record, learning_rate, n_samples):
        """Count an epoch over ``n_samples`` rows at this rate."""
        self.n_iter += 1
        self.n_seen += n_samples
        self.losses.append(record.loss)
        self.learning_rates.append(learning_rate)
        self.seconds.append(record.seconds)

    def note(self, measured):
        """Keep what was measured after the last epoch, by name. Returns the validation score; None without any."""
        for name, value in measured.items():
            self.measured.setdefault(name, []).append(value)
        return measured.get("val_score", math.nan if self.by_score else None)

    def judge_loss(self):
        """Compare the last training loss with the best one. NaN counts as improvement, as in scikit-learn."""
        loss = self.losses[-1]
        self._count(loss > self.best_loss - self.tol)
        if loss < self.best_loss:
            self.best_loss = loss

    def judge_score(self, score, params):
        """Compare a validation score with the best one and keep a copy of the weights of a strictly better epoch."""
        self.scores.append(score)
        self._count(score < self.best_score + self.tol)
        if score > self.best_score:
            self.best_score = score
            self.best_params = params.copy()

    def _count(self, idle):
        self.no_improvement_count = self.no_improvement_count + 1 if idle else 0

    def attributes(self):
        """The fitted attributes that record all this. Lists of earlier calls grow in place: call this last."""
        fitted = {"n_iter_": self.n_iter, "t_": self.n_seen, "_no_improvement_count": self.no_improvement_count}
        if self.losses:
            fitted["loss_"] = self.losses[-1]
        fitted["loss_curve_"] = self._grown("loss_curve_", self.losses)
        fitted["best_loss_"] = None if self.by_score else self.best_loss
        fitted["validation_scores_"] = self._grown("validation_scores_", self.scores) if self.by_score else None
        fitted["best_validation_score_"] = self.best_score if self.by_score else None
        new = {"loss": list(self.losses), "learning_rate": self.learning_rates, "seconds": self.seconds}
        fitted["history_"] = grown(self._earlier.get("history_"), {**new, **self.measured}, self.n_iter)
        fitted["validation_loss_curve_"] = fitted["history_"].get("val_loss")
        return fitted

    def _grown(self, name, new):
        values = self._earlier.get(name)
        if values is None:
            return new
        values.extend(new)
        return values

    def follow(self, epochs, n_samples, params, schedule, *, evaluate, n_iter_no_change, verbose):
        """Consume the training loop: the one place that sees every epoch, prints, judges, adapts the rate and stops.

        Parameters
        ----------
        epochs : generator of EpochRecord
            Each item is an epoch over ``n_samples`` rows that has changed ``params``; closed at the end.
        schedule : object
            Learning rates, see ``schedules``.
        evaluate : callable or None
            Measures the present ``params`` and returns a dict, with "val_score" where epochs are judged by it; None
            where nothing is to be measured.
        n_iter_no_change, verbose
            As in the estimators.

        Raises
        ------
        ValueError
            When a loss is not finite and there are no better weights to return to.
        """
        try:
            with closing(epochs):
                for record in epochs:
                    self.epoch_done(record, schedule.nominal, n_samples)
                    if verbose:
                        print(f"Iteration {self.n_iter}, loss = {record.loss:.8f}")
                    score = None
                    if evaluate is not None:
                        score = self.note(evaluate() if record.finite else {})
                    if self.by_score:
                        self.judge_score(score, params)
                    else:
                        self.judge_loss()
                    if verbose and score is not None:
                        print(f"Validation score: {score:f}")
                    self.stopped = not record.finite or self._no_more_progress(schedule, n_iter_no_change, verbose)
                    if self.stopped:
                        break
        except KeyboardInterrupt:
            self.stopped = True
            warnings.warn("Training interrupted by user.", stacklevel=2)
        if self.losses and not math.isfinite(self.losses[-1]) and self.best_params is None:
            raise ValueError(f"{NON_FINITE} The loss was {self.losses[-1]} in epoch {self.n_iter}.")

    def _no_more_progress(self, schedule, n_iter_no_change, verbose):
        schedule.epoch_ends(self.n_seen)
        if self.no_improvement_count <= n_iter_no_change:
            return False
        stop, remark = schedule.plateau()
        if verbose:
            what = "Validation score" if self.by_score else "Training loss"
            print(
                f"{what} did not improve more than tol={self.tol:f} for {n_iter_no_change} consecutive epochs. {remark}"
            )
        if not stop:
            self.no_improvement_count = 0
        return stop
