"""Benchmarks of fastnn for airspeed velocity, each with a scikit-learn (or NumPy) row beside it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import _blas_kernel

print(_blas_kernel.report())  # asv shows it with --show-stderr
