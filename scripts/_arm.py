"""Runs tests on an emulated ARM64 processor: sh scripts/test.sh --arm [pytest arguments]

qemu emulates a Neoverse N1 for Debian's Python and PyPI's wheels for arm64, which the first run puts into .arm64 (some
800 MB; later runs start at once). Neither root nor a chroot is needed: qemu looks for files below .arm64/root first.
Without arguments it runs a selection: the golden bits of float32 on one thread, which are those of x86-64, and parts of
the compiled code by themselves. Emulated code is 10 to 20 times slower, and threads meet on a host whose memory may be
ordered more strictly than ARM64's, so this shows results, not speed or races.

Where the emulator or what fills .arm64 is missing, the reason is printed and nothing runs (exit status 0).
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".arm64"
SYSTEM = FOLDER / "root"
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
RELEASE = "bookworm"
MIRROR = os.environ.get("FASTNN_DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES = "python3,libgomp1,libstdc++6"
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")

# What LLVM reads the processor from; the host's own would be passed through.
PROCESSOR = """processor\t: {}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""
# A file that the host's shell runs, so that tests may start further processes by `sys.executable`.
LAUNCHER = """#!/bin/sh
export PYTHONHOME='{system}/usr' PYTHONDONTWRITEBYTECODE=1
exec '{emulator}' -0 "$0" -cpu neoverse-n1 -L '{system}' '{system}/usr/bin/{python}' "$@"
"""
RUN = """
import sys
sys.path[:0] = ["tests"]
import golden, pytest
golden.THREADS = (1,)
sys.exit(pytest.main(sys.argv[1:]))
"""
# Under lbfgs everything is compiled for float64 too, which takes minutes.
SELECTION = (
    "tests/test_golden.py",
    *(f"tests/core/test_{name}.py" for name in ("target", "scalar", "vector", "reduce", "barrier", "vecmath", "gemm")),
    *("-k", "not (test_bits_are_what_they_were and (float64 or lbfgs))", "-q"),
)


def why_not():
    """Why no tests can be run here, or None."""
    if sys.platform != "linux":
        return "qemu emulates programs on Linux only"
    if not any(map(shutil.which, EMULATORS)):
        return "qemu is not installed (Debian, Ubuntu: qemu-user-static)"
    if not (FOLDER / "complete").exists():
        missing = [name for name in ("debootstrap", "dpkg-deb") if shutil.which(name) is None]
        if missing:
            return f"{' and '.join(missing)} not installed, which would fill .arm64"
    return None


def complete():
    """Fill .arm64, once: Debian's packages, PyPI's wheels, and the file that starts the emulated Python."""
    stamp, wanted = FOLDER / "complete", f"{RELEASE} {PACKAGES} {' '.join(requirements())}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print("Setting up .arm64 (once; some minutes) ...", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    archives = FOLDER / "archives"
    download = ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={PACKAGES}", "--download-only"]
    subprocess.run([*download, RELEASE, archives, MIRROR], check=True, stdout=subprocess.DEVNULL)
    for name in ("bin", "lib", "sbin"):
        (SYSTEM / "usr" / name).mkdir(parents=True)
        (SYSTEM / name).symlink_to(f"usr/{name}")
    for package in sorted((archives / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, SYSTEM], check=True)
    shutil.rmtree(archives)
    for path in SYSTEM.iterdir():
        if path.name not in ("bin", "lib", "sbin", "usr"):  # qemu would take them for the folders of the host
            shutil.rmtree(path)
    names = [path.name for path in (SYSTEM / "usr/bin").iterdir() if re.fullmatch(r"python3\.\d+", path.name)]
    python = max(names, key=lambda name: int(name.removeprefix("python3.")))
    install_wheels(python)
    (SYSTEM / "proc").mkdir()
    (SYSTEM / "proc/cpuinfo").write_text("".join(map(PROCESSOR.format, range(2))), encoding="utf-8")
    emulator = next(filter(None, map(shutil.which, EMULATORS)))
    launcher = FOLDER / "python3"
    launcher.write_text(LAUNCHER.format(system=SYSTEM, emulator=emulator, python=python), encoding="utf-8")
    launcher.chmod(0o755)
    stamp.write_text(wanted, encoding="utf-8")


def requirements():
    """fastnn's own requirements, and pytest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [*project["project"]["dependencies"], *(r for r in project["dependency-groups"]["test"] if "pytest>" in r)]


def install_wheels(python):
    """Install wheels for arm64 where Debian's Python, whose name is ``python``, looks for packages."""
    target = SYSTEM / "usr/local/lib" / python / "dist-packages"
    options = [f"--python-version={python.removeprefix('python')}", "--only-binary=:all:", f"--target={target}"]
    options += [f"--platform={platform}" for platform in PLATFORMS]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *options, *requirements()], check=True)


def main(arguments):
    """Run pytest with these arguments, or the selection. Returns the exit status."""
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    try:
        complete()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: .arm64 could not be filled: {error}", file=sys.stderr)
        return 1
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NUMBA_CACHE_DIR": str(FOLDER / "cache"),
        "NUMBA_NUM_THREADS": "2",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }
    line = [FOLDER / "python3", "-c", RUN, *(arguments or SELECTION)]
    return subprocess.run(line, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
