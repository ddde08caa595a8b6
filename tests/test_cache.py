"""Machine code on disk: found again, never stale, never in the way.

Everything runs in processes of its own on a copy of the package. Most of them define tiny entries, so that they compile
in no time; many such processes are forked from one that has imported Numba. Those that fit an estimator do it with
NUMBA_OPT=1, which compiles the same code faster.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config

from fastnn.core.compile import cache as machine_code
from processes import copy_package, files, finish, run, start
from tiny import N_COMPILED, N_FILES, RESULTS, calls, copy_core, in_forks

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

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


def contents(cache):
    return {path: path.read_bytes() for path in files(cache)}


# ---- tiny entries: damage, places that take no file, full disks -----------------------------------------------------
@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A copy of the package, and a cache filled by the tiny entries."""
    folder = copy_core(tmp_path_factory.mktemp("tiny"))
    cache = folder / "cache"
    first = run(folder, cache, calls())
    assert (first["results"], first["compiled"], first["warnings"]) == (RESULTS, N_COMPILED, [])
    return folder, cache


def test_next_process_compiles_nothing(tiny):
    folder, cache = tiny
    before = contents(cache)
    again = run(folder, cache, calls())
    assert (again["results"], again["compiled"], again["warnings"]) == (RESULTS, 0, [])
    assert contents(cache) == before
    assert len(before) == N_FILES


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def change(path, start, new):
    data = bytearray(path.read_bytes())
    data[start : start + len(new)] = new
    path.write_bytes(data)


def flip(path, place):
    """Change one bit of a byte, given by its share of the file or by its number."""
    place = int(place * path.stat().st_size) if isinstance(place, float) else place
    change(path, place, bytes([path.read_bytes()[place] ^ 16]))


def swap(path):
    """Give each file the content of the next one."""
    others = files(path.parent)
    if path == others[0]:
        for one, content in zip(
            others, [*(other.read_bytes() for other in others[1:]), path.read_bytes()], strict=True
        ):
            one.write_bytes(content)


def instead(make):
    """Put something else in the place of a file."""

    def damage(path):
        path.unlink()
        make(path)

    return damage


def fill_a_folder(path):
    path.mkdir()
    (path / "somebody's").write_text("")


CHECKSUM = len(machine_code.MAGIC)
CONTENT = CHECKSUM + machine_code.DIGEST_BYTES
FOREIGN = b"\x80\x04K\x01."  # the pickle of 1
DAMAGE = {
    "empty": lambda path: cut(path, 0),
    "cut": lambda path: cut(path, 0.5),
    "the last byte cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "no more than a checksum": lambda path: os.truncate(path, CONTENT),
    "a byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a page of zeros": lambda path: change(path, 4096, bytes(4096)),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(3000)),
    "another pickle": lambda path: path.write_bytes(FOREIGN),
    "another pickle behind the checksum": lambda path: path.write_bytes(path.read_bytes()[:CONTENT] + FOREIGN),
    **{f"a bit of byte {place}": lambda path, place=place: flip(path, place) for place in (0, CHECKSUM, CONTENT)},
    **{f"a bit at {place} of it": lambda path, place=place: flip(path, place) for place in (0.2, 0.5, 0.9, 0.999)},
    "another function's": swap,
    "gone": Path.unlink,
    "a folder": instead(Path.mkdir),
    "a link to nothing": instead(lambda path: path.symlink_to(path.with_name("nothing"))),
    "a link to itself": instead(lambda path: path.symlink_to(path)),
    "a pipe": instead(os.mkfifo),
    "nobody may read it": lambda path: path.chmod(0),
}
KEPT_OUT = {"a folder with a file": instead(fill_a_folder)}
UNUSED = DAMAGE | KEPT_OUT
# What is not damage: nobody looks at dates, a link to a good file is one.
SOUND = {
    "from 1970": lambda path: os.utime(path, (0, 0)),
    "from 2100": lambda path: os.utime(path, (4102444800, 4102444800)),
    "a link": lambda path: path.symlink_to(path.rename(path.with_suffix(".moved"))),
}


@pytest.fixture(scope="module")
def loaded(tiny, tmp_path_factory):
    """What two processes, one after the other, make of a cache all of whose files have suffered something."""
    folder, good = tiny
    jobs = []
    for number, damage in enumerate((UNUSED | SOUND).values()):
        cache = tmp_path_factory.mktemp("damaged") / str(number)
        shutil.copytree(good, cache)
        for path in files(cache):
            damage(path)
        jobs += [(folder, cache, calls())] * 2
    answers = in_forks(folder, jobs)
    return dict(zip(UNUSED | SOUND, zip(answers[::2], answers[1::2], strict=True), strict=True))


