"""``python -m fastnn``: what a warm-up leaves nothing to do for, what it removes, and what it says when it cannot."""

import os
import signal
import subprocess
import sys
import time

import pytest
from numba import config, njit

from fastnn import __main__ as program
from fastnn.core.compile import cache as machine_code
from processes import ROOT, files, run

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

FAST = {"NUMBA_OPT": "1"}  # compiles the same code faster
# All that a first process may do with float32: both estimators, every solver, dense and sparse, one thread and several.
ALL = """
import scipy.sparse as sp
from fastnn import MLPClassifier, MLPRegressor
from fastnn.core.engine import entries
from fastnn.core.compile.jit import Entry
warnings.simplefilter("ignore")
out["fits"] = 0
rng = np.random.RandomState(0)
X = rng.standard_normal((600, 130)).astype(np.float32)
labels, values = rng.randint(0, 3, 600), rng.standard_normal((600, 2))
weights = rng.uniform(size=600)
forms = {
    "float32": X, "float64": X.astype(np.float64), "fortran": np.asfortranarray(X),
    "csr": sp.csr_array(X * (X > 1)), "csc": sp.csc_array(X * (X > 1)),
}
for form, X in forms.items():
    for n_jobs in (1, 2):
        for solver in ("adam", "sgd"):  # lbfgs computes in float64
            options = dict(hidden_layer_sizes=(120,), solver=solver, max_iter=2, n_jobs=n_jobs, batch_size=500)
            for task, y in ((MLPClassifier, labels), (MLPClassifier, labels > 0), (MLPRegressor, values)):
                model = task(early_stopping=True, **options).fit(X, y)
                model.predict(X[:1])
                (model.predict_proba if task is MLPClassifier else model.predict)(X)
                out["fits"] += 1
        weighted = MLPRegressor(hidden_layer_sizes=(120,), max_iter=2, n_jobs=n_jobs, shuffle=False, dtype="float32")
        weighted.partial_fit(X, values).partial_fit(X, values).fit(X, values, sample_weight=weights)
MLPClassifier((3,), max_iter=20, batch_size=100, random_state=0).fit(forms["float32"], labels)  # long enough to shuffle
found = [value for value in vars(entries).values() if isinstance(value, Entry)]
twins = [twin for entry in set(found) for (_, parallel), twin in entry.twins.items() if parallel]
out["parallel"] = sum(bool(twin.signatures) for twin in twins)
"""


def command(cache, *arguments, **environment):
    """Standard output of ``python -m fastnn`` in a process of its own."""
    environment = os.environ | FAST | {"NUMBA_CACHE_DIR": str(cache)} | environment
    line = [sys.executable, "-m", "fastnn", *arguments]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """The cache that a warm-up for float32 has filled, and what the warm-up said."""
    cache = tmp_path_factory.mktemp("warm")
    return cache, command(cache, "warmup", "--dtype", "float32", NUMBA_NUM_THREADS="1")


def test_after_a_warmup_nothing_is_compiled(warm):
    """One thread warmed up, several are used: the parallel twins were compiled without a second core."""
    cache, said = warm
    assert "functions compiled" in said
    assert "found in the cache" not in said
    before = {path: path.stat().st_mtime_ns for path in files(cache)}
    done = run(ROOT, cache, ALL, NUMBA_NUM_THREADS="2", **FAST)
    assert (done["fits"], done["compiled"], done["warnings"]) == (60, 0, [])
    assert done["parallel"] == 3  # train, forward, forward_sparse
    assert {path: path.stat().st_mtime_ns for path in files(cache)} == before


LOADED = """
import scipy.sparse as sp
from fastnn import MLPClassifier
warnings.simplefilter("ignore")
X = np.random.RandomState(0).standard_normal((600, 130))
for n_jobs in (1, 2):
    for solver in ("adam", "sgd"):
        for data in (X, sp.csr_array(X * (X > 1))):
            options = dict(solver=solver, max_iter=20, n_jobs=n_jobs, batch_size=500, random_state=0)
            model = MLPClassifier((120,), **options)
            model.fit(data, X[:, 0] > 0).predict(data)
out["modules"] = sorted(sys.modules)
"""


