"""fastnn's estimators on the attributes of scikit-learn's.

A call makes one of fastnn's estimators that has the attributes, the very ``__dict__``, of the user's estimator. What it
leaves there is translated into what scikit-learn leaves, in the same step in which it is published: nothing of fastnn
remains in the user's estimator, and either library goes on with what the other has left.
"""

import functools
import weakref
from itertools import pairwise

import numpy as np
from sklearn.base import is_classifier

from .._classifier import MLPClassifier
from .._regressor import MLPRegressor
from ..core.nn.optimizers import OPTIMIZERS
from ..optimizer import Optimizer
from ..persistence import units_of
from ..spec import make_layout, n_params
from ..state import split
from .refusals import OPTIMIZERS as THEIRS

# What fastnn leaves, and scikit-learn has not.
OWN = ("best_epoch_", "history_", "validation_loss_curve_", "stop_reason_", "_resume")

# Moments whose views a scikit-learn optimizer holds: (lists of views, moments) by optimizer.
_views = weakref.WeakKeyDictionary()


class Engine:
    """The part of an estimator of fastnn's that makes it work on scikit-learn's attributes; ``fixed`` are parameters
    that scikit-learn's estimators have not.
    """

    fixed: dict = {}  # noqa: RUF012 - made for each class by `engine_class`

    def _mlp_blame_parameters(self, error):
        """Nothing: scikit-learn has looked at the parameters."""

    def _mlp_run_phases(self, X, y, sample_weight, *, incremental=False, **options):
        own = vars(self)  # a copy of the user's attributes, among which may be some that are called like ours
        theirs = {name: own[name] for name in self.fixed if name in own}
        own.update(self.fixed)
        optimizer = own.pop("_optimizer", None)
        if incremental and optimizer is not None:
            own["_optimizer"] = from_theirs(optimizer, self._mlp_settings(), units_of(self.coefs_, self.intercepts_))
        outcome = super()._mlp_run_phases(X, y, sample_weight, incremental=incremental, **options)
        attributes = outcome.attributes
        for name in (*OWN, *self.fixed):
            attributes.pop(name, None)
        attributes.update(theirs)
        self._mlp_translate(attributes)
        lists = [attributes.get(name) for name in ("loss_curve_", "validation_scores_")]
        lacking = [pair for pair in outcome.lacking if any(pair[0] is values for values in lists)]
        return outcome._replace(attributes=attributes, lacking=lacking)

    def _mlp_translate(self, attributes):
        """Make of a fit's attributes those that scikit-learn's private methods look for."""
        coefs, intercepts = attributes["coefs_"], attributes["intercepts_"]
        units = units_of(coefs, intercepts)
        attributes["_best_coefs"], attributes["_best_intercepts"] = coefs, intercepts
        if self.solver != "lbfgs":
            attributes["_optimizer"] = to_theirs(attributes["_optimizer"], units, coefs[0].dtype)
            return
        ends = np.cumsum([array.size for array in (*coefs, *intercepts)]).tolist()
        spans = [*zip([0, *ends], ends)]
        shapes = [array.shape for array in coefs]
        attributes["_coef_indptr"] = [(*span, shape) for span, shape in zip(spans, shapes)]
        attributes["_intercept_indptr"] = spans[len(shapes) :]


@functools.lru_cache(maxsize=64)
def engine_class(kind, name, dtype):
    """The class of fastnn's estimators of this kind that learns for a class of this name, which messages show."""
    fixed = kind(dtype=dtype).get_params(deep=False)
    for known in _their_parameters(kind):
        fixed.pop(known)
    return type(name, (Engine, kind), {"fixed": fixed, "__module__": __name__, "__doc__": kind.__doc__})


def _their_parameters(kind):
    from sklearn import neural_network

    return getattr(neural_network, kind.__name__)._get_param_names()


def engine_of(estimator, dtype):
    """An estimator of fastnn's for one of scikit-learn's, without attributes."""
    kind = MLPClassifier if is_classifier(estimator) else MLPRegressor
    cls = engine_class(kind, type(estimator).__name__, dtype)
    return cls.__new__(cls)


