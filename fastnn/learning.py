"""The phases of a fit that learn: the plan, the training loop or L-BFGS, and what of it is published."""

import operator
import warnings
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ._typed import Part
from .callbacks import Tasks
from .core.nn.activations import ACTIVATIONS
from .core.nn.losses import LOSSES, special_case
from .curves import ENDING
from .evaluation import evaluation, hold_out
from .history import extended_history, validation_losses
from .lbfgs import minimize_loss
from .optimizer import Optimizer, checked
from .parameters import dropout_rates, hidden_activation
from .plan import loss_after, loss_of, make_plan
from .remarks import in_sklearns_name
from .state import State, new_state
from .stopping import NON_FINITE, UNFINISHED, Budget, Progress, Stopping
from .threads import resolve_n_jobs
from .train import train
from .unfinished import (
    Identity,
    Run,
    earlier_of,
    matching,
    remember,
    restore_state,
    restored_optimizer,
    so_far,
    walk_of,
)
from .walk import Walk

# Scikit-learn's losses: there, too, they go on after any output activation that someone has set by hand.
ANY_OUTPUT = ("log_loss", "squared_error", "poisson")


class Call(NamedTuple):
    """What a call is about, beside its data."""

    rng: Any  # numpy.random.RandomState, or a function that makes one
    earlier: dict  # attributes of an earlier fit that goes on, else empty
    incremental: bool
    tasks: Tasks | None
    published: dict  # attributes that are known before training
    memory: dict | None = None  # where another fit goes on, see `unfinished`
    identity: Identity | None = None


def _check_finite(params):
    if not np.isfinite(params).all():
        wider = ' They exceed float32: scale X and y, or use dtype="float64".' if params.dtype == np.float32 else ""
        raise ValueError(NON_FINITE + wider)


def keeping_best(evaluate, params, losses, best):
    """``evaluate`` that also leaves the highest "val_score", its parameters and their iteration in the list ``best``.

    ``losses`` holds those of all iterations until then.
    """

    def evaluate_and_keep():
        measured = evaluate()
        if measured["val_score"] > best[0]:
            best[:] = measured["val_score"], params.copy(), len(losses)
        return measured

    return evaluate_and_keep


