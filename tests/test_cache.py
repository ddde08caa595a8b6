"""Machine code on disk: found again, never stale, never in the way.

Everything runs in processes of its own on a copy of the package. Most of them define one tiny entry, so that they
compile in no time; those that fit an estimator do it with NUMBA_OPT=1, which compiles the same code faster.
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numba import config

from fastnn.core import cache as machine_code
from processes import ROOT, copy_package, files, finish, run, start

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

# One entry for two dtypes and another one, none of which call a leaf.
TINY = """
import tiny
out["loaded from"] = tiny.__file__
{before}
x = np.arange(4.0)
total, product = tiny.total.twin, tiny.product.twin
out["results"] = [total("float64")(x), total("float32")(x.astype(np.float32)), product("float64")(x + 1)]
"""
TINY_MODULE = """
from fastnn.core.jit import entry

@entry
def total(x):
    s = 0.0
    for i in range(x.size):
        s += 2.0 * x[i]
    return s

@entry
def product(x):
    s = 1.0
    for i in range(x.size):
        s *= x[i]
    return s
"""
EXPECTED = [12.0, 12.0, 24.0]
FIT = """
from sklearn.exceptions import ConvergenceWarning
from fastnn import MLPRegressor
warnings.simplefilter("ignore", ConvergenceWarning)
rng = np.random.RandomState(0)
X = rng.standard_normal((40, 5)).astype(np.float32)
y = (X @ rng.standard_normal((5, 2))).astype(np.float32)
for activation in ("tanh", "relu"):
    options = dict(hidden_layer_sizes=(7, 3), solver="sgd", max_iter=3, random_state=0, n_jobs=1)
    model = MLPRegressor(activation=activation, **options).fit(X, y)
    weights = {"coefs": model.coefs_, "intercepts": model.intercepts_}
    out[activation] = {name: [array.tolist() for array in arrays] for name, arrays in weights.items()}
    out[activation].update(X=X.tolist(), outputs=model.predict(X).tolist())
"""


def copy_core(folder):
    """A package of nothing but ``core``, which imports fast, and the tiny entries."""
    shutil.copytree(ROOT / "fastnn" / "core", folder / "fastnn" / "core", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "fastnn" / "__init__.py").write_text("")
    (folder / "tiny.py").write_text(TINY_MODULE)
    return folder


def contents(cache):
    return {path: path.read_bytes() for path in files(cache)}


# ---- one tiny entry: damage, places that take no file, full disks ----------------------------------------------------
@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A copy of the package, and a cache filled by the tiny entries."""
    folder = copy_core(tmp_path_factory.mktemp("tiny"))
    cache = folder / "cache"
    first = run(folder, cache, TINY.format(before=""))
    assert first["results"] == EXPECTED
    assert first["compiled"] == 3
    assert first["warnings"] == []
    return folder, cache


def test_next_process_compiles_nothing(tiny):
    folder, cache = tiny
    before = contents(cache)
    again = run(folder, cache, TINY.format(before=""))
    assert again["results"] == EXPECTED
    assert again["compiled"] == 0
    assert again["warnings"] == []
    assert contents(cache) == before


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


DAMAGE = {
    "empty": lambda path: cut(path, 0),
    "cut": lambda path: cut(path, 0.5),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(3000)),
    "another pickle": lambda path: path.write_bytes(b"\x80\x04K\x01."),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_compiled_anew(tiny, tmp_path, damage, kind):
    folder, good = tiny
    cache = tmp_path / "cache"
    shutil.copytree(good, cache)
    damaged = files(cache, f"*.{kind}")
    assert damaged
    for path in damaged:
        DAMAGE[damage](path)
    result = run(folder, cache, TINY.format(before=""))
    assert result["results"] == EXPECTED
    assert result["compiled"] == 3
    assert result["warnings"] == []
    assert run(folder, cache, TINY.format(before=""))["compiled"] == 0  # and repaired


