"""README's table of differences from scikit-learn: each row with its test."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import neural_network
from sklearn.model_selection import train_test_split

import fastnn
from fastnn import MLPClassifier, MLPRegressor
from processes import ROOT

RNG = np.random.RandomState(0)
X = RNG.normal(size=(60, 4))
LABELS, VALUES = X[:, :3].argmax(axis=1), X[:, 0] - X[:, 1]
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # scikit-learn's side of some rows
]


def both(kind="MLPClassifier", **parameters):
    """fastnn's estimator and scikit-learn's."""
    return [getattr(library, kind)(**{**SMALL, **parameters}) for library in (fastnn, neural_network)]


def refuses(model, *args, match, error=ValueError, **more):
    with pytest.raises(error, match=match):
        model.fit(*args, **more)
    assert not hasattr(model, "coefs_")
    return True


def precision():
    ours, theirs = both()
    assert ours.fit(X, LABELS).coefs_[0].dtype == np.float32 and theirs.fit(X, LABELS).coefs_[0].dtype == np.float64
    exact = ours.set_params(dtype="match").fit(X, LABELS)
    np.testing.assert_allclose(exact.coefs_[0], theirs.coefs_[0], rtol=1e-11)


def type_of_coefs():
    for solver in ("adam", "sgd", "lbfgs"):
        for dtype in ("float32", "float64"):
            for given in (np.float32, np.float64):
                assert (
                    both(solver=solver)[0].set_params(dtype=dtype).fit(X.astype(given), LABELS).coefs_[0].dtype == dtype
                )
    assert both(solver="lbfgs")[1].fit(X.astype(np.float32), LABELS).coefs_[0].dtype == np.float64


def arithmetic_of_lbfgs():
    ours, theirs = both("MLPRegressor", solver="lbfgs", max_iter=30)
    y = 2e12 + 5e11 * VALUES
    np.testing.assert_allclose(ours.fit(X, y).loss_, theirs.fit(X, y).loss_, rtol=1e-6)


def too_large():
    ours, theirs = both()
    theirs.fit(X * 1e25, LABELS)
    assert refuses(ours, X * 1e25, LABELS, match='use dtype="float64"')
    start = [np.full((4, 5), 100.0), np.ones((5, 3))]
    assert refuses(ours, X * 1e18, LABELS, coefs_init=start, match='infinite in float32.*use dtype="float64"')


def log_proba():
    for model, finite in zip(both(), (True, False), strict=True):
        model.fit(X, LABELS).coefs_[-1][:] *= 1e4
        assert np.isfinite(model.predict_log_proba(X)).all() == finite


def threads():
    np.testing.assert_array_equal(*(MLPClassifier(**SMALL, n_jobs=n).fit(X, LABELS).coefs_[0] for n in (1, 2)))
    with pytest.raises(TypeError, match="n_jobs"):
        neural_network.MLPClassifier(n_jobs=2)


def same_bits():
    """Across processors and libraries: test_reproducible. Here: rows in other company and a second thread."""
    model = MLPClassifier(**SMALL, n_jobs=1).fit(X, LABELS)
    twin = MLPClassifier(**SMALL, n_jobs=2).fit(X, LABELS)
    assert model.loss_curve_ == twin.loss_curve_
    np.testing.assert_array_equal(model.predict_proba(X)[::7], twin.predict_proba(X[::7]))


def diverging():
    ours, theirs = both("MLPRegressor", solver="sgd", learning_rate_init=1e6, max_iter=50)
    assert refuses(ours, X, VALUES, match="The loss was (inf|nan) in epoch [1-9]")
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        theirs.fit(X, VALUES)
    assert theirs.n_iter_ > 10


INTERRUPTED = """
import signal, sys, warnings
import numpy as np
from fastnn import MLPClassifier, train

warnings.simplefilter("ignore")
X = np.random.RandomState(0).normal(size=(60, 4))
model = MLPClassifier((5,), max_iter=3)


class Pressing:  # Ctrl-C comes when the first epoch is about to begin
    def __call__(self, *args, **options):
        signal.raise_signal(signal.SIGINT)


signal.signal(signal.SIGINT, signal.default_int_handler)
train.runner, kept = (lambda *args, **options: Pressing()), train.runner
try:
    model.fit(X, X[:, 0] > 0)
