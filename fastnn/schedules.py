"""Step scalars of the next steps as one array, and the optimizer with which ``partial_fit`` goes on.

Compiled code knows no schedule: it takes a row of SCHEDULED numbers for each optimizer step, in the order of
`core.records`: the learning rate, the decay of weights, and Adam's corrections of its first and second moments.

Rates are the same to the last bit on every processor and with every library. NumPy's powers are not (they come from a
vector library where there is AVX-512, else from the C library), nor is Python's ``**``. So powers are computed here, in
integers and in single additions and multiplications of float64, whose results IEEE 754 defines.
"""

import decimal
import functools

import numpy as np

from .core.nn.optimizers import OPTIMIZERS
from .core.records import SCHEDULED

BLOCK = 512  # powers computed together
FIXED_BITS = 128  # fractional bits of a power in fixed point
LIMB_BITS = 26  # products of two limbs are exact in float64
WIDE = decimal.Context(prec=40, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])


@functools.lru_cache(maxsize=32)
def _squares(base):
    """base^(2^i), 0 <= base < 1, for i = 0, 1, ..., 63 as integers: multiples of 2^-FIXED_BITS, rounded down."""
    squares = [int(base * 2.0**FIXED_BITS)]
    while len(squares) < 64:
        squares.append(squares[-1] ** 2 >> FIXED_BITS)
    return squares


def _power(base, exponent):
    """base^exponent in fixed point; the error is some 2^-100 for an exponent of 10^9."""
    result = 1 << FIXED_BITS
    for square, bit in zip(_squares(base), reversed(f"{exponent:b}"), strict=False):
        if bit == "1":
            result = result * square >> FIXED_BITS
    return result


def _limbs(power):
    """The leading bits of a power in fixed point as float64 numbers of LIMB_BITS bits, the largest first."""
    mask = (1 << LIMB_BITS) - 1
    first, second, third = (FIXED_BITS - LIMB_BITS * (i + 1) for i in range(3))
    limbs = power >> first, power >> second & mask, power >> third & mask
    return limbs[0] * 2.0**-LIMB_BITS, limbs[1] * 2.0 ** (-2 * LIMB_BITS), limbs[2] * 2.0 ** (-3 * LIMB_BITS)


@functools.lru_cache(maxsize=32)
def _first_powers(base):
    """Limbs of base^0, ..., base^(BLOCK - 1): float64 (3, BLOCK)."""
    (factor, *_), power, rows = _squares(base), 1 << FIXED_BITS, []
    for _ in range(BLOCK):
        rows.append(_limbs(power))
        power = power * factor >> FIXED_BITS
    return np.array(rows).T.copy()


@functools.lru_cache(maxsize=64)
def powers(base, block):
    """base^(BLOCK block), ..., base^(BLOCK block + BLOCK - 1), 0 <= base < 1: float64 (BLOCK,), read-only.

    The products of limbs (a_0 + a_1 + a_2) (b_0 + b_1 + b_2) are added from the smallest to the largest; the rounding
    errors before the last sum are below 2^-77. So the result is the float64 number nearest to the power, except for one
    t in some million whose power lies almost half-way between two such numbers.
    """
    products = np.multiply.outer(_limbs(_power(base, BLOCK * block)), _first_powers(base))
    (large, middle, small), (medium, little, _), (least, *_) = products
    result = large + ((middle + medium) + (small + little + least))
    result.flags.writeable = False
    return result


def _joined(arrays):
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class Constant:
    """The same learning rate in every step.

    Attributes
    ----------
    learning_rate : float
        The current rate.
    """

    def __init__(self, settings):
        self.settings = settings
        self.learning_rate = float(settings["learning_rate_init"])
        self._scalars = np.empty(0)

    def scalars(self, step, n_steps):
        """Step scalars of ``n_steps`` steps after the first ``step`` steps: float64 (n_steps * SCHEDULED,)."""
        if self._scalars.size != SCHEDULED * n_steps:
            self._scalars = np.tile([self.learning_rate, 0.0, 1.0, 1.0], n_steps)
        elif n_steps and self._scalars.item(0) != self.learning_rate:
            self._scalars[::SCHEDULED] = self.learning_rate
        return self._scalars

    @property
    def nominal(self):
        """The rate before any correction by the step: the epoch's entry in ``history_``."""
        return self.learning_rate

    def settings_changed(self):
        """Must be called when ``settings`` have changed; the current rate stays."""

    def epoch_ends(self, n_seen):
        """Must be called after each epoch; ``n_seen`` counts the samples of all epochs since the first fit."""

    def plateau(self):
        """Called when progress ends. Returns whether to stop, and the remark for verbose output."""
        return True, "Stopping."


class InverseScaling(Constant):
    """``learning_rate_init / (samples seen + 1) ** power_t``, updated after each epoch."""

    def epoch_ends(self, n_seen):
        power = WIDE.power(decimal.Decimal(n_seen + 1), decimal.Decimal(float(self.settings["power_t"])))
        self.learning_rate = float(self.settings["learning_rate_init"]) / float(power)


class Adaptive(Constant):
    """The rate is divided by five whenever progress ends, down to 1e-6."""

    def plateau(self):
        if self.learning_rate <= 1e-6:
            return True, "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f"Setting learning rate to {self.learning_rate:f}"