NO_HOME = {name: "{file}/below" for name in ("HOME", "XDG_CACHE_HOME")}
TWINS = "tiny.total.twin('float64'); tiny.total.twin('float32'); tiny.product.twin('float64')"
REMOVED = TWINS + "; os.rename('{cache}', '{cache}.old')"
# name -> (NUMBA_CACHE_DIR, more environment, statement before the first call, warnings)
OBSTACLES = {
    "cache below a file": ("{file}/cache", {}, "", 0),  # Numba's other places serve
    "nowhere to write": ("{file}/cache", NO_HOME, "", 1),
    "disk full": ("{cache}", {}, "resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))", 1),
    "cache folder turned into a file": ("{cache}", {}, REMOVED + "; open('{cache}', 'w').close()", 1),
    "cache folder removed": ("{cache}", {}, REMOVED, 0),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_cannot_be_stored_still_runs_and_warns_once(tmp_path, obstacle):
    cache, environment, before, n_warnings = OBSTACLES[obstacle]
    folder = copy_core(tmp_path)
    file = folder / "file"
    file.write_text("")
    if obstacle == "nowhere to write":  # not even beside the sources
        for place in (folder, folder / "fastnn", folder / "fastnn" / "core"):
            (place / "__pycache__").write_text("")

    def fill(text):
        return text.format(file=file, cache=folder / "cache")

    environment = {name: fill(value) for name, value in environment.items()}
    result = run(folder, fill(cache), TINY.format(before=fill(before)), **environment)
    assert result["results"] == EXPECTED
    assert result["compiled"] == 3
    assert [name for name, _ in result["warnings"]] == ["RuntimeWarning"] * n_warnings
    assert all("NUMBA_CACHE_DIR" in text for _, text in result["warnings"])


def test_processes_that_compile_at_once_do_not_disturb_each_other(tiny, tmp_path):
    folder, _ = tiny
    cache = tmp_path / "cache"
    processes = [start(folder, cache, TINY.format(before="")) for _ in range(3)]
    for process in processes:
        assert finish(process)["results"] == EXPECTED
    last = run(folder, cache, TINY.format(before=""))
    assert last["results"] == EXPECTED
    assert last["warnings"] == []


CORE = sorted(path.name for path in (ROOT / "fastnn" / "core").glob("*.py"))
FINGERPRINT = """
from fastnn.core import jit
out["fingerprints"] = [jit.fingerprint()]
for name in {names}:
    path = "fastnn/core/" + name
    text = open(path).read()
    open(path, "w").write(text + "\\n# another comment\\n")
    jit.fingerprint.cache_clear()
    out["fingerprints"].append(jit.fingerprint())
    open(path, "w").write(text)
open("fastnn/core/one_more.py", "w").write("")
jit.fingerprint.cache_clear()
out["fingerprints"].append(jit.fingerprint())
os.remove("fastnn/core/one_more.py")
jit.fingerprint.cache_clear()
out["last"] = jit.fingerprint()
"""


def test_every_file_of_core_is_in_the_fingerprint(tmp_path):
    result = run(copy_core(tmp_path), tmp_path / "cache", FINGERPRINT.format(names=CORE))
    assert len(set(result["fingerprints"])) == len(CORE) + 2
    assert result["last"] == result["fingerprints"][0]


OTHER_BOUNDSCHECK = "0" if os.environ.get("NUMBA_BOUNDSCHECK") == "1" else "1"  # than these tests run with


@pytest.mark.parametrize("switch", [{}, {"NUMBA_BOUNDSCHECK": OTHER_BOUNDSCHECK}, {"NUMBA_OPT": "2"}], ids=str)
def test_switches_that_change_machine_code_change_the_fingerprint(tiny, switch):
    folder, cache = tiny
    before = {re.sub(r"-.*", "", path.name) for path in files(cache, "*.nbi")}
    result = run(folder, cache, TINY.format(before=""), **switch)
    assert result["results"] == EXPECTED
    after = {re.sub(r"-.*", "", path.name) for path in files(cache, "*.nbi")}
    assert (result["compiled"], len(after - before)) == ((3, 3) if switch else (0, 0))


# ---- whole fits -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A copy of the package and the cache that two processes have filled at the same time, and what they computed."""
    folder = copy_package(tmp_path_factory.mktemp("fitted"))
    processes = [start(folder, folder / "cache", FIT, NUMBA_OPT="1") for _ in range(2)]
    one, two = map(finish, processes)
    assert one["warnings"] == two["warnings"] == []
    assert one["compiled"] > 0
    assert [one[name] for name in ("tanh", "relu")] == [two[name] for name in ("tanh", "relu")]
    return folder, folder / "cache", one


def numpy_outputs(fit, floor):
    """What the fitted relu network computes where its units are max(z, floor)."""
    a = np.array(fit["X"])
    for layer, (w, b) in enumerate(zip(fit["coefs"], fit["intercepts"], strict=True)):
        a = a @ np.array(w) + np.array(b)
        a = np.maximum(a, floor) if layer < len(fit["coefs"]) - 1 else a
    return a


def test_a_second_process_fits_without_compiling(fitted):
    folder, cache, first = fitted
    before = contents(cache)
    again = run(folder, cache, FIT, NUMBA_OPT="1")
    assert again["compiled"] == 0
    assert contents(cache) == before
    assert (again["tanh"], again["relu"], again["warnings"]) == (first["tanh"], first["relu"], [])
    np.testing.assert_allclose(first["relu"]["outputs"], numpy_outputs(first["relu"], 0.0), rtol=1e-4, atol=1e-5)


def test_all_files_of_a_fit_are_known_as_fastnns(fitted):
    """Those of the entry that shuffles int64 too: what is not known is never removed."""
    _, cache, _ = fitted
    place = next(iter(files(cache))).parent
    known = machine_code.cache_files(place)
    assert {file.path for file in known} == set(files(cache))
    assert all(file.path.name.startswith("random.") == ("int64" in file.path.name) for file in known)


def replace(path, pattern, new):
    text = path.read_text()
    changed, count = re.subn(pattern, new, text, flags=re.DOTALL)
    assert count == 1, f"{pattern} is there {count} times"
    path.write_text(changed)


def swap_fields(core, record, one, two):
    """Exchange the lines of two fields of a NamedTuple in records.py."""
    line = r"(    {}: [^\n]*\n)"
    pattern = rf"(class {record}\(.*?)" + line.format(one) + "(.*?)" + line.format(two)
    replace(core / "records.py", pattern, r"\1\4\3\2")


EDITS = {
    "relu": lambda core: replace(
        core / "activations.py", r"(def relu_forward.*?)positive\((load_unit\(z, i\))\)", r"\1\2"
    ),
    "order of Buffers": lambda core: swap_fields(core, "Buffers", "params", "deltas"),
    "order of TrainPlan": lambda core: swap_fields(core, "TrainPlan", "alpha", "beta_1"),
    "order of Layout": lambda core: swap_fields(core, "Layout", "stride", "weight"),
}


def check_edited(fitted, edits):
    """Edit the package where it lies, beside its filled cache: the new source runs, and the old one is found again."""
    folder, cache, first = fitted
    core = folder / "fastnn" / "core"
    kept = {path: (path.read_text(), path.stat()) for path in core.glob("*.py")}
    try:
        for edit in edits:
            EDITS[edit](core)
        edited = run(folder, cache, FIT, NUMBA_OPT="1")
    finally:
        for path, (text, status) in kept.items():
            path.write_text(text)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # older versions of Numba look at it
    assert edited["compiled"] >= first["compiled"] > 0
    assert edited["warnings"] == []
    assert edited["tanh"] == first["tanh"]
    floor = -np.inf if "relu" in edits else 0.0
    np.testing.assert_allclose(edited["relu"]["outputs"], numpy_outputs(edited["relu"], floor), rtol=1e-4, atol=1e-5)
    assert (edited["relu"] == first["relu"]) == (floor == 0)
    restored = run(folder, cache, FIT, NUMBA_OPT="1")
    assert restored["compiled"] == 0
    assert restored["relu"] == first["relu"]


def test_edited_sources_never_run_old_machine_code(fitted):
    check_edited(fitted, list(EDITS))


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_a_single_edit_never_runs_old_machine_code(fitted, edit):
    check_edited(fitted, [edit])


def check_damaged(fitted, tmp_path, pattern, damage):
    folder, good, first = fitted
    cache = tmp_path / "cache"
    shutil.copytree(good, cache)
    for path in files(cache, pattern):
        DAMAGE[damage](path)
    fit = run(folder, cache, FIT, NUMBA_OPT="1")
    assert (fit["tanh"], fit["relu"], fit["warnings"]) == (first["tanh"], first["relu"], [])
    assert run(folder, cache, FIT, NUMBA_OPT="1")["compiled"] == 0


def test_one_damaged_leaf_is_compiled_anew(fitted, tmp_path):
    check_damaged(fitted, tmp_path, "*loss_and_delta*.nbc", "cut")


@pytest.mark.slow
@pytest.mark.parametrize("pattern, damage", [("*.nbi", "cut"), ("*.nbc", "cut"), ("*.nb?", "garbage")])
def test_a_damaged_cache_is_compiled_anew(fitted, tmp_path, pattern, damage):
    check_damaged(fitted, tmp_path, pattern, damage)
