"""What the logger "fastnn" says of a fit, and what is known of the last fit of a Python thread.

Where nobody listens a fit pays for one question to the logger.
"""

import logging
import threading

logger = logging.getLogger(__name__.partition(".")[0])
_told = set()  # reasons that have been told at INFO


class _Last(threading.local):
    """The last training that this Python thread began."""

    dtype, n_threads = None, 0


last = _Last()


def training_begins(n_rows, n_features, dtype, n_threads, tuned=False):
    """Note a training on so many threads; ``tuned``: calls that turn out faster on one thread run on one."""
    last.dtype, last.n_threads = dtype, n_threads
    if logger.isEnabledFor(logging.INFO):
        threads = "1 thread" if n_threads == 1 else f"{n_threads} threads"
        threads += ", or 1 where that is faster" if tuned else ""
        logger.info("training on %d rows x %d features: %s, %s", n_rows, n_features, dtype, threads)


def runs_serially(reason):
    """Tell why a call that would be worth several threads runs on one: at INFO once, then at DEBUG."""
    last.n_threads = 1
    level = logging.DEBUG if reason in _told else logging.INFO
    _told.add(reason)
    logger.log(level, "on one thread: %s", reason)
