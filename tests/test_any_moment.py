"""Exceptions out of signal handlers, at any moment: they arrive, and the estimator is wholly before or wholly after.

Python calls a handler where a function begins and where a call of a function of C has ended, which is also where it
tells a profiler. So a profiler that raises stands for a handler here, at the very moment that a test asks for.
"""

import gc
import inspect
import pickle
import random
import signal
import sys
import time
import warnings

import numba
import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from threadpoolctl import ThreadpoolController

from fastnn import MLPClassifier, MLPRegressor, blas, threads, train
from fastnn.core.compile import exclusive
from fastnn.transaction import Outcome, publish

RNG = np.random.RandomState(3)
X = RNG.standard_normal((60, 5)).astype(np.float32)
DOUBLE = X.astype(np.float64)
CSR = sp.csr_array(np.where(X > 0, X, 0))
CLASSES, VALUES = np.argmax(X[:, :3], axis=1), X[:, 0] - X[:, 1]
BLAS = ThreadpoolController().select(user_api="blas")

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]


class Alarm(BaseException):
    """What a handler raises."""


def made(kind, **parameters):
    return kind(hidden_layer_sizes=(4,), **{"max_iter": 4, "random_state": 0, "n_jobs": 1, **parameters})


def classifier(**parameters):
    return made(MLPClassifier, **parameters)


def regressor(**parameters):
    return made(MLPRegressor, **parameters)


# An estimator, and what is called.
WAYS = {
    "first fit": (classifier, lambda model: model.fit(X, CLASSES)),
    "another fit": (lambda: classifier().fit(DOUBLE, X[:, 0] > 0), lambda model: model.fit(X, CLASSES)),
    "converted": (regressor, lambda model: model.fit(DOUBLE, VALUES)),
    "sparse": (lambda: classifier().fit(CSR, CLASSES), lambda model: model.fit(CSR, CLASSES)),
    "warm": (lambda: classifier(warm_start=True).fit(X, CLASSES), lambda model: model.fit(X, CLASSES)),
    "early stopping": (lambda: regressor(early_stopping=True), lambda model: model.fit(X, VALUES)),
    "metrics": (lambda: regressor(metrics=["r2"]).fit(X, VALUES), lambda model: model.partial_fit(X, VALUES)),
    "lbfgs": (lambda: classifier(solver="lbfgs", max_iter=3).fit(X, CLASSES), lambda model: model.fit(X, CLASSES)),
    "first partial_fit": (classifier, lambda model: model.partial_fit(X, CLASSES, classes=[0, 1, 2])),
    "partial_fit": (lambda: classifier().fit(X, CLASSES), lambda model: model.partial_fit(X, CLASSES)),
    "partial_fit, sgd": (lambda: regressor(solver="sgd").fit(X, VALUES), lambda model: model.partial_fit(X, VALUES)),
    "predict": (lambda: classifier().fit(X, CLASSES), lambda model: model.predict_proba(DOUBLE)),
}


def state(model):
    """All that an estimator holds, but times."""
    found = {}
    for name, value in vars(model).items():
        if name in ("coefs_", "intercepts_"):
            value = [array.tobytes() for array in value]
        elif name == "history_":
            value = {
                each: len(values) if each == "seconds" else list(map(repr, values)) for each, values in value.items()
            }
        elif name == "_optimizer":
            value = {each: repr(part) for each, part in value.to_dict().items()}
        elif name == "_label_binarizer":
            value = repr(vars(value))
        found[name] = repr(value)
    return found


def surroundings():
    n_blas = [each["num_threads"] for each in BLAS.info()]
    return gc.get_threshold(), numba.get_num_threads(), np.geterr(), n_blas


def nothing_is_taken():
    locks = exclusive._alone, exclusive._queue
    return not (threads._inside or blas._inside or exclusive._holder or any(lock.locked() for lock in locks))


@pytest.fixture(autouse=True)
def sklearns_configuration():
    """What it was, after each test: an exception may keep a block of scikit-learn's from putting it back."""
    config = sklearn.get_config()
    yield
    sklearn.set_config(**config)


