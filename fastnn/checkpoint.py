"""A callback that keeps a file from which training can go on, whatever happens to the process."""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import pickle
import time
from typing import TYPE_CHECKING

from .callbacks import CallbackSupportMixin, fitted_at, is_inner

if TYPE_CHECKING:
    from typing import Any

    from ._types import Path

ABANDONED_SECONDS = 3600.0  # an unfinished file that nobody has touched for so long has no writer


class Checkpoint:
    """Callback that writes the estimator to a file after every so many epochs, and at the end of the fit.

    The file is always whole: a new one replaces it once it is on the disk, so a process may be killed at any moment.
    ``pickle.load`` or ``joblib.load`` reads it. If the fit had not ended by itself, the loaded estimator goes on with
    ``set_params(warm_start=True).fit(X, y)`` on the same data, with the same bits as a fit that was never stopped.
    Callbacks are not in the file: set them again.

    Needs scikit-learn 1.9 or later. One file serves one estimator: in a search every candidate would write to it.

    Parameters
    ----------
    path : str or path-like
        The file. While it is written another one lies beside it, with ``.tmp`` in its name.
    every : int, default=1
        Epochs (under "lbfgs" iterations) from one file to the next.

    Raises
    ------
    ValueError
        When ``every`` is no integer >= 1.
    OSError
        Out of ``fit``, when the file cannot be written. What was written before stays.

    Examples
    --------
    >>> import pickle
    >>> from fastnn import Checkpoint, MLPClassifier
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> clf = MLPClassifier(tol=0.1).set_callbacks(Checkpoint("model.pkl", every=10)).fit(X, y)
    >>> with open("model.pkl", "rb") as file:
    ...     pickle.load(file).predict(X).shape
    (4,)
    """

    def __init__(self, path: Path, *, every: int = 1) -> None:
        if isinstance(every, bool) or not hasattr(every, "__index__") or every < 1:
            raise ValueError(f"every must be an integer >= 1, got {every!r}.")
        self.path, self.every = os.fspath(path), int(every)

    def setup(self, estimator: Any, context: Any) -> None:
        """Called by ``fit`` before it begins."""
        if not (hasattr(estimator, "_mlp_learn") and isinstance(estimator, CallbackSupportMixin)):
            raise TypeError(f"Checkpoint works with fastnn's estimators, got {type(estimator).__name__}.")
        path = pathlib.Path(self.path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"The folder of Checkpoint's file does not exist: {path.parent}")
        for left in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):  # of processes that were killed
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    left.unlink()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Called before the fit and each epoch."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Called after each epoch and the fit."""
        if not is_inner(context) or (context.task_id + 1) % self.every == 0:
            write(self.path, fitted_at(estimator, context))

    def teardown(self, estimator: Any, context: Any) -> None:
        """Called when ``fit`` ends."""


def write(path, estimator):
    """Pickle an estimator into a file that is there whole or not at all."""
    unfinished = f"{path}.{os.urandom(8).hex()}.tmp"
    try:
        with open(unfinished, "xb") as file:
            pickle.dump(estimator, file, protocol=pickle.HIGHEST_PROTOCOL)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
    with contextlib.suppress(OSError, AttributeError):  # some systems open no folders
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