except KeyboardInterrupt:
    print("KeyboardInterrupt", hasattr(model, "coefs_"))
"""


def ctrl_c_before_the_first_step():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["KeyboardInterrupt", "False"], done.stderr


def batch_without_weight():
    weights = np.r_[np.zeros(20), np.ones(40)]
    ours, theirs = both(batch_size=20, shuffle=False)
    with pytest.raises(ZeroDivisionError):
        theirs.fit(X, LABELS, sample_weight=weights)
    assert np.isfinite(ours.fit(X, LABELS, sample_weight=weights).loss_)


def held_out_without_weight():
    ours, theirs = both("MLPRegressor", early_stopping=True)
    _, held_out = train_test_split(np.arange(60), random_state=drawn_like(ours), test_size=0.1)
    weights = np.ones(60)
    weights[held_out] = 0
    assert refuses(ours, X, VALUES, sample_weight=weights, match="held out add up to zero")
    with pytest.raises((ValueError, ZeroDivisionError)):
        theirs.fit(X, VALUES, sample_weight=weights)
    assert theirs.n_iter_ == 1 and theirs.loss_curve_


def drawn_like(model):
    """The random state of a fit once it has drawn the initial weights of 4-5-1."""
    rng = np.random.RandomState(model.random_state)
    for size in (20, 5, 5, 1):
        rng.uniform(size=size)
    return rng


def weights_too_small():
    ours, theirs = both("MLPRegressor")
    theirs.fit(X, VALUES, sample_weight=np.full(60, 1e-60))
    assert refuses(ours, X, VALUES, sample_weight=np.full(60, 1e-60), match="alpha=0.0001 is too large")


def other_sizes():
    for model, told in zip(both(warm_start=True), ("warm_start and partial_fit cannot", "NoneType|shape"), strict=True):
        model.fit(X, LABELS).set_params(hidden_layer_sizes=(9, 9))
        with pytest.raises((ValueError, AttributeError), match=told):
            model.fit(X, LABELS)


def failing_fit():
    for model, kept in zip(both(), (True, False), strict=True):
        model.fit(X, LABELS)
        before = dict(vars(model))
        with pytest.raises(ValueError, match="validation set is too small"):
            model.set_params(early_stopping=True, validation_fraction=0.01).fit(X[:10], LABELS[:10])
        after = {name: value for name, value in vars(model).items() if name.endswith("_")}
        assert all(before.get(name) is value for name, value in after.items()) == kept


def private_methods():
    called = []

    def sub(kind, name, answer):
        return type("Sub", (kind,), {name: lambda self, *args: called.append(name) or answer(self, *args)})

    start = sub(MLPClassifier, "_init_coef", lambda self, n, m, dtype: (np.ones((n, m), dtype), np.ones(m, dtype)))
    start(**SMALL).fit(X, LABELS)
    assert called == ["_init_coef"] * 2
    theirs = neural_network.MLPClassifier._backprop
    sub(neural_network.MLPClassifier, "_backprop", theirs)(**SMALL).fit(X, LABELS)
    assert called[2:] == ["_backprop"] * 3
    assert refuses(sub(MLPClassifier, "_backprop", None)(**SMALL), X, LABELS, error=TypeError, match="to_sklearn")


def indices_out_of_bounds():
    matrix = sp.csr_array(np.where(X > 0, X, 0))
    matrix.indices[5] = 4
    assert refuses(both()[0], matrix, LABELS, match="X ")


def labels_of_edited_classes():
    for model, fails in zip(both(), (True, False), strict=True):
        model.fit(X, LABELS)
        model.classes_ = np.array([7, 8, 9])
        if fails:
            with pytest.raises(ValueError, match="none of the classes"):
                model.partial_fit(X, LABELS + 7)
        else:
            model.partial_fit(X, LABELS + 7)


def partial_fit_of_lbfgs():
    ours, theirs = both("MLPRegressor", solver="lbfgs")
    assert not hasattr(ours, "partial_fit") and not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert hasattr(theirs, "partial_fit")


def negative_counts():
    ours, theirs = both("MLPRegressor", loss="poisson")
    assert np.isnan(theirs.fit(X, VALUES).loss_)
    assert refuses(ours, X, VALUES, match="negative")


class Watch(io.StringIO):
    """Standard output that looks at an estimator whenever something is printed, as another thread would."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, set()

    def write(self, text):
        self.seen.add(len(getattr(self.model, "loss_curve_", ())))