class LearningMixin(Part):
    """The part of `BaseMLP` that learns."""

    def _mlp_in_place(self, state, published):
        """Assignments that update the present weights in place, for users who keep their lists or arrays.

        As in scikit-learn arrays are written into where possible (not under "lbfgs"), else list items are replaced.
        """
        written = []
        for name, new in (("coefs_", state.coefs), ("intercepts_", state.intercepts)):
            kept = getattr(self, name)
            if not isinstance(kept, list) or len(kept) != len(new):
                continue
            published[name] = kept
            for i, (array, values) in enumerate(zip(kept, new, strict=True)):
                own = type(array) is np.ndarray and array.dtype == values.dtype and array.flags.writeable
                written.append((array, ..., values) if own and self.solver != "lbfgs" else (kept, i, values))
        return written

    def _mlp_trained_objective(self, earlier):
        """Name in ``LOSSES`` and output activation for training; an ``out_activation_`` set by hand is respected."""
        classifier, (loss, out_activation) = self._mlp_classifies, self._mlp_objective()
        given = earlier.get("out_activation_", out_activation)
        if given == out_activation:
            name = loss_of(loss, out_activation, classifier=classifier)
            return special_case(name, self), out_activation
        if given not in ACTIVATIONS:
            raise ValueError(f"out_activation_ must be one of {', '.join(map(repr, ACTIVATIONS))}, got {given!r}.")
        name = loss_after(loss, given, classifier=classifier)
        special = special_case(name, self)
        if LOSSES[special].output != given and (self.loss not in ANY_OUTPUT or special != name):
            raise ValueError(
                f"loss={self.loss!r} needs out_activation_={LOSSES[special].output!r}, but it is {given!r} since the "
                "previous fit, or set by hand: fit with warm_start=False, or go on with the loss of that fit."
            )
        return special, given

    def _mlp_plan(self, network, settings, batch_size):
        """Phase 3: layout and plan of a network under an optimizer's ``settings``."""
        return make_plan(
            units=network.units,
            hidden_activation=hidden_activation(self.activation, len(network.units) - 2),
            out_activation=network.out_activation,
            loss=network.loss,
            alpha=network.alpha,
            batch_size=batch_size,
            dtype=network.dtype,
            dropout=dropout_rates(self.dropout, len(network.units) - 2),
            **settings,
            **{name: getattr(self, name) for name in LOSSES[network.loss].hyper_parameters},
        )

    def _mlp_settings(self):
        return {name: getattr(self, name) for name in Optimizer.SETTINGS}

    def _mlp_clipped_batch_size(self, n_samples):
        if self.batch_size == "auto":
            return min(200, n_samples)
        if self.batch_size > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
            )
        return min(operator.index(self.batch_size), n_samples)

    def _mlp_keep(self, validation):
        """Of which epoch the weights are kept, as `stopping.Progress` says it."""
        if isinstance(self.restore_best, str):
            return "record" if self.early_stopping else None
        if not self.restore_best:
            return None
        return "loss" if validation is None else "score"

    def _mlp_resumed(self, call, network, samples, begins):
        """The call with what its fit is recognized by, and with the memory of an unfinished one that it goes on with.

        ``samples`` are those for training and validation, or None. ``begins``: weights to begin from are given.
        """
        identity = Identity(self, network, samples)
        goes_on = "_resume" in call.earlier and not (call.incremental or begins)
        return call._replace(identity=identity, memory=matching(self, identity()) if goes_on else None)

    def _mlp_budget(self):
        return None if self.max_seconds is None else Budget(self.max_seconds)

    def _mlp_minimize(self, network, training, validation, scorers, start, call, dtype):
        layout, plan = self._mlp_plan(network, self._mlp_settings(), 1)
        state = new_state(layout, plan)
        state.adopt(*start)
        start.clear()
        n_threads = resolve_n_jobs(self.n_jobs)
        evaluate = evaluation(self, network, (layout, plan, state.learned), scorers, training, validation, n_threads)
        best, measured = [-np.inf, None, None], {"loss": [], "seconds": []}
        if validation is not None and self._mlp_keep(validation) == "score":
            evaluate = keeping_best(evaluate, state.learned, measured["loss"], best)
        own = partial(_minimized, call.earlier, measured, best)
        if call.tasks is not None:
            so_far = partial(_converted, state, layout, dtype)
            call.tasks.attributes = lambda: {**call.published, **own()[0], **so_far(best[1])}
        loss, n_iter, remark, stop_reason = minimize_loss(
            layout,
            plan,
            state.params,
            training.data,
            limits=(self.tol, self.max_iter, self.max_fun),
            verbose=self.verbose,
            n_threads=n_threads,
            history=measured,
            evaluate=evaluate,
            budget=self._mlp_budget(),
            tasks=call.tasks,
        )
        if not np.isfinite(loss):
            raise ValueError(f"{NON_FINITE} The loss was {loss}.")
        if best[1] is not None:
            state.params[...] = best[1]
        state = state.converted(layout, dtype)
        _check_finite(state.params)
        fitted, lacking = own(loss, n_iter, stop_reason)
        return state, fitted, lacking, remark

    def _mlp_train(self, network, training, validation, scorers, start, call):
        memory, earlier = call.memory, call.earlier
        if memory is not None and memory["split"]:
            rows, held_out = (rows.astype(np.int64) for rows in memory["split"])
            training, validation = training._replace(rows=rows), training._replace(rows=held_out)
        elif self.early_stopping and validation is None:
            stratify = (self._label_binarizer.classes_, self.validation_stratify) if self._mlp_classifies else ()
            training, validation = hold_out(training, call.rng, self.validation_fraction, *stratify)
        optimizer = self._mlp_optimizer(call)
        n_rows = training.y.shape[0] if training.rows is None else training.rows.size
        layout, plan = self._mlp_plan(network, optimizer.settings, self._mlp_clipped_batch_size(n_rows))
        state = new_state(layout, plan)
        state.adopt(*start)
        start.clear()
        n_threads = resolve_n_jobs(self.n_jobs)
        walk = self._mlp_walk(call, training, n_rows)
        split = None
        if training.rows is not None:
            split = training.rows.copy(), validation.rows
            if call.tasks is not None:
                call.tasks.hold_out(split[0])
        if memory is not None:
            best = restore_state(memory, state, optimizer)
            earlier = earlier_of(memory, earlier, n_rows)
        elif optimizer.moments is None:
            state.begin()
        else:
            state.resume(optimizer.moments, optimizer.step, optimizer.published)
        if plan.dropout.size:
            state.masks = optimizer.draw_masks(call.rng, earlier.get("_optimizer"))
        progress = Progress(self.tol, self.early_stopping, earlier, self._mlp_keep(validation))
        if memory is not None:
            progress.go_on(memory["n_iter"], memory["judgement"], best)
        evaluate = evaluation(self, network, (layout, plan, state.learned), scorers, training, validation, n_threads)
        run = Run(layout, state, optimizer, progress, walk, split, call.identity)
        if call.tasks is not None:
            call.tasks.attributes = partial(so_far, run, call.published)
        self._mlp_follow(run, plan, training.data, evaluate, call, n_threads)
        return self._mlp_trained(run, network, call)

    def _mlp_optimizer(self, call):
        """A new optimizer, or the one of earlier calls with which this one goes on."""
        known, settings = call.earlier.get("_optimizer"), self._mlp_settings()
        goes_on = call.incremental and known is not None and call.memory is None
        if goes_on and checked(known).settings == settings:
            return known.successor()
        new = Optimizer(settings)  # which checks the settings, also where an earlier one's count
        if call.memory is not None:
            return restored_optimizer(call.memory, known)
        return known.successor() if goes_on else new

    def _mlp_walk(self, call, training, n_rows):
        if call.memory is not None:
            return walk_of(call.memory)
        rows = np.arange(n_rows, dtype=np.int64) if training.rows is None else training.rows
        return Walk(rows, call.rng if self.shuffle else None, private=isinstance(self.random_state, Integral))

    def _mlp_follow(self, run, plan, data, evaluate, call, n_threads):
        """Train until an end, or Ctrl-C."""
        max_epochs = 1 if call.incremental else self.max_iter - run.progress.done
        budget, schedule = self._mlp_budget(), run.optimizer.schedule
        epochs = train(
            run.layout,
            plan,
            run.state,
            data,
            walk=run.walk,
            schedule=schedule,
            max_epochs=max_epochs,
            n_threads=n_threads,
            budget=budget,
        )
        run.progress.follow(
            epochs,
            run.state,
            run.walk,
            schedule,
            evaluate=evaluate,
            stopping=Stopping(self.n_iter_no_change, max_epochs, budget, call.tasks),
            verbose=self.verbose,
        )

    def _mlp_schedule_ends(self):
        """Whether training up to ``max_iter`` is what the schedule is made for, so that no one need be warned."""
        return isinstance(self.learning_rate, str) and self.learning_rate in ENDING

    def _mlp_trained(self, run, network, call):
        """What is published of training that has ended."""
        state, optimizer, progress = run.state, run.optimizer, run.progress
        fitted, lacking = progress.attributes()
        if progress.stop_reason in UNFINISHED and not call.incremental:
            fitted["_resume"] = remember(run)
        state.publish(progress.best_params)
        _check_finite(state.params)
        if network.dtype == np.float32 and not state.learns:
            raise ValueError(
                f"{NON_FINITE} Squares of gradients are infinite in float32, and weights no longer move: scale X and "
                'y, or use dtype="float64".'
            )
        optimizer.moments, optimizer.step, optimizer.published = state.moments, state.step, state.checksum()
        fitted["_optimizer"] = optimizer
        remark = None
        if progress.interrupted:
            remark = partial(warnings.warn, "Training interrupted by user.", stacklevel=2)
        elif progress.stop_reason == "max_iter" and not (call.incremental or self._mlp_schedule_ends()):
            told = f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
            remark = in_sklearns_name(warnings.warn, f"{told}converged yet.", ConvergenceWarning)
        return state, fitted, lacking, remark


def _minimized(earlier, measured, best, loss=None, n_iter=None, stop_reason="callback"):
    """Fitted attributes of L-BFGS, by default in the middle, and what earlier lists lack."""
    done = len(measured["loss"])
    history, lacking = extended_history(earlier.get("history_"), measured, done)
    fitted = {
        "loss_": np.float64(measured["loss"][-1] if loss is None and done else loss),
        "n_iter_": done if n_iter is None else n_iter,
        "best_epoch_": best[2] or (done if n_iter is None else n_iter),
        "t_": earlier.get("t_", 0),
        "history_": history,
        "validation_loss_curve_": validation_losses(history, measured),
        "stop_reason_": stop_reason,
    }
    return fitted, lacking


def _converted(state, layout, dtype, best):
    """The weights of L-BFGS as fitted attributes."""
    source = state if best is None else State(layout, best, state.moment_rows)
    made = source.converted(layout, dtype)
    return {"coefs_": made.coefs, "intercepts_": made.intercepts}