@pytest.mark.parametrize("damage", UNUSED)
def test_damaged_files_are_compiled_anew(loaded, damage):
    first, second = loaded[damage]
    assert (first["results"], second["results"]) == (RESULTS, RESULTS)
    unreadable = damage != "nobody may read it" or os.geteuid() != 0
    assert first["compiled"] == (N_COMPILED if unreadable else 0)
    warned = len(first["warnings"]), len(second["warnings"])
    assert (second["compiled"], warned) == ((N_COMPILED, (1, 1)) if damage in KEPT_OUT else (0, (0, 0)))  # repaired


@pytest.mark.parametrize("case", SOUND)
def test_neither_dates_nor_links_count(loaded, case):
    for answer in loaded[case]:
        assert (answer["results"], answer["compiled"], answer["warnings"]) == (RESULTS, 0, [])


def test_what_numba_does_not_take_is_compiled_anew_with_a_warning(tiny, tmp_path):
    """The checksum is right, so nothing will repair it: another Numba under the same version, say."""
    folder, good = tiny
    shutil.copytree(good, tmp_path / "cache")
    before = "from fastnn.core.compile import cache; cache.CompileResult = None"
    [answer] = in_forks(folder, [(folder, tmp_path / "cache", calls(before))])
    assert (answer["results"], answer["compiled"]) == (RESULTS, N_COMPILED)
    [[category, text]] = answer["warnings"]
    assert category == "RuntimeWarning"
    assert "_rebuild" in text
    assert "NUMBA_CACHE_DIR" not in text


NO_HOME = "os.environ.update(HOME='{file}/below', XDG_CACHE_HOME='{file}/below'); "
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))"
LATER = "tiny.total.twin('float64')(np.arange(4.0)); os.rename('{cache}', '{cache}.old')"
# name -> (NUMBA_CACHE_DIR, statements before the first call, how many files then lie where, warnings)
OBSTACLES = {
    "cache below a file": ("{file}/cache", "", ("{folder}", 0), 1),  # nowhere but where it was told to be
    "nowhere to write": ("", NO_HOME, ("{folder}", 0), 1),
    "disk full": ("{cache}", FULL, ("{cache}", 0), 1),
    "disk full, nothing to write": ("{good}", FULL, ("{good}", N_FILES), 0),
    "cache folder turned into a file": ("{cache}", LATER + "; open('{cache}', 'w').close()", ("{cache}.old", 1), 1),
    "cache folder removed": ("{cache}", LATER, ("{cache}", N_FILES - 1), 0),
}


@pytest.fixture(scope="module")
def hindered(tiny, tmp_path_factory):
    """What forked processes answer in the face of obstacles, and what else is looked for where."""
    jobs, looked_for = [], []
    for obstacle, (cache, before, (place, n_files), _) in OBSTACLES.items():
        folder = tiny[0] if cache == "{good}" else copy_core(tmp_path_factory.mktemp("hindered"))
        file = folder / "file"
        file.write_text("")
        if obstacle == "nowhere to write":  # not even beside the sources
            (folder / "fastnn" / "core" / "__pycache__").write_text("")
        row_offsets = {"file": file, "folder": folder, "cache": folder / "cache", "good": tiny[1]}
        cache, before, place = (text.format(**row_offsets) for text in (cache, before, place))
        jobs.append((folder, cache, calls(before)))
        looked_for.append((place, n_files))
    return dict(zip(OBSTACLES, zip(in_forks(tiny[0], jobs), looked_for, strict=True), strict=True))


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_cannot_be_stored_still_runs_and_warns_once(hindered, obstacle):
    answer, (place, n_files) = hindered[obstacle]
    n_warnings = OBSTACLES[obstacle][-1]
    assert answer["results"] == RESULTS
    assert answer["compiled"] == (0 if obstacle == "disk full, nothing to write" else N_COMPILED)
    assert [name for name, _ in answer["warnings"]] == ["RuntimeWarning"] * n_warnings
    assert all("NUMBA_CACHE_DIR" in text for _, text in answer["warnings"])
    assert len(files(place)) == n_files


def test_processes_that_compile_at_once_do_not_disturb_each_other(tiny, tmp_path):
    folder, _ = tiny
    cache = tmp_path / "cache"
    processes = [start(folder, cache, calls()) for _ in range(3)]
    for process in processes:
        assert finish(process)["results"] == RESULTS
    last = run(folder, cache, calls())
    assert (last["results"], last["compiled"], last["warnings"]) == (RESULTS, 0, [])
    assert len(files(cache, "*")) == N_FILES + 1  # and the folder that they lie in


OTHER_BOUNDSCHECK = "0" if os.environ.get("NUMBA_BOUNDSCHECK") == "1" else "1"  # than these tests run with


@pytest.mark.parametrize("switch", [{}, {"NUMBA_BOUNDSCHECK": OTHER_BOUNDSCHECK}, {"NUMBA_OPT": "2"}], ids=str)
def test_switches_that_change_machine_code_change_the_fingerprint(tiny, switch):
    folder, cache = tiny
    before = set(files(cache))
    result = run(folder, cache, calls(), **switch)
    assert result["results"] == RESULTS
    after = set(files(cache))
    assert (result["compiled"], len(after - before)) == ((N_COMPILED, N_FILES) if switch else (0, 0))


