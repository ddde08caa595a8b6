"""Scripts that tests run in processes of their own, on the checkout or on a copy of the package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Each script prints one JSON object; this goes before and after.
PROLOGUE = """
import contextlib, json, os, sys, threading, warnings
import numpy as np
from numba.core import event
out = {}
caught = warnings.catch_warnings(record=True)
record = caught.__enter__()
warnings.simplefilter("always")
compiled = event.install_recorder("numba:compile")
buffer = compiled.__enter__()
"""
EPILOGUE = """
out["warnings"] = [[w.category.__name__, str(w.message)] for w in record]
out["compiled"] = len([1 for _, e in buffer.buffer if e.is_start])
print(json.dumps(out))
"""


def start(folder, cache, script, **environment):
    """A process that runs ``script`` in ``folder``, on the copy of the package that lies there."""
    environment = {
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    } | environment
    source = PROLOGUE + script + EPILOGUE
    command = [sys.executable, "-c", source]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=folder, env=os.environ | environment, **pipes)


def finish(process):
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output)


def run(folder, cache, script, **environment):
    return finish(start(folder, cache, script, **environment))


def copy_package(folder):
    shutil.copytree(ROOT / "fastnn", folder / "fastnn", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def files(cache, pattern="*.nb?"):
    return sorted(Path(cache).rglob(pattern))
