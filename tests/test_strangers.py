"""Code that knows scikit-learn only: every case runs twice, with the import line of each library, and must agree."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn import config_context, datasets, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.exceptions import ConvergenceWarning, UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.inspection import DecisionBoundaryDisplay, partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import estimator_html_repr
from sklearn.utils.fixes import parse_version

import fastnn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(11)
X, Y = datasets.make_classification(150, 8, n_informative=5, n_classes=3, class_sep=1.5, random_state=4)
NAMES = np.array(["ash", "birch", "cedar"])[Y]
BINARY = np.where(Y == 0, "no", "yes")
PAIR = np.c_[X[:, 0] - X[:, 1], X[:, 2] * X[:, 3]]
VALUES = PAIR[:, 0]
WEIGHT = RNG.uniform(0.2, 2, size=150)
FLAGS = np.c_[X[:, 0] > 0, X[:, 1] > 0, X[:, 0] > X[:, 2]].astype(int)
FRAME = pd.DataFrame(X, columns=[f"x{i}" for i in range(8)]).assign(
    place=np.array(["north", "south", "east"])[RNG.randint(3, size=150)]
)
TEXTS = [" ".join(RNG.choice(["red", "oak", name, name, "leaf"], 4)) for name in NAMES]


def classifier(library, **parameters):
    return library.MLPClassifier(**{"hidden_layer_sizes": (8,), "max_iter": 12, "random_state": 0, **parameters})


def regressor(library, **parameters):
    return library.MLPRegressor(**{"hidden_layer_sizes": (8,), "max_iter": 12, "random_state": 0, **parameters})


def judged(model, x=X):
    """What a fitted model says."""
    if hasattr(model, "predict_proba"):
        return {"predict": model.predict(x), "proba": np.asarray(model.predict_proba(x))}
    return {"predict": model.predict(x)}


def searched(search, x=X, y=NAMES, **options):
    search.fit(x, y, **options)
    results = {name: values for name, values in search.cv_results_.items() if name.endswith("test_score")}
    return {"best": search.best_params_, **results, **judged(search, x)}


# ---- pipelines, tables, text ----------------------------------------------------------------------------------------
def columns(library):
    numbers, words = [f"x{i}" for i in range(8)], ["place"]
    table = make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(), words))
    model = Pipeline([("table", table), ("net", classifier(library))]).fit(FRAME, NAMES)
    return {"score": model.score(FRAME, NAMES), "classes": model.classes_, **judged(model, FRAME)}


def sparse_columns(library):
    table = make_column_transformer((OneHotEncoder(), ["place"]), ("passthrough", ["x0"]), sparse_threshold=1.0)
    return judged(make_pipeline(table, classifier(library, solver="sgd")).fit(FRAME, NAMES), FRAME)


def text(library):
    return judged(make_pipeline(TfidfVectorizer(), classifier(library)).fit(TEXTS, NAMES), TEXTS)


def stream(library):
    model, words = classifier(library), HashingVectorizer(n_features=2**8)
    for start in range(0, 150, 50):
        part = slice(start, start + 50)
        model.partial_fit(words.transform(TEXTS[part]), NAMES[part], classes=np.unique(NAMES))
    return judged(model, words.transform(TEXTS))


def frame_output(library):
    model = make_pipeline(StandardScaler(), regressor(library)).set_output(transform="pandas")
    model.fit(FRAME.drop(columns="place"), VALUES)
    return {"names": model[-1].feature_names_in_, **judged(model, FRAME.drop(columns="place"))}


# ---- searches and validation ----------------------------------------------------------------------------------------
GRID = {"hidden_layer_sizes": [(2,), 8, (8, 4)], "alpha": [1e-4, 10.0]}


def grid(library):
    return searched(GridSearchCV(classifier(library), GRID, cv=3))


def grid_in_pipeline(library):
    model = Pipeline([("scale", StandardScaler()), ("net", classifier(library))])
    grid = {"net__learning_rate_init": [1e-3, 1e-2], "scale": [StandardScaler(), "passthrough"]}
    return searched(GridSearchCV(model, grid, cv=3, scoring="neg_log_loss"))


def random_search(library):
    grid = {"learning_rate_init": np.logspace(-4, -1, 20), "activation": ["relu", "tanh"]}
    return searched(RandomizedSearchCV(regressor(library), grid, n_iter=4, cv=3, random_state=1), y=VALUES)


def halving(library):
    search = HalvingGridSearchCV(classifier(library), GRID, resource="max_iter", max_resources=18, cv=2, random_state=0)
    return {**searched(search), "resources": search.n_resources_}


def validated(library):
    model = classifier(library, early_stopping=True)
    result = cross_validate(model, X, NAMES, cv=3, scoring=["accuracy", "roc_auc_ovr"], return_train_score=True)
    return {name: values for name, values in result.items() if "time" not in name}


def predicted_across(library):
    return {"proba": cross_val_predict(classifier(library), X, BINARY, cv=4, method="predict_log_proba")}


def curves(library):
    sizes, *scores = learning_curve(
        classifier(library, solver="sgd"), X, Y, cv=3, train_sizes=[0.2, 0.6, 1.0], exploit_incremental_learning=True
    )
    other = validation_curve(regressor(library), X, VALUES, param_name="alpha", param_range=[0.1, 5.0], cv=3)
    return {"sizes": sizes, "learning": np.array(scores), "validation": np.array(other)}


# ---- estimators around it -------------------------------------------------------------------------------------------
def calibrated(library):
    model = CalibratedClassifierCV(classifier(library), cv=3).fit(X, NAMES, sample_weight=WEIGHT)
    return judged(model)


def stacked(library):
    parts = [("net", classifier(library)), ("line", LogisticRegression())]
    values = StackingRegressor([("net", regressor(library))], final_estimator=Ridge(), cv=3).fit(X, VALUES)
    return {**judged(StackingClassifier(parts, cv=3).fit(X, NAMES)), "values": values.predict(X)}


def voting(library):
    parts = [("a", classifier(library)), ("b", classifier(library, solver="lbfgs"))]
    return judged(VotingClassifier(parts, voting="soft").fit(X, NAMES, sample_weight=WEIGHT))


def bagged(library):
    model = BaggingRegressor(regressor(library), n_estimators=3, max_features=0.5, random_state=2)
    return judged(model.fit(X, VALUES, sample_weight=WEIGHT))


def boosted(library):
    part = classifier(library, learning_rate_init=0.01)
    return judged(AdaBoostClassifier(part, n_estimators=3, random_state=2).fit(X, NAMES))


def one_for_each_class(library):
    found = {}
    for name, kind in {"rest": OneVsRestClassifier, "one": OneVsOneClassifier, "code": OutputCodeClassifier}.items():
        options = {"random_state": 3} if name == "code" else {}
        found[name] = kind(classifier(library), **options).fit(X, NAMES).predict(X)
    found["labels"] = OneVsRestClassifier(classifier(library)).fit(X, FLAGS).predict_proba(X)
    return found


def several_outputs(library):
    many = MultiOutputClassifier(classifier(library)).fit(X, np.c_[NAMES, BINARY])
    streamed = MultiOutputClassifier(classifier(library)).partial_fit(X, FLAGS, classes=[[0, 1]] * 3)
    return {
        "many": many.predict(X),
        "streamed": np.array(streamed.predict_proba(X)),
        "chain": ClassifierChain(classifier(library), random_state=0).fit(X, FLAGS).predict_proba(X),
        "values": MultiOutputRegressor(regressor(library)).fit(X, PAIR, sample_weight=WEIGHT).predict(X),
        "value chain": RegressorChain(regressor(library)).fit(X, PAIR).predict(X),
        "own labels": classifier(library).fit(X, FLAGS).predict(X),
        "own values": regressor(library).fit(X, PAIR).predict(X),
    }


def transformed_target(library):
    model = TransformedTargetRegressor(regressor(library), func=np.cbrt, inverse_func=lambda v: v**3)
    return judged(model.fit(X, VALUES, sample_weight=WEIGHT))


def half_labelled(library):
    known = np.where(np.arange(150) % 3 == 0, Y, -1)
    return judged(SelfTrainingClassifier(classifier(library), threshold=0.6, max_iter=3).fit(X, known))


def threshold(library):
    model = TunedThresholdClassifierCV(classifier(library), cv=3, thresholds=9).fit(X, BINARY == "yes")
    return {"threshold": model.best_threshold_, **judged(model)}


def selected(library):
    model = SequentialFeatureSelector(regressor(library, max_iter=3), n_features_to_select=2, cv=2).fit(X, VALUES)
    return {"support": model.get_support()}


# ---- inspection -----------------------------------------------------------------------------------------------------
def inspected(library):
    model = regressor(library).fit(X, VALUES)
    importance = permutation_importance(model, X, VALUES, n_repeats=2, random_state=0)
    dependence = partial_dependence(model, X, [0], grid_resolution=5)
    return {"importances": importance.importances, "average": dependence["average"]}


def drawn(library):
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    model = classifier(library).fit(X[:, :2], BINARY)
    display = DecisionBoundaryDisplay.from_estimator(
        model, X[:, :2], grid_resolution=12, response_method="predict_proba", ax=axes
    )
    curve = RocCurveDisplay.from_estimator(model, X[:, :2], BINARY, ax=axes)
    return {"response": display.response, "area": curve.roc_auc}


def weights_routed(library):
    with config_context(enable_metadata_routing=True):
        net = classifier(library).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scale = StandardScaler().set_fit_request(sample_weight=False)
        search = GridSearchCV(make_pipeline(scale, net), {"mlpclassifier__alpha": [0.1, 10.0]}, cv=3)
        return searched(search, sample_weight=WEIGHT)


CASES = [
    *(columns, sparse_columns, text, stream, frame_output),
    *(grid, grid_in_pipeline, random_search, halving, validated, predicted_across, curves),
    *(calibrated, stacked, voting, bagged, boosted, one_for_each_class, several_outputs),
    *(transformed_target, half_labelled, threshold, selected, inspected, drawn, weights_routed),
]

# scikit-learn 1.7 itself cannot: early stopping with names as labels, a pipeline's weights in a search with routing.
BEYOND_1_7 = [validated, weights_routed]


def agree(ours, theirs):
    """Names and counts are the same; numbers differ by float32's rounding, grown over some 36 to 400 steps."""
    theirs = np.asarray(theirs)
    if theirs.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_import_line_makes_no_difference(case):
    if case in BEYOND_1_7 and parse_version(sklearn.__version__) < parse_version("1.8"):
        with pytest.raises((TypeError, ValueError, UnsetMetadataPassedError)):
            case(neural_network)
        return
    ours, theirs = case(fastnn), case(neural_network)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, dict):
            assert str(ours[name]) == str(value)
        else:
            agree(ours[name], value)


