"""Step scalars of the next steps as one array: learning rates, decays, and corrections of the optimizers.

Compiled code knows no schedule: it takes a row of SCHEDULED numbers for each optimizer step, in the order of
`core.records`. Rates are the same bits on every processor, see `arithmetic`.

scikit-learn's schedules, of "sgd" alone, are classes of their own, and so is Adam with a constant rate: they cost
nothing. All the rest is `Composed`: a rule for the rates, a warm-up, and the corrections of the optimizer.
"""

import math
from numbers import Real

import numpy as np

from .arithmetic import BLOCK, real_power
from .core.nn.optimizers import OPTIMIZERS
from .core.records import SCHEDULED
from .corrections import CORRECTIONS, adam_corrections
from .curves import CURVES, ENDING, constant


class Constant:
    """The same learning rate in every step.

    Attributes
    ----------
    learning_rate : float
        The current rate.
    """

    set_by: tuple[str, ...] = ("learning_rate",)  # attributes of the optimizer that change the rate
    over = False  # whether the schedule has come to its end, where it has one
    epoch = 0  # epochs done, where they matter
    by_epoch = False  # whether `epoch_ends` does anything (a call takes .1 us, an epoch of a tiny network 7: Zen 3)

    def __init__(self, settings):
        self.settings = settings
        self.learning_rate = float(settings["learning_rate_init"])
        self._scalars = np.empty(0)

    def scalars(self, step, n_steps):
        """Step scalars of ``n_steps`` steps after the first ``step`` steps: float64 (n_steps * SCHEDULED,)."""
        if self._scalars.size != SCHEDULED * n_steps:
            self._scalars = np.tile([self.learning_rate, self._decay(), 1.0, 1.0, 0.0], n_steps)
        elif n_steps and self._scalars.item(0) != self.learning_rate:
            self._scalars[::SCHEDULED], self._scalars[1::SCHEDULED] = self.learning_rate, self._decay()
        return self._scalars

    def _decay(self):
        return self.learning_rate * float(self.settings.get("weight_decay", 0.0))

    @property
    def nominal(self):
        """The rate before any correction by the step: the epoch's entry in ``history_``."""
        return self.learning_rate

    def settings_changed(self):
        """Must be called when ``settings`` have changed; the current rate stays."""
        self._scalars = np.empty(0)

    def epoch_ends(self, n_seen, epoch):
        """Must be called after each epoch, and may be called again after the same.

        ``n_seen`` counts the samples of all epochs since the first fit, ``epoch`` the epochs of this optimizer.
        """

    def plateau(self):
        """Called when progress ends. Returns whether to stop, and the remark for verbose output."""
        return True, "Stopping."

    def memory(self, step):
        """What it needs to go on after ``step`` steps, besides settings and rate: plain numbers by name."""
        return {}

    def remember(self, memory):
        """Go on from what `memory` returned."""


class InverseScaling(Constant):
    """``learning_rate_init / (samples seen + 1) ** power_t``, updated after each epoch."""

    set_by = ("learning_rate", "learning_rate_init")
    by_epoch = True

    def epoch_ends(self, n_seen, epoch):
        power = real_power(n_seen + 1, float(self.settings["power_t"]))
        self.learning_rate = float(self.settings["learning_rate_init"]) / power


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

    set_by = ("learning_rate_init",)

    def __init__(self, settings):
        super().__init__(settings)
        self._first = 1

    def scalars(self, step, n_steps):
        start = step + 1 - self._first
        if start < 0 or SCHEDULED * (start + n_steps) > self._scalars.size:
            blocks = range((step + 1) // BLOCK, (step + n_steps) // BLOCK + 1)
            rate = float(self.settings["learning_rate_init"])
            self._first = max(BLOCK * blocks[0], 1)  # no step has the number 0
            n = BLOCK * blocks.stop - self._first
            rows = np.zeros((n, SCHEDULED))
            rows[:, 0], rows[:, 1] = rate, rate * float(self.settings.get("weight_decay", 0.0))
            rows[:, 2:] = adam_corrections(self.settings, self._first, n)
            self._scalars = rows.reshape(-1)
            start = step + 1 - self._first
        self._end = SCHEDULED * (start + n_steps)
        return self._scalars[SCHEDULED * start : self._end]

    @property
    def learning_rate(self):
        """The effective rate of the last step; it is computed when it is asked for."""
        if self._end:
            rate, _, first, second, _ = self._scalars[self._end - SCHEDULED : self._end].tolist()
            self.learning_rate = rate * second / first
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate):
        self._rate, self._end = rate, 0

    def settings_changed(self):
        self.learning_rate = self.learning_rate  # of the numbers that go
        super().settings_changed()

    @property
    def nominal(self):
        return float(self.settings["learning_rate_init"])


