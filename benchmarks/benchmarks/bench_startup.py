"""Start-up: import, the first fit of a new process with a warm cache, and what an empty cache costs."""

import os
import subprocess
import sys
import tempfile

from .common import LIBRARIES, MODULES

IMPORT = "import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"

FIRST_FIT = """
import time, warnings
import numpy as np
from {module} import MLPClassifier
warnings.simplefilter("ignore")
X = np.random.default_rng(0).random((400, 20), dtype=np.float32)
y = np.arange(400) % 3
start = time.perf_counter()
MLPClassifier(max_iter=1).fit(X, y)
print(time.perf_counter() - start)
"""


def new_process(code, **environment):
    """Standard output of a new interpreter that runs `code` with fastnn importable."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *sys.path]))
    env = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


class Import:
    """Seconds that the import takes in a new interpreter; fastnn imports scikit-learn, which is part of its time."""

    param_names = ("library",)
    params = (LIBRARIES,)
    unit = "s"
    timeout = 120

    def track_import(self, library):
        code = (
            f"import time; start = time.perf_counter(); import {MODULES[library]}; print(time.perf_counter() - start)"
        )
        new_process(code)  # the first one may write byte code
        return min(float(new_process(code)) for _ in range(3))


class FirstFit:
    """Seconds of the first fit in a new process, default network, 400 rows, one epoch."""

    param_names = ("library",)
    params = (LIBRARIES,)
    unit = "s"
    timeout = 300

    def track_warm_first_fit(self, library):
        """Everything compiled is in the cache."""
        code = FIRST_FIT.format(module=MODULES[library])
        new_process(code)  # fills the cache
        return min(float(new_process(code)) for _ in range(3))

    def track_cold_compile(self, library):
        """The first fit with an empty cache, minus the next one."""
        code = FIRST_FIT.format(module=MODULES[library])
        with tempfile.TemporaryDirectory() as cache:
            cold = float(new_process(code, NUMBA_CACHE_DIR=cache))
            warm = float(new_process(code, NUMBA_CACHE_DIR=cache))
        return cold - warm