def moments(call, at=None, error=Alarm):
    """Call a function, with an exception at one of the moments at which handlers run. Returns how many passed."""
    passed = 0

    def watch(frame, event, argument):
        nonlocal passed
        postponed = exclusive._postponed is not None and exclusive._postponed.active
        closed = event == "call" and frame.f_code.co_flags & inspect.CO_GENERATOR  # perhaps, where no handler runs
        # Python 3.14 takes its lock of warnings in Python: an exception there would leave it taken for ever.
        locking = frame.f_globals.get("__name__") in ("warnings", "_py_warnings")
        if event in ("call", "c_return") and not postponed and not closed and not locking:
            passed += 1
            if passed == at:
                raise error

    config = sklearn.get_config()
    with warnings.catch_warnings():
        sys.setprofile(watch)
        try:
            call()
        finally:
            sys.setprofile(None)
            sklearn.set_config(**config)  # a block of scikit-learn's in Python may be kept from putting it back
    return passed


@pytest.mark.parametrize("way", WAYS)
def test_an_exception_at_any_moment_changes_all_or_nothing(way):
    make, call = WAYS[way]
    pickled = pickle.dumps(make())
    model = pickle.loads(pickled)
    before = state(model)
    call(model)
    after, around = state(model), surroundings()
    for _ in range(2):  # some things are remembered
        model = pickle.loads(pickled)
        total = moments(lambda model=model: call(model))
    found, rnd, raised = set(), random.Random(way), 0
    for at in [*rnd.sample(range(1, total - 40), 40), *range(total - 40, total)]:
        model = pickle.loads(pickled)
        try:
            passed = moments(lambda model=model: call(model), at)
        except Alarm:
            raised += 1
        else:
            assert passed < at
        now = state(model)
        assert now in (before, after), f"moment {at} of {total}"
        assert nothing_is_taken()
        assert surroundings() == around
        found.add(now == before)
    assert raised > 60
    assert found == {True} if before == after else {True, False}
    call(model := pickle.loads(pickled))
    assert state(model) == after


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
@pytest.mark.parametrize("error", [TimeoutError, Alarm, SystemExit])
@pytest.mark.parametrize("way", ["first fit", "partial_fit", "predict"])
def test_what_a_signals_handler_raises_arrives(way, error):
    make, call = WAYS[way]
    model = make()
    pickled = pickle.dumps(model)
    before = state(model)
    start = time.perf_counter()
    call(model)
    after, seconds = state(model), time.perf_counter() - start
    rnd, handled = random.Random(f"{way} {error}"), []

    def handler(number, frame):
        handled.append(number)
        raise error("late")

    earlier = signal.signal(signal.SIGALRM, handler)
    try:
        for n in range(1, 41):
            model = pickle.loads(pickled)
            with pytest.raises(error, match="late"):
                signal.setitimer(signal.ITIMER_REAL, max(1e-6, rnd.uniform(0, seconds)))
                call(model)
                while True:  # it came too late for the call
                    pass
            assert len(handled) == n
            assert state(model) in (before, after)
            assert nothing_is_taken()
            assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def test_lists_of_earlier_calls_go_on_and_dictionaries_stay():
    model = regressor().fit(X, VALUES)
    own, curve, history = vars(model), model.loss_curve_, model.history_["loss"]
    model.partial_fit(X, VALUES)
    assert vars(model) is own
    assert model.loss_curve_ is curve and model.history_["loss"] is history
    assert len(curve) == len(history) == 5
    model.fit(X, VALUES)
    assert vars(model) is own
    assert model.loss_curve_ is not curve and len(curve) == 5


class Full(list):
    """A list that there is no memory for any more of."""

    def extend(self, values):
        raise MemoryError


@pytest.mark.parametrize("second", [Full, list])
def test_what_finds_no_memory_is_published_not_at_all(second, monkeypatch):
    own, first, second = {"a": 1, "b": 2}, [1], second([2])
    fails = type(second) is Full
    lacking, array, items = [(first, [3, 4]), (second, [5])], np.zeros(2), [0, 0]
    written = [(array, ..., np.ones(2)), (items, 1, 9)]
    if fails:
        with pytest.raises(MemoryError):
            publish(own, Outcome({"b": 3, "c": 4}, lacking, written, None))
        assert (own, first, second, items, array.sum()) == ({"a": 1, "b": 2}, [1], [2], [0, 0], 0)
    else:
        publish(own, Outcome({"b": 3, "c": 4}, lacking, written, None))
        assert (own, first, second, items, array.sum()) == ({"b": 3, "c": 4}, [1, 3, 4], [2, 5], [0, 9], 2)


