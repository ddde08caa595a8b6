"""Adam's rates, the decaying ones, and mean losses: the same bits, whatever computes them and however asked for."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest

from fastnn import arithmetic
from fastnn.arithmetic import BLOCK, powers
from fastnn.schedules import BiasCorrected, InverseScaling
from fastnn.train import EXACT, mean_of_batches
from step_scalars import rates_of

SETTINGS = dict(learning_rate_init=0.001, beta_1=0.9, beta_2=0.999)


@functools.cache
def truth(base, exponent):
    """The float64 number nearest to the power: of integers, Python's division is rounded correctly."""
    return float(Fraction(base) ** exponent)


@pytest.mark.parametrize("block", [0, 1, 6, 19])
@pytest.mark.parametrize("base", [0.9, 0.999, 0.99, 0.5, 1 - 2.0**-53, 0.7, 1e-3, 1e-300, 0.0])
def test_powers_are_the_nearest_numbers(base, block):
    found = powers(base, block)
    places = [0, 1, 2, 3, 17, 100, 255, 256, 510, 511]
    expected = [truth(base, block * BLOCK + i) for i in places]
    assert (1 - found[places]).tolist() == [1 - power for power in expected]
    for place, power in zip(places, expected, strict=True):
        assert abs(found[place] - power) <= 2.0**-77
        if power > 2.0**-20:
            assert found[place] == power


def test_powers_of_late_steps():
    """By the binary logarithm, exact to 1e-7 here: t = 3 10^9, beyond any table and 32 bits."""
    block = 3 * 10**9 // BLOCK
    found = powers(1 - 2.0**-30, block)[0]
    assert math.isclose(found, math.exp(block * BLOCK * math.log1p(-(2.0**-30))), rel_tol=1e-12)
    assert powers(0.999, block)[0] == 0


def test_rates_are_adams():
    found = rates_of(BiasCorrected(SETTINGS), 0, 4000)
    steps = [1, 2, 3, 10, 99, 511, 512, 513, 1500, 4000]
    expected = [0.001 * math.sqrt(1 - truth(0.999, t)) / (1 - truth(0.9, t)) for t in steps]
    assert found[np.array(steps) - 1].tolist() == expected


@pytest.mark.parametrize("sizes", [[1] * 1100, [7, 505, 1, 600], [511, 1, 1], [1024], [600, 1]], ids=len)
def test_rates_do_not_depend_on_how_many_are_asked_for(sizes):
    whole = rates_of(BiasCorrected(SETTINGS), 0, sum(sizes))
    going_on, step = BiasCorrected(SETTINGS), 0
    for n in sizes:
        afresh = BiasCorrected(SETTINGS)  # as every call of `partial_fit` makes one
        for schedule in (going_on, afresh):
            np.testing.assert_array_equal(rates_of(schedule, step, n), whole[step : step + n])
            assert schedule.learning_rate == whole[step + n - 1]
        step += n


def test_rates_start_anywhere():
    """Far ahead, and back: an optimizer that is restored asks for earlier steps than another one before."""
    schedule, whole = BiasCorrected(SETTINGS), rates_of(BiasCorrected(SETTINGS), 0, 5000)
    for step, n in [(4000, 3), (0, 2), (4990, 10), (2, 4000), (511, 1), (512, 1)]:
        np.testing.assert_array_equal(rates_of(schedule, step, n), whole[step : step + n])


def test_rates_raise_no_floating_point_flag():
    arithmetic.powers.cache_clear()
    with np.errstate(all="raise"):
        for beta in (0.0, 1e-300, 0.9):
            rates = rates_of(BiasCorrected(SETTINGS | {"beta_1": beta}), 0, 9000)
            assert np.isfinite(rates).all()


@pytest.mark.parametrize("power_t", [0.5, 0.0, 1, 0.3, 2.5])
def test_inverse_scaling_divides_by_the_power(power_t):
    schedule = InverseScaling(dict(learning_rate_init=0.1, power_t=power_t))
    for n_seen in (1, 99, 60_000, 10**9):
        schedule.epoch_ends(n_seen, 1)
        assert math.isclose(schedule.learning_rate, 0.1 / (n_seen + 1) ** power_t, rel_tol=3e-16)
    if power_t == 0.5:
        assert schedule.learning_rate == 0.1 / math.sqrt(10**9 + 1)


def test_inverse_scaling_beyond_float64_is_no_step():
    schedule = InverseScaling(dict(learning_rate_init=0.1, power_t=1e4))
    schedule.epoch_ends(60_000, 1)
    assert schedule.learning_rate == 0


# ---- the mean loss of an epoch ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("rest", [1, 7, 10])
@pytest.mark.parametrize("n_batches", [2, 3, EXACT, EXACT + 1, EXACT + 2, 500])
def test_mean_of_batches_is_the_mean_of_rows(n_batches, rest):
    losses = np.random.RandomState(n_batches).exponential(size=n_batches)
    sizes = [10] * (n_batches - 1) + [rest]
    true = sum(Fraction(loss) * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
    found = mean_of_batches(losses, 10, sum(sizes))
    assert abs(Fraction(found) - true) <= (5 if n_batches <= EXACT + 1 else 20) * Fraction(np.spacing(float(true))) / 2


@pytest.mark.parametrize("n_batches", [5, 500])
def test_mean_of_batches_beyond_float64_is_infinite(n_batches):
    with np.errstate(all="raise"):
        assert mean_of_batches(np.full(n_batches, 1e308), 10, 10 * n_batches) == math.inf


def test_the_rate_of_adam_stays_when_a_setting_changes():
    schedule = BiasCorrected(dict(SETTINGS))
    rate, _, first, second, _ = schedule.scalars(4, 3).tolist()[-5:]
    schedule.settings["beta_1"] = 0.5
    schedule.settings_changed()
    assert schedule.learning_rate == rate * second / first
