"""Eight keywords that scikit-learn's networks lack, each on real data, without it and with it.

python scripts/what_users_wanted.py --data DIR        mnist, california_housing and imdb in DIR (else FASTNN_DATA)
python scripts/what_users_wanted.py                   without them: scikit-learn's digits, and generated data

Every figure is the mean of seeds 0, 1, 2 (--quick: of seed 0) on test data. scikit-learn's own network is trained
until it reads 98 % of MNIST's digits, which takes most of the script's time; --quick leaves that out.
"""

import _blas_kernel

_blas_kernel.restart(__name__)  # before NumPy is imported

import sys

import numpy as np
from sklearn import metrics
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from sklearn.preprocessing import StandardScaler

import _example as example
from datasets import load_california, load_imdb, load_mnist
from fastnn import MLPClassifier, MLPRegressor

GREY, BLUE, ORANGE = "0.6", "#0b4f8a", "#d95f02"  # without, with, truth
SHORT = {"batch_size": 128, "learning_rate": "onecycle", "learning_rate_init": 0.003, **example.epochs(10)}
ONE_CYCLE = {"learning_rate": "onecycle", "beta_2": 0.95, "init": "he_uniform", "alpha": 0, "label_smoothing": 0.1}
MOST_PEER_EPOCHS = 40
LEAST_RIGHT = 98.0, 97.7  # per cent of MNIST: mean of three seeds, and the one seed of a quick look; see ONE_CYCLE


class Houses:
    """California housing, its features standardized and clipped: some lie up to 100 deviations out."""

    def __init__(self, data, seeds):
        self.seeds = seeds
        (X, y), (X_test, y_test) = data
        scaler = StandardScaler().fit(X)
        self.far_out = scaler.transform(X), scaler.transform(X_test)  # not clipped
        self.X, self.X_test = (np.clip(part, -5, 5) for part in self.far_out)
        self.y, self.y_test = np.maximum(y, 0.1), np.maximum(y_test, 0.1)  # a generated stand-in has y <= 0
        self.is_real = data.is_real

    def networks(self, loss="squared_error", **options):
        """A fitted 8-64-64-1 for each seed."""
        networks = [MLPRegressor(loss, (64, 64), random_state=seed, **SHORT, **options) for seed in self.seeds]
        return [network.fit(self.X, self.y) for network in networks]


def class_weight(houses, report):
    """The dearest twentieth of the block groups, as a class of its own."""
    border = np.quantile(houses.y, 0.95)
    dear, truth = houses.y >= border, houses.y_test >= border
    recall, precision = [], []
    for weight in (None, "balanced"):
        networks = [MLPClassifier((64,), class_weight=weight, random_state=seed, **SHORT) for seed in houses.seeds]
        predicted = [network.fit(houses.X, dear).predict(houses.X_test) for network in networks]
        recall.append([metrics.recall_score(truth, p) for p in predicted])
        precision.append([metrics.precision_score(truth, p, zero_division=0) for p in predicted])
    without, found = (100 * np.mean(values) for values in recall)
    holds = found >= 80 and found >= without + 20
    report.add(
        "class_weight='balanced': the dearest 5 % of California's block groups, share that is found",
        f"{without:.0f} %",
        f"{found:.0f} %",
        ">= 80 %, and 20 more than without",
        holds,
        real=houses.is_real,
    )

    def draw(ax):
        for side, colour, label in ((0, GREY, "without"), (1, BLUE, "class_weight='balanced'")):
            heights = [100 * np.mean(values[side]) for values in (recall, precision)]
            drawn = ax.bar(np.arange(2) + 0.4 * side, heights, 0.38, color=colour, label=label)
            ax.bar_label(drawn, fmt="%.0f %%")
        ax.set(title="The dearest 5 % of houses", ylabel="per cent", ylim=(0, 125))
        ax.set_xticks(np.arange(2) + 0.2, ("recall", "precision"))
        ax.legend(loc="upper left")

    return draw


