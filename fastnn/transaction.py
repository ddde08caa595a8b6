"""What a call changes on an estimator is there all at once, or not at all."""

import operator
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import NamedTuple

import numpy as np


class Outcome(NamedTuple):
    """What a fit has come to, before anybody sees it."""

    attributes: dict  # the estimator's ``__dict__``
    lacking: list  # of (list, values to append): lists of earlier calls that go on
    written: list  # of (array or list, index, values): weights of earlier calls that go on, whoever holds them
    remark: Callable | None  # a warning to be given afterwards


def apart(function, *args, **options):
    """Call a function in a context of its own, in which NumPy says nothing of underflow and the like.

    What ``numpy.seterr`` says outside neither counts nor changes, whatever interrupts the function.
    """
    return copy_context().run(_run, function, args, options)


def _quietly(function, args, options):
    with np.errstate(all="ignore"):
        return function(*args, **options)


def _quietly_on_thread(function, args, options):
    """The same before NumPy 2, where the error state belongs to the thread and not to the context."""
    before = list(vars(np)["geterrobj"]())  # a copy: NumPy writes into it (`vars`: no type checker knows both NumPys)
    try:
        return _quietly(function, args, options)
    finally:
        vars(np)["seterrobj"](before)


_run = _quietly_on_thread if hasattr(np, "geterrobj") else _quietly


def publish(own, outcome):
    """Make an estimator's ``__dict__``, ``own``, what an outcome says, in one step.

    A signal's handler may raise after any call that Python makes; here that is a single one, which makes the others in
    C. If there is no memory for one of them all is as before.
    """
    attributes, lacking = outcome.attributes, outcome.lacking
    before, lengths, done = dict(own), [len(values) for values, _ in lacking], [False]
    steps = [partial(values.extend, more) for values, more in lacking]
    steps.append(partial(own.update, attributes))
    steps += [partial(own.pop, name) for name in own if name not in attributes]
    steps += [partial(operator.setitem, *each) for each in outcome.written]  # which take no memory
    steps.append(partial(operator.setitem, done, 0, True))
    try:
        deque(map(operator.call, steps), maxlen=0)
    except BaseException:
        if not done[0]:
            own.update(before)
            for name in own.keys() - before.keys():
                del own[name]
            for (values, _), n in zip(lacking, lengths, strict=True):
                del values[n:]
        raise