def test_loading_does_not_get_numba_ready_to_compile(warm):
    """What it would import takes longer than to load all machine code of a fit."""
    done = run(ROOT, warm[0], LOADED, NUMBA_NUM_THREADS="2", **FAST)
    assert (done["compiled"], done["warnings"]) == (0, [])
    assert "numba.core.dispatcher" in done["modules"]
    assert "numba.np.arrayobj" not in done["modules"]


@pytest.mark.parametrize("collecting", [True, False])
def test_importing_leaves_the_garbage_collector_as_it_was(collecting, tmp_path):
    script = f"import gc\n(gc.enable if {collecting} else gc.disable)()\nimport fastnn\nout['after'] = gc.isenabled()"
    assert run(ROOT, tmp_path, script)["after"] == collecting


def test_the_second_warmup_finds_everything_and_says_where(warm):
    cache, first = warm
    kept = files(cache)
    size = sum(path.stat().st_size for path in kept)
    again = command(cache, "warmup", "--dtype", "float32")
    assert "functions compiled" not in again
    for said in (first, again):
        assert f"cache: {kept[0].parent}" in said
        assert f"this version:   {len(kept)} files, {size / 1e6:.1f} MB" in said
        assert "float64" not in said


@pytest.mark.parametrize("sparse, kinds", [("--sparse", ["dense", "sparse"]), ("--no-sparse", ["dense"])])
def test_dense_code_alone_on_request(sparse, kinds):
    arguments = program.parser().parse_args(["warmup", "--dtype", "float64", sparse])
    names = [name for name, _ in program.jobs(arguments.dtype, arguments.sparse)]
    parts = ("kernels", "one thread", "many threads")
    assert names == [f"float64 {kind}, {part}" for kind in kinds for part in parts]
    everything = program.parser().parse_args(["warmup"])
    assert len(list(program.jobs(everything.dtype, everything.sparse))) == 12


def main(capsys, *arguments):
    """Status of ``python -m fastnn`` in this process, and what it wrote."""
    status = program.main(list(arguments))
    return status, capsys.readouterr()


# ---- what is removed ------------------------------------------------------------------------------------------------
OTHER = "0123456789abcdef"
# name with {own}: this fingerprint, {version}: its first part; -> is it removed? Three are files in the making.
LEFT = {
    "epoch.train_epoch_serial_float32_{own}-0a1b2c3d.py311.nbc": False,
    "engine.epoch.train_epoch_serial_float32_{version}00000000-0a1b2c3d.py311.nbc": False,
    "engine.epoch.train_epoch_serial_float32_" + OTHER + "abcd1234-0a1b2c3d.py311.nbc": True,
    "epoch.train_epoch_serial_float32_{own}-0a1b2c3d.py311.nbc.tmp.00ff00ff00ff00ff": False,
    # As versions before named them.
    "epoch.train_epoch_serial_float32_{own}-116.py311.nbi": False,
    "epoch.train_epoch_serial_float32_{own}-116.py311.1.nbc": False,
    "epoch.train_epoch_serial_float64_{version}00000000-116.py312.nbi": False,  # another processor, another Python
    "epoch.train_epoch_parallel_float64_" + OTHER + "-12.py311.nbi": True,
    "epoch.train_epoch_parallel_float64_" + OTHER + "-12.py311.1.nbc": True,
    "gemm.product_ahead_leaf_float32_" + OTHER + "abcd1234-25.py313t.12.nbc": True,
    "gemm.product_ahead_leaf_float32_{own}-25.py311.1.nbc.tmp.00ff00ff00ff00ff": False,
    "gemm.product_ahead_leaf_float32_" + OTHER + "-25.py311.nbi.tmp.00ff00ff00ff00ff": False,
    "foreign.solve-12.py311.nbi": False,
    "foreign.solve_leaf_float32-12.py311.1.nbc": False,
    "epoch.train_epoch_serial_float32_" + OTHER + "-12.py311.1.nbc.backup": False,
    "epoch.cpython-311.pyc": False,
    "epoch.train_epoch_serial_float32_" + OTHER + ".txt": False,
}


def leave(place, fingerprint):
    """Put the files of `LEFT` into a folder; their paths, each with whether it is to be removed."""
    names = {
        name.format(own=fingerprint, version=fingerprint[: machine_code.VERSION_DIGITS]): gone
        for name, gone in LEFT.items()
    }
    for name in names:
        (place / name).write_bytes(b"x" * 100)
    return {place / name: gone for name, gone in names.items()}


