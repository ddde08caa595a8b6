"""The numbers of training steps, for tests that bring a schedule of their own or look at one."""

import numpy as np

from fastnn.core.records import SCHEDULED


def scalars_of(rates):
    """What a schedule gives for these learning rates, without decay or corrections."""
    rows = np.tile([0.0, 0.0, 1.0, 1.0, 0.0], (len(rates), 1))
    rows[:, 0] = rates
    return rows.reshape(-1)


def rates_of(schedule, step, n_steps):
    """The learning rates that count: Adam's with its corrections."""
    rate, _, first, second, _ = schedule.scalars(step, n_steps).reshape(-1, SCHEDULED).T
    return rate * second / first


class FixedRate:
    """A schedule of one rate."""

    def __init__(self, rate=0.01):
        self.rate = rate

    def scalars(self, step, n_steps):
        """As those of `fastnn.schedules`."""
        return scalars_of(np.full(n_steps, self.rate))
