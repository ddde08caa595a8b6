"""Progress of training and early stopping: scikit-learn's rules, counters and attributes."""

import math
import time
from contextlib import closing
from typing import NamedTuple

import numpy as np

from .core.compile.exclusive import undisturbed
from .history import extended_history, validation_losses
from .progress_lines import Details

NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)

EPOCH = 4  # entries of `Progress.epochs` for each epoch
LOSS, SECONDS = -4, -2  # where those of the last epoch are
UNFINISHED = ("max_seconds", "interrupted", "callback")  # values of ``stop_reason_`` after which a fit can go on


def _score_of(measured):
    return measured.get("val_score", math.nan)


def _print_measured(n_epochs, epoch, details):
    _, rate, seconds, measured = epoch
    measured = measured or {}
    if "val_score" in measured:
        print(f"Validation score: {measured['val_score']:f}")
    if details is not None:
        print(details.line(n_epochs, measured, rate, seconds))


class Budget:
    """The wall time that training may take.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds):
        self._seconds, self._end = seconds, math.inf

    def begin(self):
        """Count from here."""
        self._end = time.perf_counter() + self._seconds

    def spent(self):
        """Whether the time is over."""
        return self.left() <= 0

    def left(self):
        """Seconds until then."""
        return self._end - time.perf_counter()


class Stopping(NamedTuple):
    """When training ends, if nothing else ends it."""

    n_iter_no_change: float
    max_epochs: int
    budget: Budget | None
    tasks: object  # `callbacks.Tasks`, told of each epoch, or None


class Progress:
    """Losses and scores of the epochs of one call, and the best of them; a warm start continues an earlier call.

    Parameters
    ----------
    tol : float
        Gain below which an epoch counts as "no improvement".
    by_score : bool
        Judge epochs by the validation score (early stopping), not by the training loss.
    earlier : dict
        Attributes that an earlier call published; empty for a fresh start.
    keep : {"record", "score", "loss", None}
        Of which epoch the parameters are kept: "record": of the best validation score, if it is above those of earlier
        calls, as in scikit-learn; "score", "loss": of the best validation score or training loss of this call.

    Attributes
    ----------
    epochs : list
        For each epoch, one after the other, its loss, learning rate, seconds, and a dict of the measurements after it
        or None. (A tuple and a dict for each would start the garbage collector: before
        this and a shorter call, 5,000 epochs of four rows took 1.05 times as long, 20,000 took 1.14. Emerald Rapids.)
    done : int
        Epochs of earlier calls, where this one goes on with their fit.
    before_unjudged : tuple or None
        The schedule's epoch and rate before the last epoch ended, where Ctrl-C has kept that from being measured.
    stop_reason : str or None
        Why training has ended, as ``stop_reason_`` says it; None before the end.
    interrupted : bool
        Whether Ctrl-C has been pressed.
    """

    def __init__(self, tol, by_score, earlier, keep=None):
        self.tol, self.by_score, self._keep = tol, by_score, keep
        best_loss, best_score = earlier.get("best_loss_"), earlier.get("best_validation_score_")
        best_loss = math.inf if best_loss is None else best_loss
        best_score = -math.inf if best_score is None else best_score
        # Epochs without improvement, the best loss and score; what the parameters that are kept must exceed, the epoch
        # of these, and themselves: one object, replaced as a whole.
        least = best_score if keep == "record" else -math.inf
        self._judgement = earlier.get("_no_improvement_count", 0), best_loss, best_score, least, None, None
        self.epochs, self.done, self.before_unjudged = [], 0, None
        self._n_samples, self._seen = 0, earlier.get("t_", 0)
        self.stop_reason, self.interrupted = None, False
        self._earlier = earlier

    def go_on(self, n_iter, judgement, best_params):
        """Go on with the fit of earlier calls after ``n_iter`` epochs of it; the rest is what `judgement` was."""
        self.done, self._judgement = n_iter, (*judgement, best_params)

    @property
    def n_iter(self):
        """Epochs of the fit."""
        return self.done + len(self.epochs) // EPOCH

    @property
    def judgement(self):
        """Epochs without improvement, the best loss and score, what kept parameters must exceed, their epoch, these."""
        return self._judgement

    @property
    def best_params(self):
        """Parameters after the epoch that is to be kept, or None."""
        return self._judgement[-1]

    def _judged(self, loss, score, params):
        """The judgement after another epoch with this loss and validation score; parameters that are kept are copied.

        NaN counts as improvement, as in scikit-learn, but is never the best.
        """
        count, best_loss, best_score, kept, best_epoch, best_params = self._judgement
        if self.by_score:
            count = count + 1 if score < best_score + self.tol else 0
            best_score = score if score > best_score else best_score
        else:
            count = count + 1 if loss > best_loss - self.tol else 0
            best_loss = loss if loss < best_loss else best_loss
        if self._keep is not None:
            value = -loss if self._keep == "loss" else score
            if value > kept:
                kept, best_epoch, best_params = value, self.n_iter + 1, params.copy()
        return count, best_loss, best_score, kept, best_epoch, best_params

    def attributes(self):
        """The fitted attributes, and the values that earlier calls' lists lack: tuples ``(list, values to append)``."""
        n_iter, (count, best_loss, best_score, _, best_epoch, _) = len(self.epochs) // EPOCH, self._judgement
        n_seen = self._seen + n_iter * self._n_samples
        fitted = {
            "n_iter_": self.n_iter,
            "best_epoch_": self.n_iter if best_epoch is None else best_epoch,
            "t_": n_seen,
            "_no_improvement_count": count,
            "stop_reason_": self.stop_reason,
        }
        losses, rates, seconds, measured = (self.epochs[i::EPOCH] for i in range(EPOCH))
        new = {"loss": losses, "learning_rate": rates, "seconds": seconds}
        losses = list(map(np.float64, losses))  # as scikit-learn's: programs call their methods
        if losses:
            fitted["loss_"] = losses[-1]
        measured = [each or {} for each in measured]
        for name in dict.fromkeys(name for each in measured for name in each):
            new[name] = [each.get(name, math.nan) for each in measured]
        history, lacking = extended_history(self._earlier.get("history_"), new, n_iter)
        scores = [each.get("val_score", math.nan) for each in measured] if self.by_score else None
        fitted["loss_curve_"] = self._with_earlier("loss_curve_", losses, lacking)
        fitted["best_loss_"] = None if self.by_score else np.float64(best_loss)
        fitted["validation_scores_"] = self._with_earlier("validation_scores_", scores, lacking)
        fitted["best_validation_score_"] = best_score if self.by_score else None
        fitted["history_"], fitted["validation_loss_curve_"] = history, validation_losses(history, new)
        return fitted, lacking

    def _with_earlier(self, name, new, lacking):
        values = self._earlier.get(name)
        if new is None or values is None:
            return new
        lacking.append((values, new))
        return values

    def follow(self, epochs, state, walk, schedule, *, evaluate, stopping, verbose):
        """Consume the training loop: print, judge each epoch, adapt the learning rate and stop.

        After the first step Ctrl-C ends it without an error. A finished epoch counts, judged or not.

        Parameters
        ----------
        epochs : generator of EpochRecord
            Each item is an epoch of ``walk`` that has changed ``state``. It is closed at the end.
        state, walk, schedule, stopping, verbose
            Of the fit; ``walk`` is told of each epoch that counts.
        evaluate : callable or None
            Measures the present parameters and returns a dict, with "val_score" if epochs are judged by it, which takes
            one.

        Raises
        ------
        ValueError
            When a loss is not finite and there are no best parameters of an earlier epoch.
        """
        first, epoch, begun, self._n_samples = state.step, None, schedule.epoch, len(walk.rows)
        patience, max_epochs, budget, tasks = stopping
        by_epoch, details = schedule.by_epoch, Details(max_epochs, budget) if verbose > 1 else None
        look_from = max_epochs if tasks is None and budget is None else 0
        try:
            with closing(epochs):
                if tasks is not None:
                    tasks.begin()
                for record in epochs:
                    loss, measured, score = record.loss, None if evaluate is None else {}, math.nan
                    epoch = loss, schedule.nominal, record.seconds, measured
                    if verbose:
                        print(f"Iteration {self.n_iter + 1}, loss = {loss:.8f}")
                    if measured is not None:
                        if record.finite:
                            measured.update(evaluate())
                        score = measured.setdefault("val_score", math.nan) if self.by_score else _score_of(measured)
                    judgement = self._judged(loss, score, state.learned)
                    # No signal handler can run between these statements.
                    self._judgement, walk.batch, walk.drawn = judgement, 0, False
                    self.epochs.extend(epoch)
                    n = len(self.epochs) // EPOCH
                    if verbose:
                        _print_measured(n, epoch, details)
                    if by_epoch:
                        schedule.epoch_ends(self._seen + n * self._n_samples, begun + n)
                    if judgement[0] > patience or n >= look_from or not record.finite:
                        self._end_epoch(record.finite, schedule, stopping, verbose)
                        if self.stop_reason is not None:
                            break
                else:
                    self.stop_reason = "max_seconds"
        except KeyboardInterrupt:
            if state.step == first and not self.epochs:
                raise
            self.interrupted = True
            undisturbed(self._complete, epoch, state, walk, schedule, begun, stopping, verbose, evaluate is not None)
        if tasks is not None:
            tasks.close()
        self._refuse_divergence()

    def _refuse_divergence(self):
        if self.epochs and not math.isfinite(self.epochs[LOSS]) and self.best_params is None:
            raise ValueError(f"{NON_FINITE} The loss was {self.epochs[LOSS]} in epoch {self.n_iter}.")

    def _end_epoch(self, finite, schedule, stopping, verbose):
        """Find out whether training ends with the last epoch, and tell the callbacks of it."""
        if not finite:
            self.stop_reason = "diverged"
        elif self._judgement[0] > stopping.n_iter_no_change:
            undisturbed(self._plateau, schedule, stopping.n_iter_no_change, verbose)
        if self.stop_reason is None and len(self.epochs) // EPOCH >= stopping.max_epochs:
            self.stop_reason = "max_iter"
        tasks = stopping.tasks
        if tasks is not None and tasks.end() and self.stop_reason is None:
            self.stop_reason = "callback"
        if self.stop_reason is None and stopping.budget is not None and stopping.budget.spent():
            self.stop_reason = "max_seconds"
        if tasks is not None and self.stop_reason is None:
            tasks.begin()

    def _complete(self, epoch, state, walk, schedule, begun, stopping, verbose, evaluated):
        """Do what Ctrl-C has kept from being done after ``epoch``, the last that has ended; no handler runs here."""
        if epoch is not None and not (self.epochs and self.epochs[SECONDS] is epoch[SECONDS]):  # the same object
            if evaluated:  # that has not ended: one that goes on begins there
                self.before_unjudged = schedule.epoch, schedule.learning_rate
            else:
                self._judgement = self._judged(epoch[0], math.nan, state.learned)
                walk.batch, walk.drawn = 0, False
            self.epochs.extend(epoch)
        n = len(self.epochs) // EPOCH
        if n:
            schedule.epoch_ends(self._seen + n * self._n_samples, begun + n)
        if n and not math.isfinite(self.epochs[LOSS]):
            self.stop_reason = "diverged"
        elif self.stop_reason is None and self._judgement[0] > stopping.n_iter_no_change:
            self._plateau(schedule, stopping.n_iter_no_change, verbose)
        if self.stop_reason is None:
            over = n >= stopping.max_epochs and self.before_unjudged is None
            self.stop_reason = "max_iter" if over else "interrupted"

    def _plateau(self, schedule, n_iter_no_change, verbose):
        """After too many epochs without improvement: training ends, or only the learning rate is lowered."""
        stop, remark = schedule.plateau()
        if verbose:
            what = "Validation score" if self.by_score else "Training loss"
            print(
                f"{what} did not improve more than tol={self.tol:f} for {n_iter_no_change} consecutive epochs. {remark}"
            )
        if stop:
            self.stop_reason = "early stopping" if self.by_score else "tol"
        else:
            self._judgement = 0, *self._judgement[1:]
