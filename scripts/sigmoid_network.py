"""The sigmoid network of "Neural Networks and Deep Learning": quadratic cost, then cross-entropy with weight decay.

python scripts/sigmoid_network.py --data DIR      the four MNIST files, plain or .gz; one to two minutes

Follows Michael Nielsen's chapters 1 (784-30-10 and 784-100-10, eta 3.0, batches of 10, 30 epochs, counted on the test
images) and 3 (784-100-10, cross-entropy, eta 0.1, lambda 5.0, 60 epochs, counted on the validation images), with his
50,000 / 10,000 / 10,000 images. Weights and biases start as N(0, 1); in chapter 3 divided by the root of the units that
a unit reads, here its biases too. His lambda over 50,000 images is alpha = lambda * batch / 50,000.

The source reports the best of three runs that differ much, and so does this: N(0, 1) saturates units, and many a start
never learns to read some digit. Seeds are 0, 1, 2, ... as they come. A start that cannot read some digit after three
epochs is given up, until three runs have learned all ten. Which seeds those are hangs on the last bits of sums, so that
another version or machine may keep others; what is claimed holds whichever they are.
"""

import _blas_kernel

_blas_kernel.restart(__name__)  # before NumPy is imported

import sys
from typing import NamedTuple

import numpy as np
from sklearn.neural_network import MLPClassifier as SklearnClassifier

import _example as example
from datasets import load_mnist
from fastnn import MLPClassifier

BATCH = 10
PATIENCE = 3  # epochs, after which a start that has lost a digit is given up
MOST_STARTS = 100  # with 100 hidden units about nine of them are not given up
SLOW_ROWS = 2000  # that the per-sample loop is timed on
CHAPTER_1 = {"loss": "squared_error", "init": "normal", "init_scale": 1.0, "learning_rate_init": 3.0, "alpha": 0}
CHAPTER_3 = {"loss": "log_loss", "init": "lecun_normal", "learning_rate_init": 0.1, "alpha": 5.0 * BATCH / 50_000}


class Setting(NamedTuple):
    """One of the source's networks: its best epoch there, and the least that the best of the runs may be here.

    Two epochs, of a quick look, must reach the share ``quick``, however unlucky their only start.
    """

    name: str
    hidden: int
    options: dict
    counted_on: str
    epochs: int
    published: float
    claimed: float
    quick: float
    n_runs: int
    style: tuple


class Runs(NamedTuple):
    """Shares of the images that are read right after each epoch, an array a run; the seeds; seconds of an epoch."""

    shares: list
    seeds: list
    given_up: list
    seconds: float


# Best epochs of single runs, seeds from 0 on, float32 and float64: 95.08 +- 0.20 % (57 of 72 starts not given up),
# 96.53 +- 0.11 % (29 of 318), 97.99 +- 0.05 % (all of 15). The best of three, and the one run of the last network, are
# below what is claimed less than once in 1,000 times.
SETTINGS = (
    Setting("quadratic, 30 hidden", 30, CHAPTER_1, "test", 30, 0.9542, 0.947, 0.6, 3, ("#0b4f8a", "-", "o")),
    Setting("quadratic, 100 hidden", 100, CHAPTER_1, "test", 30, 0.9659, 0.963, 0.3, 3, ("#d95f02", "--", "^")),
    Setting(
        "cross-entropy, 100 hidden", 100, CHAPTER_3, "validation", 60, 0.9804, 0.977, 0.9, 1, ("#1b7a4b", "-.", "s")
    ),
)


def new_network(hidden, **options):
    settings = {"activation": "logistic", "out_activation": "logistic", "solver": "sgd", "momentum": 0, **options}
    return MLPClassifier((hidden,), batch_size=BATCH, **settings)


def SGD(network, training, evaluation, epochs):
    """Train for the ``epochs``; return how many of the evaluation images are right after each, and its seconds."""
    counts, seconds = [], []
    for epoch in epochs:
        seconds.append(example.timed(network.partial_fit, *training, classes=np.arange(10))[1])
        counts.append(round(network.score(*evaluation) * len(evaluation[1])))
        print(f"Epoch {epoch}: {counts[-1]} / {len(evaluation[1])}", flush=True)
    return counts, seconds


# --- The same network in NumPy, for its speed and as a check ---


def summed_gradient(coefs, intercepts, X, Y):
    """Gradients of sum |a - y|^2 / 2 over the rows of X, by backpropagation."""
    levels = [X]
    for W, b in zip(coefs, intercepts):
        levels.append(1 / (1 + np.exp(-(levels[-1] @ W + b))))
    delta = levels[-1] - Y
    gradients = []
    for W, below, a in zip(coefs[::-1], levels[-2::-1], levels[:0:-1]):
        delta = delta * a * (1 - a)
        gradients.append((below.T @ delta, delta.sum(axis=0)))
        delta = delta @ W.T
    return gradients[::-1]


