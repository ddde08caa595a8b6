"""How the time for a training row grows with rows, width, depth and batch, beside scikit-learn: figure and numbers.

    python scripts/cost_of_growth.py --out growth.png --json growth.json
    python scripts/cost_of_growth.py --panels rows batch --json growth.json     # the other panels stay as they are

Each panel changes one thing about a job: training with adam on random float32 rows. A time is that of a whole fit
divided by its epochs and rows, the least of several fits; a fit lasts at least --seconds. Above: time for a row and
epoch. Below: the same as arithmetic, the operations of the matrix products divided by that time. Dotted lines say where
data outgrow a cache of this machine; the dashed one where fastnn begins to use several threads.
"""

import _blas_kernel

_blas_kernel.restart(__name__)  # before NumPy is imported

import argparse
import io
import json
import os
import platform
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import sklearn
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from threadpoolctl import threadpool_limits

import fastnn

FEATURES, CLASSES = 100, 10
THREADED_FLOPS = 1.5e6  # work of a mini-batch from which fastnn takes a second thread
ADAM_NUMBERS = 4  # kept for each weight: itself, its transposed copy, two moments
BLAS_SECONDS = 0.05  # before each fit: the BLAS's threads of the last one keep their cores busy for a while
PEER_SECONDS = 2.0  # scikit-learn is left out where one epoch takes longer


class Job(NamedTuple):
    """One point of a panel."""

    rows: int = 4000
    hidden: tuple = (128,)
    batch: int = 200

    @property
    def units(self):
        return (FEATURES, *self.hidden, CLASSES)

    def flops(self):
        """Operations of the products for one row: forward, weight gradients, and all layers but the first backward."""
        products = [a * b for a, b in pairwise(self.units)]
        return 2 * (3 * sum(products) - products[0])

    def bytes_of(self, what):
        """Bytes of X, of the weights with all that Adam keeps, or of a mini-batch's activations and deltas."""
        return (
            4
            * {
                "X": self.rows * FEATURES,
                "weights": ADAM_NUMBERS * sum(a * b + b for a, b in pairwise(self.units)),
                "batch": self.batch * (2 * sum(self.units) - CLASSES - FEATURES),
            }[what]
        )


class Panel(NamedTuple):
    """What grows, by which values, and which data outgrow the caches on the way."""

    label: str
    values: tuple
    quick: tuple
    job: object  # value -> Job
    grows: str


