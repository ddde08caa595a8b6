"""Two half moons: a 2-3-2 network by full-batch gradient descent, and the boundaries of hidden layers of 1 to 50.

python scripts/moons.py        about five seconds; the points come from scikit-learn's make_moons, no data is needed

Follows Denny Britz, "Implementing a Neural Network from Scratch in Python": tanh, softmax over two outputs, L2,
20,000 steps over all 200 points. The source sums the gradient over the points with a rate of 0.01; fastnn averages it,
so its rate is 0.01 * 200 = 2. Seed 0 draws the points and, for each network, the initial weights.
"""

import _blas_kernel

_blas_kernel.restart(__name__)  # before NumPy is imported

import sys

import numpy as np
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression

import _example as example
from fastnn import MLPClassifier

SIZES = (1, 2, 3, 4, 5, 20, 50)
PUBLISHED = {
    0: 0.432387,
    1000: 0.068947,
    2000: 0.068936,
    3000: 0.071218,
    5000: 0.071278,
    10000: 0.071314,
    19000: 0.071316,
}
# The rate is too large for the valley that steps 1000 to 3000 find: the loss jumps about, amplifies rounding, and ends
# in a cycle of two steps. The last bit of a sum decides which of the two falls on the even steps, which are printed.
CYCLE = (0.070758, 0.071316)
LAST = 20_000


def initial_weights(n_hidden):
    """The source's: N(0, 1) over the square root of the units that a unit reads, no biases."""
    rng = np.random.RandomState(0)
    coefs = [rng.randn(2, n_hidden) / np.sqrt(2), rng.randn(n_hidden, 2) / np.sqrt(n_hidden)]
    return coefs, [np.zeros(n_hidden), np.zeros(2)]


def new_network(n_hidden, n_points, steps):
    return MLPClassifier(
        (n_hidden,),
        activation="tanh",
        out_activation="softmax",
        solver="sgd",
        momentum=0,
        learning_rate_init=0.01 * n_points,
        alpha=0.01,
        batch_size=n_points,
        shuffle=False,
        dtype="float64",
        **example.epochs(steps),
    )


def fit(n_hidden, X, y, steps):
    """The network after ``steps`` steps from the source's initial weights."""
    coefs, intercepts = initial_weights(n_hidden)
    return new_network(n_hidden, len(X), steps).fit(X, y, coefs_init=coefs, intercepts_init=intercepts)


def draw(figure, X, y, models, loss):
    """Eight boundaries, then the loss with three hidden units."""
    from matplotlib.colors import ListedColormap
    from sklearn.inspection import DecisionBoundaryDisplay

    axes = figure.subplots(3, 3)
    fields, marks = ListedColormap(["#c9dcf0", "#fbe3c4"]), (("o", "#0b4f8a"), ("^", "#d95f02"))
    for ax, (name, model) in zip(axes.flat, models.items()):
        settings = {"response_method": "predict", "grid_resolution": 300, "ax": ax}
        DecisionBoundaryDisplay.from_estimator(model, X, plot_method="pcolormesh", cmap=fields, **settings)
        DecisionBoundaryDisplay.from_estimator(model, X, plot_method="contour", levels=[0.5], colors="k", **settings)
        for moon, (mark, colour) in enumerate(marks):
            points = X[y == moon]
            ax.scatter(
                *points.T, s=15, marker=mark, color=colour, edgecolors="white", linewidths=0.3, label=f"moon {moon}"
            )
        right = model.score(X, y)
        ax.set(title=f"{name}: {right:.1%} right", xlabel="first coordinate", ylabel="second coordinate")
    axes[0, 0].legend(loc="upper right", fontsize="small")
    ax = axes[2, 2]
    for first, style, which in ((0, {"color": "#0b4f8a"}, "even"), (1, {"color": "0.55", "linestyle": "--"}, "odd")):
        ax.plot(np.arange(len(loss))[first::2], loss[first::2], label=f"fastnn, {which} steps", **style)
    ax.plot(*zip(*PUBLISHED.items()), "^", color="#d95f02", markersize=8, markerfacecolor="none", label="published")
    ax.set(title="Loss with 3 hidden units", xlabel="step", ylabel="cross-entropy + L2 (nats)", ylim=(0.068, 0.074))
    ax.grid(True, alpha=0.3)
    ax.legend(loc="upper right")


def train_all(X, y, steps):
    """``{name: (model, seconds)}``: logistic regression and the networks, each printed."""
    models = {"logistic regression": example.timed(LogisticRegression().fit, X, y)}
    for n in SIZES:
        # 3: the steps 0 to 20,001 and one to see what the last left, for loss_curve_ holds the loss before each step.
        models[f"{n} hidden unit{'s' * (n > 1)}"] = example.timed(fit, n, X, y, LAST + 3 if n == 3 else steps)
    for name, (model, seconds) in models.items():
        print(f"{name:20} {model.score(X, y):.1%} right {seconds:6.2f} s")
    return models


def add_losses(report, loss):
    """The losses after the steps that the source prints, and the two in turn at the end, whichever comes first."""
    for step, published in PUBLISHED.items():
        exact = step in (0, 1000)
        claim = "to 6 digits" if exact else ""
        report.add(
            f"loss at step {step}",
            f"{published:.6f}",
            f"{loss[step]:.6f}",
            claim,
            not exact or abs(loss[step] - published) < 1e-6,
        )
    report.add(f"loss after the last of {LAST} steps", "", f"{loss[LAST - 1]:.6f}")
    ends = loss[LAST : LAST + 2]
    holds = max(abs(here - end) for here, end in zip(sorted(ends), CYCLE)) < 1e-6
    here = "{:.6f}, {:.6f}".format(*ends)
    report.add(f"loss at steps {LAST} and {LAST + 1}", "", here, "{:.6f}, {:.6f} in either order".format(*CYCLE), holds)


def main(args, report):
    X, y = make_moons(200, noise=0.20, random_state=0)
    steps = LAST // 10 if args.quick else LAST
    print(f"Data: two half moons, {len(X)} points from make_moons(200, noise=0.20, random_state=0)")
    print(f"Networks: 2-n-2, tanh, softmax, full-batch gradient descent, {steps} steps, float64")
    coefs, intercepts = initial_weights(3)
    example.make_ready(new_network(3, len(X), 1), X, y, coefs_init=coefs, intercepts_init=intercepts)

    timed_models = train_all(X, y, steps)
    models = {name: model for name, (model, _) in timed_models.items()}
    loss = models["3 hidden units"].loss_curve_[1:]
    print("\nloss with 3 hidden units, as the source prints it")
    for step in range(0, LAST + 1, 1000):
        print(f"{step:6d} {loss[step]:.6f}")

    add_losses(report, loss)
    seconds = sum(seconds for _, seconds in timed_models.values())
    report.add("all eight fits", "", f"{seconds:.1f} s")
    example.save_picture(args.out / "moons.png", draw, (12, 11), X, y, models, loss)


if __name__ == "__main__":
    sys.exit(example.run(main, __doc__))
