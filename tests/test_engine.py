"""Training, gradient and prediction as a whole, without the estimators, against the float64 twin in ``reference``."""

from itertools import product

import numpy as np
import pytest
from numba import config
from sklearn.exceptions import ConvergenceWarning

import fastnn
import reference
from fastnn import infer, state, threads, train
from fastnn.core.nn.losses import LOSSES
from fastnn.core.nn.optimizers import OPTIMIZERS
from fastnn.core.records import EncodedData
from fastnn.plan import make_plan
from fastnn.walk import Walk
from step_scalars import scalars_of

HIDDEN = ("identity", "logistic", "tanh", "relu")
SOLVERS = {
    "nesterov": dict(solver="sgd", momentum=0.9, nesterovs_momentum=True),
    "momentum": dict(solver="sgd", momentum=0.8, nesterovs_momentum=False),
    "plain": dict(solver="sgd", momentum=0.0, nesterovs_momentum=False),
    "adam": dict(solver="adam", beta_1=0.8, beta_2=0.99, epsilon=1e-3),
    "rmsprop": dict(solver="rmsprop", rho=0.8, epsilon=1e-3),
}
N_ROWS, N_FEATURES = 29, 6
BATCHES = (10, 29, 1, 6)  # the last one short; all rows; single rows; more steps
ALPHA = 0.02


class Problem:
    """A network, its data in both spellings, and its starting weights."""

    def __init__(self, loss, hidden, activation, *, n_outputs, dtype, n=N_ROWS, weighted=False, seed=0, **options):
        rng = np.random.RandomState(seed)
        self.units = (N_FEATURES, *hidden, n_outputs)
        self.names = dict(hidden_activation=activation, out_activation=LOSSES[loss].output, loss=loss)
        self.dtype = np.dtype(dtype)
        self.X = rng.standard_normal((n, N_FEATURES)).astype(np.float32)  # the same numbers for both dtypes
        out = LOSSES[loss].output
        if out == "softmax" or (loss == "logistic_squared_error" and n_outputs > 1):
            self.y = rng.randint(n_outputs, size=n)
        elif out == "logistic":
            self.y = rng.randint(2, size=(n, n_outputs))
        elif loss == "gamma":
            self.y = rng.gamma(2, 1, size=(n, n_outputs)).astype(np.float32)
        elif out == "exp":
            self.y = rng.poisson(1.2, size=(n, n_outputs))
        else:
            self.y = rng.standard_normal((n, n_outputs)).astype(np.float32)
        keep = (rng.uniform(size=n) < 0.8) | (options.get("batch_size") == 1)  # no batch without weight
        self.weights = (rng.uniform(0.1, 2, n) * keep).astype(np.float32) if weighted else None
        self.coefs, self.intercepts = reference.draw_weights(rng, self.units, activation)
        settings = {"batch_size": n, "solver": "sgd", "alpha": ALPHA} | options
        self.layout, self.plan = make_plan(units=self.units, dtype=dtype, **self.names, **settings)
        self.state = state.new_state(self.layout, self.plan)
        self.state.adopt(self.coefs, self.intercepts)

    @property
    def data(self):
        labels, targets = np.empty(0, np.int32), np.empty((0, 0))
        if self.y.ndim == 1:
            labels = self.y.astype(np.int32)
        else:
            targets = self.y
        weights = np.empty(0) if self.weights is None else self.weights
        X, targets, weights = (np.ascontiguousarray(x, self.dtype) for x in (self.X, targets, weights))
        return EncodedData(frozen(X), None, frozen(labels), frozen(targets), frozen(weights))

    def train(self, epochs, rate, seed=5, shuffle=True, n_threads=1):
        rows, rng = np.arange(len(self.X)), np.random.RandomState(seed)
        walk = Walk(rows, rng if shuffle else None)
        options = dict(walk=walk, schedule=Rates(self.plan, rate), n_threads=n_threads)
        records = train.train(self.layout, self.plan, self.state, self.data, max_epochs=epochs, **options)
        return list(records)

    def full_batch(self):
        return train.FullBatch(self.layout, self.plan, self.state.params, self.data, n_threads=1)


def frozen(array):
    view = array.view()
    view.flags.writeable = False
    return view


class Rates:
    """A constant learning rate, with Adam's bias correction where the plan has one."""

    def __init__(self, plan, rate):
        self.plan, self.rate = plan, rate

    def scalars(self, step, n_steps):
        if self.plan.solver != OPTIMIZERS["adam"].id:
            return scalars_of(np.full(n_steps, self.rate))
        t = np.arange(step, step + n_steps) + 1
        return scalars_of(self.rate * np.sqrt(1 - 0.99**t) / (1 - 0.8**t))