def powers(first, last):
    """first, 2 first, 4 first, ... up to last."""
    return tuple(first * 2**k for k in range((last // first).bit_length()))


PANELS = {
    "rows": Panel("rows", powers(250, 256_000), (250, 1000, 4000), lambda n: Job(rows=n), "X"),
    "width": Panel(
        "units of each of two hidden layers",
        powers(4, 2048),
        (4, 32, 128),
        lambda h: Job(rows=2000, hidden=(h, h)),
        "weights",
    ),
    "depth": Panel("hidden layers of 64 units", powers(1, 64), (1, 2, 4), lambda d: Job(hidden=(64,) * d), "weights"),
    "batch": Panel("rows of a mini-batch", powers(1, 4096), (1, 16, 256), lambda b: Job(rows=8192, batch=b), "batch"),
}


class Line(NamedTuple):
    """Whose time is drawn, and how: told apart by form too, not by shade alone."""

    name: str
    make: object
    options: dict
    threads: int | None  # of the BLAS; None leaves all
    style: dict
    one_epoch: bool = False  # the whole of a fit that makes a single epoch


LINES = (
    Line("fastnn, 1 thread", fastnn.MLPClassifier, {"n_jobs": 1}, 1, dict(color="0.0", marker="o", ls="-")),
    Line("fastnn, all threads", fastnn.MLPClassifier, {"n_jobs": -1}, None, dict(color="0.35", marker="^", ls="--")),
    Line(
        "fastnn, 1 thread, fit of one epoch",
        fastnn.MLPClassifier,
        {"n_jobs": 1},
        1,
        dict(color="0.35", marker="+", ls=":"),
        one_epoch=True,
    ),
    Line("scikit-learn, all threads", SklearnClassifier, {}, None, dict(color="0.6", marker="s", ls="-.")),
)


# ---- measuring ------------------------------------------------------------------------------------------------------
def data_of(rows):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, FEATURES), dtype=np.float32), rng.integers(0, CLASSES, rows)


def fit_seconds(line, job, epochs, X, y):
    estimator = line.make(
        hidden_layer_sizes=job.hidden,
        batch_size=job.batch,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=epochs + 1,
        random_state=0,
        **line.options,
    )
    with threadpool_limits(limits=line.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        time.sleep(BLAS_SECONDS)
        start = time.perf_counter()
        estimator.fit(X, y)
        return time.perf_counter() - start


def measure(job, lines, seconds, repeats):
    """Seconds for a row and epoch by line; None where that would take too long."""
    X, y = data_of(job.rows)
    epochs = {}
    for line in lines:
        few = job._replace(rows=min(job.rows, max(2 * job.batch, 500)))
        first = fit_seconds(line, few, 1, X[: few.rows], y[: few.rows])  # compiled code is loaded, threads are started
        if line.make is SklearnClassifier and first * job.rows / few.rows > PEER_SECONDS:
            continue
        one = fit_seconds(line, job, 1, X, y)
        epochs[line.name] = 1 if line.one_epoch else max(2, int(np.ceil(seconds / one)))
    best = dict.fromkeys(epochs, np.inf)
    for _ in range(repeats):  # interleaved: what disturbs the machine for a while hits every line
        for line in lines:
            if line.name in epochs:
                n = epochs[line.name]
                best[line.name] = min(best[line.name], fit_seconds(line, job, n, X, y) / n)
    return {line.name: best[line.name] / job.rows if line.name in best else None for line in lines}


def measure_panel(name, quick, seconds, repeats):
    panel = PANELS[name]
    values = panel.quick if quick else panel.values
    jobs = [panel.job(value) for value in values]
    lines = [line for line in LINES if name == "rows" or not line.one_epoch]
    points = []
    for value, job in zip(values, jobs, strict=True):
        points.append(measure(job, lines, seconds, repeats))
        print(f"{name:<6} {value:>7}  " + "  ".join(f"{cell(t)} us" for t in points[-1].values()), flush=True)
    return {
        "label": panel.label,
        "values": list(values),
        "seconds_per_row": {line.name: [point[line.name] for point in points] for line in lines},
        "flops_per_row": [job.flops() for job in jobs],
        "marks": marks(values, jobs, panel.grows),
    }


def cell(seconds):
    return f"{1e6 * seconds:9.3f}" if seconds else "        -"


# ---- why it bends ---------------------------------------------------------------------------------------------------
def cache_sizes():
    """Bytes of the first processor's data caches by name; empty where the system does not say."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            sizes[f"L{level}"] = int(size[:-1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[size[-1]]
    return sizes


def crossing(values, amounts, limit):
    """The value at which a growing amount reaches the limit, between two of the given ones; None if outside."""
    for (a, b), (low, high) in zip(pairwise(values), pairwise(amounts), strict=True):
        if low < limit <= high:
            return float(a * (b / a) ** (np.log(limit / low) / np.log(high / low)))
    return None


def marks(values, jobs, grows):
    """Where ``grows`` outgrows a cache, and where the work of a mini-batch is worth a second thread."""
    names = {"X": "X", "weights": "weights + Adam", "batch": "activations"}
    amounts = [job.bytes_of(grows) for job in jobs]
    found = {f"{names[grows]} > {name}": crossing(values, amounts, size) for name, size in cache_sizes().items()}
    work = [job.flops() * min(job.batch, job.rows) for job in jobs]
    found["threads"] = crossing(values, work, THREADED_FLOPS)
    return {name: value for name, value in found.items() if value is not None}


# ---- the figure -----------------------------------------------------------------------------------------------------
def draw(report, path):
    panels = [(name, report["panels"][name]) for name in PANELS if name in report["panels"]]
    size = (3.3 * len(panels) + 0.4, 5.6)
    figure, axes = plt.subplots(2, len(panels), figsize=size, sharex="col", sharey="row", squeeze=False)
    styles = {line.name: line.style for line in LINES}
    for (above, below), (name, panel) in zip(axes.T, panels, strict=True):
        flops = np.array(panel["flops_per_row"])
        for line, seconds in panel["seconds_per_row"].items():
            seconds = np.array(seconds, dtype=float)  # None becomes NaN: a gap
            above.plot(panel["values"], 1e6 * seconds, label=line, ms=4, lw=1.2, **styles[line])
            below.plot(panel["values"], 1e-9 * flops / seconds, ms=4, lw=1.2, **styles[line])
        for mark, value in panel["marks"].items():
            for axis in (above, below):
                axis.axvline(value, color="0.7", lw=0.9, ls="--" if mark == "threads" else ":", zorder=0)
            axis, y, side = (above, 0.98, "top") if mark == "threads" else (below, 0.02, "bottom")
            place = {"ha": "right", "va": side, "transform": axis.get_xaxis_transform()}
            axis.text(value, y, mark, rotation=90, fontsize=6.5, **place)
        above.set(xscale="log", yscale="log", title=name)
        below.set(xscale="log", yscale="log", xlabel=panel["label"])
    axes[0, 0].set_ylabel("time for a row and epoch, µs")
    axes[1, 0].set_ylabel("products, GFLOP/s")
    handles = {}
    for axis in axes[0]:
        handles.update({label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)})
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    memory = io.BytesIO()
    figure.savefig(memory, dpi=80)
    plt.close(figure)
    Image.open(memory).convert("L").save(path, optimize=True)  # all is grey: a third of the size


def machine():
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "caches": cache_sizes(),
        "blas": _blas_kernel.in_use(),
        "versions": {"fastnn": fastnn.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__},
    }


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--panels", nargs="+", choices=PANELS, default=list(PANELS), help="what grows (default: all)")
    parser.add_argument("--out", type=Path, metavar="PNG", help="where the figure goes")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the numbers go; other panels that are there stay"
    )
    parser.add_argument("--seconds", type=float, default=0.06, help="least duration of a timed fit")
    parser.add_argument("--repeats", type=int, default=5, help="fits of which the fastest counts")
    parser.add_argument("--quick", action="store_true", help="three small values in each panel, one short fit each")
    parser.add_argument("--draw", action="store_true", help="measure nothing: draw what --json holds")
    arguments = parser.parse_args(argv)
    if arguments.draw and not (arguments.json and arguments.json.is_file() and arguments.out):
        parser.error("--draw needs --out and a --json FILE that exists")
    if arguments.seconds < 0 or arguments.repeats < 1:
        parser.error("--seconds must be >= 0 and --repeats >= 1")
    return arguments


def main(argv=None):
    arguments = parse_arguments(argv)
    kept = json.loads(arguments.json.read_text())["panels"] if arguments.json and arguments.json.is_file() else {}
    report = {"machine": machine(), "panels": kept}
    seconds, repeats = (0.0, 1) if arguments.quick else (arguments.seconds, arguments.repeats)
    if not arguments.draw:
        print(_blas_kernel.report())
        print("panel    value  " + ", ".join(line.name for line in LINES) + " (the third in panel rows only)")
        for name in arguments.panels:
            report["panels"][name] = measure_panel(name, arguments.quick, seconds, repeats)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.out:
        draw(report, arguments.out)


if __name__ == "__main__":
    main()
