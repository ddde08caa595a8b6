"""What the worked examples share: their options, training for a stated number of epochs, the report, the picture."""

import argparse
import platform
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import recall_score

import _blas_kernel
from datasets import DataError

LOST = 0.5  # a digit is lost if a smaller share of its images is read as it
PICTURES = Path(__file__).resolve().parent.parent / "pictures"


def run(example, description, argv=None):
    """Read the options, run ``example(args, report)`` and return the exit status.

    0: every claim of the example holds. 1: one does not. 2: the data cannot be read.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--data", metavar="DIR", help="folder of the data set, or its parent (else FASTNN_DATA)")
    parser.add_argument("--quick", action="store_true", help="less of everything: a few seconds")
    parser.add_argument("--out", type=Path, default=PICTURES, metavar="DIR", help="where pictures go (pictures/)")
    args = parser.parse_args(argv)
    report = Report()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is part of the recipe
            example(args, report)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return report.finish()


def epochs(number):
    """Parameters of an estimator that trains for ``number`` epochs whatever its loss does."""
    return {"max_iter": number, "tol": 0, "n_iter_no_change": np.inf}


def say_where_from(data):
    """Print what is trained on, and loudly so where it is a stand-in."""
    print(f"Data: {data.name} ({data.note})")
    if not data.is_real:
        print("      A STAND-IN: the published figures do not apply to it; --data DIR reads the real set")


def make_ready(estimator, *data, **validation):
    """Compile, or load from the cache, what ``estimator`` needs, by one epoch of a copy; say how long it took."""
    _, seconds = timed(clone(estimator).set_params(max_iter=1).fit, *data, **validation)
    print(f"Kernels ready after {seconds:.2f} s (compiled once per machine, then loaded from the cache)", flush=True)


def lost_digits(network, X, y):
    """The digits that the network cannot read: saturated units may keep it from ever learning them."""
    found = recall_score(y, network.predict(X), labels=np.arange(10), average=None, zero_division=1)
    return np.flatnonzero(found < LOST)


def spread(values, digits, *, per_cent=False):
    """``"2.42 +- 0.08"``: mean and standard deviation over seeds; the value alone where there is but one."""
    values = np.asarray(values) * (100 if per_cent else 1)
    text = f"{np.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" +- {np.std(values, ddof=1):.{digits}f}"
    return text + " %" * per_cent


def machine():
    """The processor, as far as the system tells, its widest vectors and the number of cores."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    lines = (line.partition(":") for line in told.splitlines())
    fallback = platform.processor() or platform.machine()
    name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), fallback)
    vectors = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in told.split()), "")
    return ", ".join(filter(None, (name, vectors, f"{joblib.cpu_count()} cores")))


def timed(function, *args, **kwargs):
    """``(result, seconds)`` of a call."""
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return result, time.perf_counter() - start


class Report:
    """The figures of an example beside others, published ones as a rule, and whether what it claims holds."""

    def __init__(self):
        self.columns = "published", "here"
        self.rows = []
        self.broken = []

    def add(self, what, published, here, claim="", holds=True, real=True):
        """One figure: texts, and whether the ``claim`` about it ``holds``.

        Claims are for every machine: none is about time, and what hangs on random numbers, or on the last bits of
        a sum, fails less than once in 1,000 times. Where the data are not ``real`` there is nothing published
        about them, and nothing is claimed.
        """
        if not real:
            published = "" if self.columns[0] == "published" else published
            claim, holds = "", True
        self.rows.append((what, published, here, claim and f"{claim}: {'met' if holds else 'NOT MET'}"))
        if not holds:
            self.broken.append(f"{what} is {here}, claimed was {claim}")

    def finish(self):
        """Print the table; return 0 where every claim holds, else 1."""
        rows = [("", *self.columns, "claim"), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        print(f"\nMachine: {machine()}. Times are its own; what is claimed is claimed on any.")
        print(_blas_kernel.report() + "\n")
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        for line in self.broken:
            print(f"error: {line}", file=sys.stderr)
        return 1 if self.broken else 0


def save_picture(path, draw, size, *args):
    """Let ``draw(figure, *args)`` fill a figure of ``size`` inches and write it; without matplotlib say so."""
    try:
        import matplotlib
    except ImportError:
        print("Picture: left out, matplotlib is not installed (pip install matplotlib)")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=size, layout="constrained")
    draw(figure, *args)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"Picture: {path}")
