"""The curves that LossCurveDisplay draws: values, labels, styles, what is refused, and that import does without it."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.exceptions import NotFittedError

import fastnn
from fastnn import LossCurveDisplay, MLPClassifier, MLPRegressor

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg", force=True)
plt = pytest.importorskip("matplotlib.pyplot")

RNG = np.random.RandomState(0)
X = RNG.standard_normal((60, 4)).astype(np.float32)
Y = X[:, 0] - X[:, 1]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def regressor():
    model = MLPRegressor(hidden_layer_sizes=(3,), max_iter=6, random_state=0, metrics=["neg_mean_absolute_error"])
    return model.fit(X[:40], Y[:40], X_val=X[40:], y_val=Y[40:])


# what: (keys of history_ that are drawn, label of the vertical axis)
METRICS = {
    "loss": (["loss", "val_loss"], "Loss"),
    "score": (["val_score"], "Score"),
    "neg_mean_absolute_error": (
        ["neg_mean_absolute_error", "val_neg_mean_absolute_error"],
        "Negative mean absolute error",
    ),
    "learning_rate": (["learning_rate"], "Learning rate"),
    "seconds": (["seconds"], "Time of an epoch [s]"),
}


@pytest.mark.parametrize("what", METRICS)
def test_curves_are_the_history(regressor, what):
    keys, label = METRICS[what]
    display = LossCurveDisplay.from_estimator(regressor, what=what)
    assert display.figure_ is display.ax_.figure
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("Epoch", label)
    assert len(display.lines_) == len(keys)
    for line, key in zip(display.lines_, keys):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 7))
        np.testing.assert_array_equal(line.get_ydata(), regressor.history_[key])
        assert line.get_label() == ("validation" if key.startswith("val_") else "training")
    assert len(display.ax_.get_legend().get_texts()) == len(keys)


def test_curves_survive_grey_print(regressor):
    lines = LossCurveDisplay.from_estimator(regressor).lines_
    assert lines[0].get_linestyle() != lines[1].get_linestyle()
    grey = [np.dot(matplotlib.colors.to_rgb(line.get_color()), [0.299, 0.587, 0.114]) for line in lines]
    assert abs(grey[0] - grey[1]) > 0.3


def test_options_reach_the_plot(regressor):
    _, ax = plt.subplots()
    display = LossCurveDisplay.from_estimator(
        regressor,
        what="neg_mean_absolute_error",
        ax=ax,
        name="net",
        negate_score=True,
        log_scale=True,
        training_kwargs={"color": "red"},
        validation_kwargs={"linestyle": ":"},
    )
    assert display.ax_ is ax
    np.testing.assert_array_equal(
        display.lines_[0].get_ydata(), -np.array(regressor.history_["neg_mean_absolute_error"])
    )
    assert [line.get_label() for line in display.lines_] == ["net, training", "net, validation"]
    assert (ax.get_ylabel(), ax.get_yscale()) == ("Mean absolute error", "log")
    assert (display.lines_[0].get_color(), display.lines_[1].get_linestyle()) == ("red", ":")
    again = display.plot(score_name="MAE [m]")
    assert again is display
    assert display.ax_ is not ax
    assert display.ax_.get_ylabel() == "MAE [m]"
    assert axis_of("accuracy", negate_score=True) == "Negative accuracy"


def axis_of(score_name, **options):
    return LossCurveDisplay([1, 2], score_name=score_name).plot(**options).ax_.get_ylabel()


def test_iterations_of_lbfgs_and_foreign_estimators():
    model = MLPRegressor(solver="lbfgs", max_iter=5, random_state=0).fit(X, Y)
    display = LossCurveDisplay.from_estimator(model)
    assert display.ax_.get_xlabel() == "Iteration"
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), model.history_["loss"])
    theirs = neural_network.MLPRegressor(max_iter=5).fit(X, Y)
    np.testing.assert_array_equal(LossCurveDisplay.from_estimator(theirs).lines_[0].get_ydata(), theirs.loss_curve_)


def test_refusals(regressor):
    with pytest.raises(ValueError, match=r"what='accuracy' was not recorded .*there is loss, .*, score\.$"):
        LossCurveDisplay.from_estimator(regressor, what="accuracy")
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(MLPClassifier())


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_import_leaves_the_display_and_matplotlib_alone():
    done = run(
        "import sys, fastnn; print('matplotlib' in sys.modules, 'fastnn.display' in sys.modules,"
        " 'LossCurveDisplay' in dir(fastnn)); fastnn.LossCurveDisplay; print('matplotlib' in sys.modules)"
    )
    assert done.stdout == "False False True\nFalse\n", done.stderr
    with pytest.raises(AttributeError, match="no attribute 'LossCurve'"):
        _ = fastnn.LossCurve


def test_without_matplotlib_the_error_says_so():
    done = run(
        "import sys; sys.modules['matplotlib'] = None\n"
        "import fastnn\n"
        "try: fastnn.LossCurveDisplay([1]).plot()\n"
        "except ImportError as error: print(error)"
    )
    assert done.stdout.startswith("LossCurveDisplay.plot requires matplotlib."), done.stderr
