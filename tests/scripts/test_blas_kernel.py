"""scripts/_blas_kernel.py: measured processes run without the variables that override the BLAS's choice of kernels."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import _blas_kernel as blas

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
SET = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_L2_SIZE": "262144"}
OTHERS = ("compare_peers.py", "_blas_kernel.py")  # which measure in processes of their own, or not at all
STARTERS = ("_arm.py", "_venv.py", "quickstart.py", "run_tests.py")  # which use no NumPy
EXAMPLES = sorted(
    path.name
    for path in SCRIPTS.glob("*.py")
    if "__main__" in path.read_text() and path.name not in (*OTHERS, *STARTERS)
)


def run(*command, **environment):
    path = os.pathsep.join((str(SCRIPTS), str(ROOT)))
    environment = os.environ | {"PYTHONPATH": path} | environment
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def best():
    """The kernels that the BLAS chooses by itself."""
    child = subprocess.run(
        [sys.executable, "-c", "import _blas_kernel; print(*_blas_kernel.in_use())"],
        **{"capture_output": True, "text": True, "check": True, "env": blas.environment(PYTHONPATH=str(SCRIPTS))},
    )
    return child.stdout.split()


SCRIPT = """
import sys, _blas_kernel
_blas_kernel.restart(__name__)
import os
print(sorted(name for name in os.environ if name.startswith("OPENBLAS")), sys.argv[1:], sys.flags.dev_mode)
print("numpy" in sys.modules, *_blas_kernel.in_use())
"""


def test_a_script_starts_again_without_the_overrides(tmp_path, best):
    """With its arguments and the interpreter's options, and before NumPy is there."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run("-X", "dev", script, "--data", "a b", OPENBLAS_NUM_THREADS="1", **SET)
    first, second = done.stdout.splitlines()
    assert first == "['OPENBLAS_NUM_THREADS'] ['--data', 'a b'] True"
    assert second.split() == ["False", *best]


def test_a_module_that_is_imported_starts_nothing():
    code = "import _blas_kernel, os; _blas_kernel.restart('moons'); print(os.environ['OPENBLAS_CORETYPE'])"
    assert run("-c", code, **SET).stdout == "Nehalem\n"


def test_without_overrides_nothing_starts_again(monkeypatch):
    for name in blas.OVERRIDES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "execve", None)
    blas.restart("__main__")


def test_the_environment_of_a_child_has_no_overrides(monkeypatch):
    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KEPT", "yes")
    found = blas.environment(ADDED="1")
    assert found["KEPT"] == "yes" and found["ADDED"] == "1" and not set(SET) & set(found)


@pytest.mark.parametrize("name", STARTERS)
def test_starters_use_no_numpy(name):
    code = f"import sys; sys.argv = ['x']; import {name.removesuffix('.py')}; print('numpy' in sys.modules)"
    assert run("-c", code).stdout == "False\n"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_script_restarts_before_it_imports_anything(name):
    first, second, third, *_ = ast.parse((SCRIPTS / name).read_text()).body
    assert isinstance(first.value, ast.Constant)  # the docstring
    assert ast.unparse(second) == "import _blas_kernel" and ast.unparse(third) == "_blas_kernel.restart(__name__)"


def test_asv_and_all_its_processes_run_without_the_overrides(best):
    code = """
import os, sys
sys.path.insert(0, "benchmarks")
import blas_environment
print(sorted(name for name in os.environ if name.startswith("OPENBLAS")))
"""
    first, *_, last = run("-c", code, OPENBLAS_NUM_THREADS="1", **SET).stdout.splitlines()
    assert first.startswith("BLAS kernels: ") and all(name in first for name in best)
    assert last == "['OPENBLAS_NUM_THREADS']"
    assert '"plugins": [".blas_environment"]' in (ROOT / "benchmarks" / "asv.conf.json").read_text()


def test_the_asv_suite_records_the_vectors_of_the_blas():
    code = """
import sys
sys.path.insert(0, "benchmarks")
from benchmarks.bench_kernels import BlasVectors
for of in ("processor", "BLAS"):
    try:
        print(BlasVectors().track_vector_bits(of))
    except NotImplementedError:
        print("not known")
"""
    report, *_, processor, kernels = run("-c", code).stdout.splitlines()
    assert report.startswith("BLAS kernels: ") and {processor, kernels} <= {"128", "256", "512", "not known"}


CPUINFO = {
    "AVX-512": "flags\t: fpu sse2 avx fma avx2 avx512f avx512dq avx512bw avx512vl\n",
    "AVX2": "flags\t: fpu sse2 avx fma avx2 avx512f\n",  # a part of AVX-512 is not what kernels ask for
    "AVX": "flags\t: fpu sse2 avx\n",
    "SSE": "flags\t: fpu sse2\n",
    None: "Features\t: fp asimd\n",
}


@pytest.mark.parametrize("vectors", CPUINFO)
def test_vectors_of_the_processor(vectors, monkeypatch):
    monkeypatch.setattr(blas.Path, "read_text", lambda path: CPUINFO[vectors])
    assert blas.processor_vectors() == vectors


def test_no_cpuinfo(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(blas.Path, "read_text", missing)
    assert blas.processor_vectors() is None and blas.report(["Haswell"]) == "BLAS kernels: Haswell (AVX2)"


@pytest.mark.parametrize(
    ("architectures", "vectors", "narrow"),
    [
        (["Haswell"], "AVX-512", ["Haswell"]),
        (["SkylakeX", "Zen"], "AVX-512", ["Zen"]),
        (["SkylakeX"], "AVX-512", []),
        (["Haswell"], "AVX2", []),
        (["Sandybridge"], "AVX2", ["Sandybridge"]),
        (["mkl", "neoversen1"], "AVX-512", []),  # not judged
        ([], "AVX2", []),
    ],
)
def test_kernels_below_the_processor_are_warned_of(architectures, vectors, narrow, monkeypatch):
    monkeypatch.setattr(blas, "processor_vectors", lambda: vectors)
    first, *warnings = blas.report(architectures).splitlines()
    assert first.startswith("BLAS kernels: ")
    assert [line.split()[1] for line in warnings] == narrow
    assert all(line.startswith("warning: ") and vectors in line for line in warnings)


def test_the_kernels_in_use_are_found():
    assert blas.in_use() and blas.report().startswith(f"BLAS kernels: {blas.in_use()[0]}")
