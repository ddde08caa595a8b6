"""``patch_sklearn``: fastnn trains scikit-learn's own estimators, which stay scikit-learn's in all that is seen."""

import copy
import functools
import io
import logging
import operator
import pickle
import threading
from multiprocessing.reduction import ForkingPickler

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.neural_network
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network import _multilayer_perceptron as mlp
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

import fastnn
from fastnn.patch import engine, fits, methods
from processes import ROOT, run

RNG = np.random.RandomState(4)
X = RNG.standard_normal((90, 5))
LABELS, VALUES = X[:, :3].argmax(axis=1), X @ RNG.standard_normal((5, 2))
SETTINGS = {"hidden_layer_sizes": (6,), "max_iter": 8, "random_state": 0}
Base = mlp.BaseMultilayerPerceptron
ORIGINAL = {name: vars(Base)[name] for name in methods.PARAMETERS}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]


@pytest.fixture(autouse=True)
def unpatched():
    yield
    fastnn.unpatch_sklearn()
    assert {name: vars(Base)[name] for name in ORIGINAL} == ORIGINAL


@pytest.fixture
def learned(monkeypatch):
    """The estimators that fastnn trains."""
    found, learn = [], engine.learn
    monkeypatch.setattr(engine, "learn", lambda estimator, *more: (found.append(estimator), learn(estimator, *more)))
    return found


# ---- what a fit is ---------------------------------------------------------------------------------------------------
# Estimator, options, X, y.
FITS = {
    "adam": (MLPClassifier, {}, X, LABELS),
    "sgd": (MLPClassifier, {"solver": "sgd", "learning_rate": "adaptive", "tol": 1, "n_iter_no_change": 1}, X, LABELS),
    "lbfgs": (MLPRegressor, {"solver": "lbfgs"}, X, VALUES),
    "two classes, strings": (MLPClassifier, {}, X, np.where(LABELS > 0, "yes", "no")),
    "several labels": (MLPClassifier, {}, X, (X[:, :3] > 0).astype(int)),
    "early stopping": (MLPClassifier, {"early_stopping": True}, X, LABELS),
    "poisson": (MLPRegressor, {"loss": "poisson"}, X, np.exp(VALUES[:, 0])),
    "sparse": (MLPRegressor, {}, sp.csr_array(X * (X > 0)), VALUES),
    "lists": (MLPClassifier, {}, X.tolist(), LABELS.tolist()),
}


@pytest.mark.parametrize("case", FITS)
def test_a_patched_fit_is_scikit_learns_to_rounding(case, learned):
    kind, options, data, y = FITS[case]
    theirs = kind(**{**SETTINGS, **options}).fit(data, y)
    with fastnn.patch_sklearn():
        ours = kind(**{**SETTINGS, **options}).fit(data, y)
        predicted = ours.predict(data)
    assert learned == [ours]
    assert vars(ours).keys() == vars(theirs).keys() - {"_random_state"}
    assert {name: type(value) for name, value in vars(ours).items() if name != "loss_"} == {
        name: type(vars(theirs)[name]) for name in vars(ours) if name != "loss_"
    }
    for name in ("coefs_", "intercepts_"):
        for own, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-8)
    assert (ours.n_iter_, ours.t_ if hasattr(theirs, "t_") else 0) == (theirs.n_iter_, getattr(theirs, "t_", 0))
    expected = theirs.predict(data)
    assert predicted.dtype == expected.dtype
    if predicted.dtype.kind == "f":
        np.testing.assert_allclose(predicted, expected, rtol=1e-6, atol=1e-8)
    else:
        np.testing.assert_array_equal(predicted, expected)
    if kind is MLPClassifier:
        np.testing.assert_allclose(ours.predict_proba(data), theirs.predict_proba(data), rtol=1e-6, atol=1e-8)


def test_float32_trains_in_float32_whatever_x_is(learned):
    with fastnn.patch_sklearn(dtype="float32"):
        model = MLPRegressor(**SETTINGS).fit(X, VALUES)
        assert (model.coefs_[0].dtype, model.predict(X).dtype) == (np.float32, np.float64)
    with fastnn.patch_sklearn():
        assert MLPRegressor(**SETTINGS).fit(X.astype(np.float32), VALUES).coefs_[0].dtype == np.float32
        assert MLPRegressor(**SETTINGS).fit(X, VALUES).coefs_[0].dtype == np.float64
    assert len(learned) == 3


