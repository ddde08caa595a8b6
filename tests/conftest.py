"""Where the tests find data: the real sets where a machine has them, else a small MNIST written on the spot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from mnist_files import write_mnist

ROOT = Path(__file__).resolve().parent.parent


def pytest_sessionstart(session):
    """Compile everything before pytest-xdist starts its workers, each of which would compile it for itself."""
    option = session.config.option
    if getattr(option, "numprocesses", None) and not (config.DISABLE_JIT or option.collectonly):
        subprocess.run([sys.executable, "-m", "fastnn", "warmup"], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="session")
def real_data():
    """The folder of the real data sets, from FASTNN_DATA or beside the checkout, or None."""
    for place in (os.environ.get("FASTNN_DATA"), ROOT / "../shared/data"):
        if place and Path(place).is_dir():
            return Path(place).resolve()
    return None


@pytest.fixture(scope="session")
def real_data_dir(real_data):
    """The folder of the real data sets; the test is skipped on a machine without them."""
    if real_data is None:
        pytest.skip("the real data sets are not on this machine (FASTNN_DATA)")
    return real_data


@pytest.fixture(scope="session")
def small_mnist_dir(tmp_path_factory):
    """A folder of four small IDX files in MNIST's form; read it, do not change it."""
    return write_mnist(tmp_path_factory.mktemp("data") / "mnist")


@pytest.fixture(scope="session")
def mnist_dir(real_data, small_mnist_dir):
    """A folder of MNIST's four files: the real ones where they are, else the small set."""
    for folder in (real_data and real_data / "mnist", real_data):
        if folder and list(folder.glob("train-images*idx3-ubyte*")):
            return folder
    return small_mnist_dir


@pytest.fixture(autouse=True)
def no_ambient_data(monkeypatch):
    """Loaders see only the folder that a test gives them."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
