"""``history_``: one list for each thing that is measured, with an entry for every epoch."""

import math


def grown(earlier, new, n_new):
    """The history of earlier calls and of this one, once its lists have got what they lack.

    All lists come out equally long: NaN stands where an epoch did not measure what another one did.

    Parameters
    ----------
    earlier : dict of list, or None
        What earlier calls left; not changed.
    new : dict of list
        Measured in this call. A list may be short at its end.
    n_new : int
        Epochs of this call.

    Returns
    -------
    history : dict of list
        With the lists of ``earlier``.
    lacking : list of tuple of (list, list)
        Those lists, and what is to be appended to each.
    """
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
