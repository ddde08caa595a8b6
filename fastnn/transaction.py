"""What a call changes on an estimator is there all at once, or not at all."""

import operator
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple


class Outcome(NamedTuple):
    """What a fit has come to, before anybody sees it."""

    attributes: dict  # the estimator's ``__dict__``
    lacking: list  # of (list, values to append): lists of earlier calls that go on
    remark: Callable | None  # a warning to be given afterwards


def publish(own, attributes, lacking):
    """Make a dict equal to ``attributes`` and append to lists, in one step.

    A signal's handler may raise after any call that Python makes; here that is a single one, which makes the others in
    C. If there is no memory for one of them all is as before.

    Parameters
    ----------
    own, attributes : dict
    lacking : list of tuple of (list, list)
        Lists, and what to append to each.
    """
    before, lengths, done = dict(own), [len(values) for values, _ in lacking], []
    steps = [partial(values.extend, more) for values, more in lacking]
    steps.append(partial(own.update, attributes))
    steps += [partial(own.pop, name) for name in own if name not in attributes]
    steps.append(partial(done.append, True))
    try:
        deque(map(operator.call, steps), maxlen=0)
    except BaseException:
        if not done:
            own.update(before)
            for name in own.keys() - before.keys():
                del own[name]
            for (values, _), n in zip(lacking, lengths, strict=True):
                del values[n:]
        raise