SCHEDULES = {"constant": Constant, "invscaling": InverseScaling, "adaptive": Adaptive}  # scikit-learn's
NAMES = (*SCHEDULES, *CURVES)


class Curve:
    """Rates by one of the functions of `curves`, times the peak ``learning_rate_init``."""

    set_by = ("learning_rate_init",)

    def __init__(self, settings, curve):
        self.settings, self._curve = settings, curve

    def rates(self, epoch, k, n_steps):
        """Rates of the steps k (n,), of ``n_steps`` an epoch, the first of them in ``epoch``, counted from 0."""
        return float(self.settings["learning_rate_init"]) * self._curve(self.settings, k, n_steps)


class ByCall:
    """Rates that the user's function returns for each epoch, counted from 0."""

    set_by = ()

    def __init__(self, function):
        self._function, self._known = function, None  # the last epoch and its rate

    def rates(self, epoch, k, n_steps):
        """As `Curve.rates`."""
        if self._known is None or self._known[0] != epoch:
            self._known = epoch, self._checked(epoch, self._function(epoch))
        return np.full(k.size, self._known[1])

    def _checked(self, epoch, rate):
        if not isinstance(rate, Real) or not 0 <= float(rate) < math.inf:
            raise ValueError(
                f"learning_rate={self._function!r} must return a number in [0, inf) for each epoch, counted from 0: "
                f"{rate!r} for epoch {epoch} is none."
            )
        return float(rate)


class ByClass:
    """Rates of one of scikit-learn's schedules."""

    def __init__(self, base):
        self.base, self.set_by = base, base.set_by

    def rates(self, epoch, k, n_steps):
        """As `Curve.rates`."""
        return np.full(k.size, self.base.learning_rate)