# ---- where it is kept -----------------------------------------------------------------------------------------------
# name -> (NUMBA_CACHE_DIR, where core is, frozen, XDG_CACHE_HOME) -> the folder, None for none; {x} stands for a digest
PLACES = {
    "told": ("{tmp}/told", "{tmp}/core", False, "{tmp}/home", "{tmp}/told/core_{x}"),
    "told a folder that cannot be made": (
        "{tmp}/file/told",
        "{tmp}/core",
        False,
        "{tmp}/home",
        "{tmp}/file/told/core_{x}",
    ),
    "told, in a zip": ("{tmp}/told", "{tmp}/a.zip/core", False, "{tmp}/home", "{tmp}/told/core_{x}"),
    "beside the sources": ("", "{tmp}/core", False, "{tmp}/home", "{tmp}/core/__pycache__"),
    "sources that cannot be written to": ("", "{tmp}/kept/core", False, "{tmp}/home", "{tmp}/home/numba/core_{x}"),
    "in a zip": ("", "{tmp}/a.zip/core", False, "{tmp}/home", "{tmp}/home/numba/core_{x}"),
    "frozen": ("", "{tmp}/core", True, "{tmp}/home", "{tmp}/home/numba/core_{x}"),
    "nowhere": ("", "{tmp}/kept/core", False, "{tmp}/file", None),
    "no home": ("", "{tmp}/kept/core", False, "~/.cache", None),
}


@pytest.fixture
def placed(tmp_path, monkeypatch):
    """A function that tells where the cache is for a core at a place of its own."""
    (tmp_path / "core").mkdir()
    (tmp_path / "kept" / "core").mkdir(parents=True)
    for file in ("file", "a.zip", "kept/core/__pycache__"):
        (tmp_path / file).write_text("")
    monkeypatch.chdir(tmp_path)

    def ask(told, core, frozen, home):
        told, core, home = (text.format(tmp=tmp_path) for text in (told, core, home))
        monkeypatch.setattr(config, "CACHE_DIR", told)
        monkeypatch.setattr(sys.modules[machine_code.CORE], "__path__", [core])
        monkeypatch.setattr(sys, "frozen", frozen, raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        machine_code._folder.cache_clear()
        return machine_code.folder()

    yield ask
    machine_code._folder.cache_clear()


@pytest.mark.parametrize("case", PLACES)
def test_the_folder_is_the_first_of_those_documented(case, placed, tmp_path):
    *given, expected = PLACES[case]
    if expected is None:
        with pytest.raises(OSError, match="kept"):
            placed(*given)
    else:
        assert re.fullmatch(expected.format(tmp=re.escape(str(tmp_path)), x="[0-9a-f]{40}"), str(placed(*given)))
    assert not (tmp_path / "~").exists()


def test_a_frozen_program_that_unpacks_itself_anew_finds_its_cache(placed):
    """And packages that lie in different places have folders of their own."""
    one, two = (placed("{tmp}/told", f"{{tmp}}/unpacked{number}/core", True, "{tmp}/home") for number in (1, 2))
    three, four = (placed("{tmp}/told", f"{{tmp}}/unpacked{number}/core", False, "{tmp}/home") for number in (1, 2))
    assert one == two
    assert len({one, three, four}) == 3


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
        core / "nn" / "activation_loops.py", r"(def make_forward_by_vectors.*?)value\((load_vector\(z, i\))\)", r"\1\2"
    ),
    "order of Buffers": lambda core: swap_fields(core, "Buffers", "params", "deltas"),
    "order of TrainPlan": lambda core: swap_fields(core, "TrainPlan", "n_layers", "batch_size"),
    "order of Layout": lambda core: swap_fields(core, "Layout", "stride", "weight"),
}


def check_edited(fitted, edits):
    """Edit the package where it lies, beside its filled cache: the new source runs, and the old one is found again."""
    folder, cache, first = fitted
    core = folder / "fastnn" / "core"
    kept = {path: (path.read_text(), path.stat()) for path in core.rglob("*.py")}
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
    for path in files(cache, f"{pattern}.nbc"):
        DAMAGE[damage](path)
    fit = run(folder, cache, FIT, NUMBA_OPT="1")
    assert (fit["tanh"], fit["relu"], fit["warnings"]) == (first["tanh"], first["relu"], [])
    assert run(folder, cache, FIT, NUMBA_OPT="1")["compiled"] == 0


def test_one_damaged_leaf_is_compiled_anew(fitted, tmp_path):
    check_damaged(fitted, tmp_path, "*loss_and_delta*", "cut")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "another function's", "zeros"])
def test_a_damaged_cache_is_compiled_anew(fitted, tmp_path, damage):
    check_damaged(fitted, tmp_path, "*", damage)
