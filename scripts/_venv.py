"""The virtual environment of `quickstart` and of the tests: made once, and again when it no longer fits.

    python scripts/_venv.py FOLDER EXTRAS [PIN...]    makes it, unless it is there, and prints its interpreter

The stamp in the environment holds a checksum of pyproject.toml, the place of this checkout (the package is installed in
place, so a copied environment would import the original), the pins and the extras. With
FASTNN_PYTHON=/path/to/python that interpreter is used as it is, and no environment is made.

The file needs no more than some Python 3, so that one that is too old gets a message.
"""

import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOO_OLD = "error: fastnn needs Python 3.11 or newer; {} is {}."
NO_VENV = "error: no virtual environment could be made (Debian, Ubuntu: install python3-venv)."


def interpreter(folder, extras, pins=()):
    """Path of the interpreter of the environment ``folder``, with ``fastnn[extras]`` and the pins installed.

    Ends the program with a message where that cannot be had.
    """
    own = os.environ.get("FASTNN_PYTHON")
    if own:
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
        return own
    venv = ROOT / folder
    python, stamp = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), venv / "fastnn-stamp"
    key = "{} {} {}".format(zlib.crc32((ROOT / "pyproject.toml").read_bytes()), ROOT, " ".join(pins)).strip()
    if _fits(stamp, key, extras) and _runs(python):
        return str(python)
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(TOO_OLD.format(sys.executable, sys.version.split()[0]))
    print(f"Setting up {folder} with Python {sys.version.split()[0]} (once; a minute or two) ...", file=sys.stderr)
    if stamp.exists():
        stamp.unlink()
    if not _runs(python):
        shutil.rmtree(venv, ignore_errors=True)
        if subprocess.call([sys.executable, "-m", "venv", str(venv)], stdout=sys.stderr):
            sys.exit(NO_VENV)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable"]
    status = subprocess.call([*install, f"{ROOT}[{extras}]", *pins], stdout=sys.stderr)
    if status:
        sys.exit(status)
    stamp.write_text(f"{key} [{extras}]\n", encoding="utf-8")
    return str(python)


def _fits(stamp, key, extras):
    """Whether an environment was made for this key, with these extras at least."""
    try:
        made_for, _, installed = stamp.read_text(encoding="utf-8").strip().rpartition(" ")
    except OSError:
        return False
    return made_for == key and set(extras.split(",")) <= set(installed.strip("[]").split(","))


def _runs(python):
    """Whether an interpreter is there, runs, and is new enough."""
    try:
        return not subprocess.call([str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"])
    except OSError:
        return False


def call(*command):
    """Run a command in the checkout; its exit status, 130 after Ctrl-C."""
    sys.stdout.flush()
    try:
        return subprocess.call([str(part) for part in command], cwd=str(ROOT))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    print(interpreter(sys.argv[1], sys.argv[2], sys.argv[3:]))