def numpy_epoch(coefs, intercepts, X, Y, eta, by_sample):
    """One pass over the rows in their order, in place: a product a batch, or a loop over its samples."""
    for lo in range(0, len(X), BATCH):
        batch, targets = X[lo : lo + BATCH], Y[lo : lo + BATCH]
        size, total = 1 if by_sample else len(batch), None
        for start in range(0, len(batch), size):
            rows = slice(start, start + size)
            new = summed_gradient(coefs, intercepts, batch[rows], targets[rows])
            total = [(W + dW, b + db) for (W, b), (dW, db) in zip(total, new)] if total else new
        for W, b, (dW, db) in zip(coefs, intercepts, total):
            W -= eta / len(batch) * dW
            b -= eta / len(batch) * db


def compare_with_numpy(X, y, report):
    """Seconds of an epoch of 784-30-10 by each NumPy version; all start from the same weights, in the same order."""
    network = new_network(30, **CHAPTER_1, shuffle=False, dtype="float64", random_state=0)
    network.partial_fit(X[:BATCH], y[:BATCH], classes=np.arange(10))
    X64, Y = X.astype(np.float64), np.eye(10)[y]
    seconds, ends = {}, []
    for name, by_sample, n in (("NumPy, one sample at a time", True, SLOW_ROWS), ("NumPy, matrices", False, len(X))):
        weights, few = (
            [[array.copy() for array in arrays] for arrays in (network.coefs_, network.intercepts_)] for _ in range(2)
        )
        numpy_epoch(*few, X64[:SLOW_ROWS], Y[:SLOW_ROWS], 3.0, by_sample)
        ends.append([*few[0], *few[1]])
        spent = example.timed(numpy_epoch, *weights, X64[:n], Y[:n], 3.0, by_sample)[1]
        seconds[name] = spent * len(X) / len(X[:n])
    network.partial_fit(X[:SLOW_ROWS], y[:SLOW_ROWS])
    ours = [*network.coefs_, *network.intercepts_]
    apart = max(np.abs(a - b).max() for end in ends for a, b in zip(ours, end))
    report.add("weights apart from NumPy's, float64", "", f"{apart:.0e}", "<= 1e-10", apart <= 1e-10)
    return seconds


def time_sklearn(X, y, n_epochs):
    """Seconds of an epoch of the cross-entropy network: ten logistic outputs, which scikit-learn makes of one-hot y."""
    options = {"learning_rate_init": 0.1, "alpha": CHAPTER_3["alpha"], "momentum": 0, "batch_size": BATCH}
    network = SklearnClassifier((100,), activation="logistic", solver="sgd", random_state=0, **options)
    classes, Y = np.arange(10), np.eye(10, dtype=int)[y]
    return min(example.timed(network.partial_fit, X, Y, classes=classes)[1] for _ in range(n_epochs))


# --- Training, the report and the picture ---


def train_runs(setting, training, evaluation, validation, n_epochs, n_runs, patience):
    """Start from seeds 0, 1, 2, ... until ``n_runs`` of them have learned all ten digits, or MOST_STARTS are made."""
    runs, seconds = Runs([], [], [], 0.0), []
    for seed in range(MOST_STARTS):
        # partial_fit starts from random_state in every call: an int would repeat the first epoch's shuffle for ever.
        network = new_network(setting.hidden, **setting.options, random_state=np.random.RandomState(seed))
        print(f"\n{setting.name}, counted on {setting.counted_on} images, seed {seed}", flush=True)
        counts, times = SGD(network, training, evaluation, range(min(patience, n_epochs)))
        seconds += times
        lost = example.lost_digits(network, *validation) if n_epochs > patience else ()
        if len(lost):
            print(f"Given up: it reads less than half of the validation images of {', '.join(map(str, lost))}")
            runs.given_up.append(seed)
            continue
        more, times = SGD(network, training, evaluation, range(patience, n_epochs))
        seconds += times
        runs.shares.append(np.array(counts + more) / len(evaluation[1]))
        runs.seeds.append(seed)
        if len(runs.seeds) == n_runs:
            break
    return runs._replace(seconds=float(np.median(seconds)))


