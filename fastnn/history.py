"""``history_``: one list for each thing that is measured, with an entry for every epoch."""

import math

COUNTERS = {"loss", "seconds"}  # lists that every history has


def extended_history(earlier, new, n_new):
    """The history of earlier calls and of this one, once its lists have got what they lack.

    All lists come out equally long: NaN stands where an epoch did not measure what another one did.

    Parameters
    ----------
    earlier : dict of list, or anything else
        What earlier calls left; not changed. What is not a history of fastnn's, a program has put there for its own
        use: it stays.
    new : dict of list
        Measured in this call. A list may be short at its end.
    n_new : int
        Epochs of this call.

    Returns
    -------
    history : dict of list, or ``earlier``
        With the lists of ``earlier``.
    lacking : list of tuple of (list, list)
        Those lists, and what is to be appended to each.
    """
    if not (earlier is None or _is_history(earlier)):
        return earlier, []
    earlier = earlier or {}
    n_old = max(map(len, earlier.values()), default=0)
    history, lacking = {}, []
    for name in [*earlier, *(name for name in new if name not in earlier)]:
        fresh = [*new.get(name, ())]
        fresh += [math.nan] * (n_new - len(fresh))
        values = earlier.get(name, ())
        padding = [math.nan] * (n_old - len(values))
        if name in earlier:
            history[name] = values
            lacking.append((values, padding + fresh))
        else:
            history[name] = padding + fresh
    return history, lacking


def validation_losses(history, new):
    """The list behind ``validation_loss_curve_``: the history's own, or None where no validation loss was measured."""
    return (history if _is_history(history) else new).get("val_loss")


def _is_history(value):
    return (
        isinstance(value, dict) and value.keys() >= COUNTERS and all(isinstance(each, list) for each in value.values())
    )