def test_only_what_other_versions_left_is_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    status, said = main(capsys, "cache")
    place = tmp_path / said.out.split()[1]
    left = leave(place, machine_code.fingerprint())
    n = sum(left.values())
    status, said = main(capsys, "cache")
    assert "this version:   5 files, 0.0 MB" in said.out
    assert f"other versions: {n} files, 0.0 MB" in said.out
    assert all(path.exists() for path in left)
    status, said = main(capsys, "cache", "--clean")
    assert (status, said.err) == (0, "")
    assert f"removed, left by other versions: {n} files" in said.out
    assert {path: not path.exists() for path in left} == left


@pytest.fixture
def place(tmp_path):
    """A folder with the files of `LEFT`, as this process sees it."""
    return tmp_path, leave(tmp_path, machine_code.fingerprint())


def test_an_unfinished_file_is_removed_once_it_is_abandoned(place):
    folder, left = place
    unfinished = [path for path in left if ".tmp." in path.name]
    long_ago = time.time() - machine_code.ABANDONED_SECONDS - 10
    for path in unfinished:
        os.utime(path, (long_ago, long_ago))
    machine_code.remove_older(folder)
    assert {path for path in left if not path.exists()} == {path for path in left if left[path]} | set(unfinished)


def test_links_and_folders_are_left_alone(tmp_path):
    name = "epoch.train_epoch_parallel_float64_" + OTHER + "-{}.py311.nbi"
    (tmp_path / "target").write_text("somebody's")
    (tmp_path / name.format(1)).symlink_to(tmp_path / "target")
    (tmp_path / name.format(2)).mkdir()
    assert machine_code.remove_older(tmp_path) == ([], [])
    assert len(list(tmp_path.iterdir())) == 3


def test_files_that_vanish_or_resist_stop_nobody(place, monkeypatch):
    """Another process cleans at the same time; another user's file cannot be removed."""
    folder, left = place
    older = sorted(path for path, gone in left.items() if gone)
    unlink, scandir = machine_code.pathlib.Path.unlink, os.scandir

    def refuse(path, missing_ok=False):
        if path == older[0]:
            raise PermissionError("not yours")
        unlink(older[1], missing_ok=True)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(machine_code.pathlib.Path, "unlink", refuse)
    removed, kept = machine_code.remove_older(folder)
    assert sorted(file.path for file in removed) == older[1:]
    assert [(file.path, reason) for file, reason in kept] == [(older[0], "not yours")]
    monkeypatch.setattr(machine_code.os, "scandir", scandir)
    assert machine_code.cache_files(folder / "nowhere") == []


def test_indices_go_before_the_files_that_they_name(place):
    folder, _ = place
    kinds = [file.path.name.endswith(".nbi") for file in machine_code.cache_files(folder)]
    assert kinds == sorted(kinds, reverse=True)


# ---- when it cannot -------------------------------------------------------------------------------------------------
def nowhere():
    raise PermissionError("not yours")


def unread():
    raise machine_code.SourcesUnknown("no finder lists it")