# ---- what concerns fastnn alone -------------------------------------------------------------------------------------
@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
def test_a_fitted_pipeline_goes_through_joblib(mmap_mode, tmp_path):
    model = make_pipeline(StandardScaler(), classifier(fastnn)).fit(X, NAMES)
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode=mmap_mode)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.score(X, NAMES) == model.score(X, NAMES)
    np.testing.assert_array_equal(clone(loaded).fit(X, NAMES).predict(X), model.predict(X))


def test_html_lists_the_parameters():
    html = estimator_html_repr(make_pipeline(StandardScaler(), fastnn.MLPClassifier(alpha=0.625, n_jobs=2)))
    assert all(word in html for word in ("StandardScaler", "MLPClassifier", "0.625", "n_jobs"))
    assert "Fitted" in estimator_html_repr(classifier(fastnn).fit(X, NAMES))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_are_read_as_arrays_are(library):
    frames = pytest.importorskip(library)
    names = [f"x{i}" for i in range(8)]
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate(names)})
    labels = frames.Series(NAMES)
    model = classifier(fastnn).fit(frame, labels)
    np.testing.assert_array_equal(model.feature_names_in_, names)
    np.testing.assert_array_equal(model.predict_proba(frame), classifier(fastnn).fit(X, NAMES).predict_proba(X))
    values = regressor(fastnn).fit(frame, frames.Series(VALUES), frames.Series(WEIGHT))
    np.testing.assert_array_equal(values.predict(frame), regressor(fastnn).fit(X, VALUES, WEIGHT).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[names[::-1]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(X)


# ---- what programs do with what they get ----------------------------------------------------------------------------
class Trimmed(fastnn.MLPClassifier):
    """A subclass with a state of its own."""

    def __getstate__(self):
        state = self.__dict__.copy()
        state.pop("_optimizer", None)
        return state


class Rounded(fastnn.MLPClassifier):
    """A subclass that changes what scikit-learn's estimators give as their state, and reads it back itself."""

    def __getstate__(self):
        state = super().__getstate__()
        return {**state, "coefs_": [coef.astype(np.float16) for coef in state["coefs_"]]}

    def __setstate__(self, state):
        self.__dict__.update(state, coefs_=[coef.astype(np.float32) for coef in state["coefs_"]])


class Halved(fastnn.MLPClassifier):
    """A subclass that changes that state, which fastnn reads back."""

    def __getstate__(self):
        state = super().__getstate__()
        return {**state, "coefs_": [coef / 2 for coef in state["coefs_"]]}


class Anything(fastnn.MLPRegressor):
    """A subclass whose constructor takes any keyword."""

    def __init__(self, **options):
        super().__init__(**options)


def test_a_subclass_may_have_a_state_of_its_own():
    model = Trimmed((4,), max_iter=3, random_state=0).fit(X, BINARY)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    again.partial_fit(X, BINARY)
    for kind, change in ((Rounded, lambda coef: coef.astype(np.float16)), (Halved, lambda coef: coef / 2)):
        model = kind((4,), max_iter=3, random_state=0).fit(X, BINARY)
        for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            for coef, given in zip(again.coefs_, model.coefs_, strict=True):
                np.testing.assert_array_equal(coef, change(given))
            again.partial_fit(X, BINARY)
    assert vars(pickle.loads(pickle.dumps(Anything()))).keys() == vars(Anything()).keys()


def test_a_constructor_that_is_replaced_counts():
    kind = type("Late", (fastnn.MLPClassifier,), {})
    assert "extra" not in kind().get_params()

    def init(self, hidden_layer_sizes=(3,), extra=1):
        fastnn.MLPClassifier.__init__(self, hidden_layer_sizes)
        self.extra = extra

    kind.__init__ = init
    assert clone(kind(extra=5)).extra == 5


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_losses_are_numbers_of_numpy(solver):
    models = [
        library.MLPRegressor(hidden_layer_sizes=(3,), solver=solver, max_iter=3, random_state=0).fit(X, X[:, 0])
        for library in (fastnn, neural_network)
    ]
    for name in ("loss_", "best_loss_", "loss_curve_"):
        ours, theirs = (getattr(model, name, None) for model in models)
        kinds = [type(value[-1] if isinstance(value, list) else value) for value in (ours, theirs)]
        assert kinds[0] is kinds[1], name


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_the_convergence_warning_is_silenced_by_scikit_learns_module(solver):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        fastnn.MLPClassifier((3,), solver=solver, max_iter=2, random_state=0).fit(X, BINARY)
