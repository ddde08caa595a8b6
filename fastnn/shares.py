"""What part of a training step each thread does: more, the faster it has lately been.

The blocks of a step record their times in compiled code, see `core.balance`; between its calls, at most some 0.1 s
apart, they are read here and the shares are cut anew. No result depends on them.
"""

import math
from itertools import accumulate, pairwise

from .core.nn.update import GROUP
from .core.parallel.partition import CLOCK, ROW_GRANULARITY, ROWS_PASS, WEIGHTS_PASS
from .core.records import ALIKE

INTERVAL = 0.01  # seconds between two readings, at least: one takes 50 us (two threads, two layers, Zen 3)
# A thread's speed counts for SMOOTH of what it was measured to be, and within LEAP of what it was believed to be.
SMOOTH, LEAP = 0.5, 0.2
SLOWEST = 0.25  # no thread is believed slower than this share of the mean: it would get no rows to be measured by
TOLERANCE = 1.03  # shares are cut anew where that promises to save more: weights that change hands change caches
EVEN = 1.3  # equal parts are worth their advantages, see `weights_pass`, up to this loss against the best cut


class LoadBalance:
    """The shares of one fit's threads in the two halves of a step.

    Parameters
    ----------
    layout : Layout
    plan : TrainPlan
    buffers : Buffers
        Whose ``clocks`` are read, and whose ``fractions`` and ``progress[ALIKE]`` are set.
    n_threads : int

    Attributes
    ----------
    speeds : list of list of float
        How fast each thread is in either half, one on average.
    """

    def __init__(self, layout, plan, buffers, n_threads):
        self._clocks, self._progress = buffers.clocks, buffers.progress
        self._ends = buffers.fractions.reshape(2, n_threads)
        self._read = -math.inf
        units = layout.units.tolist()
        # Of either half, what is shared out: (number of items, work of one, how many stay together).
        self._loads = {
            ROWS_PASS: [(int(plan.batch_size), 1, ROW_GRANULARITY)],
            WEIGHTS_PASS: [(m, n, GROUP) for m, n in pairwise(units)],
        }
        self.speeds = [[1.0] * n_threads for _ in self._loads]

    def follow(self, now):
        """Take in what was recorded up to the time ``now``, in seconds, unless the last reading is recent."""
        if now - self._read < INTERVAL:
            return
        self._read = now
        clocks = self._clocks.tolist()
        self._clocks[:] = 0
        for half, loads in self._loads.items():
            times, work = clocks[2 * half :: CLOCK], clocks[2 * half + 1 :: CLOCK]
            paces = [done / spent if spent > 0 else 0.0 for done, spent in zip(work, times, strict=True)]
            speeds = measured(self.speeds[half], paces)
            if speeds is None:
                continue
            self.speeds[half] = speeds
            total = sum(speeds)
            fractions = [end / total for end in accumulate(speeds)]
            if slowest(self._ends[half].tolist(), speeds, loads) > TOLERANCE * slowest(fractions, speeds, loads):
                self._ends[half] = fractions
        self._progress[ALIKE] = min(self.speeds[WEIGHTS_PASS]) * EVEN >= 1


def measured(speeds, paces):
    """Speeds of threads that did so much work for each tick, or None if there are no two to be compared.

    v <- v + SMOOTH (pace / mean(pace) - v), scaled to mean one. A thread without a pace counts as one like all.
    """
    known = [pace for pace in paces if pace > 0]
    if len(known) < 2:
        return None
    mean = sum(known) / len(known)
    new = []
    for speed, pace in zip(speeds, paces, strict=True):
        seen = min(max(pace / mean if pace > 0 else 1.0, speed * (1 - LEAP)), speed * (1 + LEAP))
        new.append(speed + SMOOTH * (seen - speed))
    total = sum(new)
    return [max(speed * len(new) / total, SLOWEST) for speed in new]


def slowest(fractions, speeds, loads):
    """Time of the slowest thread for ``loads``, (number of items, work of one, how many stay together) each.

    Shares are whole groups of items, as `core.balance.share` cuts them.
    """
    work = [0] * len(fractions)
    for n, each, together in loads:
        cuts = [0, *(min(n, int(end * n / together + 0.5) * together) for end in fractions[:-1]), n]
        for thread, (lo, hi) in enumerate(pairwise(cuts)):
            work[thread] += (hi - lo) * each
    return max(done / speed for done, speed in zip(work, speeds, strict=True))
