"""The fingerprint of ``core``: every module counts, wherever it is imported from; what cannot be read is not kept."""

import compileall
import marshal
import os
import shutil
import zipfile

import pytest
from numba import config

from processes import ROOT, files, run
from tiny import N_COMPILED, N_FILES, RESULTS, calls, copy_core, in_forks

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

FOLDER = ROOT / "fastnn" / "core"
CORE = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py"))
VERSIONS = """
import importlib, py_compile
from pathlib import Path
from fastnn.core.compile import cache

def version(name=None, text=""):
    if name is not None:
        path = Path("fastnn/core", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()  # finders look at the date of a folder, which several changes may share
    return cache.version()

out["as it is"] = version()
out["edited"] = []
for name in {names}:
    text = Path("fastnn/core", name).read_text()
    out["edited"].append(version(name, text + "\\n# another comment\\n"))
    out["again"] = version(name, text)
out["more"] = [version(*new) for new in [
    ("one_more.py", ""), ("one_more.py", "a = 1"),
    ("deep/__init__.py", ""), ("deep/one.py", ""), ("deep/one.py", "a = 1"), ("deep/two.py", "a = 1")]]
out["compiled bytes"] = []
for mode in (py_compile.PycInvalidationMode.UNCHECKED_HASH, py_compile.PycInvalidationMode.TIMESTAMP):
    py_compile.compile("fastnn/core/deep/two.py", doraise=True, invalidation_mode=mode)
    out["compiled bytes"].append(version())
"""


def test_every_module_below_core_is_in_the_fingerprint(tmp_path):
    """And byte code that Python runs without a look at the source; no other byte code."""
    result = run(copy_core(tmp_path), tmp_path / "cache", VERSIONS.format(names=CORE))
    unchecked, checked = result["compiled bytes"]
    different = [result["as it is"], *result["edited"], *result["more"], unchecked]
    assert len(set(different)) == len(different) == len(CORE) + 8
    assert result["again"] == result["as it is"]
    assert checked == result["more"][-1]


# ---- where modules come from ----------------------------------------------------------------------------------------
def pack(folder, to):
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.py*")):
            archive.write(path, path.relative_to(folder))


def byte_code(folder, to):
    """A copy of the package without its sources."""
    shutil.copytree(folder / "fastnn", to / "fastnn")
    compileall.compile_dir(to, legacy=True, quiet=1)
    for path in to.rglob("*.py"):
        path.unlink()


def packed_byte_code(folder, to):
    byte_code(folder, to.with_suffix(".folder"))
    pack(to.with_suffix(".folder"), to)
    shutil.rmtree(to.with_suffix(".folder"))


def freeze(folder, to):
    """One file of all modules' byte code, by their names."""
    modules = {}
    for path in sorted((folder / "fastnn").rglob("*.py")):
        names = path.relative_to(folder).with_suffix("").parts
        is_package = names[-1] == "__init__"
        code = compile(path.read_text(), f"build/{path.name}", "exec")
        modules[".".join(names[: len(names) - is_package])] = (is_package, code)
    to.write_bytes(marshal.dumps(modules))


# Imports from such a file; {gives} and {lists} are what else its loader and its finder can do.
FROZEN = """
import importlib.util, marshal

class Loader:
    def __init__(self, code): self.code = code
    def create_module(self, spec): pass
    def exec_module(self, module): exec(self.code, module.__dict__)
    {gives}

class Finder:
    def __init__(self, place):
        archive, found, below = place.partition(".frozen")
        if not found: raise ImportError
        with open(archive + found, "rb") as file: self.modules = marshal.load(file)
        self.place, self.below = place, below.replace("/", ".").strip(".")
    def find_spec(self, name, target=None):
        if name in self.modules:
            is_package, code = self.modules[name]
            spec = importlib.util.spec_from_loader(name, Loader(code), is_package=is_package)
            if is_package: spec.submodule_search_locations = [self.place + "/" + name.rpartition(".")[2]]
            return spec
    {lists}

sys.path_hooks.insert(0, Finder)
"""
GIVES = "def get_code(self, name): return self.code"
LISTS = """def iter_modules(self, prefix=""):
        for name, (is_package, _) in self.modules.items():
            parent, _, last = name.rpartition(".")
            if parent == self.below: yield prefix + last, is_package
"""
# name -> (function that puts the package somewhere, name of that place, beginning of a script, is it kept?)
INSTALLED = {
    "sources": (lambda folder, to: shutil.copytree(folder / "fastnn", to / "fastnn"), "sources", "", True),
    "sources in a zip": (pack, "sources.zip", "", True),
    "byte code": (byte_code, "code", "", True),
    "byte code in a zip": (packed_byte_code, "code.zip", "", True),
    "frozen": (freeze, "all.frozen", FROZEN.format(gives=GIVES, lists=LISTS), True),
    "frozen, modules are not listed": (freeze, "no_list.frozen", FROZEN.format(gives=GIVES, lists=""), False),
    "frozen, no code is given": (freeze, "no_code.frozen", FROZEN.format(gives="", lists=LISTS), False),
}
OTHER_RESULTS = [18.0, 18.0, 24.0]