# name -> (what is set where, arguments, what the one line says)
TROUBLE = {
    "cache below a file": (
        (config, "CACHE_DIR", "{file}/cache"),
        ["warmup"],
        "be written to the folder NUMBA_CACHE_DIR=",
    ),
    "the same, where is it": ((config, "CACHE_DIR", "{file}"), ["cache"], "Set NUMBA_CACHE_DIR to a writable folder."),
    "no compiler": ((config, "DISABLE_JIT", 1), ["warmup"], "NUMBA_DISABLE_JIT is set"),
    "nowhere": ((machine_code, "folder", nowhere), ["warmup"], "cannot be written to any folder (not yours)"),
    "no sources": ((machine_code, "covered", unread), ["warmup"], "compiled code cannot be kept (no finder lists it)."),
    "no sources, nothing is removed": ((machine_code, "covered", unread), ["cache", "--clean"], "cannot be kept"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_is_one_line_and_a_status(trouble, tmp_path, monkeypatch, capsys):
    (owner, name, value), arguments, message = TROUBLE[trouble]
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(config, "CACHE_DIR", "")  # which says where the cache is, if it is set
    monkeypatch.setattr(owner, name, value.format(file=tmp_path / "file") if isinstance(value, str) else value)
    status, said = main(capsys, *arguments)
    assert (status, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith(f"python -m fastnn {arguments[0]}: ")
    assert message in said.err


@pytest.mark.parametrize("arguments", [[], ["warm"], ["warmup", "--dtype", "float16"], ["warmup", "float32"]], ids=str)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(arguments)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err.splitlines()[-1]


def test_code_that_cannot_be_saved_ends_the_warmup(monkeypatch, capsys):
    """A disk that fills up while it runs: the first part that could not be kept is the last one."""
    monkeypatch.setattr(machine_code, "complaints", [])
    monkeypatch.setattr(program, "jobs", lambda *_: [("part", lambda: machine_code.complain("No space left"))] * 2)
    status, said = main(capsys, "warmup")
    assert (status, said.err.count("\n")) == (1, 1)
    assert "cannot be kept" in said.err
    assert "No space left" in said.err
    assert len(machine_code.complaints) == 1


def test_ctrl_c_ends_the_warmup(monkeypatch, capsys):
    def press():
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "jobs", lambda *_: [("part", press)])
    status, said = main(capsys, "warmup")
    assert (status, said.err.count("\n")) == (130, 1)


# ---- the second process ---------------------------------------------------------------------------------------------
class Helpers:
    """Stands for ``subprocess.Popen``: processes that would run for a minute, each with the line it was given."""

    def __init__(self):
        self.lines, self.processes = [], []

    def __call__(self, line, **streams):
        self.lines.append(line[1:])
        self.processes.append(START([sys.executable, "-c", "import time; time.sleep(60)"], **streams))
        return self.processes[-1]


START = subprocess.Popen
# arguments, processors -> what a second process is started with, or None
HELP = {
    "both dtypes": ([], 2, ["--dtype", "float64"]),
    "the other way round, no sparse code": (
        ["--dtype", "float64", "float32", "--no-sparse"],
        16,
        ["--dtype", "float32", "--no-sparse"],
    ),
    "one dtype": (["--dtype", "float32"], 2, None),
    "one processor": ([], 1, None),
}


@pytest.mark.parametrize("case", HELP)
def test_a_second_process_takes_the_second_dtype(case, monkeypatch):
    arguments, n_processors, expected = HELP[case]
    helpers = Helpers()
    monkeypatch.setattr(subprocess, "Popen", helpers)
    monkeypatch.setattr(program, "processors", lambda: n_processors)
    with program.helper(program.parser().parse_args(["warmup", *arguments])) as process:
        assert (process is None) == (expected is None)
        if process is not None:
            assert process.poll() is None
    assert helpers.lines == ([] if expected is None else [["-m", "fastnn", "warmup", *expected]])
    assert all(process.poll() is not None for process in helpers.processes)


def test_the_second_process_ends_when_the_warmup_fails(monkeypatch, capsys):
    helpers = Helpers()
    monkeypatch.setattr(subprocess, "Popen", helpers)
    monkeypatch.setattr(program, "processors", lambda: 2)
    monkeypatch.setattr(machine_code, "complaints", [])
    monkeypatch.setattr(program, "jobs", lambda *_: [("part", lambda: machine_code.complain("No space left"))])
    status, _ = main(capsys, "warmup")
    assert status == 1
    assert [process.poll() is not None for process in helpers.processes] == [True]


# seconds that a second process takes, whether the first dtype needs compiling -> how the second process has ended
ENDS = {
    "it does its work": (0.5, True, 0),
    "there is no work": (60, False, -signal.SIGTERM if os.name == "posix" else 1),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_a_second_process_leaves_undone_is_done_here(case, monkeypatch, capsys):
    """Waited for only where something had to be compiled: a warm-up with a full cache is over before it starts."""
    seconds, compiles, status = ENDS[case]
    started, done = [], []

    def start(line, **streams):
        started.append(START([sys.executable, "-c", f"import time; time.sleep({seconds})"], **streams))
        return started[-1]

    def job(dtype):
        if compiles:
            njit(lambda: dtype)()
        done.append((dtype, started[0].poll() is None))

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(program, "processors", lambda: 2)
    monkeypatch.setattr(program, "clean", lambda place: None)
    monkeypatch.setattr(program, "jobs", lambda dtypes, sparse: [(dtypes[0], lambda: job(dtypes[0]))])
    assert main(capsys, "warmup")[0] == 0
    assert [dtype for dtype, _ in done] == ["float32", "float64"]
    assert not (compiles and done[1][1])
    assert started[0].poll() == status
