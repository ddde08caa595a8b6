"""The optimizer with which ``partial_fit`` goes on: settings, schedule, moments and step count."""

import numpy as np

from .core.nn.optimizers import OPTIMIZERS
from .curves import ENDING
from .plan import STEP_OPTIONS
from .schedules import NAMES, make_schedule

# Settings that scikit-learn's optimizers have as attributes, by scikit-learn's names.
SETTING_OF = {"nesterov": "nesterovs_momentum", "lr_schedule": "learning_rate"}
_THEIRS = {ours: theirs for theirs, ours in SETTING_OF.items()}
ATTRIBUTES = {
    solver: (
        "learning_rate_init",
        *(("lr_schedule", "power_t") if row.scheduled else ()),
        *(_THEIRS.get(name, name) for name in row.hyper_parameters),
        "weight_decay",
        "max_grad_norm",
    )
    for solver, row in OPTIMIZERS.items()
}


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
        The estimator's parameters named in ``SETTINGS``; those in ``DEFAULTS`` may be left out. As in scikit-learn its
        names of schedules are used by "sgd" only.
    """

    HYPER_PARAMETERS = tuple(dict.fromkeys(name for row in OPTIMIZERS.values() for name in row.hyper_parameters))
    DEFAULTS = {  # noqa: RUF012 - of settings that pickles of earlier versions have not
        "max_iter": 200,
        **STEP_OPTIONS,
        "warmup": 0,
        "decay_rate": 0.1,
        "decay_every": 10,
    }
    SETTINGS = ("solver", "learning_rate", "learning_rate_init", "power_t", *HYPER_PARAMETERS, *DEFAULTS)

    def __init__(self, settings):
        self.settings = {**self.DEFAULTS, **settings}
        self.schedule = make_schedule(self.settings)
        self.step = 0
        self.moments = None
        self.masks = None  # seed of dropout, and steps made with it before the first of this optimizer
        self.published = None  # checksum of the moving averages that were published, see `State.resume`

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
        if name in ("settings", "schedule", "step", "moments", "masks", "published"):
            super().__setattr__(name, value)
            return
        solver, set_by = self.settings["solver"], self.schedule.set_by
        if name == "learning_rate" and name in set_by:
            self.schedule.learning_rate = float(value)
        elif name in ATTRIBUTES[solver] and (name != "learning_rate_init" or name in set_by):
            self.settings[SETTING_OF.get(name, name)] = value
            self.schedule.settings_changed()
        else:
            rate = f"the rate is {set_by[0]!r}" if set_by else "a function gives the rate"
            raise AttributeError(
                f"Setting {name!r} would have no effect on the _optimizer of solver={solver!r}: {rate}, "
                f"the others are {', '.join(map(repr, ATTRIBUTES[solver]))}."
            )

    def successor(self):
        """A copy that can be trained further while this one stays; they share moments until these are replaced.

        Raises
        ------
        ValueError
            When its schedule has come to an end.
        """
        if self.schedule.over:
            legal = ", ".join(repr(name) for name in NAMES if name not in ENDING)
            raise ValueError(
                f"learning_rate={self.settings['learning_rate']!r} has ended with a rate of 0 after "
                f"max_iter={self.settings['max_iter']} epochs, of which each partial_fit is one: set _optimizer to "
                f"None to begin a new one, or use a schedule without an end: {legal}, or a function."
            )
        return self.from_dict(self.to_dict())

    def draw_masks(self, rng, earlier):
        """``masks``; they go on behind those of an earlier optimizer, if that has any, else a seed is drawn."""
        if self.masks is None and getattr(earlier, "masks", None) is not None:
            seed, done = earlier.masks
            self.masks = seed, done + earlier.step
        elif self.masks is None:
            rng = rng() if callable(rng) else rng
            self.masks = rng.randint(np.iinfo(np.int32).max), 0
        return self.masks

    def to_dict(self):
        """Plain Python values and one array, for pickles."""
        return {
            "settings": self.settings,
            "learning_rate": self.learning_rate,
            "step": self.step,
            "moments": self.moments,
            "schedule": self.schedule.memory(self.step),
            "masks": self.masks,
            "published": self.published,
        }

    @classmethod
    def from_dict(cls, stored):
        """The optimizer that ``to_dict`` described."""
        made = cls(stored["settings"])
        made.schedule.learning_rate = stored["learning_rate"]
        made.step = stored["step"]
        made.moments = stored["moments"]
        made.masks, made.published = stored.get("masks"), stored.get("published")
        if stored.get("schedule"):
            made.schedule.remember(stored["schedule"])
        return made