def install(folder):
    """Put the package everywhere, each file of the same date as ever."""
    for path in folder.rglob("*.py"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    for put, place, _, _ in INSTALLED.values():
        shutil.rmtree(folder.parent / place, ignore_errors=True)
        put(folder, folder.parent / place)
        os.utime(folder.parent / place, (1_700_000_000, 1_700_000_000))


@pytest.fixture(scope="module")
def replaced(tmp_path_factory):
    """What four processes compute with each installation, which is replaced after two of them; and its cache."""
    folder = copy_core(tmp_path_factory.mktemp("installed") / "package")
    answers = {case: [] for case in INSTALLED}
    for text in ("return 2.0 * x", "return 3.0 * x"):
        path = folder / "fastnn" / "core" / "doubled.py"
        path.write_text(path.read_text().replace("return 2.0 * x", text))
        install(folder)
        jobs = [
            (folder.parent / place, folder.parent / "caches" / place, script + calls())
            for _, place, script, _ in INSTALLED.values()
            for _ in range(2)
        ]
        for case, answer in zip([case for case in INSTALLED for _ in range(2)], in_forks(folder, jobs), strict=True):
            answers[case].append(answer)
    return folder.parent, answers


@pytest.mark.parametrize("case", INSTALLED)
def test_code_that_was_replaced_never_runs(case, replaced):
    folder, answers = replaced
    _, place, _, kept = INSTALLED[case]
    assert [answer["results"] for answer in answers[case]] == [RESULTS, RESULTS, OTHER_RESULTS, OTHER_RESULTS]
    assert [answer["compiled"] for answer in answers[case]] == [N_COMPILED, 0 if kept else N_COMPILED] * 2
    for answer in answers[case]:
        assert [category for category, _ in answer["warnings"]] == ([] if kept else ["RuntimeWarning"])
        assert not any("NUMBA_CACHE_DIR" in text for _, text in answer["warnings"])  # it would not help
    # What is in `product` and nothing else was compiled twice too: a change anywhere counts.
    assert len(files(folder / "caches" / place)) == (2 * N_FILES if kept else 0)


def test_byte_code_has_the_same_fingerprint_in_every_process(tmp_path):
    """Sets in it have another order in each process."""
    folder = copy_core(tmp_path / "package")
    path = folder / "fastnn" / "core" / "doubled.py"
    path.write_text(path.read_text() + "\n\ndef known(name):\n    return name in {'a', 'b', 'c', 'd', 'e'}\n")
    freeze(folder, tmp_path / "all.frozen")
    script = "\n".join(
        [
            INSTALLED["frozen"][2],
            f"sys.path.insert(0, {str(tmp_path / 'all.frozen')!r})",
            "from fastnn.core.compile import cache",
            "out.update(version=cache.version(), file=cache.__spec__.origin)",
        ]
    )
    one, two = (run(tmp_path, tmp_path / "cache", script, PYTHONHASHSEED=seed) for seed in "12")
    assert one == two
    assert (one["file"], one["warnings"]) == (None, [])


EMPTY = "import zipfile; zipfile.ZipFile('all.zip', 'w').close()"
# where it is imported from, statements before the first call, what the warning says: None without one
UNKNOWN = {
    "a zip that has gone": ("all.zip", "os.unlink('all.zip')", "fastnn.core"),
    "a zip that was emptied": ("all.zip", EMPTY, "fastnn.core"),
    "changed since imported": (
        "",
        "from pathlib import Path; path = Path(tiny.__file__).with_name('doubled.py'); "
        "path.write_text(path.read_text().replace('2.0', '3.0'))",
        "have changed",
    ),
    "outside of core": ("", "import elsewhere as tiny", None),
    "in a folder that is no package": ("", "from fastnn.core.loose import tiny", "fastnn.core.loose is loaded"),
}


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    """What processes answer whose code the fingerprint does not cover, and what lies in their caches then."""
    jobs = []
    for where, before, _ in UNKNOWN.values():
        folder = copy_core(tmp_path_factory.mktemp("unknown"))
        text = (folder / "fastnn" / "core" / "tiny.py").read_text()
        (folder / "fastnn" / "core" / "loose").mkdir()
        (folder / "fastnn" / "core" / "loose" / "tiny.py").write_text(text.replace("from .", "from .."))
        (folder / "elsewhere.py").write_text(text.replace("from .", "from fastnn.core."))
        pack(folder, folder / "all.zip")
        jobs.append((folder / where, folder / "cache", calls(f"os.chdir({str(folder)!r}); {before}")))
    return dict(
        zip(UNKNOWN, zip(in_forks(folder, jobs), [files(cache) for _, cache, _ in jobs], strict=True), strict=True)
    )


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_the_fingerprint_does_not_cover_is_not_kept(case, unknown):
    answer, kept = unknown[case]
    assert (answer["results"], answer["compiled"], kept) == (RESULTS, N_COMPILED, [])
    reason = UNKNOWN[case][-1]
    assert [category for category, _ in answer["warnings"]] == ([] if reason is None else ["RuntimeWarning"])
    assert all(reason in text for _, text in answer["warnings"])
