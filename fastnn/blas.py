"""One thread for the BLAS while fastnn's own threads run between its calls.

OpenBLAS's threads keep a core busy for a while after each call, in case another one follows: on two cores they take it
from the threads that evaluate the next loss. (L-BFGS on 1000 x 10 rows, 100 neurons, two virtual cores of a Zen 4: 10.2
ms an iteration, now .4.) Sums of one thread also come in one order, whatever ``OPENBLAS_NUM_THREADS`` says.
"""

import functools
import os

from threadpoolctl import ThreadpoolController

from .core.compile.exclusive import undisturbed

_inside = {}  # "call": the limits of the call that has set some


def with_one_blas_thread(function, *args, **options):
    """Call a function while the BLAS runs on one thread.

    The number may belong to the whole process: one call at a time changes it, others that run meanwhile do without.
    """
    limits = []
    try:
        try:
            undisturbed(_limit, limits)
            return function(*args, **options)
        finally:
            undisturbed(_put_back, limits)
    finally:
        if _inside.get("call") is limits:  # a signal's handler has raised before `_put_back` began
            undisturbed(_put_back, limits)


def _limit(limits):
    if _inside.setdefault("call", limits) is limits:
        limits.append(_controller().limit(limits=1, user_api="blas").__enter__())


@functools.cache
def _controller():
    """The libraries of this process that have threads. (It takes 3 to 11 ms to find them.)"""
    return ThreadpoolController()


def _put_back(limits):
    while limits:
        limits.pop().__exit__(None, None, None)
    if _inside.get("call") is limits:
        del _inside["call"]


if hasattr(os, "register_at_fork"):  # the call may be another thread's, which the child does not have
    os.register_at_fork(after_in_child=_inside.clear)
