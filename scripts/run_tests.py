"""Runs the checks and the tests: python scripts/run_tests.py [--checks | pytest arguments]

The first run makes .venv and installs what is needed; later runs start at once. Two processes share the tests (-n 0:
one has them all). Tests marked slow are left out. --checks runs ruff and mypy alone. Ends with pytest's closing line;
the exit status is pytest's, or that of ruff or mypy where only they fail. `sh scripts/test.sh` is the same, and has
further modes.
"""

import os
import sys

from _venv import call, interpreter

CHECKS = (("-m", "ruff", "check", "."), ("-m", "ruff", "format", "--check", "."), ("-m", "mypy"))
# Two processes, each with whole files of tests: much of the time goes to compiling and to children, one core at a time.
OPTIONS = "--numprocesses=2 --dist=loadfile"


def main(arguments):
    """Run ruff and mypy, then pytest with these arguments. Returns the exit status."""
    python = interpreter(".venv", "test,plot")
    status = 0
    for check in CHECKS:
        status = call(python, *check) or status
    if arguments == ["--checks"]:
        return status
    if status:
        print("ruff or mypy has found what is named above; the tests run all the same")
    os.environ["PYTEST_ADDOPTS"] = f"{OPTIONS} {os.environ.get('PYTEST_ADDOPTS', '')}"
    return call(python, "-m", "pytest", "-m", "not slow", *arguments) or status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