def quantiles(houses, report):
    """A range that holds nine prices of ten."""
    networks = houses.networks("quantile", quantile=[0.05, 0.5, 0.95])
    low, median, high = np.transpose([network.predict(houses.X_test) for network in networks], (2, 0, 1))
    inside = (low <= houses.y_test) & (houses.y_test <= high)
    covered = 100 * inside.mean()
    holds = abs(covered - 90) <= 3
    name = "quantile=[.05, .5, .95]: prices between the outer two"
    report.add(name, "", f"{covered:.1f} %", "90 +- 3 %", holds, real=houses.is_real)

    def draw(ax):
        some = np.argsort(median[0])[:: max(1, len(median[0]) // 80)]
        x = np.arange(len(some))
        ax.vlines(x, low[0, some], high[0, some], color=BLUE, alpha=0.5, label="quantile=[.05, .5, .95]")
        ax.plot(x, houses.y_test[some], ".", color=ORANGE, label="price")
        ax.set(title=f"{covered:.0f} % of the prices are inside", ylabel="price (100,000 dollars)")
        ax.set_xlabel("houses, by predicted median")
        ax.legend(loc="upper left")

    return draw


def compare_losses(houses, loss, measure):
    """Predictions and errors by ``measure`` of each seed: ([without, with], [without, with])."""
    floor = houses.y.min()  # squared errors may predict negative prices; they are lifted to the lowest one
    predicted = [
        [np.maximum(network.predict(houses.X_test), floor) for network in houses.networks(name)]
        for name in ("squared_error", loss)
    ]
    return predicted, [[measure(houses.y_test, p) for p in side] for side in predicted]


def positive_amounts(houses, report):
    """Gamma deviance, which counts errors in relation to the amount."""
    predicted, (without, own) = compare_losses(houses, "gamma", metrics.mean_gamma_deviance)
    figures = f"{np.mean(without):.4f}", f"{np.mean(own):.4f}"
    holds = np.mean(own) < np.mean(without)
    name = "loss='gamma': gamma deviance of prices"
    report.add(name, *figures, "less than with squared errors", holds, real=houses.is_real)

    def draw(ax):
        fifths = np.array_split(np.argsort(houses.y_test), 5)
        for side, colour, mark, label in zip(predicted, (GREY, BLUE), ("s--", "o-"), ("squared error", "loss='gamma'")):
            parts = [
                np.mean([metrics.mean_gamma_deviance(houses.y_test[rows], p[rows]) for p in side]) for rows in fifths
            ]
            ax.plot(range(1, 6), parts, mark, color=colour, label=label)
        ax.set(title="Errors in relation to the price", xlabel="fifth of the houses, by price", ylabel="gamma deviance")
        ax.set(xticks=range(1, 6), ylim=0)
        ax.legend()

    return draw


def absolute_error(houses, report):
    """Mean absolute error, of a network that minimizes it."""
    predicted, (without, own) = compare_losses(houses, "absolute_error", metrics.mean_absolute_error)
    figures = f"{np.mean(without):.3f}", f"{np.mean(own):.3f}"
    holds = np.mean(own) < np.mean(without)
    name = "loss='absolute_error': mean absolute error (100,000 dollars)"
    report.add(name, *figures, "less than with squared errors", holds, real=houses.is_real)

    def draw(ax):
        limits = np.linspace(0, 0.5, 26)
        for side, colour, style, label in zip(
            predicted, (GREY, BLUE), ("--", "-"), ("squared error", "loss='absolute_error'")
        ):
            errors = np.sort(np.abs(np.concatenate(side) - np.tile(houses.y_test, len(side))))
            ax.plot(limits, 100 * np.searchsorted(errors, limits) / len(errors), style, color=colour, label=label)
        ax.set(title="Small errors are more frequent", xlabel="error (100,000 dollars)", xlim=(0, 0.5), ylim=0)
        ax.set_ylabel("houses with a smaller error (%)")
        ax.legend()

    return draw


def max_grad_norm(houses, report):
    """Plain SGD at a high rate, on features that lie far out."""
    X, X_test = houses.far_out
    errors = []
    for norm in (None, 1.0):
        errors.append([])
        for seed in houses.seeds:
            settings = {"solver": "sgd", "learning_rate_init": 0.2, "batch_size": 128, **example.epochs(10)}
            network = MLPRegressor(hidden_layer_sizes=(64, 64, 64), max_grad_norm=norm, random_state=seed, **settings)
            try:
                predicted = network.fit(X, houses.y).predict(X_test)
                errors[-1].append(metrics.root_mean_squared_error(houses.y_test, predicted))
            except ValueError:  # its loss became infinite
                errors[-1].append(np.inf)
    failed = sum(np.isinf(errors[0]))
    report.add(
        "max_grad_norm=1: SGD at a rate of 0.2, RMSE (100,000 dollars)",
        f"{failed} of {len(houses.seeds)} runs diverge",
        f"{np.mean(errors[1]):.3f}",
        "<= 0.6, and less than without",
        np.mean(errors[1]) <= min(0.6, np.mean(errors[0])),
        real=houses.is_real,
    )

    def draw(ax):
        top = 1.0
        for values, colour, mark, label in zip(errors, (GREY, BLUE), "Xo", ("without", "max_grad_norm=1")):
            ax.plot(houses.seeds, np.minimum(values, top), mark, color=colour, markersize=11, label=label)
        ax.axhline(top, color=GREY, linestyle=":")
        ax.text(-0.3, 1.06 * top, "diverged, or worse than 1")
        ax.set(title="SGD at a rate of 0.2", xlabel="seed", ylabel="test RMSE (100,000 dollars)")
        ax.set(xticks=houses.seeds, xlim=(-0.4, 2.4), ylim=(0, 1.2 * top))
        ax.legend(loc="lower left")

    return draw


def early_stopping(reviews, report, seeds, n_epochs):
    """Training that ends when the loss of held-out reviews rises, and goes back to its best epoch."""
    (X, y), (X_test, y_test) = reviews
    n_val = len(y) * 2 // 5
    train, held_out = (X[n_val:], y[n_val:]), {"X_val": X[:n_val], "y_val": y[:n_val]}
    losses, networks = [], []
    stop = {"early_stopping": True, "scoring": "loss", "max_iter": n_epochs, "tol": 0, "n_iter_no_change": 3}
    for options in (example.epochs(n_epochs), stop):
        fitted = [
            MLPClassifier((16, 16), batch_size=512, random_state=seed, **options).fit(*train, **held_out)
            for seed in seeds
        ]
        losses.append([metrics.log_loss(y_test, network.predict_proba(X_test)) for network in fitted])
        networks.append(fitted[0])
    without, stopped = (np.mean(values) for values in losses)
    report.add(
        f"early_stopping, scoring='loss': log loss of film reviews, of {n_epochs} epochs",
        f"{without:.3f}",
        f"{stopped:.3f}",
        "<= 0.31, and less than without",
        stopped <= min(0.31, without),
        real=reviews.is_real,
    )

    def draw(ax):
        for network, colour, style, label in zip(networks, (GREY, BLUE), ("s--", "o-"), ("without", "scoring='loss'")):
            curve = network.validation_loss_curve_
            ax.plot(np.arange(1, len(curve) + 1), curve, style, color=colour, markersize=4, label=label)
        best = int(np.argmin(curve))
        ax.plot(best + 1, curve[best], "*", color=ORANGE, markersize=13, label="weights that are kept")
        ax.set(
            title="Film reviews: the epoch that is kept",
            xlabel="epoch",
            xticks=range(1, n_epochs + 1, 2),
            ylabel="log loss of held-out reviews",
        )
        ax.legend()

    return draw


def one_cycle(digits, report, seeds, race):
    """Two epochs of a rate that rises and falls, with smoothed labels, beside two epochs of the default settings."""
    (X, y), (X_test, y_test) = digits
    settings = {"batch_size": min(128, len(y)), "learning_rate_init": 0.007, **ONE_CYCLE}
    example.make_ready(MLPClassifier((192,), **settings), X[:256], y[:256])
    scores, seconds = [], []
    for options in ({}, settings):
        networks = [MLPClassifier((192,), random_state=seed, **example.epochs(2), **options) for seed in seeds]
        seconds.append([example.timed(network.fit, X, y)[1] for network in networks])
        scores.append([100 * network.score(X_test, y_test) for network in networks])
    without, right = (np.mean(values) for values in scores)
    took, least = np.median(seconds[1]), LEAST_RIGHT[len(seeds) == 1]
    report.add(
        "'onecycle', label_smoothing=.1, beta_2=.95: digits read after 2 epochs",
        f"{without:.2f} %",
        f"{right:.2f} %",
        f">= {least} %",
        right >= least,
        real=digits.is_real,
    )
    curve = scikit_learn_curve(digits, seeds) if race else np.empty((0, 2))
    if race:
        peer, reached = curve[-1]
        times = f"{len(curve)} epochs, {peer:.1f} s" if reached >= 98 else f"more than {peer:.1f} s"
        report.add(
            "    time of fit until 98.0 %; without: scikit-learn's own settings",
            times,
            f"{took:.2f} s, {peer / took:.0f} times sooner",
        )

    def draw(ax):
        if race:
            ax.plot(*curve.T, ".-", color=GREY, label="scikit-learn's settings")
        else:
            ax.plot(np.median(seconds[0]), without, "o", color=GREY, label="without")
        ax.plot(took, right, "*", color=BLUE, markersize=14, label="'onecycle', 2 epochs")
        ax.axhline(98, color=ORANGE, linestyle=":")
        ax.set(title="98 % of the digits", xlabel="seconds of training (log scale)", xscale="log")
        ax.set_ylabel("test digits read correctly (%)")
        ax.legend(loc="lower right")

    return draw


def scikit_learn_curve(digits, seeds):
    """(seconds, mean test accuracy in %) after each epoch of scikit-learn's 784-192-10, until it reaches 98 %."""
    (X, y), test = digits
    # partial_fit starts from random_state in every call: an int would repeat the first epoch's shuffle for ever.
    networks = [SklearnClassifier((192,), random_state=np.random.RandomState(seed)) for seed in seeds]
    seconds, right = [], []
    while len(right) < MOST_PEER_EPOCHS and (not right or right[-1] < 98):
        seconds += [example.timed(network.partial_fit, X, y, classes=np.arange(10))[1] for network in networks]
        right.append(100 * np.mean([network.score(*test) for network in networks]))
    return np.column_stack([np.median(seconds) * np.arange(1, len(right) + 1), right])


def hidden_code(digits, report, seeds):
    """What `transform` makes of a digit, as the space in which its nearest neighbours are looked for."""
    (X, y), (X_test, y_test) = digits
    n_asked = 500 * len(seeds)
    X_test, y_test = X_test[:n_asked], y_test[:n_asked]
    settings = {"batch_size": min(128, len(y)), "learning_rate_init": 0.005, **ONE_CYCLE, **example.epochs(2)}
    networks = [MLPClassifier((192, 32), random_state=seed, **settings).fit(X, y) for seed in seeds]
    nearest = KNeighborsClassifier(5)
    pixels = 100 * nearest.fit(X, y).score(X_test, y_test)
    codes = [[network.transform(part) for part in (X, X_test)] for network in networks]
    right = np.mean([100 * nearest.fit(code, y).score(code_test, y_test) for code, code_test in codes])
    report.add(
        "transform: digits read from their 5 nearest, by 32 hidden activations instead of all pixels",
        f"{pixels:.1f} %",
        f"{right:.1f} %",
        "more than by the pixels",
        right > pixels,
        real=digits.is_real,
    )
    print(f"\nsummary() of the network whose hidden activations are used:\n{networks[0].summary()}")

    def draw(ax):
        code = codes[0][1] - codes[0][1].mean(axis=0)
        plane = code @ np.linalg.svd(code, full_matrices=False)[2][:2].T
        for digit in range(10):
            for row in np.flatnonzero(y_test == digit)[:12]:
                ax.text(*plane[row], digit, color=f"C{digit}", ha="center", va="center", weight="bold")
        ax.set(xlim=(plane[:, 0].min(), plane[:, 0].max()), ylim=(plane[:, 1].min(), plane[:, 1].max()))
        ax.set(title="transform: digits as 32 numbers", xlabel="first principal component", ylabel="second")

    return draw


def draw(figure, panels):
    """The eight panels in two rows."""
    for ax, panel in zip(figure.subplots(2, 4).flat, panels):
        panel(ax)
        ax.grid(True, alpha=0.3)
        ax.set_axisbelow(True)


def main(args, report):
    report.columns = "without", "with"
    sets = load_california(args.data), load_imdb(args.data), load_mnist(args.data)
    for data in sets:
        example.say_where_from(data)
    seeds = range(1 if args.quick else 3)
    houses, reviews, digits = Houses(sets[0], seeds), *sets[1:]
    panels = [
        class_weight(houses, report),
        quantiles(houses, report),
        positive_amounts(houses, report),
        absolute_error(houses, report),
        max_grad_norm(houses, report),
        early_stopping(reviews, report, seeds, 8 if args.quick else 15),
        one_cycle(digits, report, seeds, race=digits.is_real and not args.quick),
        hidden_code(digits, report, seeds),
    ]
    example.save_picture(args.out / "what_users_wanted.png", draw, (13, 6.6), panels)


if __name__ == "__main__":
    sys.exit(example.run(main, __doc__))
