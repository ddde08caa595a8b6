"""scikit-learn's callbacks, from its version 1.9 on: the tasks of a fit as they see them.

Nothing of this runs where no callback is set.
"""

import copy
import weakref

from sklearn.utils import _safe_indexing

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]  # one of the two
        """Stands for scikit-learn's where that has no callbacks: there is no ``set_callbacks`` then."""


# Attributes of an estimator while it is fitted, which belong to no copy.
OF_A_FIT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx")

_snapshots = weakref.WeakKeyDictionary()  # while a task ends: the function that makes the fitted attributes, by context


class Tasks:
    """The tasks of one call: the call itself, and in it one for each epoch or iteration.

    Parameters
    ----------
    estimator : BaseMLP
    name : str
        Of the tasks inside.
    n_tasks : int
        At most so many of them.
    X, y, sample_weight : object
        As the user has given them.

    Attributes
    ----------
    attributes : callable
        Makes the fitted attributes of an estimator whose fit would end here.
    """

    def __init__(self, estimator, name, n_tasks, X, y, sample_weight):
        self._estimator, self._name, self._open, self.attributes = estimator, name, None, dict
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._given = {"estimator": estimator, "X": X, "y": y, "metadata": weights}
        self._learned_from = self._given
        self._root = estimator._init_callback_context(max_subtasks=n_tasks)
        self._root.call_on_fit_task_begin(**self._given)

    def hold_out(self, rows):
        """Tell the callbacks of these rows alone: the others are held out for validation."""
        given, rows = self._given, rows.copy()
        metadata = given["metadata"]
        self._learned_from = {
            **given,
            "X": lambda: _safe_indexing(given["X"], rows),
            "y": lambda: _safe_indexing(given["y"], rows),
            "metadata": lambda: {name: _safe_indexing(values, rows) for name, values in metadata.items()},
        }

    @property
    def is_open(self):
        """Whether an inner task has begun and not ended."""
        return self._open is not None

    def begin(self):
        """Begin the next task."""
        self._open = self._root.subcontext(task_name=self._name)
        self._open.call_on_fit_task_begin(**self._learned_from)

    def end(self):
        """End the task that is open. Returns whether a callback asks to stop."""
        context, self._open = self._open, None
        _snapshots[context] = self.attributes
        try:
            return context.call_on_fit_task_end(**self._learned_from, reconstruction_attributes=self.attributes)
        finally:
            del _snapshots[context]

    def close(self):
        """End the task that is open, if there is one."""
        if self._open is not None:
            self.end()

    def finish(self):
        """End the call, of an estimator that is fitted."""
        self._root.call_on_fit_task_end(**self._given, reconstruction_attributes={})


class CopyMixin(CallbackSupportMixin):
    """Copies of an estimator, also for callbacks."""

    def __copy__(self):
        """A copy with weights of its own, as from a pickle; while the estimator is fitted, one that shares them.

        The latter is for callbacks, which get a copy with other attributes after each epoch.
        """
        if "_callback_fit_ctx" not in self.__dict__:
            make, arguments, state = self.__reduce_ex__(4)[:3]
            made = make(*arguments)
            made.__setstate__(state)
            return made
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        for name in OF_A_FIT:
            made.__dict__.pop(name, None)
        return made


def fitted_at(estimator, context):
    """A fitted copy of an estimator whose task ``context`` ends, without its callbacks; a shallow one after the fit."""
    made = copy.copy(estimator)
    made.__dict__.update(_snapshots[context]() if context in _snapshots else {})
    made.__dict__.pop("_skl_callbacks", None)
    return made


def is_inner(context):
    """Whether a task that ends is an epoch or iteration, not the whole fit."""
    return context in _snapshots
