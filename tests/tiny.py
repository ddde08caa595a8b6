"""A package of nothing but ``core`` and a few tiny entries, and processes that call them: they compile in no time."""

import json
import os
import shutil

import pytest

from processes import EPILOGUE, ROOT, run

# One entry for two dtypes and another one, none of which call a leaf, and a kernel in another module.
MODULES = {
    "tiny.py": """
from .doubled import doubled
from .compile.jit import entry

@entry
def total(x):
    s = 0.0
    for i in range(x.size):
        s += doubled(x[i])
    return s

@entry
def product(x):
    s = 1.0
    for i in range(x.size):
        s *= x[i]
    return s
""",
    "doubled.py": """
from .compile.jit import kernel

@kernel
def doubled(x):
    return 2.0 * x
""",
}
CALLS = """
from fastnn.core import tiny
{before}
x = np.arange(4.0)
total, product = tiny.total.twin, tiny.product.twin
out["results"] = [total("float64")(x), total("float32")(x.astype(np.float32)), product("float64")(x + 1)]
"""
RESULTS = [12.0, 12.0, 24.0]
N_FILES = 3
N_COMPILED = 5  # the entries, and the kernel for two dtypes


def copy_core(folder):
    """A copy of ``core``, with the tiny entries, below a package that is empty otherwise."""
    shutil.copytree(ROOT / "fastnn" / "core", folder / "fastnn" / "core", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "fastnn" / "__init__.py").write_text("")
    for name, text in MODULES.items():
        (folder / "fastnn" / "core" / name).write_text(text)
    return folder


def calls(before=""):
    """A script that calls the tiny entries, after some statements."""
    return CALLS.format(before=before)


# Numba is ready to compile, and nothing of fastnn is imported, when this process begins to fork.
FORKS = """
import signal, traceback
from numba import config, njit
njit(lambda x: x + 1.0)(1.0)

def answer(path, cache, script):
    record.clear()
    buffer.buffer.clear()
    sys.path.insert(0, path)
    config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = cache
    try:
        exec(script, globals() | {"out": {}})
    except BaseException:
        print(traceback.format_exc())

out["answers"] = []
for job in jobs:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.dup2(writing, 1)
        answer(*job)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    out["answers"].append([os.waitpid(child, 0)[1], said])
"""


def in_forks(folder, jobs):
    """What forked processes answer to scripts, one after the other: a dict, or a text if they ended in any other way.

    Parameters
    ----------
    folder : pathlib.Path
        Where the process that forks runs.
    jobs : list of tuple of (path, path, str)
        Where the package is found, where its cache is ("" for NUMBA_CACHE_DIR not set), and the script.
    """
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    jobs = [(str(path), str(cache), script + EPILOGUE) for path, cache, script in jobs]
    done = run(folder, folder / "nowhere", f"jobs = {jobs!r}\n{FORKS}")
    return [answered(status, said) for status, said in done["answers"]]


def answered(status, said):
    try:
        return json.loads(said) if status == 0 else f"ended with {status}: {said}"
    except ValueError:
        return said
