"""Which fits ran where: what ``python -m fastnn run -v`` prints at the end.

A process adds its own fits up. Child processes, which may be ended at any time, write a line for each fit to the file
that an environment variable names.
"""

import json
import os
import sys
import time

import numpy as np

from .. import journal

FILE = "FASTNN_PATCH_FITS"  # environment variable: the file for the fits of child processes
OTHERS = ("<frozen", "<string>")  # what is not in a file of the user's
LIBRARIES = ("fastnn", "sklearn", "joblib", "importlib", "threading", "concurrent", "multiprocessing", "runpy")

_recorded = None  # in the process that prints the table: fits by what they have in common


class Fit:
    """A fit or a partial fit, while it runs.

    Parameters
    ----------
    estimator : object
        scikit-learn's.
    incremental : bool
    X : object
        As the user has given it.
    reason : str or None
        Why scikit-learn trains the estimator itself.
    """

    def __init__(self, estimator, incremental, X, reason):
        self._about = estimator, X, reason
        self._what = f"{type(estimator).__name__}.{'partial_fit' if incremental else 'fit'}"
        self._watched = _recorded is not None or FILE in os.environ

    def __enter__(self):
        reason = self._about[-1]
        if reason is not None:
            journal.logger.info("%s runs in scikit-learn: %s", self._what, reason)
        if self._watched:
            journal.last.dtype, journal.last.n_threads = None, 0
            self._began = time.perf_counter()

    def __exit__(self, kind, error, traceback):
        if not self._watched:
            return
        estimator, X, reason = self._about
        seconds = time.perf_counter() - self._began
        by = "fastnn" if reason is None else f"scikit-learn: {reason}"
        if kind is not None:
            by += f" (raised {kind.__name__})"
        coefs = getattr(estimator, "coefs_", None) or [None]  # an early failure leaves none, or an empty list
        dtype = journal.last.dtype if reason is None else getattr(coefs[0], "dtype", None)
        n_rows, n_features = _shape(X)
        threads = int(journal.last.n_threads) if reason is None else None
        note([_place(), self._what, n_features, threads, dtype and str(dtype), by], n_rows, seconds)


def _shape(X):
    """Rows and features, or None where X does not say."""
    shape = getattr(X, "shape", None)
    if shape is None:
        try:
            shape = np.shape(X)
        except ValueError:
            shape = ()
    return (*shape, None, None)[:2]


def _place():
    """File and line of the user's statement that leads here, or what kind of process this is."""
    frame = sys._getframe(1)
    while frame is not None:
        library, file = str(frame.f_globals.get("__name__", "")).partition(".")[0], frame.f_code.co_filename
        if library not in LIBRARIES and not file.startswith(OTHERS) and f"{os.sep}loky{os.sep}" not in file:
            return f"{os.path.basename(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return "a worker process"


def note(common, n_rows, seconds):
    """Record a fit."""
    if _recorded is not None and _recorded["process"] == os.getpid():
        _add(common, n_rows, seconds)
        return
    line = json.dumps([common, n_rows, seconds]) + "\n"
    try:
        descriptor = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except (OSError, KeyError):  # the process that prints the table has ended
        pass


def _add(common, n_rows, seconds):
    known = _recorded["fits"].setdefault(tuple(common), [0, n_rows, n_rows, 0.0])
    known[0] += 1
    if None not in (n_rows, known[1]):
        known[1], known[2] = min(known[1], n_rows), max(known[2], n_rows)
    known[3] += seconds


def record():
    """Begin to record the fits of this process."""
    global _recorded
    _recorded = {"process": os.getpid(), "fits": {}}


def table():
    """The lines of the table of all fits so far, those of child processes included; None in a forked child."""
    if _recorded["process"] != os.getpid():
        return None
    try:
        with open(os.environ[FILE], encoding="utf-8") as file:
            for line in file.read().splitlines():
                _add(*json.loads(line))
        os.truncate(os.environ[FILE], 0)
    except (OSError, KeyError, ValueError):  # nothing to read, or a line that was not written to its end
        pass
    fits = _recorded["fits"]
    if not fits:
        return ["fastnn: no fit of scikit-learn's MLPClassifier or MLPRegressor"]
    rows = [("where", "what", "times", "rows x features", "seconds", "threads", "dtype", "by")]
    for (place, what, n_features, threads, dtype, by), (times, least, most, seconds) in fits.items():
        n_rows = least if least == most else f"{least}..{most}"
        rows.append((place, what, times, f"{n_rows} x {n_features}", f"{seconds:.3f}", threads or "", dtype or "", by))
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [_summary(fits), *("  " + line for line in lines)]


def _summary(fits):
    """How many fits each library has run, and in how many seconds."""
    parts = []
    for library in ("fastnn", "scikit-learn"):
        own = [values for key, values in fits.items() if key[-1].startswith(library)]
        if own:
            n, seconds = sum(values[0] for values in own), sum(values[3] for values in own)
            parts.append(f"{n} fit{'s' * (n > 1)} by {library} in {seconds:.2f} s")
    return "fastnn: " + ", ".join(parts)
