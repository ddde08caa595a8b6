"""Learning rates of all coming steps as one array, and what ``partial_fit`` needs to go on with an optimizer.

Compiled code knows no schedule: it takes one rate per optimizer step. Adam's bias correction is part of that rate.
"""

import numpy as np

from .core.optimizers import OPTIMIZERS


class Constant:
    """The same rate in every step.

    Attributes
    ----------
    learning_rate : float
        The current rate.
    """

    def __init__(self, settings):
        self.settings = settings
        self.learning_rate = float(settings["learning_rate_init"])
        self._rates = np.empty(0)

    def rates(self, step, n_steps):
        """Effective rates of the ``n_steps`` steps that follow the first ``step`` ones: float64 (n_steps,)."""
        if self._rates.size != n_steps or (n_steps and self._rates[0] != self.learning_rate):
            self._rates = np.full(n_steps, self.learning_rate)
        return self._rates

    @property
    def nominal(self):
        """The rate before any correction by the step: what an epoch's entry in ``history_`` says."""
        return self.learning_rate

    def settings_changed(self):
        """Take note that ``settings`` hold other numbers; the present rate stays."""

    def epoch_ends(self, n_seen):
        """Take note that ``n_seen`` samples have been learned from since the weights were drawn."""

    def plateau(self):
        """Answer to "no more progress": whether to stop, and the remark for verbose output."""
        return True, "Stopping."


class InverseScaling(Constant):
    """``learning_rate_init / (samples seen + 1) ** power_t``, renewed after each epoch."""

    def epoch_ends(self, n_seen):
        self.learning_rate = float(self.settings["learning_rate_init"]) / (n_seen + 1) ** self.settings["power_t"]


class Adaptive(Constant):
    """A fifth of the rate whenever progress ends, down to 1e-6."""

    def plateau(self):
        if self.learning_rate <= 1e-6:
            return True, "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f"Setting learning rate to {self.learning_rate:f}"


class BiasCorrected(Constant):
    """Adam: ``learning_rate_init sqrt(1 - beta_2^t) / (1 - beta_1^t)`` in step t = 1, 2, ..."""

    AT_ONCE = 512  # steps computed together: the arrays of one short epoch take 10 us

    def __init__(self, settings):
        super().__init__(settings)
        self._first = 0

    def rates(self, step, n_steps):
        start = step - self._first
        if start < 0 or start + n_steps > self._rates.size:
            self._first, start = step, 0
            many = max(n_steps, self.AT_ONCE) if self._rates.size else n_steps  # partial_fit asks for one epoch
            t = np.arange(step + 1, step + many + 1)
            beta_1, beta_2, rate = (float(self.settings[name]) for name in ("beta_1", "beta_2", "learning_rate_init"))
            self._rates = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        self.learning_rate = self._rates.item(start + n_steps - 1)
        return self._rates[start : start + n_steps]

    def settings_changed(self):
        self._rates = np.empty(0)

    @property
    def nominal(self):
        return float(self.settings["learning_rate_init"])


# Settings that scikit-learn's optimizers hold as attributes, by the names that these have there.
ATTRIBUTES = {
    "sgd": ("learning_rate_init", "lr_schedule", "momentum", "nesterov", "power_t"),
    "adam": ("learning_rate_init", "beta_1", "beta_2", "epsilon"),
    "rmsprop": ("learning_rate_init", "rho", "epsilon"),
}
SETTING_OF = {"nesterov": "nesterovs_momentum", "lr_schedule": "learning_rate"}

SCHEDULES = {"constant": Constant, "invscaling": InverseScaling, "adaptive": Adaptive}


def successor_of(optimizer):
    """A copy of an estimator's ``_optimizer`` to go on with.

    Raises
    ------
    TypeError
        When someone has put something else in its place.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"_optimizer must be None or what a fit of fastnn has left there, got {type(optimizer).__name__}: delete "
            "it to begin anew."
        )
    return optimizer.successor()


class Optimizer:
    """What an optimizer remembers between two calls: its settings, its schedule, its moments and its step count.

    The settings are those of the time when it was made: like scikit-learn, ``partial_fit`` goes on with them whatever
    ``set_params`` says since; ``fit`` makes a new one.

    Parameters
    ----------
    settings : dict
        The estimator's parameters named in ``SETTINGS``. As in scikit-learn "learning_rate" counts under "sgd" only.
    """

    HYPER_PARAMETERS = ("momentum", "nesterovs_momentum", "beta_1", "beta_2", "rho", "epsilon")
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
        """Set what scikit-learn's optimizers let one set, with the same effect; refuse what would have none."""
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
        """A copy that may be trained on while this one stays; the moments are shared until they are replaced."""
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
