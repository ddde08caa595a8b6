"""``history_``: one list for each thing that is measured, with an entry for every epoch."""

import math


def grown(earlier, new, n_new):
    """The history of earlier calls and of this one.

    All lists come out equally long: NaN stands where an epoch did not measure what another one did.

    Parameters
    ----------
    earlier : dict of list, or None
        What earlier calls left; its lists grow in place.
    new : dict of list
        Measured in this call. A list may be short at its end.
    n_new : int
        Epochs of this call.

    Returns
    -------
    dict of list
    """
    history = {} if earlier is None else earlier
    n_old = max(map(len, history.values()), default=0)
    for name in [*history, *(name for name in new if name not in history)]:
        values, fresh = history.setdefault(name, []), new.get(name, ())
        values.extend([math.nan] * (n_old - len(values)))
        values.extend(fresh)
        values.extend([math.nan] * (n_new - len(fresh)))
    return history