@pytest.mark.parametrize(
    "options", [{"solver": "adam"}, {"solver": "sgd"}, {"solver": "sgd", "momentum": 0.0}], ids=str
)
@pytest.mark.parametrize("order", ["oooo", "otto", "toto"])  # o: patched, t: scikit-learn itself
def test_partial_fit_goes_on_with_what_the_other_has_left(options, order, learned):
    """Through a pickle each time, with scikit-learn's schedule and moments."""

    def trained(order):
        model = MLPRegressor(**SETTINGS, **options, learning_rate="invscaling", learning_rate_init=0.01)
        for part in order:
            (fastnn.patch_sklearn if part == "o" else fastnn.unpatch_sklearn)()
            model = pickle.loads(pickle.dumps(model.partial_fit(X, VALUES).partial_fit(X, VALUES)))
        return model

    theirs, ours = trained("tttt"), trained(order)
    assert len(learned) == 2 * order.count("o")
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-9, atol=1e-12)
    assert type(ours._optimizer) is type(theirs._optimizer)
    assert vars(ours._optimizer).keys() == vars(theirs._optimizer).keys()
    assert float(ours._optimizer.learning_rate) == pytest.approx(float(theirs._optimizer.learning_rate))
    assert len(ours.loss_curve_) == 8


def test_warm_starts_and_settings_of_the_optimizer_by_hand(learned):
    def trained():
        model = MLPClassifier(**SETTINGS, solver="sgd", warm_start=True).fit(X, LABELS).fit(X, LABELS)
        model._optimizer.learning_rate = model._optimizer.momentum = 0.5
        return model.partial_fit(X, LABELS)

    theirs = trained()
    with fastnn.patch_sklearn():
        ours = trained()
    assert len(learned) == 3
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-6, atol=1e-9)
    assert len(ours.loss_curve_) == len(theirs.loss_curve_) == 17


def test_a_fit_that_fails_raises_and_leaves_an_earlier_one(learned):
    with fastnn.patch_sklearn():
        model = MLPRegressor(**SETTINGS).fit(X, VALUES)
        before = dict(vars(model))
        with pytest.raises(ValueError, match="contains NaN"):
            model.fit(np.where(X > 2, np.nan, X), VALUES)
        assert vars(model) == before
        with pytest.raises(ValueError, match=r"'alpha' parameter of MLPRegressor .* Got -1"):
            model.set_params(alpha=-1).fit(X, VALUES)
        with pytest.raises(ValueError, match="4 features, but MLPRegressor is expecting 5"):
            model.predict(X[:, :4])


# ---- what stays scikit-learn's ---------------------------------------------------------------------------------------
def test_classes_parameters_and_texts_are_scikit_learns():
    before = [(kind, kind().get_params(), repr(kind(alpha=1)), kind.__doc__) for kind in (MLPClassifier, MLPRegressor)]
    known = dict(all_estimators())
    with fastnn.patch_sklearn():
        for kind, parameters, text, doc in before:
            assert getattr(sklearn.neural_network, kind.__name__) is kind is known[kind.__name__]
            model = kind(alpha=1)
            assert (kind().get_params(), repr(model), kind.__doc__) == (parameters, text, doc)
            assert type(clone(model)) is type(copy.deepcopy(model)) is kind
            assert "sk-" in model._repr_html_()
            with pytest.raises(ValueError, match="Invalid parameter 'dtype'"):
                model.set_params(dtype="float32")
        assert Base._fit.__doc__ == ORIGINAL["_fit"].__doc__


READ = """
sys.modules["fastnn"] = None  # as if it were not installed
import pickle, sklearn
models = pickle.load(open(os.environ["MODELS"], "rb"))
X, y = np.load(os.environ["MODELS"] + ".npz").values()
out["kinds"] = [type(model).__module__.split(".")[0] for model in models]
out["predicted"] = [model.predict(X).tolist() for model in models]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    out["further"] = models[0].partial_fit(X, y).coefs_[0].tolist()
"""


def test_dumped_models_open_where_fastnn_is_not_installed(tmp_path):
    with fastnn.patch_sklearn():
        models = [
            MLPClassifier(**SETTINGS).fit(X, LABELS),
            make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS)).fit(X, LABELS),
            GridSearchCV(MLPClassifier(**SETTINGS), {"alpha": [0.1, 1]}, cv=2).fit(X, LABELS),
        ]
        (tmp_path / "models").write_bytes(pickle.dumps(models))
        joblib.dump(models, tmp_path / "joblib")
        np.savez(tmp_path / "models.npz", X=X, y=LABELS)
        predicted = [model.predict(X).tolist() for model in models]
    assert b"fastnn" not in (tmp_path / "models").read_bytes() + (tmp_path / "joblib").read_bytes()
    read = run(ROOT, tmp_path, READ, MODELS=str(tmp_path / "models"))
    assert (read["kinds"], read["predicted"]) == (["sklearn"] * 3, predicted)
    with fastnn.patch_sklearn():
        np.testing.assert_allclose(models[0].partial_fit(X, LABELS).coefs_[0], read["further"], rtol=1e-9)


