"""Train a network on handwritten digits, compare it with scikit-learn and draw what happened.

python scripts/train_mnist.py --data DIR        the four MNIST files, plain or .gz
python scripts/train_mnist.py --fetch           MNIST through OpenML
python scripts/train_mnist.py                   FASTNN_DATA if set, else scikit-learn's small digits

--hidden 512 --solver rmsprop --batch 128 --epochs 5 is the first network of Chollet, Deep Learning with Python.
--one-cycle trains well in few epochs, and --shift moves each digit by up to one pixel, anew in each epoch:

    --one-cycle --batch 128 --hidden 192 --epochs 2 --learning-rate .007
    --one-cycle --batch 128 --hidden 512 --epochs 10 --learning-rate .004 --shift
"""

import _blas_kernel

_blas_kernel.restart(__name__)  # before NumPy is imported

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import joblib
import numba
import numpy as np
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from threadpoolctl import threadpool_limits

from _example import machine
from datasets import DataError, load_mnist
from fastnn import MLPClassifier

PICTURES = Path(__file__).resolve().parent.parent / "pictures"
SHEET_COLUMNS = 14
PUBLISHED = {((512,), "rmsprop", 128, 5): 0.9777}  # test accuracy on MNIST; Chollet, section 2.1
ONE_CYCLE = {
    "learning_rate": "onecycle",
    "label_smoothing": 0.1,
    "beta_2": 0.95,
    "init": "he_uniform",
    "alpha": 0,
}
DEFAULTS = {"MNIST": {"epochs": 10, "batch": 200}, "digits": {"epochs": 30, "batch": 32}}