def learn(estimator, dtype, X, y, sample_weight, incremental):
    """Train one of scikit-learn's estimators."""
    engine = engine_of(estimator, dtype)
    object.__setattr__(engine, "__dict__", vars(estimator))
    engine._mlp_learn(X, y, sample_weight, incremental=incremental)


def forward(estimator, dtype, X):
    """Outputs of the network of one of scikit-learn's estimators."""
    engine = engine_of(estimator, dtype)
    object.__setattr__(engine, "__dict__", {**vars(estimator), **engine.fixed})
    outputs, dtype = engine._mlp_outputs(X)
    return outputs.astype(dtype, copy=False)


# ---- optimizers ------------------------------------------------------------------------------------------------------
def from_theirs(optimizer, settings, units):
    """fastnn's `Optimizer` from one of scikit-learn's, whose settings may have been changed by hand."""
    solver = next(name for name, kind in THEIRS.items() if type(optimizer) is kind)
    settings = {**settings, "solver": solver, "learning_rate_init": optimizer.learning_rate_init}
    if solver == "adam":
        settings |= {name: getattr(optimizer, name) for name in ("beta_1", "beta_2", "epsilon")}
        settings["learning_rate"] = "constant"
    else:
        settings |= {"learning_rate": optimizer.lr_schedule, "power_t": optimizer.power_t}
        settings |= {"momentum": optimizer.momentum, "nesterovs_momentum": optimizer.nesterov}
    made = Optimizer(settings)
    made.schedule.learning_rate = float(optimizer.learning_rate)
    made.step = optimizer.t if solver == "adam" else 0
    made.moments = _moments(optimizer, solver, _n_moments(settings), units)
    return made


def _n_moments(settings):
    row = OPTIMIZERS[settings["solver"]]
    return row.n_moments(row.constants(*(settings[name] for name in row.hyper_parameters)))


def _lists(optimizer, solver):
    """The lists of arrays that hold an optimizer's moments."""
    return (optimizer.ms, optimizer.vs) if solver == "adam" else (optimizer.velocities,)


def _moments(optimizer, solver, n_moments, units):
    """The moments as one array (n_moments, n_params), without a copy where scikit-learn's lists are views of one."""
    lists = _lists(optimizer, solver)[:n_moments]
    known = _views.get(optimizer)
    if known is not None and len(known[0]) == len(lists) and all(map(lambda a, b: a is b, known[0], lists)):
        return known[1]
    dtype = lists[0][0].dtype if lists else np.dtype(np.float64)
    layout = make_layout(units, dtype, 1)
    moments = np.zeros((n_moments, n_params(layout)), dtype)
    for row, arrays in zip(moments, lists):
        coefs, intercepts = split(layout, row)
        for own, given in zip([*coefs, *intercepts], arrays, strict=True):
            own[...] = given
    return moments


def to_theirs(optimizer, units, dtype):
    """One of scikit-learn's optimizers from fastnn's; its arrays are views of the moments."""
    settings, moments, solver = optimizer.settings, optimizer.moments, optimizer.settings["solver"]
    layout = make_layout(units, dtype, 1)
    lists = [[*coefs, *intercepts] for coefs, intercepts in (split(layout, row) for row in moments)]
    made = THEIRS[solver].__new__(THEIRS[solver])
    made.learning_rate_init = settings["learning_rate_init"]
    made.learning_rate = optimizer.learning_rate
    if solver == "adam":
        made.beta_1, made.beta_2, made.epsilon = (settings[name] for name in ("beta_1", "beta_2", "epsilon"))
        made.t, (made.ms, made.vs) = optimizer.step, lists
    else:
        made.lr_schedule, made.momentum = settings["learning_rate"], settings["momentum"]
        made.nesterov, made.power_t = settings["nesterovs_momentum"], settings["power_t"]
        made.velocities = lists[0] if lists else _zeros(units, dtype)
    if lists:
        _views[made] = lists, moments
    return made


def _zeros(units, dtype):
    shapes = [*pairwise(units), *((n,) for n in units[1:])]
    return [np.zeros(shape, dtype) for shape in shapes]