def add_result(report, setting, runs, *, is_real, quick):
    best = max((share.max() for share in runs.shares), default=0)
    published, least = ("", setting.quick) if quick else (f"{setting.published:.2%}", setting.claimed)
    here = f"{best:.2%}, seed{'s' * (len(runs.seeds) > 1)} {', '.join(map(str, runs.seeds)) or 'none'}"
    if runs.given_up:
        here += f" ({len(runs.given_up)} of {len(runs.seeds + runs.given_up)} starts given up)"
    report.add(f"{setting.name}, best epoch", published, here, f">= {least:.1%}", best >= least, real=is_real)


def draw(figure, curves, seconds, n_rows, is_real, title):
    figure.suptitle(title)
    accuracy_axes, time_axes = figure.subplots(1, 2, width_ratios=(3, 2))
    lowest = 100.0
    for setting in SETTINGS:
        runs = curves[setting.name].shares
        if not runs:
            continue
        colour, line, mark = setting.style
        best = max(range(len(runs)), key=lambda i: max(runs[i]))
        for i, run in enumerate(runs):
            epoch, style = np.arange(len(run)), {"color": colour, "linestyle": line, "marker": mark, "markersize": 4}
            if i == best:
                style |= {"label": f"{setting.name}, {setting.counted_on}", "markevery": max(1, len(run) // 15)}
            else:
                style |= {"marker": "", "alpha": 0.4, "linewidth": 1}
            accuracy_axes.plot(epoch, 100 * np.array(run), **style)
        if is_real:
            hollow = {"color": colour, "markerfacecolor": "none", "markersize": 11, "linestyle": "none"}
            label = f"published best, {100 * setting.published:.2f} %"
            accuracy_axes.plot(len(runs[best]) - 1, 100 * setting.published, mark, label=label, **hollow)
        lowest = min(lowest, 100 * np.median(runs[best]) - 4)
    accuracy_axes.set(title="Accuracy", xlabel="epoch, counted from 0", ylabel="digits read correctly (%)")
    accuracy_axes.set_ylim(lowest, 100)
    accuracy_axes.grid(True, alpha=0.3)
    accuracy_axes.legend(fontsize="small")
    bars = time_axes.barh(list(seconds), list(seconds.values()), color=["#8a8a8a", "#8a8a8a", "#0b4f8a"])
    time_axes.bar_label(bars, [f" {value:.2g} s" for value in seconds.values()])
    time_axes.set(title=f"One epoch of {n_rows} images, 30 hidden units", xlabel="seconds (log scale)", xscale="log")
    time_axes.set_xlim(min(seconds.values()) / 3, 4 * max(seconds.values()))
    time_axes.invert_yaxis()


def main(args, report):
    data = load_mnist(args.data)
    example.say_where_from(data)
    (X, y), test = data
    n = len(X) * 5 // 6  # as the source splits
    parts = {"test": test, "validation": (X[n:], y[n:])}
    training = X[:n], y[:n]
    print(f"Images: {n} to train, {len(X) - n} for validation, {len(test[0])} to test, batches of {BATCH}")
    example.make_ready(new_network(30, **CHAPTER_1), X[:300], y[:300])

    curves = {}
    for setting in SETTINGS:
        n_epochs = 2 if args.quick and data.is_real else setting.epochs
        n_runs = 1 if args.quick else setting.n_runs
        patience = PATIENCE if data.is_real else n_epochs  # three epochs of the stand-in are 360 steps
        evaluation = parts[setting.counted_on]
        runs = train_runs(setting, training, evaluation, parts["validation"], n_epochs, n_runs, patience)
        add_result(report, setting, runs, is_real=data.is_real, quick=args.quick)
        curves[setting.name] = runs

    print("\nNumPy and scikit-learn on the same images ...", flush=True)
    seconds = compare_with_numpy(*training, report)
    seconds["fastnn"] = curves[SETTINGS[0].name].seconds
    for name in list(seconds)[:2]:
        times = f"{seconds[name]:.2f} s, fastnn {seconds['fastnn']:.3f} s"
        report.add(f"one epoch, 30 hidden, {name}", "", f"{times}: {seconds[name] / seconds['fastnn']:.0f} x")
    other, own = time_sklearn(*training, 1 if args.quick else 2), curves[SETTINGS[2].name].seconds
    report.add("one epoch, cross-entropy, scikit-learn", "", f"{other:.2f} s, fastnn {own:.3f} s: {other / own:.1f} x")
    title = f"{data.name}: sigmoid networks, plain SGD, batches of {BATCH}; thin: the other seeds"
    example.save_picture(args.out / "sigmoid_network.png", draw, (12, 5), curves, seconds, n, data.is_real, title)


if __name__ == "__main__":
    sys.exit(example.run(main, __doc__))