# ---- Ctrl-C, which ends training and keeps what it has learned -------------------------------------------------------
def pressed(monkeypatch, n_calls, *, before=False):
    """Let Ctrl-C be pressed during the n-th compiled call of a training loop."""
    real, calls = train.runner, []

    def runner(*args, **options):
        run = real(*args, **options)

        def call(*given):
            calls.append(None)
            if before and len(calls) == n_calls:
                raise KeyboardInterrupt
            made = run(*given)
            if len(calls) == n_calls:
                raise KeyboardInterrupt
            return made

        return call

    monkeypatch.setattr(train, "runner", runner)


@pytest.mark.parametrize("way", ["first fit", "another fit", "warm", "early stopping", "partial_fit"])
def test_ctrl_c_before_the_first_step_is_an_exception(way, monkeypatch):
    make, call = WAYS[way]
    model = make()
    before = state(model)
    pressed(monkeypatch, 1, before=True)
    with pytest.raises(KeyboardInterrupt):
        call(model)
    assert state(model) == before


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_steps_of_an_interrupted_call_count(solver, monkeypatch):
    """Ctrl-C that arrives while a compiled call runs is an exception after it: weights and optimizer go together."""
    monkeypatch.setattr(train, "CALL_FLOPS", 1)  # one batch a call
    options = {"solver": solver, "batch_size": 10, "shuffle": False}
    expected = regressor(**options, max_iter=1).fit(X, VALUES).partial_fit(X[:20], VALUES[:20])
    pressed(monkeypatch, 8)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        model = regressor(**options).fit(X, VALUES)
    assert (model.n_iter_, model.t_, len(model.loss_curve_), len(model.history_["loss"])) == (1, 60, 1, 1)
    assert model._optimizer.step == expected._optimizer.step == 8
    for found, right in zip(model.coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(found, right)


def learned(model):
    """All that a fit has come to, but times."""
    return {name: value for name, value in state(model).items() if name not in ("warm_start", "_resume")}


GOES_ON = {
    "adam": {},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "step": {"learning_rate": "step", "decay_every": 2, "restore_best": True},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "metrics": ["r2"]},
}


@pytest.mark.filterwarnings("ignore:Training interrupted by user")
@pytest.mark.parametrize("case", GOES_ON)
def test_training_goes_on_exactly_after_ctrl_c_at_any_moment(case, monkeypatch):
    """The schedule and the judgement of an epoch belong to it, wherever Ctrl-C arrives around its end."""
    monkeypatch.setattr(train, "CALL_FLOPS", 1)  # one batch a call
    make = lambda: regressor(**GOES_ON[case], batch_size=20, max_iter=5, warm_start=True)  # noqa: E731
    expected = learned(make().fit(X, VALUES))
    total, rnd, n_stopped = moments(lambda: make().fit(X, VALUES)), random.Random(case), 0
    for at in {*range(total - 150, total, 3), *rnd.sample(range(total), 100)}:
        model = make()
        try:
            moments(lambda model=model: model.fit(X, VALUES), at, KeyboardInterrupt)
        except KeyboardInterrupt:
            continue
        stopped = model.stop_reason_ == "interrupted"
        n_stopped += stopped
        model = pickle.loads(pickle.dumps(model))
        assert learned(model.fit(X, VALUES) if stopped else model) == expected, f"moment {at} of {total}"
    assert n_stopped > 5


# ---- warnings that are errors ----------------------------------------------------------------------------------------
LATE = {
    "max_iter": (regressor, "Maximum iterations"),
    "lbfgs": (lambda: regressor(solver="lbfgs", max_iter=2), "lbfgs failed to converge"),
    "Ctrl-C": (regressor, "Training interrupted by user"),
}


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("case", LATE)
def test_a_warning_after_training_made_an_error_leaves_a_fitted_model(case, fitted, monkeypatch):
    make, message = LATE[case]
    model = make()
    if fitted:
        model.fit(-X, VALUES)
    if case == "Ctrl-C":
        pressed(monkeypatch, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Warning, match=message):
            model.fit(X, VALUES)
    monkeypatch.undo()
    expected = make().set_params(max_iter=3 if case == "Ctrl-C" else make().max_iter).fit(X, VALUES)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def test_a_warning_before_training_made_an_error_changes_nothing():
    model = regressor().fit(X, VALUES).set_params(batch_size=1000)
    before = state(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="batch_size"):
            model.fit(-X, VALUES)
    assert state(model) == before