def attributes_while_training():
    seen = []
    for model in both(verbose=True):
        with contextlib.redirect_stdout(Watch(model)) as watch:
            model.fit(X, LABELS)
        seen.append(watch.seen)
        assert len(model.loss_curve_) == 3
    assert seen == [{0}, {1, 2, 3}]


def hash_of_fits():
    same = [len({joblib.hash(model.fit(X, LABELS)) for _ in range(3)}) == 1 for model in both()]
    assert same == [False, True]


def single_batch():
    """A generator of the user's own is drawn from, for others may go on with it; an int's order stays."""
    settings = {**SMALL, "batch_size": 60, "solver": "sgd", "learning_rate_init": 0.5}
    seeds = 0, np.random.RandomState(0)
    still, moved = (MLPClassifier(**{**settings, "random_state": seed}).fit(X, LABELS) for seed in seeds)
    np.testing.assert_allclose(still.coefs_[0], moved.coefs_[0], rtol=1e-4, atol=1e-6)
    in_order = MLPClassifier(**settings, shuffle=False).fit(X, LABELS)
    np.testing.assert_array_equal(still.coefs_[0], in_order.coefs_[0])
    assert not np.array_equal(still.coefs_[0], moved.coefs_[0])


def tiny_numbers():
    small = np.r_[np.full(30, 1e-42), np.zeros(30)]
    ours = MLPRegressor(**{**SMALL, "hidden_layer_sizes": (), "solver": "sgd"}, momentum=0, alpha=0)
    start = [np.zeros((4, 1))], [np.zeros(1)]
    ours.fit(X, small, coefs_init=start[0], intercepts_init=start[1])
    assert (ours.coefs_[0] == 0).all() and (ours.intercepts_[0] == 0).all()


def size_of_pickle():
    sizes = [len(pickle.dumps(model.set_params(hidden_layer_sizes=(400, 400)).fit(X, LABELS))) for model in both()]
    n = 4 * 400 + 400 * 400 + 400 * 3 + 803
    assert 12 * n < sizes[0] < 12.3 * n and 32 * n < sizes[1] < 32.3 * n


# first words of the row -> its test
ROWS = {
    "precision of training": precision,
    "type of `coefs_`": type_of_coefs,
    "arithmetic of lbfgs": arithmetic_of_lbfgs,
    "values too large for float32": too_large,
    "`predict_log_proba` where": log_proba,
    "threads": threads,
    "same bits of weights": same_bits,
    "loss becomes NaN": diverging,
    "Ctrl-C before the first step": ctrl_c_before_the_first_step,
    "mini-batch whose weights": batch_without_weight,
    "held-out rows whose weights": held_out_without_weight,
    "sample weights so small": weights_too_small,
    "`warm_start` with other": other_sizes,
    "`fit` that fails": failing_fit,
    "attributes of a fit": attributes_while_training,
    "`joblib.hash` of two fits": hash_of_fits,
    "private methods": private_methods,
    "sparse indices out of bounds": indices_out_of_bounds,
    "labels in `y`": labels_of_edited_classes,
    "regressor's `partial_fit`": partial_fit_of_lbfgs,
    '`loss="poisson"` with negative': negative_counts,
    "one batch of all rows": single_batch,
    "numbers nearer to zero": tiny_numbers,
    "size of a pickle": size_of_pickle,
}


@pytest.mark.parametrize("row", ROWS)
def test_the_row_is_true(row):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ROWS[row]()


def test_every_row_of_the_table_has_its_test():
    text = Path(ROOT, "README.md").read_text(encoding="utf-8")
    table = text[text.index("## How fastnn differs") :].split("\n\n")[1].splitlines()
    rows = [line.split("|")[1].strip() for line in table[2:]]
    assert len(rows) == len(ROWS)
    for row, first_words in zip(rows, ROWS, strict=True):
        assert row.startswith(first_words)
