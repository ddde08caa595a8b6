"""asv imports this when it starts (plugins in asv.conf.json), and all its processes inherit the environment.

The suite itself would be too late: asv's processes import NumPy before it. The kernels that are printed are those of
the interpreter that runs asv; the benchmark BlasVectors records those of each environment.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

import _blas_kernel

_blas_kernel.remove_overrides()
if importlib.util.find_spec("numpy") and importlib.util.find_spec("threadpoolctl"):
    subprocess.run([sys.executable, _blas_kernel.__file__], check=False)