def outputs_of(loss, many):
    by_output = {"softmax": (2, 5), "exp": (1, 2)}.get(LOSSES[loss].output, (1, 4))
    return {"log_loss": (3, 3)}.get(loss, by_output)[many]


def relative_error(given, expected):
    """The largest difference of a list of arrays, in units of its largest value."""
    difference = max(np.abs(g - e).max() for g, e in zip(given, expected, strict=True))
    return difference / max(np.abs(e).max() for e in expected)


# ---- training -------------------------------------------------------------------------------------------------------
# Every combination; which batch size goes with it turns with the combination.
GRID = [
    (*case, BATCHES[i // 7 % 4])
    for i, case in enumerate(product(HIDDEN, LOSSES, SOLVERS, ((), (5,), (17, 3)), (False, True)))
]
# All of them for these losses, for the others one activation with each solver.
IN_FULL = ("log_loss", "binary_log_loss", "squared_error", "poisson", "logistic_squared_error", "softmax_squared_error")
TRAJECTORIES = [
    case
    for i, case in enumerate(product(LOSSES, SOLVERS, HIDDEN))
    if case[0] in IN_FULL or HIDDEN[i // len(HIDDEN) % len(HIDDEN)] == case[2]
]
TOLERANCE = {np.float64: 1e-12, np.float32: 3e-5}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("loss, solver, activation", TRAJECTORIES)
def test_training_walks_the_reference_trajectory(activation, loss, solver, dtype):
    cases = [case[3:] for case in GRID if case[:3] == (activation, loss, solver)]
    assert len(cases) == 6
    for number, (hidden, weighted, batch) in enumerate(cases):
        options = dict(SOLVERS[solver], batch_size=batch)
        many = bool(number % 2)
        problem = Problem(
            loss, hidden, activation, n_outputs=outputs_of(loss, many), dtype=dtype, weighted=weighted, **options
        )
        rate = 0.002 if LOSSES[loss].output == "exp" else 0.01
        records = problem.train(3, rate)
        expected, coefs, intercepts = reference.train(
            problem.coefs, problem.intercepts, problem.X, problem.y, **problem.names, rng=np.random.RandomState(5),
            sample_weight=problem.weights, alpha=ALPHA, max_iter=3, learning_rate_init=rate, tol=-np.inf, **options,
        )  # fmt: skip
        name = f"hidden={hidden} weighted={weighted} batch={batch} outputs={problem.units[-1]}"
        assert [record.n_steps for record in records] == [-(-N_ROWS // batch)] * 3
        assert all(record.finite and record.seconds > 0 for record in records)
        np.testing.assert_allclose([r.loss for r in records], expected, rtol=TOLERANCE[dtype], err_msg=name)
        trained = problem.state.coefs + problem.state.intercepts
        assert relative_error(trained, coefs + intercepts) < TOLERANCE[dtype], name


def test_without_shuffling_rows_keep_their_order():
    problem = Problem("squared_error", (4,), "tanh", n_outputs=1, dtype=np.float64, batch_size=8)
    losses = [record.loss for record in problem.train(2, 0.05, shuffle=False)]
    expected, *_ = reference.train(
        problem.coefs, problem.intercepts, problem.X, problem.y, **problem.names, solver="sgd", shuffle=False,
        alpha=ALPHA, batch_size=8, max_iter=2, learning_rate_init=0.05, momentum=0.0, nesterovs_momentum=False,
    )  # fmt: skip
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_only_the_given_rows_are_learned_from():
    problem = Problem("log_loss", (5,), "relu", n_outputs=3, dtype=np.float64, batch_size=4)
    problem.X[1::2] = np.nan
    rows = np.arange(0, N_ROWS, 2)
    options = dict(walk=Walk(rows, np.random.RandomState(1)), schedule=Rates(problem.plan, 0.1))
    args = (problem.layout, problem.plan, problem.state, problem.data)
    (record,) = train.train(*args, max_epochs=1, n_threads=1, **options)
    assert record.finite
    assert record.n_steps == problem.state.step == 4
    assert sorted(rows) == list(range(0, N_ROWS, 2))


def test_long_epochs_are_cut_into_several_compiled_calls(monkeypatch):
    """The cut, made so that Ctrl-C is heard, changes no bit."""
    options = dict(n_outputs=3, dtype=np.float32, batch_size=4, **SOLVERS["nesterov"])
    whole, cut = (Problem("log_loss", (5,), "tanh", **options) for _ in range(2))
    one_call = whole.train(3, 0.05)
    calls, original = [], train.runner

    def counting(entry, *args):
        run = original(entry, *args)
        return lambda *given: calls.append(entry) or run(*given)

    monkeypatch.setattr(train, "runner", counting)
    monkeypatch.setattr(train, "CALL_FLOPS", 3 * train.step_flops(cut.layout, 4))
    assert [r[:3] for r in cut.train(3, 0.05)] == [r[:3] for r in one_call]
    assert calls.count(train.entries.train) == 9  # 8 batches, 3 a call, 3 epochs
    np.testing.assert_array_equal(cut.state.params, whole.state.params)


def test_a_generator_that_is_closed_and_one_that_goes_on_agree():
    """Training is one walk however many generators it takes: state holds all that is needed to go on."""
    options = dict(n_outputs=2, dtype=np.float64, batch_size=6, **SOLVERS["adam"])
    one, two = (Problem("squared_error", (7,), "relu", **options) for _ in range(2))
    one.train(4, 0.01, shuffle=False)
    two.train(1, 0.01, shuffle=False)
    assert two.state.step == 5
    two.train(3, 0.01, shuffle=False)
    assert one.state.step == two.state.step == 20
    np.testing.assert_array_equal(one.state.params, two.state.params)
    np.testing.assert_array_equal(one.state.moments, two.state.moments)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python keeps such numbers")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_weights_next_to_zero_become_zero_and_the_threads_keep_their_mode(n_threads, monkeypatch):
    """No row moves the weights of a column of zeros: they fade, and each number next to zero would cost a lot."""
    monkeypatch.setattr(threads, "CROSSOVER_FLOPS", 0)
    tiny = np.finfo(np.float32).tiny
    problem = Problem("squared_error", (9,), "relu", n_outputs=2, dtype=np.float32, batch_size=8, alpha=0.0)
    problem.X[:, 1] = 0
    problem.state.coefs[0][1] = tiny / 4
    problem.train(2, 0.01, n_threads=n_threads)
    np.testing.assert_array_equal(problem.state.coefs[0][1], 0)
    assert (np.full(8, tiny) * np.float32(0.5) > 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_batch_without_weight_makes_no_step(solver):
    def trained(rows, **extra):
        problem = Problem("squared_error", (5,), "tanh", n_outputs=2, dtype=np.float64, batch_size=5, **extra)
        problem.X, problem.y = problem.X[rows], problem.y[rows]
        problem.weights = np.where(np.arange(N_ROWS) // 5 == skipped, 0.0, 1.0)[rows]
        return problem, problem.train(1, 0.05, shuffle=False)[0]

    skipped = 5  # the last batch
    problem, record = trained(np.arange(N_ROWS), **SOLVERS[solver])
    shorter, without = trained(np.arange(25), **SOLVERS[solver])
    assert record.finite
    np.testing.assert_array_equal(problem.state.params, shorter.state.params)
    np.testing.assert_array_equal(problem.state.moments, shorter.state.moments)
    np.testing.assert_allclose(record.loss, without.loss * 25 / N_ROWS, rtol=1e-14)


BAD = {
    "NaN in X": lambda problem: problem.X.__setitem__((17, 2), np.nan),
    "inf in X": lambda problem: problem.X.__setitem__((17, 2), np.inf),
    "NaN in y": lambda problem: problem.y.__setitem__((17, 0), np.nan),
    "huge weights": lambda problem: problem.state.coefs[0].fill(1e30),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bad", BAD)
def test_a_loss_that_is_not_finite_ends_training_before_its_step(bad, solver):
    problem = Problem("squared_error", (5,), "identity", n_outputs=1, dtype=np.float32, batch_size=5, **SOLVERS[solver])
    BAD[bad](problem)
    before = problem.state.params.copy()
    records = problem.train(4, 0.001, shuffle=False)
    assert len(records) == 1
    assert not records[0].finite
    assert not np.isfinite(records[0].loss)
    first = 0 if bad == "huge weights" else 3  # row 17 is in batch 3
    assert records[0].n_steps == problem.state.step == first
    assert np.isfinite(problem.state.params).all()
    assert np.array_equal(problem.state.params, before) == (first == 0)


# ---- gradient -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", HIDDEN)
def test_gradient_is_the_slope_of_its_own_loss(activation, loss, many, weighted):
    n_outputs = outputs_of(loss, many)
    options = dict(n=11, weighted=weighted, seed=33, solver="lbfgs", alpha=0.5)
    problem = Problem(loss, (5, 4), activation, n_outputs=n_outputs, dtype=np.float64, **options)
    full_batch = problem.full_batch()
    twin = reference.propagate(
        problem.coefs, problem.intercepts, problem.X, activation, problem.names["out_activation"]
    )
    if activation == "relu":
        assert min(np.abs(z).min() for z in twin[0][:-1]) > 1e-3  # no kink within reach of the differences
    weight_sum = 11 if problem.weights is None else problem.weights.sum(dtype=float)

    def descended():
        """Errors are averaged over outputs in the loss, not in the gradient."""
        value = full_batch()
        if not reference.LOSSES[loss].averages_outputs:
            return value
        penalty = reference.penalty(problem.state.coefs, 0.5, weight_sum)
        return (value - penalty) * n_outputs + penalty

    slope = reference.numerical_gradient(descended, problem.state.params, step=1e-4)
    full_batch()
    assert np.abs(full_batch.gradient - slope).max() < 1e-7 * np.abs(slope).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("n", [1, 29, 1024, 1025, 2500])
def test_full_batch_of_many_rows_is_the_reference(n, dtype):
    """Rows go through in chunks; loss and gradient are those of all rows at once."""
    options = dict(n=n, solver="lbfgs", alpha=0.3)
    for loss, n_outputs, weighted in (("log_loss", 3, n > 1), ("squared_error", 2, False), ("poisson", 1, n > 1)):
        problem = Problem(loss, (9,), "tanh", n_outputs=n_outputs, dtype=dtype, weighted=weighted, **options)
        full_batch = problem.full_batch()
        value, d_coefs, d_intercepts = reference.gradients(
            problem.coefs, problem.intercepts, problem.X, problem.y, **problem.names,
            sample_weight=problem.weights, alpha=0.3,
        )  # fmt: skip
        tolerance = 1e-12 if dtype == np.float64 else 1e-5
        assert abs(full_batch() - value) < tolerance * abs(value)
        gradient = state.split(problem.layout, full_batch.gradient)
        assert relative_error(gradient[0] + gradient[1], d_coefs + d_intercepts) < tolerance


# ---- prediction -----------------------------------------------------------------------------------------------------
ROWS = {"all": None, "one": [4], "some, with repeats": [7, 0, 7, 28], "reversed": range(28, -1, -1)}
FORWARD = {
    "no hidden layer": ((), 3, "identity", "softmax"),
    "one output": ((8,), 1, "tanh", "logistic"),
    "one output, no hidden layer": ((), 1, "relu", "exp"),
    "one unit": ((1,), 1, "relu", "identity"),
    "narrow": ((17, 3), 4, "logistic", "logistic"),
    "wide": ((33, 100), 11, "relu", "softmax"),
    "several values": ((5, 5, 5), 5, "identity", "identity"),
}
LOSS_OF = {LOSSES[name].output: name for name in ("binary_log_loss", "squared_error", "poisson", "log_loss")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", FORWARD)
def test_forward_is_the_reference(case, dtype):
    hidden, n_outputs, activation, out = FORWARD[case]
    for n in (1, 2, 9, 29, 127, 128, 129, 300):
        problem = Problem(LOSS_OF[out], hidden, activation, n_outputs=n_outputs, dtype=dtype, n=n)
        network = (problem.layout, problem.plan, problem.state.params, problem.data)
        expected = reference.forward(problem.coefs, problem.intercepts, problem.X, activation, out)[-1]
        for name, rows in ROWS.items() if n == 29 else [("all", None)]:
            rows = None if rows is None else np.array(rows)
            outputs = infer.forward(*network, rows=rows, n_threads=1)
            wanted = expected if rows is None else expected[rows]
            assert outputs.dtype == np.float64
            tolerance = 1e-13 if dtype == np.float64 else 1e-5
            np.testing.assert_allclose(outputs, wanted, rtol=tolerance, atol=tolerance, err_msg=f"{n}, {name}")


def test_a_row_predicts_the_same_bits_in_any_company():
    problem = Problem("log_loss", (19,), "tanh", n_outputs=3, dtype=np.float32, n=200)
    network = (problem.layout, problem.plan, problem.state.params, problem.data)
    together = infer.forward(*network, n_threads=1)
    for rows in ([5], [199, 5, 130], range(100, 200), range(1, 200, 7)):
        rows = np.array(rows)
        np.testing.assert_array_equal(infer.forward(*network, rows=rows, n_threads=1), together[rows])


@pytest.mark.parametrize("n_rows, batch", [(train.MANY_DRAWS // 4, 7), (train.MANY_DRAWS, 500), (50, 50), (50, 8)])
def test_permutations_drawn_quickly_are_those_of_the_generator(n_rows, batch):
    """Compiled code may draw them, and a single batch needs none: neither changes what is learned."""
    rng = np.random.RandomState(0)
    X, y = rng.rand(n_rows, 3).astype(np.float32), rng.randint(0, 2, n_rows)
    weights = []
    for random_state in (3, np.random.RandomState(3)):  # ours alone; the user's, drawn from in place
        options = dict(max_iter=4, tol=0, n_jobs=2, random_state=random_state, batch_size=batch)
        model = fastnn.MLPClassifier((5,), solver="sgd", **options)
        with pytest.warns(ConvergenceWarning):
            model.fit(X, y)
        weights.append(np.concatenate([array.ravel() for array in model.coefs_ + model.intercepts_]))
    if batch < n_rows:
        np.testing.assert_array_equal(*weights)
    else:
        np.testing.assert_allclose(*weights, rtol=0, atol=1e-6)