class Epoch(NamedTuple):
    """What one epoch gave: loss as in `loss_curve_`, two accuracies, and the seconds of training alone."""

    loss: float
    train: float
    test: float
    seconds: float


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DIR", help="folder of the four IDX files, or its parent (else FASTNN_DATA)")
    source.add_argument("--fetch", action="store_true", help="download MNIST through scikit-learn from OpenML")
    parser.add_argument("--hidden", type=int, nargs="*", default=[100], metavar="N", help="hidden layers (100)")
    parser.add_argument("--epochs", type=int, help="passes over the data (10; small digits 30)")
    parser.add_argument("--batch", type=int, help="images per step (200; small digits 32)")
    parser.add_argument("--solver", choices=("adam", "sgd", "rmsprop"), default="adam")
    parser.add_argument("--learning-rate", type=float, default=0.001, metavar="R", help="initial rate (0.001)")
    parser.add_argument(
        "--one-cycle",
        action="store_true",
        help="the rate rises and falls once; smoothed labels, beta_2 0.95, He's initial weights, no alpha",
    )
    parser.add_argument("--shift", action="store_true", help="digits move by up to one pixel, anew in each epoch")
    parser.add_argument("--n-jobs", type=int, metavar="K", help="threads, -1 for all (all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--no-compare", action="store_true", help="leave scikit-learn out; it has no rmsprop and no one-cycle"
    )
    parser.add_argument("--quick", action="store_true", help="at most 2 epochs of 5000 images, without scikit-learn")
    parser.add_argument("--out", type=Path, default=PICTURES, metavar="DIR", help="where the picture goes (pictures/)")
    args = parser.parse_args(argv)
    for name in ("epochs", "batch"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


def n_threads(n_jobs):
    """The number of threads fastnn may use under `n_jobs`, so that scikit-learn can be given as many."""
    pool = numba.config.NUMBA_NUM_THREADS
    return min(pool, joblib.cpu_count() if n_jobs is None else joblib.effective_n_jobs(n_jobs))


def new_network(kind, args, **options):
    # partial_fit starts from random_state in every call: an int would repeat the first epoch's shuffle for ever.
    if args.one_cycle:
        options = {**ONE_CYCLE, "max_iter": args.epochs, **options}  # a partial_fit is an epoch of max_iter
    return kind(
        hidden_layer_sizes=tuple(args.hidden),
        solver=args.solver,
        batch_size=args.batch,
        learning_rate_init=args.learning_rate,
        random_state=np.random.RandomState(args.seed),
        **options,
    )


def shifted(X, image_shape, rng):
    """The images, each moved by -1, 0 or 1 pixels down and to the right; what moves in is empty."""
    rows, columns = image_shape
    padded = np.pad(X.reshape(-1, rows, columns), ((0, 0), (1, 1), (1, 1)))
    moved = np.empty((len(X), rows, columns), X.dtype)
    move = rng.randint(0, 9, len(X))
    for k in range(9):
        down, right = divmod(k, 3)
        moved[move == k] = padded[move == k, down : down + rows, right : right + columns]
    return moved.reshape(X.shape)


def train(network, data, n_epochs, show=None, change=lambda X: X):
    """Train epoch by epoch on ``change(X)`` and return the list of `Epoch`s."""
    (X, y), (X_test, y_test) = data
    classes = np.arange(10)
    epochs = []
    for number in range(1, n_epochs + 1):
        start = time.perf_counter()
        network.partial_fit(change(X), y, classes=classes)
        seconds = time.perf_counter() - start
        epochs.append(Epoch(network.loss_, network.score(X, y), network.score(X_test, y_test), seconds))
        if show:
            show(number, epochs[-1])
    return epochs


def show_epoch(number, epoch):
    line = f"{number:5d} {epoch.loss:9.4f} {epoch.train:11.2%} {epoch.test:11.2%} {epoch.seconds:9.3f} s"
    print(line, flush=True)


def make_ready(network, data, batch):
    """Compile, or load from the cache, what this network needs, on two batches; return the seconds it took."""
    (X, y), _ = data
    start = time.perf_counter()
    network.partial_fit(X[: 2 * batch], y[: 2 * batch], classes=np.arange(10)).predict(X[:batch])
    return time.perf_counter() - start


def show_result(runs):
    """Print final accuracy and training time of each {name: epochs}, fastnn first."""
    print("\n              test accuracy   training time   per epoch")
    times = {name: sum(epoch.seconds for epoch in epochs) for name, epochs in runs.items()}
    for name, epochs in runs.items():
        print(f"{name:13} {epochs[-1].test:13.2%} {times[name]:13.2f} s {times[name] / len(epochs):9.3f} s")
    if len(times) == 2:
        own, other = times.values()
        print(f"fastnn trains {other / own:.1f} times as fast as scikit-learn")


def wrong_digits(network, X, y):
    """Return (image rows, true digits, predicted digits) of the errors, the most confident first."""
    probability = network.predict_proba(X)
    predicted = network.classes_[probability.argmax(axis=1)]
    wrong = np.flatnonzero(predicted != y)
    order = wrong[np.argsort(-probability[wrong].max(axis=1), kind="stable")]
    return X[order], y[order], predicted[order]


def draw(path, runs, wrong, image_shape, title):
    """Draw loss and accuracy by epoch and, in rows below, a sheet of the wrongly read digits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n_rows = min(4, max(1, -(-len(wrong[0]) // SHEET_COLUMNS)))
    heights = (4.6, 0.4 + 1.0 * n_rows)
    figure = plt.figure(figsize=(11, sum(heights)), layout="constrained")
    figure.suptitle(title)
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    draw_curves(upper.subplots(1, 2), runs)
    draw_sheet(lower, wrong, image_shape, n_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_curves(axes, runs):
    # The same seed gives nearly the same curve: scikit-learn is drawn as hollow marks around fastnn's lines.
    # Dashes and marks tell the curves apart in greyscale.
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    own = np.array(runs["fastnn"])
    x = np.arange(1, len(own) + 1)
    some = slice(None, None, max(1, len(own) // 10))
    curves = (
        (0, 0, 1, "training", "o-", "#0b4f8a"),
        (1, 1, 100, "training", "o-", "#0b4f8a"),
        (1, 2, 100, "test", "^--", "#d95f02"),
    )
    for at, column, unit, part, style, colour in curves:
        axes[at].plot(x, unit * own[:, column], style, color=colour, markersize=4, label=f"fastnn, {part}")
        if "scikit-learn" in runs:
            other = unit * np.array(runs["scikit-learn"])[some, column]
            mark = {"color": colour, "markerfacecolor": "none", "markersize": 11}
            axes[at].plot(x[some], other, style[0], label=f"scikit-learn, {part}", **mark)
    axes[0].set(title="Loss", ylabel="cross-entropy + L2 penalty (nats, log scale)", yscale="log")
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[1].set(title="Accuracy", ylabel="digits read correctly (%)")
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.grid(True, alpha=0.3)
        ax.legend(labelspacing=0.8)


def draw_sheet(figure, wrong, image_shape, n_rows):
    images, true, predicted = wrong
    n_shown = min(len(images), n_rows * SHEET_COLUMNS)
    which = f"the {n_shown} it was surest of" if n_shown < len(images) else "all of them"
    figure.suptitle(f"{len(images)} test digits read wrongly, {which}: true digit → fastnn's answer", fontsize="large")
    for k, ax in enumerate(figure.subplots(n_rows, SHEET_COLUMNS).flat):
        ax.set_axis_off()
        if k < n_shown:
            ax.imshow(images[k].reshape(image_shape), cmap="gray_r", vmin=0, vmax=1)
            ax.set_title(f"{true[k]} → {predicted[k]}", fontsize=10, pad=2)


def main(argv=None):
    args = parse_arguments(argv)
    try:
        data = load_mnist(args.data, fetch=args.fetch)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in DEFAULTS[data.name].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.quick:
        data = replace(data, train=tuple(part[:5000] for part in data.train))
        args.epochs = min(args.epochs, 2)
    X, (X_test, y_test) = data.train[0], data.test
    args.batch = min(args.batch, len(X))
    threads = n_threads(args.n_jobs)
    units = "-".join(map(str, (X.shape[1], *args.hidden, 10)))
    size = " x ".join(map(str, data.image_shape))
    print(f"Data: {data.name}, {len(X)} training and {len(X_test)} test images of {size} pixels ({data.note})")
    if not data.is_real:
        print("      --data DIR reads the real MNIST from its four files, --fetch downloads it")
    print(f"Network: {units}, relu, {args.solver}, batches of {args.batch}, float32, threads: {threads}")

    seconds = make_ready(new_network(MLPClassifier, args, n_jobs=args.n_jobs), data, args.batch)
    print(f"Kernels ready after {seconds:.2f} s (compiled once per machine, then loaded from the cache)")

    print("\nepoch      loss  train acc.   test acc.        time", flush=True)
    network = new_network(MLPClassifier, args, n_jobs=args.n_jobs)
    rng = np.random.RandomState(args.seed)
    change = (lambda X: shifted(X, data.image_shape, rng)) if args.shift else (lambda X: X)
    runs = {"fastnn": train(network, data, args.epochs, show_epoch, change)}
    if not (args.no_compare or args.quick or args.solver == "rmsprop" or args.one_cycle or args.shift):
        print("\nThe same job with scikit-learn ...", flush=True)
        with threadpool_limits(threads):
            runs["scikit-learn"] = train(new_network(SklearnClassifier, args), data, args.epochs)
    show_result(runs)
    print(f"Machine: {machine()}")
    print(_blas_kernel.report())
    published = PUBLISHED.get((tuple(args.hidden), args.solver, args.batch, args.epochs))
    if published and data.name == "MNIST" and not (args.one_cycle or args.shift):
        print(f"Published test accuracy of this network: {published:.2%}")

    path = args.out / "train_mnist.png"
    title = f"{'MNIST' if data.is_real else 'Small digits'}: {units}, {args.solver}, batches of {args.batch}"
    title += f", test accuracy {runs['fastnn'][-1].test:.2%}"
    try:
        draw(path, runs, wrong_digits(network, X_test, y_test), data.image_shape, title)
        print(f"Picture: {path}")
    except ImportError:
        print("Picture: left out, matplotlib is not installed (pip install matplotlib)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
