"""``python -m fastnn warmup``: compile all that a deployment needs, before the first fit. ``cache``: what is where.
``run``: a program with scikit-learn patched, see `patch`.

Nothing here knows a signature. Tiny fits and predictions call every entry on one thread; the parallel twin of an entry
takes what its serial twin has taken. So the machine that warms up needs no second core; where it has one, another
process compiles for the second dtype meanwhile, and this one then finds that in the cache.
"""

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import time
import warnings

import numpy as np
import scipy.sparse as sp
from numba import config
from numba.core import event

from . import MLPClassifier, MLPRegressor, __version__
from .core.compile import cache, trust
from .core.compile.jit import all_implementations, entries, load_leaves
from .csr import by_rows
from .threads import processors
from .walk import Walk

DTYPES = ("float32", "float64")


class Failure(Exception):
    """What the user is told on one line, before the program ends with status 1."""


def run_serially(dtype, sparse):
    """Train, minimize and predict on one thread, in networks of a few units. L-BFGS computes in float64 alone."""
    X = np.linspace(-1, 1, 24, dtype=dtype).reshape(8, 3)
    X = sp.csr_array(X) if sparse else X
    options = {"hidden_layer_sizes": (2,), "max_iter": 1, "n_jobs": 1, "dtype": dtype, "random_state": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer|lbfgs failed")  # one iteration is all that is wanted
        MLPClassifier(**options).fit(X, np.arange(8) % 3).predict(X)
        if dtype == "float64":
            MLPRegressor(solver="lbfgs", **options).fit(X, np.arange(8.0))
        MLPRegressor(**options).fit(X, np.arange(8.0)).predict(X)


def compile_parallel(dtype):
    """The parallel twins of all entries whose serial twins have been called."""
    for entry in entries:
        if entry.loops:
            for signature in entry.twin(dtype).signatures:
                entry.twin(dtype, parallel=True).compile(signature)


def shuffle_rows():
    """Draw a permutation as long training does, whatever its dtype."""
    next(Walk(np.arange(8, dtype=np.int64), np.random.RandomState(0)).orders(quick=True))


def look_at_indices():
    """Look through a sparse matrix of either width of indices, whatever its dtype."""
    for dtype in (np.int32, np.int64):
        X = sp.csr_array(np.eye(2))
        X.indices, X.indptr = X.indices.astype(dtype), X.indptr.astype(dtype)
        by_rows(X)


def jobs(dtypes, sparse):
    """(name, function of no arguments) of each part of the work, in the order in which one needs the other."""
    for dtype in dtypes:
        for kind, is_sparse in (("dense", False), ("sparse", True))[: 1 + sparse]:
            yield f"{dtype} {kind}, kernels", lambda d=dtype, s=is_sparse: load_leaves(d, s, all_implementations(s))
            yield f"{dtype} {kind}, one thread", lambda d=dtype, s=is_sparse: run_serially(d, s)
            yield f"{dtype} {kind}, many threads", lambda d=dtype: compile_parallel(d)


@contextlib.contextmanager
def helper(arguments):
    """A process that warms up for all dtypes but the first while the block runs; None where it would gain nothing.

    It is only quicker so: what it leaves undone is done here. Where the block raises it is ended.
    """
    others = arguments.dtype[1:]
    if not others or processors() < 2 or not sys.executable:
        yield None
        return
    line = [sys.executable, "-m", "fastnn", "warmup", "--dtype", *others, *["--no-sparse"] * (not arguments.sparse)]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def after(process, work, compiled):
    """The same jobs, begun when a process has ended, if there is one; ended here where nothing was compiled so far.

    Where this process has found everything in the cache, the other one most likely does, and takes seconds to start.
    """
    if process is not None and compiled.buffer:
        began = time.perf_counter()
        process.wait()
        say(f"  {'waiting for a second process':<30} {time.perf_counter() - began:6.2f} s")
    elif process is not None:
        process.terminate()
    yield from work


def cache_folder():
    """The folder of the cache, which can be written."""
    if config.DISABLE_JIT:
        raise Failure("NUMBA_DISABLE_JIT is set: nothing is compiled, and no cache is used.")
    try:
        cache.covered()
        place = cache.folder()
        cache.check_writable(place)
    except cache.SourcesUnknown as error:
        raise Failure(f"compiled code cannot be kept ({error}).") from None
    except OSError as error:
        place = f"the folder NUMBA_CACHE_DIR={config.CACHE_DIR}" if config.CACHE_DIR else "any folder"
        done = "kept in" if isinstance(error, trust.Untrusted) else "written to"
        raise Failure(f"compiled code cannot be {done} {place} ({error}). {trust.advice_for(error)}") from None
    return place


def size(files):
    """``"3 files, 1.2 MB"``"""
    files = list(files)
    return f"{len(files)} file{'s' * (len(files) != 1)}, {sum(file.n_bytes for file in files) / 1e6:.1f} MB"


def say(line):
    print(line, flush=True)  # compiling takes seconds: a log shall show what is going on


def clean(place):
    removed, kept = cache.remove_older(place)
    say(f"removed, left by other versions: {size(removed)}")
    for file, reason in kept:
        say(f"could not remove {file.path.name}: {reason}")


def warm_up(arguments):
    place = cache_folder()
    say(f"fastnn {__version__} compiles into {place}")
    start = time.perf_counter()
    with (
        helper(arguments) as other,
        event.install_recorder("numba:compile") as compiled,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "fastnn cannot keep")  # it becomes a failure below
        first, others = (jobs(dtypes, arguments.sparse) for dtypes in (arguments.dtype[:1], arguments.dtype[1:]))
        common = [("shuffles", shuffle_rows)] + [("indices", look_at_indices)] * arguments.sparse
        for name, job in itertools.chain(common, first, after(other, others, compiled)):
            began, before = time.perf_counter(), len(compiled.buffer)
            job()
            if cache.complaints:
                raise Failure(f"compiled code cannot be kept in {place} ({cache.complaints[0]}). {trust.ADVICE}")
            n = sum(e.is_start for _, e in compiled.buffer[before:])
            done = f"{n} functions compiled" if n else "found in the cache"
            say(f"  {name:<30} {time.perf_counter() - began:6.2f} s  {done}")
    say(f"ready after {time.perf_counter() - start:.1f} s")
    clean(place)
    report(place)


def show(arguments):
    place = cache_folder()
    if arguments.clean:
        clean(place)
    report(place)


def report(place):
    files = cache.cache_files(place)
    say(f"cache: {place}")
    say(f"  this version:   {size(file for file in files if file.current)}")
    say(f"  other versions: {size(file for file in files if not file.current)}")


def run_program(arguments):
    """Run a script or module; what it raises is the program's own."""
    from .patch import program

    if not (arguments.module or arguments.script):
        arguments.refuse("give a script, or -m and a module")
    if arguments.module and arguments.script:
        arguments.refuse("give a script or -m and a module, not both")
    program.run(
        arguments.module or arguments.script,
        is_module=bool(arguments.module),
        dtype=arguments.dtype,
        verbose=arguments.verbose,
    )


def add_run(commands):
    """The command ``run``."""
    run = commands.add_parser(
        "run",
        help="run a program that uses scikit-learn's MLPClassifier or MLPRegressor, trained by fastnn",
        usage="%(prog)s [-h] [-v] [--dtype {match,float32}] (script.py | -m module) ...",
        description="Run a script or module as Python does, with scikit-learn's MLPClassifier and MLPRegressor trained "
        "by fastnn, in child processes too.",
    )
    run.add_argument("-v", "--verbose", action="store_true", help="in the end, write a table of all fits to stderr")
    run.add_argument(
        "--dtype",
        choices=("match", "float32"),
        default="match",
        help="precision of training: as in scikit-learn, that of X (default), or always float32, which is faster",
    )
    run.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="a module and its arguments")
    run.add_argument("script", nargs=argparse.REMAINDER, help="a script and its arguments")
    run.set_defaults(run=run_program, refuse=run.error)