class Composed(Constant):
    """Rates by a rule, a linear warm-up, decays, and the corrections of an optimizer.

    A position is the number of epochs done and the step of the epoch: batches that make no step do not shift what
    follows. ``partial_fit`` counts as an epoch, of as many steps as it has batches.

    In the first ``warmup`` epochs rates are multiplied by (k + 1) / (steps of the warm-up) in step k = 0, 1, ...; the
    functions of `curves` begin behind it. Schedule-free averages give a step's weights the share rate^2 / (sum of the
    squared rates of this step and all before).

    Attributes
    ----------
    epoch : int
        Epochs done.
    """

    by_epoch = True

    def __init__(self, settings, rule):
        super().__init__(settings)
        row = OPTIMIZERS[settings["solver"]]
        self._rule, self._corrections, self._averages = rule, CORRECTIONS[row.corrections], row.averages
        self.set_by, self.epoch = rule.set_by, 0
        self._squares = 0, np.zeros(1)  # a step, and the sums of the squared rates after it and each later step
        self._ahead = None  # epoch, step, steps an epoch, rows of this epoch and of some that follow
        self._base = rule.base if isinstance(rule, ByClass) else None

    @property
    def learning_rate(self):
        """The rate of the last step, or that of scikit-learn's schedule."""
        return self._learning_rate if self._base is None else self._base.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self._learning_rate = value
        if getattr(self, "_base", None) is not None:
            self._base.learning_rate = value

    @property
    def nominal(self):
        return self._learning_rate

    def scalars(self, step, n_steps):
        offset = -1
        if self._ahead is not None and self._ahead[2] == n_steps:
            offset = self.epoch - self._ahead[0]
        if not 0 <= offset < len(self._ahead[3]) or step != self._ahead[1] + offset * n_steps:
            self._compute(step, n_steps)
            offset = 0
        rows = self._ahead[3][offset]
        if n_steps:
            self._learning_rate = rows.item(-SCHEDULED)
        return rows

    def _compute(self, step, n_steps):
        """Fill ``_ahead`` from the present epoch and ``step`` on."""
        n_epochs = max(1, BLOCK // max(n_steps, 1)) if isinstance(self._rule, Curve) else 1
        k = self.epoch * n_steps + np.arange(n_epochs * n_steps, dtype=np.int64)
        rates = self._rule.rates(self.epoch, k, n_steps)
        warmup = float(self.settings["warmup"]) * n_steps
        if warmup > 0:
            rates = rates * np.minimum((k + 1) / warmup, 1.0)
        rows = np.empty((k.size, SCHEDULED))
        rows[:, 0], rows[:, 1] = rates, rates * float(self.settings["weight_decay"])
        rows[:, 2:] = self._corrections(self.settings, step + 1, k.size)
        if self._averages:
            squares = rates * rates
            total = np.add.accumulate(np.concatenate([[self._sum_after(step)], squares]))
            rows[:, 4] = np.divide(squares, total[1:], out=np.zeros(k.size), where=total[1:] > 0)
            self._squares = step, total
        self._ahead = self.epoch, step, n_steps, rows.reshape(n_epochs, n_steps * SCHEDULED)

    def _sum_after(self, step):
        first, sums = self._squares
        return sums.item(step - first)

    def settings_changed(self):
        self._ahead = None
        if self._base is not None:
            self._base.settings_changed()

    def epoch_ends(self, n_seen, epoch):
        self.epoch = epoch
        if self._base is not None:
            self._base.epoch_ends(n_seen, epoch)

    def plateau(self):
        return super().plateau() if self._base is None else self._base.plateau()

    @property
    def over(self):
        return self.settings["learning_rate"] in ENDING and self.epoch >= self.settings["max_iter"]

    def memory(self, step):
        return {"epoch": self.epoch, **({"squares": self._sum_after(step)} if self._averages else {}), "step": step}

    def remember(self, memory):
        self.epoch = memory["epoch"]
        self._squares = memory["step"], np.array([memory.get("squares", 0.0)])


def make_schedule(settings):
    """The schedule of an optimizer with these settings, see `optimizer.Optimizer`."""
    row, name = OPTIMIZERS[settings["solver"]], settings["learning_rate"]
    if callable(name):
        return Composed(settings, ByCall(name))
    if name in CURVES:
        return Composed(settings, Curve(settings, CURVES[name]))
    if row.scheduled:
        base = SCHEDULES[name](settings)
        return Composed(settings, ByClass(base)) if settings["warmup"] else base
    if settings["warmup"] or row.corrections not in (None, "adam"):
        return Composed(settings, Curve(settings, constant))
    return (BiasCorrected if row.corrections == "adam" else Constant)(settings)


def refuse_contradictions(settings):
    """Raise ValueError where options do not go together; all are legal by themselves."""
    name, warmup = settings["learning_rate"], settings["warmup"]
    if settings["solver"] == "lbfgs":
        given = {
            "weight_decay": settings["weight_decay"] != 0,
            "max_grad_norm": settings["max_grad_norm"] is not None,
            "ema_decay": settings.get("ema_decay") is not None,
            "warmup": warmup != 0,
            "learning_rate": callable(name) or name in CURVES,
        }
        for option in (option for option, is_given in given.items() if is_given):
            raise ValueError(
                f"{option}={settings[option]!r} does not go with solver='lbfgs', which has no learning rate and takes "
                f"whole gradients; it goes with {', '.join(map(repr, OPTIMIZERS))}."
            )
    if settings.get("ema_decay") is not None and OPTIMIZERS[settings["solver"]].averages:
        others = ", ".join(repr(solver) for solver, row in OPTIMIZERS.items() if not row.averages)
        raise ValueError(
            f"ema_decay={settings['ema_decay']!r} does not go with solver={settings['solver']!r}, whose weights are "
            f"averages already; it goes with {others}."
        )
    if name in ENDING and warmup >= settings["max_iter"]:
        raise ValueError(
            f"learning_rate={name!r} ends after max_iter={settings['max_iter']} epochs, so warmup={warmup!r} must be "
            f"less. Schedules without an end: {', '.join(repr(each) for each in NAMES if each not in ENDING)}."
        )
