"""The memory of a fit that has not ended by itself: all that another one needs to go on exactly where it was.

A fit that ends for a reason of `stopping.UNFINISHED` leaves it in the estimator's ``_resume``: plain values and arrays.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from .core.records import Layout
from .curves import ENDING
from .optimizer import Optimizer
from .state import State, split, with_padding
from .stopping import UNFINISHED, Progress
from .walk import Walk

FREE = {"max_iter", "max_seconds", "n_jobs", "verbose", "warm_start"}  # parameters that may change in between
SAMPLED = 4096  # most rows, or entries of a sparse matrix, that are looked at to recognize the data


# ---- what a fit is recognized by ------------------------------------------------------------------------------------
class Identity:
    """What has to be the same in a fit that goes on: parameters, network and data. Called, it returns plain values.

    Parameters
    ----------
    estimator : BaseMLP
    network : preparation.Network
    samples : list of (Sample or None)
        Data for training and validation, if there are such.
    """

    def __init__(self, estimator, network, samples):
        self._about, self._found = (estimator, network, samples), None

    def __call__(self):
        if self._found is None:
            estimator, network, samples = self._about
            parameters = estimator.get_params(deep=False)
            schedule = parameters["learning_rate"]
            free = FREE - {"max_iter"} if isinstance(schedule, str) and schedule in ENDING else FREE
            self._found = {
                "parameters": {name: _plain(value) for name, value in parameters.items() if name not in free},
                "network": _plain(tuple(network)),
                "data": [_digest_of_data(sample.data) for sample in samples if sample is not None],
            }
        return self._found


def _plain(value):
    """A value that can be compared and pickled, and is equal where the given ones are."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return [[_plain(key), _plain(each)] for key, each in value.items()]
    if isinstance(value, type | np.dtype):
        return np.dtype(value).name
    return f"{type(value).__module__}.{type(value).__qualname__} {getattr(value, '__qualname__', '')}"


def _digest_of_data(data):
    """Of all labels or targets and weights, and of some rows of X."""
    arrays = [data.labels, data.targets, data.sample_weight]
    for array in [data.X] if data.X is not None else data.csr:
        rows = np.linspace(0, max(len(array) - 1, 0), min(len(array), SAMPLED)).astype(np.int64)
        arrays += [np.array(array.shape, np.int64), array[rows]]
    return _digest(arrays)


def _digest(arrays):
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def matching(estimator, identity):
    """The memory in ``estimator._resume`` from which a fit of this identity goes on, or None.

    Something else is begun where data or parameters differ, where no epoch is left, and where weights have been changed
    that are not those with which training goes on (the best, averages).
    """
    own = vars(estimator)
    memory, optimizer = own.get("_resume"), own.get("_optimizer")
    if not isinstance(memory, dict) or not isinstance(optimizer, Optimizer) or optimizer.moments is None:
        return None
    if memory["identity"] != identity or memory["n_iter"] >= estimator.max_iter:
        return None
    pairs = zip(own["coefs_"], own["intercepts_"], strict=True)
    return memory if memory["weights"] in (None, _digest(array for pair in pairs for array in pair)) else None


class Run(NamedTuple):
    """A fit by a stochastic solver on its way."""

    layout: Layout
    state: State
    optimizer: Optimizer
    progress: Progress
    walk: Walk
    split: tuple | None  # rows to learn from, in their first order, and rows that are held out
    identity: Identity


# ---- the memory -----------------------------------------------------------------------------------------------------
def remember(run):
    """The memory of a fit that ends here; to be made before the state publishes other parameters."""
    state, walk, progress = run.state, run.walk, run.progress
    *judgement, best = progress.judgement
    published = state.learned if best is None else best
    apart, schedule = published is not state.params, run.optimizer.schedule
    before = progress.before_unjudged
    return {
        "identity": run.identity(),
        "n_iter": progress.n_iter - (before is not None),
        "judgement": judgement,
        "best": best is not None,
        "params": state.params.copy() if apart else None,
        "averages": state.learned.copy() if state.averaged and best is not None else None,
        "weights": _digest([published]) if apart else None,
        "rows": _compact(walk.rows),
        "split": run.split and [_compact(rows) for rows in run.split],
        "generator": walk.generator(),
        "private": walk.private,
        "drawn": walk.drawn,
        "batch": walk.batch,
        "first": walk.first,
        "losses": walk.losses[: walk.batch].copy(),
        "schedule": schedule.memory(walk.first) if walk.batch else None,
        "unjudged": before,
    }


def _compact(rows):
    """A copy of row numbers in as few bytes as they need."""
    return rows.astype(np.int32 if rows.size < 2**31 else np.int64)


def walk_of(memory):
    """The `Walk` of a fit that goes on."""
    rng, state = None, memory["generator"]
    if state is not None:
        rng = np.random.RandomState(getattr(np.random, state["bit_generator"])())
        rng.set_state(state)
    walk = Walk(memory["rows"].astype(np.int64), rng, private=memory["private"])
    for name in ("drawn", "batch", "first", "losses"):
        setattr(walk, name, memory[name])
    return walk


def restored_optimizer(memory, optimizer):
    """A copy of an estimator's optimizer as it was in the middle of the epoch."""
    made = Optimizer.from_dict(optimizer.to_dict())
    if memory["schedule"]:
        made.schedule.remember(memory["schedule"])
    if memory["unjudged"] is not None:
        made.schedule.epoch, made.schedule.learning_rate = memory["unjudged"]
    return made


def restore_state(memory, state, optimizer):
    """Give ``state``, which holds the published weights, those with which training goes on, and the moments.

    Returns the published ones if they are the best of an earlier epoch, else None.
    """
    published = state.params.copy()
    params, averages = memory["params"], memory["averages"]
    state.restore(
        optimizer.moments,
        optimizer.step,
        published if params is None else params,
        published if averages is None else averages,
    )
    return published if memory["best"] else None


def earlier_of(memory, attributes, n_samples):
    """The attributes of the fit that goes on; an epoch that has not been judged does not count yet."""
    if memory["unjudged"] is None:
        return attributes
    lists = {name: list(attributes[name][:-1]) for name in ("loss_curve_", "validation_scores_") if attributes[name]}
    history = attributes["history_"]
    if isinstance(history, dict):
        lists["history_"] = {name: list(values[:-1]) for name, values in history.items()}
    return {**attributes, **lists, "t_": attributes["t_"] - n_samples}


def so_far(run, published):
    """The fitted attributes, with copies of all that training goes on to change, of a fit that would end here."""
    state, progress = run.state, run.progress
    fitted, lacking = progress.attributes()
    longer = {id(values): [*values, *more] for values, more in lacking}
    fitted = {name: longer.get(id(value), value) for name, value in fitted.items()}
    history = fitted["history_"]
    if isinstance(history, dict):
        fitted["history_"] = {name: longer.get(id(values), values) for name, values in history.items()}
    fitted["stop_reason_"] = progress.stop_reason or "callback"
    source = state.learned if progress.best_params is None else progress.best_params
    params = with_padding(source.size, source.dtype)
    params[...] = source
    fitted["coefs_"], fitted["intercepts_"] = split(run.layout, params)
    moments, checksum = state.published_moments()
    stored = run.optimizer.to_dict() | {"step": state.step, "moments": moments, "published": checksum}
    stored |= {"settings": dict(stored["settings"]), "schedule": run.optimizer.schedule.memory(state.step)}
    fitted["_optimizer"] = Optimizer.from_dict(stored)
    fitted["_resume"] = remember(run) if fitted["stop_reason_"] in UNFINISHED else None
    return {**published, **fitted}
