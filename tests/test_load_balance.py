"""Load balance: the fractions of the threads follow their measured speeds."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit

from fastnn.core.nn.update import GROUP
from fastnn.core.parallel import partition
from fastnn.core.parallel.partition import CLOCK, ROW_GRANULARITY, ROWS_PASS, WEIGHTS_PASS
from fastnn.load_balance import EVEN, INTERVAL, TOLERANCE, LoadBalance, slowest

# name -> units of a network; its weights pass divides each layer's weight rows
NETWORKS = {"wide": (784, 100, 10), "deep": (54, 256, 256, 256, 7), "no hidden layer": (64, 10)}
SPEEDS = {"one slow": (1.0, 0.75), "one fast": (1.4, 1.0), "two kinds": (1.0, 1.0, 0.5, 0.5), "alike": (1.0, 1.0, 1.0)}
BATCH = 200


class Threads:
    """Threads of given speeds, and their fractions of the work."""

    def __init__(self, units, n):
        self.fractions = np.tile(np.arange(1, n + 1) / n, 2)
        self.clocks, self.progress = np.zeros(n * CLOCK, np.int64), np.array([0, 0, 0, 0, 1])
        self.n, self.units, self.now = n, units, 0.0
        layout, plan = SimpleNamespace(units=np.array(units)), SimpleNamespace(batch_size=np.int64(BATCH))
        self.balance = LoadBalance(layout, plan, self, n)

    def loads(self, step_pass):
        return (
            [(BATCH, 1, ROW_GRANULARITY)]
            if step_pass == ROWS_PASS
            else [(m, n, GROUP) for m, n in pairwise(self.units)]
        )

    def time(self, step_pass, speeds):
        return slowest(self.fractions[step_pass * self.n : (step_pass + 1) * self.n], speeds, self.loads(step_pass))

    def work(self, step_pass, thread):
        """Work of one thread: the time of the slowest thread, where all others are infinitely fast."""
        return self.time(step_pass, [1.0 if i == thread else np.inf for i in range(self.n)])

    def run(self, speeds, noise=None, seconds=INTERVAL):
        """A call of compiled code that takes ``seconds``, in which each thread works at its speed."""
        for step_pass in (ROWS_PASS, WEIGHTS_PASS):
            for thread, speed in enumerate(speeds):
                work = self.work(step_pass, thread)
                spent = work / speed * (1 if noise is None else noise[thread])
                at = thread * CLOCK + 2 * step_pass
                self.clocks[at : at + 2] += np.array([1000 * spent, work], np.int64)
        self.now += seconds
        self.balance.follow(self.now)


@pytest.mark.parametrize("speeds", SPEEDS.values(), ids=SPEEDS)
@pytest.mark.parametrize("units", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("step_pass", [ROWS_PASS, WEIGHTS_PASS])
def test_fractions_follow_speeds(step_pass, units, speeds):
    threads = Threads(units, len(speeds))
    first = threads.time(step_pass, speeds)
    for _ in range(12):
        threads.run(speeds)
    last = threads.time(step_pass, speeds)
    loads = threads.loads(step_pass)
    best = sum(n * each for n, each, _ in loads) / sum(speeds)
    assert last <= first
    assert last <= TOLERANCE * best + max(each * granularity for _, each, granularity in loads) / min(speeds)


def test_equal_fractions_are_given_up_while_a_thread_is_slow():
    threads = Threads(NETWORKS["wide"], 2)
    slow = (1.0, 0.9 / (2 * EVEN - 1))  # 1 / EVEN of the mean, and some
    for speeds, even in (((1.0, 1.0), 1), (slow, 0), ((1.0, 1.0), 1)):
        for _ in range(12):
            threads.run(speeds)
        assert threads.progress.tolist() == [0, 0, 0, 0, even]


@pytest.mark.parametrize("units", NETWORKS.values(), ids=NETWORKS)
def test_noise_moves_nothing(units):
    threads = Threads(units, 2)
    before = threads.fractions.copy()
    rng = np.random.default_rng(0)
    for _ in range(300):
        threads.run((1.0, 1.0), rng.normal(1, 0.01, 2))
    np.testing.assert_array_equal(threads.fractions, before)


def test_an_interruption_is_forgotten():
    threads = Threads(NETWORKS["wide"], 2)
    threads.run((1.0, 1.0), (1.0, 100.0))
    assert threads.time(ROWS_PASS, (1.0, 1.0)) < 1.2 * BATCH / 2
    for _ in range(8):
        threads.run((1.0, 1.0))
    assert threads.time(ROWS_PASS, (1.0, 1.0)) <= TOLERANCE * BATCH / 2 + ROW_GRANULARITY


def test_a_thread_that_stood_still_gets_its_work_again():
    threads = Threads(NETWORKS["wide"], 2)
    for _ in range(40):
        threads.run((1.0, 0.001))
    assert 0 < threads.work(ROWS_PASS, 1) < BATCH / 5
    for _ in range(40):
        threads.run((1.0, 1.0))
    assert abs(threads.work(ROWS_PASS, 1) - BATCH / 2) <= 6


@pytest.mark.parametrize("seed", range(5))
def test_fractions_too_coarse_for_the_speeds_are_left_alone(seed):
    """Each thread has two groups of 8 rows. A third, for a thread 3 % faster, takes half as long again."""
    threads = Threads((256, 256), 16)
    rng = np.random.default_rng(seed)
    speeds = rng.uniform(0.95, 1.05, 16)
    even = threads.time(WEIGHTS_PASS, speeds)
    for _ in range(100):
        threads.run(speeds, rng.normal(1, 0.02, 16))
        assert threads.time(WEIGHTS_PASS, speeds) <= 1.1 * even


@pytest.mark.parametrize(
    "clocks", [(0, 0, 0, 0), (50, 7, 0, 0), (0, 7, 0, 7)], ids=["nothing", "one thread", "no clock"]
)
def test_without_two_times_nothing_changes(clocks):
    threads = Threads(NETWORKS["wide"], 2)
    before = threads.fractions.copy()
    threads.clocks[2:4], threads.clocks[CLOCK + 2 : CLOCK + 4] = clocks[:2], clocks[2:]
    threads.balance.follow(INTERVAL)
    np.testing.assert_array_equal(threads.fractions, before)
    assert threads.balance.speeds == [[1.0, 1.0]] * 2
    assert not threads.clocks.any()


def test_soon_after_a_reading_nothing_is_read():
    threads = Threads(NETWORKS["wide"], 2)
    threads.run((1.0, 1.0))
    for _ in range(3):
        threads.run((1.0, 0.5), seconds=0.3 * INTERVAL)
    assert threads.balance.speeds == [[1.0, 1.0]] * 2
    threads.run((1.0, 0.5), seconds=0.3 * INTERVAL)
    assert threads.balance.speeds[ROWS_PASS][0] > threads.balance.speeds[ROWS_PASS][1]
    assert not threads.clocks.any()


@njit
def first_item(fractions, thread, n, granularity):
    return partition.split_point(fractions, thread, n, granularity)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_are_those_of_compiled_code(seed):
    rng = np.random.default_rng(seed)
    for n, granularity in ((200, ROW_GRANULARITY), (7, ROW_GRANULARITY), (784, GROUP), (54, GROUP), (10, GROUP)):
        fractions = np.cumsum(rng.dirichlet(np.ones(3)))
        bounds = [first_item(fractions, thread, n, granularity) for thread in range(4)]
        for thread in range(3):
            speeds = [1.0 if i == thread else np.inf for i in range(3)]
            assert slowest(fractions.tolist(), speeds, [(n, 5, granularity)]) == 5 * (
                bounds[thread + 1] - bounds[thread]
            )
