"""Load balance: each thread's fraction of a training step follows its measured speed.

Compiled code records the time of each block, see `core.parallel.partition`. Between its calls, at most some 0.1 s
apart, `LoadBalance` reads these times and sets new fractions. No result depends on them. Threads steal work besides, so
little is left to gain. (Five networks on two cores of Zen 4, medians: on equal cores epochs take .98 to 1.00 of the
time without it, with one core a fourth busy .95 to 1.07. Cores of unequal speed are what it is for.)
"""

import math
from itertools import accumulate, pairwise

from .core.nn.update import GROUP
from .core.parallel.partition import CLOCK, ROW_GRANULARITY, ROWS_PASS, WEIGHTS_PASS
from .core.records import ALIKE

INTERVAL = 0.01  # seconds between two readings, at least: a reading takes 50 us (two threads, two layers, Zen 3)
# An estimated speed moves by SMOOTH of its distance from the measured one, which is first limited to LEAP around it.
SMOOTH, LEAP = 0.5, 0.2
SLOWEST = 0.25  # of the mean speed, the least estimate: with less a thread would get no rows, and so no measurement
TOLERANCE = 1.03  # fractions change where that saves more than this ratio: rows that change threads change caches
EVEN = 1.3  # equal fractions save work, see `weights_pass`: they are kept up to this ratio to the best time


class LoadBalance:
    """The fractions of one fit's threads in the two passes of a step.

    Parameters
    ----------
    layout : Layout
    plan : TrainPlan
    buffers : Buffers
        Its ``clocks`` are read; its ``fractions`` and ``progress[ALIKE]`` are set.
    n_threads : int

    Attributes
    ----------
    speeds : list of list of float
        Estimated speed of each thread in either pass, with mean one.
    """

    def __init__(self, layout, plan, buffers, n_threads):
        self._clocks, self._progress = buffers.clocks, buffers.progress
        self._fractions = buffers.fractions.reshape(2, n_threads)
        self._last_read = -math.inf
        units = layout.units.tolist()
        # Of either pass, what is divided: (number of items, work of one, granularity).
        self._loads = {
            ROWS_PASS: [(int(plan.batch_size), 1, ROW_GRANULARITY)],
            WEIGHTS_PASS: [(m, n, GROUP) for m, n in pairwise(units)],
        }
        self.speeds = [[1.0] * n_threads for _ in self._loads]

    def follow(self, now):
        """Read the clocks at the time ``now``, in seconds, and set the fractions, unless the last reading is recent."""
        if now - self._last_read < INTERVAL:
            return
        self._last_read = now
        clocks = self._clocks.tolist()
        self._clocks[:] = 0
        for step_pass, loads in self._loads.items():
            times, work = clocks[2 * step_pass :: CLOCK], clocks[2 * step_pass + 1 :: CLOCK]
            paces = [done / spent if spent > 0 else 0.0 for done, spent in zip(work, times, strict=True)]
            speeds = measured(self.speeds[step_pass], paces)
            if speeds is None:
                continue
            self.speeds[step_pass] = speeds
            total = sum(speeds)
            fractions = [fraction / total for fraction in accumulate(speeds)]
            time = slowest(self._fractions[step_pass].tolist(), speeds, loads)
            if time > TOLERANCE * slowest(fractions, speeds, loads):
                self._fractions[step_pass] = fractions
        self._progress[ALIKE] = min(self.speeds[WEIGHTS_PASS]) * EVEN >= 1


def measured(speeds, paces):
    """New estimates from ``paces``, the work per tick of each thread; None if fewer than two threads have a pace.

    v <- v + SMOOTH (pace / mean(pace) - v), scaled to mean one. A thread without a pace counts as one of mean speed.
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
    """Time of the slowest thread for ``loads``, each of them (number of items, work of one, granularity).

    Items are divided in whole groups, as `core.parallel.partition.share` does it.
    """
    work = [0] * len(fractions)
    for n, each, granularity in loads:
        bounds = [0, *(min(n, int(fraction * n / granularity + 0.5) * granularity) for fraction in fractions[:-1]), n]
        for thread, (lo, hi) in enumerate(pairwise(bounds)):
            work[thread] += (hi - lo) * each
    return max(done / speed for done, speed in zip(work, speeds, strict=True))
