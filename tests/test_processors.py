"""How many processors a process may use: quotas of containers, joblib's and other libraries' limits, and affinity."""

import builtins
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from joblib.externals.loky.backend import context

from fastnn import MLPClassifier, threads
from processes import ROOT

V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"
V2 = "/sys/fs/cgroup/cpu.max"


@pytest.fixture
def machine(monkeypatch):
    """A machine of 64 processors without a container; the function that it gives writes control files of cgroups."""
    files = {}

    def exists(path, real=os.path.exists):
        return path in files if str(path).startswith("/sys/fs/cgroup") else real(path)

    def opened(path, *args, real=builtins.open, **options):
        if not str(path).startswith("/sys/fs/cgroup"):
            return real(path, *args, **options)
        return io.StringIO(files[path])

    monkeypatch.setattr(os.path, "exists", exists)
    monkeypatch.setattr(context, "open", opened, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 64)
    monkeypatch.setattr(threads, "_grant", None)
    for name in ("LOKY_MAX_CPU_COUNT", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return files.update


@pytest.mark.skipif(sys.platform == "win32", reason="joblib counts at most 61 processors on Windows, and no quotas")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({V2: "200000 100000"}, 2),  # docker run --cpus=2
        ({V2: "150000 100000"}, 2),
        ({V2: "10000 100000"}, 1),
        ({V2: "max 100000"}, 64),
        ({V2: "9900000 100000"}, 64),
        ({V1[0]: "200000", V1[1]: "100000"}, 2),
        ({V1[0]: "25000", V1[1]: "50000"}, 1),
        ({V1[0]: "-1", V1[1]: "100000"}, 64),
        ({V2: "no such thing"}, 64),
    ],
    ids=str,
)
def test_threads_keep_to_a_containers_quota(machine, files, expected):
    machine(files)
    assert (threads.processors(), threads.available_threads()) == (expected, expected)
    assert threads.resolve_n_jobs(None) == threads.resolve_n_jobs(-1) == expected
    assert threads.resolve_n_jobs(-2) == max(1, expected - 1)
    assert threads.resolve_n_jobs(8) == 8  # who names a number gets it


@pytest.mark.parametrize(
    ("environment", "expected", "everything"),
    [
        ({"LOKY_MAX_CPU_COUNT": "3"}, 3, 3),
        ({"LOKY_MAX_CPU_COUNT": "many"}, 8, 8),
        ({"OMP_NUM_THREADS": "1"}, 1, 8),  # workers of Dask and Ray
        ({"OMP_NUM_THREADS": "4,2"}, 4, 8),
        ({"OMP_NUM_THREADS": "0"}, 8, 8),
        ({"OMP_NUM_THREADS": ""}, 8, 8),
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "8"}, 8, 8),
    ],
    ids=str,
)
def test_limits_of_other_libraries_hold(machine, monkeypatch, environment, expected, everything):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert threads.resolve_n_jobs(None) == expected
    assert threads.resolve_n_jobs(-1) == everything
    assert threads.resolve_n_jobs(5) == 5


def test_a_process_that_is_moved_notices(machine, monkeypatch):
    now, counted = [0.0], []
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(joblib, "cpu_count", lambda: counted.append(now[0]) or 40 - 10 * len(counted))
    assert [threads.processors() for _ in range(5)] == [30] * 5  # asked once
    now[0] += threads.GRANT_SECONDS / 2
    assert threads.processors() == 30
    now[0] += threads.GRANT_SECONDS
    assert threads.processors() == 20  # the quota may have changed
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    if hasattr(os, "sched_setaffinity"):
        assert threads.processors() == 2  # other processors, at once
        assert len(counted) == 3


def test_nothing_is_read_in_most_fits(machine, monkeypatch):
    model = MLPClassifier(3, max_iter=1, batch_size=2)
    X, y = [[0.0], [1.0]], [0, 1]
    with pytest.warns(match="Maximum iterations"):
        model.fit(X, y)
    monkeypatch.setattr(joblib, "cpu_count", lambda: pytest.fail("asked again"))
    model.partial_fit(X, y).predict(X)


CHILD = (
    "from fastnn import threads; print(threads.processors(), threads.resolve_n_jobs(None), threads.resolve_n_jobs(-1))"
)


@pytest.fixture
def limited():
    """A function that starts a process with a quota of one processor, in a group and a mount namespace of its own."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may make a group of processes with a quota")
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    v2 = Path(V2).parent
    parent = v2 if (v2 / "cgroup.controllers").exists() else v2 / "cpu"
    group = parent / f"fastnn-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no group of processes can be made here: {error}")
    quota = (
        {"cpu.max": "100000 100000"} if parent == v2 else {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}
    )
    try:
        if not all((group / name).exists() for name in quota):
            pytest.skip("groups of processes have no quotas here")
        for name, value in quota.items():
            (group / name).write_text(value)
        enter = 'echo $$ >"$0/cgroup.procs" && mount --bind "$0" "$1" && shift && exec "$@"'
        yield ["unshare", "--mount", "sh", "-c", enter, str(group), str(parent)]
    finally:
        group.rmdir()


@pytest.mark.skipif(threads.processors() < 2, reason="needs two processors")
def test_a_real_quota_of_one_processor(limited):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    line = [*limited, sys.executable, "-c", CHILD]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)
    if done.returncode and "unshare" in done.stderr + done.stdout:
        pytest.skip(f"no mount namespace can be made here: {done.stderr.strip()}")
    assert done.stdout.split() == ["1", "1", "1"], done.stderr