def parser():
    main = argparse.ArgumentParser(prog="python -m fastnn", description="fastnn's compiled code and its command run.")
    main.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = main.add_subparsers(dest="command", required=True)
    warmup = commands.add_parser(
        "warmup",
        help="compile all that a deployment needs and remove what other versions left",
        description="Compile all that a deployment needs, so that no later process compiles anything; say where it is; "
        "remove what other versions of fastnn, Numba, llvmlite or NumPy left there. Safe beside running processes.",
    )
    warmup.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES, help="precisions (default: both)")
    warmup.add_argument(
        "--sparse", action=argparse.BooleanOptionalAction, default=True, help="code for sparse X (default: with it)"
    )
    warmup.set_defaults(run=warm_up)
    kept = commands.add_parser("cache", help="say where compiled code is kept and how much room it takes")
    kept.add_argument("--clean", action="store_true", help="remove what other versions left")
    kept.set_defaults(run=show)
    add_run(commands)
    return main


def main(argv=None):
    """Run a command of ``python -m fastnn``.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, 1 when the cache cannot be used, 130 after Ctrl-C. Wrong arguments end with 2.
    """
    arguments = parser().parse_args(argv)
    if arguments.run is run_program:
        run_program(arguments)
        return 0
    try:
        arguments.run(arguments)
    except Failure as failure:
        print(f"python -m fastnn {arguments.command}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was compiled before is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        sys.exit(main())
    # A closed pipe (`| head`) is no error of ours: point stdout elsewhere, so that the exit does not raise again.
    try:
        sys.exit(main())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