class BiasCorrected(Constant):
    """Adam: corrections ``1 - beta_1^t`` and ``sqrt(1 - beta_2^t)`` in step t = 1, 2, ...

    The effective rate is ``learning_rate_init sqrt(1 - beta_2^t) / (1 - beta_1^t)``.
    """

    def __init__(self, settings):
        super().__init__(settings)
        self._first = 1

    def scalars(self, step, n_steps):
        start = step + 1 - self._first
        if start < 0 or SCHEDULED * (start + n_steps) > self._scalars.size:
            blocks = range((step + 1) // BLOCK, (step + n_steps) // BLOCK + 1)
            beta_1, beta_2, rate = (float(self.settings[name]) for name in ("beta_1", "beta_2", "learning_rate_init"))
            power_1, power_2 = (_joined([powers(beta, i) for i in blocks]) for beta in (beta_1, beta_2))
            self._first = max(BLOCK * blocks[0], 1)  # no step has the number 0
            skipped = self._first - BLOCK * blocks[0]
            rows = np.zeros((power_1.size - skipped, SCHEDULED))
            rows[:, 0], rows[:, 2] = rate, 1 - power_1[skipped:]
            np.sqrt(1 - power_2[skipped:], out=rows[:, 3])
            self._scalars = rows.reshape(-1)
            start = step + 1 - self._first
        end, number = SCHEDULED * (start + n_steps), self._scalars.item
        self.learning_rate = number(end - 4) * number(end - 1) / number(end - 2)
        return self._scalars[SCHEDULED * start : end]

    def settings_changed(self):
        self._scalars = np.empty(0)

    @property
    def nominal(self):
        return float(self.settings["learning_rate_init"])


# Settings that scikit-learn's optimizers have as attributes, by scikit-learn's names.
SETTING_OF = {"nesterov": "nesterovs_momentum", "lr_schedule": "learning_rate"}
_THEIRS = {ours: theirs for theirs, ours in SETTING_OF.items()}
ATTRIBUTES = {
    solver: (
        "learning_rate_init",
        *(("lr_schedule", "power_t") if row.scheduled else ()),
        *(_THEIRS.get(name, name) for name in row.hyper_parameters),
    )
    for solver, row in OPTIMIZERS.items()
}

SCHEDULES = {"constant": Constant, "invscaling": InverseScaling, "adaptive": Adaptive}


def checked(optimizer):
    """An estimator's ``_optimizer``.

    Raises
    ------
    TypeError
        When someone has replaced it by an object of another type.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"_optimizer must be None or what a fit of fastnn has left there, got {type(optimizer).__name__}: delete "
            "it to begin anew."
        )
    return optimizer


class Optimizer:
    """The state of an optimizer between two calls: settings, schedule, moments and step count.

    The settings are those of the time when it was made: as in scikit-learn ``partial_fit`` keeps them whatever
    ``set_params`` has set since, and ``fit`` makes a new optimizer.

    Parameters
    ----------
    settings : dict
        The estimator's parameters named in ``SETTINGS``. As in scikit-learn "learning_rate" is used by "sgd" only.
    """

    HYPER_PARAMETERS = tuple(dict.fromkeys(name for row in OPTIMIZERS.values() for name in row.hyper_parameters))
    SETTINGS = ("solver", "learning_rate", "learning_rate_init", "power_t", *HYPER_PARAMETERS)

    def __init__(self, settings):
        self.settings = dict(settings)
        kind = OPTIMIZERS[settings["solver"]]
        schedule = SCHEDULES[settings["learning_rate"]] if kind.scheduled else Constant
        self.schedule = (BiasCorrected if kind.bias_correction else schedule)(self.settings)
        self.step = 0
        self.moments = None

    @property
    def learning_rate(self):
        """The current learning rate."""
        return self.schedule.learning_rate

    def __getattr__(self, name):
        if name in ATTRIBUTES.get(self.__dict__.get("settings", {}).get("solver"), ()):
            return self.settings[SETTING_OF.get(name, name)]
        raise AttributeError(f"fastnn's _optimizer has no attribute {name!r}.")

    def __setattr__(self, name, value):
        """Set an attribute that scikit-learn's optimizers have, with the same effect; refuse one without effect."""
        if name in ("settings", "schedule", "step", "moments"):
            super().__setattr__(name, value)
            return
        solver, scheduled = self.settings["solver"], type(self.schedule)
        if name == "learning_rate" and scheduled is not BiasCorrected:
            self.schedule.learning_rate = float(value)
        elif name in ATTRIBUTES[solver] and (
            name != "learning_rate_init" or scheduled in (BiasCorrected, InverseScaling)
        ):
            self.settings[SETTING_OF.get(name, name)] = value
            self.schedule.settings_changed()
        else:
            rate = "learning_rate_init" if scheduled is BiasCorrected else "learning_rate"
            raise AttributeError(
                f"Setting {name!r} would have no effect on the _optimizer of solver={solver!r}: the rate is {rate!r}, "
                f"the others are {', '.join(map(repr, ATTRIBUTES[solver]))}."
            )

    def successor(self):
        """A copy that can be trained further while this one stays; they share moments until these are replaced."""
        return self.from_dict(self.to_dict())

    def to_dict(self):
        """Plain Python values and one array, for pickles."""
        return {
            "settings": self.settings,
            "learning_rate": self.learning_rate,
            "step": self.step,
            "moments": self.moments,
        }

    @classmethod
    def from_dict(cls, stored):
        """The optimizer that ``to_dict`` described."""
        made = cls(stored["settings"])
        made.schedule.learning_rate = stored["learning_rate"]
        made.step = stored["step"]
        made.moments = stored["moments"]
        return made