# ---- what scikit-learn trains itself ---------------------------------------------------------------------------------
def changed(name):
    """A subclass with a method of its own that calls scikit-learn's."""
    return type("Own", (MLPClassifier,), {name: lambda self, *args, **more: getattr(Base, name)(self, *args, **more)})


def with_instance(name):
    model = MLPClassifier(**SETTINGS)
    setattr(model, name, getattr(model, name))
    return model


# How a model is made, the reason that is told.
REFUSED = {
    "_backprop": (lambda patch: changed("_backprop")(**SETTINGS), "Own overrides _backprop"),
    "_init_coef": (lambda patch: changed("_init_coef")(**SETTINGS), "Own overrides _init_coef"),
    "under lbfgs": (lambda patch: changed("_unpack")(**SETTINGS, solver="lbfgs"), "Own overrides _unpack"),
    "early stopping": (
        lambda patch: changed("_forward_pass_fast")(**SETTINGS, early_stopping=True),
        "Own overrides _forward_pass_fast",
    ),
    "instance": (lambda patch: with_instance("_backprop"), "the instance has a _backprop of its own"),
    "no constructor": (
        lambda patch: vars(model := type("Own", (MLPClassifier,), {"alpha": 1e-4})(**SETTINGS)).pop("alpha") and model,
        "the instance has no attribute alpha",
    ),
    "wrapped": (
        lambda patch: (
            patch.setattr(Base, "_backprop", functools.wraps(Base._backprop)(lambda *a, f=Base._backprop: f(*a)))
            or MLPClassifier(**SETTINGS)
        ),
        "BaseMultilayerPerceptron._backprop has been replaced",
    ),
    "class": (
        lambda patch: patch.setattr(Base, "_backprop", lambda *a, f=Base._backprop: f(*a)) or MLPClassifier(**SETTINGS),
        "BaseMultilayerPerceptron._backprop has been replaced",
    ),
    "activation": (
        lambda patch: (
            patch.setitem(mlp.ACTIVATIONS, "relu", lambda X: np.maximum(X, 0, out=X)) or MLPClassifier(**SETTINGS)
        ),
        "ACTIVATIONS of scikit-learn's module have been changed",
    ),
    "optimizer": (
        lambda patch: (
            patch.setattr(mlp, "AdamOptimizer", type("Mine", (mlp.AdamOptimizer,), {})) or MLPClassifier(**SETTINGS)
        ),
        "the optimizers of scikit-learn's module have been replaced",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_fastnn_cannot_honour_is_trained_by_scikit_learn(case, learned, caplog, monkeypatch):
    make, reason = REFUSED[case]
    caplog.set_level(logging.INFO, logger="fastnn")
    with fastnn.patch_sklearn(), monkeypatch.context() as patch:
        model = make(patch).fit(X, LABELS)
        predicted = model.predict(X)
    assert not learned
    assert f"{type(model).__name__}.fit runs in scikit-learn: {reason}" in caplog.text
    theirs = MLPClassifier(**SETTINGS, solver=model.solver, early_stopping=model.early_stopping).fit(X, LABELS)
    np.testing.assert_allclose(model.coefs_[0], theirs.coefs_[0], rtol=1e-6)
    np.testing.assert_array_equal(predicted, theirs.predict(X))


@pytest.mark.parametrize("name", ["_unpack", "_score"])
def test_an_override_that_is_not_called_does_not_count(name, learned):
    with fastnn.patch_sklearn():
        changed(name)(**SETTINGS).fit(X, LABELS)
    assert len(learned) == 1


def test_an_optimizer_of_another_type_is_scikit_learns(learned, caplog):
    caplog.set_level(logging.INFO, logger="fastnn")
    with fastnn.patch_sklearn():
        model = MLPClassifier(**SETTINGS).fit(X, LABELS)
        model._optimizer.__class__ = type("Mine", (mlp.AdamOptimizer,), {})
        model.partial_fit(X, LABELS)
    assert len(learned) == 1
    assert "MLPClassifier.partial_fit runs in scikit-learn: _optimizer is of another type, Mine" in caplog.text


class Scaled(MLPRegressor):
    """Its own parameters are called like some of fastnn's."""

    def __init__(self, dropout=3, n_jobs="none", hidden_layer_sizes=(6,), max_iter=8, random_state=0):
        super().__init__(hidden_layer_sizes=hidden_layer_sizes, max_iter=max_iter, random_state=random_state)
        self.dropout = dropout
        self.n_jobs = n_jobs

    def fit(self, X, y):
        self.scale_ = self.dropout
        return super().fit(X, y / self.scale_)

    def predict(self, X):
        return super().predict(X) * self.scale_


def test_other_subclasses_are_trained_by_fastnn(learned):
    theirs = Scaled().fit(X, VALUES)
    with fastnn.patch_sklearn():
        ours = Scaled().fit(X, VALUES)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6, atol=1e-8)
        assert learned == [ours]
        assert isinstance(ours, MLPRegressor)
    assert (ours.dropout, ours.n_jobs) == (3, "none")
    assert vars(ours).keys() == vars(theirs).keys() - {"_random_state"}


# ---- taking it back --------------------------------------------------------------------------------------------------
def is_patched():
    return methods.current()


def test_patches_nest_and_are_taken_back():
    with fastnn.patch_sklearn() as outer:
        with pytest.raises(KeyError), fastnn.patch_sklearn(dtype="float32") as inner:
            assert (is_patched(), inner.active, repr(inner)) == (
                "float32",
                True,
                "<fastnn.patch_sklearn(dtype='float32'), active>",
            )
            raise KeyError
        assert (is_patched(), outer.active, inner.active) == ("match", True, False)
        fastnn.patch_sklearn(dtype="float32")
        fastnn.patch_sklearn()
        fastnn.unpatch_sklearn()
        assert (is_patched(), outer.active) == (None, False)
        assert vars(Base)["_fit"] is ORIGINAL["_fit"]
        fastnn.unpatch_sklearn()
        later = fastnn.patch_sklearn()
    assert later.active  # the end of a patch that has been taken back takes no other back


def test_threads_take_back_their_own_patches():
    start, errors = threading.Barrier(4), []

    def work(dtype):
        start.wait()
        for _ in range(20):
            with fastnn.patch_sklearn(dtype=dtype) as patch:
                if not patch.active or is_patched() is None:
                    errors.append(dtype)

    workers = [threading.Thread(target=work, args=(dtype,)) for dtype in ("match", "float32") * 2]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (errors, is_patched()) == ([], None)


def test_what_another_program_has_put_over_the_patch_stays(learned):
    calls = []

    def theirs(self, X, y, sample_weight=None, incremental=False):
        calls.append("theirs")
        return under(self, X, y, sample_weight=sample_weight, incremental=incremental)

    fastnn.patch_sklearn()
    under, Base._fit = Base._fit, theirs
    try:
        MLPClassifier(**SETTINGS).fit(X, LABELS)
        fastnn.unpatch_sklearn()
        MLPClassifier(**SETTINGS).fit(X, LABELS)
        fastnn.patch_sklearn()
        MLPClassifier(**SETTINGS).fit(X, LABELS)
        changed("_backprop")(**SETTINGS).fit(X, LABELS)
        fastnn.unpatch_sklearn()
        assert Base._fit is theirs
    finally:
        Base._fit = ORIGINAL["_fit"]
    assert (len(learned), calls) == (2, ["theirs"] * 3)


@pytest.mark.parametrize("dtype", ["float64", None, np.float32, 4])
def test_other_precisions_are_refused(dtype):
    with pytest.raises(ValueError, match=r"^dtype must be 'match' or 'float32', got "):
        fastnn.patch_sklearn(dtype=dtype)


def test_an_unknown_scikit_learn_is_left_alone(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Base, "_fit", lambda self, X, y: None)
        with pytest.raises(RuntimeError, match=r"does not know the scikit-learn .* no method _fit\(self, X, y, sam"):
            fastnn.patch_sklearn()
    assert vars(Base)["_forward_pass_fast"] is ORIGINAL["_forward_pass_fast"]


def test_a_notebook_loads_it_as_an_extension():
    fastnn.load_ipython_extension(None)
    assert is_patched() == "match"
    fastnn.unload_ipython_extension(None)
    assert is_patched() is None


# ---- workers ---------------------------------------------------------------------------------------------------------
WHERE = operator.attrgetter("_fit.__module__")


def test_workers_of_joblib_are_patched_as_their_program_is():
    model = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS))
    step = operator.methodcaller("__getitem__", -1)
    found = []
    with joblib.Parallel(n_jobs=2) as parallel:
        for patch in (fastnn.patch_sklearn, fastnn.unpatch_sklearn, fastnn.patch_sklearn):
            patch()
            found += set(parallel(joblib.delayed(WHERE)(step(model)) for _ in range(4)))
    theirs, ours = ORIGINAL["_fit"].__module__, methods.__name__
    assert found == [ours, theirs, ours]


def test_what_is_sent_to_this_process_does_not_patch_it():
    with fastnn.patch_sklearn():
        sent = ForkingPickler.dumps(MLPClassifier(**SETTINGS).fit(X, LABELS))
    model = pickle.load(io.BytesIO(sent))
    assert is_patched() is None
    assert model.score(X, LABELS) > 0


def test_a_fit_costs_no_record_where_nobody_asks(monkeypatch):
    monkeypatch.setattr(fits, "_place", None)
    with fastnn.patch_sklearn():
        MLPClassifier(**SETTINGS).fit(X, LABELS)
    assert fits._recorded is None
