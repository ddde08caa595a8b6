"""Benchmarks of fastnn for airspeed velocity, each with a scikit-learn (or NumPy) row beside it.

asv imports this before anything that imports NumPy, so the BLAS is loaded without the variables that override its
choice of kernels; what `bench_startup` starts inherits that.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import _blas_kernel

_blas_kernel.remove_overrides()
print(_blas_kernel.report(), file=sys.stderr)
