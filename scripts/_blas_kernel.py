"""Which kernels NumPy's BLAS runs, and how a script gets the best ones of its processor.

OpenBLAS chooses its kernels when it is loaded. OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE override that choice, and where a
machine's environment sets them, OpenBLAS may run AVX2 kernels on a processor with AVX-512, at half the rate. What is
measured beside fastnn must not suffer from that, so every script here runs without the two variables.
This module imports nothing that loads a BLAS before it is asked for a kernel.

    python scripts/_blas_kernel.py      # prints the kernels in use
"""

import os
import sys
from pathlib import Path

OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
VECTORS = ("SSE", "AVX", "AVX2", "AVX-512")  # in rising order
FLAGS = {"AVX": {"avx"}, "AVX2": {"avx2", "fma"}, "AVX-512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}}
# Kernels of OpenBLAS and BLIS for x86-64, by the instructions that they use. Other names are not judged.
KERNELS = {
    "SSE": {"prescott", "core2", "penryn", "dunnington", "nehalem", "atom", "athlon", "opteron", "barcelona", "bobcat"},
    "AVX": {"sandybridge", "bulldozer", "piledriver", "steamroller"},
    "AVX2": {"haswell", "zen", "excavator", "zen2", "zen3"},
    "AVX-512": {"skylakex", "cooperlake", "sapphirerapids", "skx", "zen4", "zen5"},
}


def environment(**changes):
    """The environment for a process that measures: that of this process without the overrides."""
    return {name: value for name, value in os.environ.items() if name not in OVERRIDES} | changes


def restart(name):
    """Start this script again without the overrides where they are set; call it before NumPy is imported.

    ``name`` is the caller's ``__name__``: a module that another program imports starts nothing.
    """
    if name == "__main__" and any(variable in os.environ for variable in OVERRIDES):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())


def remove_overrides():
    """Take the overrides out of this process's environment, and so of the processes that it starts."""
    for variable in OVERRIDES:
        os.environ.pop(variable, None)


def processor_vectors():
    """The widest vectors of the processor, a member of VECTORS; None where the system does not say."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return None
    if "sse2" not in flags:
        return None
    return next((name for name in reversed(VECTORS[1:]) if FLAGS[name] <= flags), VECTORS[0])


def kernel_vectors(architecture):
    """The vectors that kernels of this name use, a member of VECTORS; None where the name is not known."""
    return next((vectors for vectors, names in KERNELS.items() if architecture.lower() in names), None)


def in_use():
    """The kernels of all BLAS libraries of this process, NumPy's among them: sorted names, each once."""
    import numpy  # noqa: F401  loads its BLAS
    from threadpoolctl import threadpool_info

    libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return sorted({info.get("architecture") or info["internal_api"] for info in libraries})


def too_narrow(architectures, vectors):
    """Those kernels that use narrower vectors than the processor has."""
    ranks = {name: VECTORS.index(kernel_vectors(name)) for name in architectures if kernel_vectors(name)}
    return [name for name, rank in ranks.items() if vectors and rank < VECTORS.index(vectors)]


def report(architectures=None):
    """What is printed beside measured times: the kernels in use, and a warning where the processor has better ones."""
    architectures = in_use() if architectures is None else architectures
    vectors = processor_vectors()
    names = (f"{name} ({kernel_vectors(name)})" if kernel_vectors(name) else name for name in architectures)
    lines = [f"BLAS kernels: {', '.join(names) or 'unknown'}"]
    for name in too_narrow(architectures, vectors):
        lines.append(
            f"warning: {name} kernels use {kernel_vectors(name)}, and this processor has {vectors}: "
            "times of NumPy, SciPy and scikit-learn are not what it can do"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    restart(__name__)
    print(report())
