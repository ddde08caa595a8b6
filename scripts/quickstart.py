"""Trains a network on handwritten digits and compares it with scikit-learn: python scripts/quickstart.py

The first run makes .venv and installs fastnn there; later runs start at once. Arguments go to scripts/train_mnist.py:
--data DIR or --fetch for the real MNIST, --help for the rest.
"""

import os
import subprocess
import sys

from _venv import ROOT, interpreter

if __name__ == "__main__":
    line = [interpreter(".venv", "plot"), str(ROOT / "scripts" / "train_mnist.py"), *sys.argv[1:]]
    if os.name == "posix":
        os.execv(line[0], line)
    sys.exit(subprocess.call(line))  # elsewhere the shell would not wait for what replaces this process
