"""What is published: contents of sdist and wheel, metadata, and one statement of versions wherever they are named."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import fastnn
import run_tests

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
RECIPE = (ROOT / "scripts" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
TEST_SH = (ROOT / "scripts" / "test.sh").read_text(encoding="utf-8")
BOUNDS = dict(requirement.split(">=") for requirement in PROJECT["project"]["dependencies"])  # lowest version by name


# ---- versions -------------------------------------------------------------------------------------------------------
def listed(name):
    """Items of one of the recipe's lists of requirements."""
    items = re.search(rf"^  {name}:\n((?:    - .*\n)+)", RECIPE, re.M)[1]
    return [line.strip().removeprefix("- ") for line in items.splitlines()]


def test_the_recipe_names_the_packages_versions():
    assert listed("run") == [
        f"python {PROJECT['project']['requires-python']}",
        *(f"{name} >={version}" for name, version in BOUNDS.items()),
    ]
    [backend] = PROJECT["build-system"]["requires"]
    assert listed("host") == [listed("run")[0], "pip", backend.replace(">=", " >=")]
    assert re.search(r'^  version: "(.*)"$', RECIPE, re.M)[1] == fastnn.__version__
    for field in ("license", "summary"):
        said = PROJECT["project"]["license" if field == "license" else "description"]
        assert f"\n  {field}: {said}\n" in RECIPE


def series(version):
    """The pin of the oldest versions, ``1.26.*``, of a lower bound, ``1.26``."""
    return f"{version}.*"


def test_the_workflow_runs_the_versions_that_are_promised():
    classified = {
        text.rpartition(" ")[2]
        for text in PROJECT["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", text)
    }
    assert set(re.findall(r'python: "([\d.]+)"', WORKFLOW)) == classified
    assert PROJECT["project"]["requires-python"] == f">={min(classified, key=lambda text: int(text[2:]))}"
    pins = re.search(r"pins: (joblib.*)", WORKFLOW)[1].split()
    assert dict(pin.split("==") for pin in pins) == {name: series(version) for name, version in BOUNDS.items()}


def test_the_workflow_runs_each_kind_of_machine_and_versions():
    systems = set(re.findall(r"system: ([\w.-]+)", WORKFLOW))
    kinds = {"ubuntu": False, "macos": False, "windows": False} | {system.split("-")[0]: True for system in systems}
    assert all(kinds.values()), kinds
    assert any(system.endswith("-arm") for system in systems)
    assert set(re.findall(r"versions: ([\w-]+)", WORKFLOW)) == {"oldest", "newest", "pre-release"}
    assert "sh scripts/test.sh" in WORKFLOW


def test_the_oldest_mode_of_the_tests_has_the_lower_bounds():
    pins = dict(re.findall(r'"?([\w-]+)==([\d.]+\*)', TEST_SH))
    assert pins.pop("numpy") in (series(BOUNDS["numpy"]), "2.1.*")  # the latter for Python 3.13
    assert f"numpy=={series(BOUNDS['numpy'])}" in TEST_SH
    assert pins == {name: series(BOUNDS[name]) for name in pins}
    assert set(pins) == {"numba", "scikit-learn"}


def flat(name):
    """Requirements of a dependency group, those of the groups that it includes among them."""
    for item in PROJECT["dependency-groups"][name]:
        if isinstance(item, dict):
            yield from flat(item["include-group"])
        else:
            yield item


def test_extras_and_dependency_groups_say_the_same():
    extras = PROJECT["project"]["optional-dependencies"]
    assert sorted(flat("test")) == sorted(extras["test"])
    assert sorted(flat("bench")) == sorted(extras["bench"])
    assert sorted(flat("dev")) == sorted([*extras["test"], *extras["bench"], *extras["plot"]])


def test_hooks_run_what_the_tests_run():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for tool in ("ruff check", "ruff format", "mypy"):
        assert f"-m {tool}" in hooks
        assert any(" ".join(check).startswith(f"-m {tool}") for check in run_tests.CHECKS)


# ---- sdist and wheel ------------------------------------------------------------------------------------------------
UNWANTED = (
    "tests/__pycache__/a.cpython-311.pyc",
    "scripts/data/train.npz",
    "fastnn/core/__pycache__/a.nbc",
    ".venv/a.py",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a wheel and the sdist that it was made from, of a copy with files that belong in neither."""
    pytest.importorskip("build")
    work = tmp_path_factory.mktemp("package")
    left_out = shutil.ignore_patterns(
        ".git", ".arm64", ".venv*", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info", ".asv"
    )
    shutil.copytree(ROOT, work / "copy", ignore=left_out)
    for name in UNWANTED:
        (work / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "copy" / name).write_text("")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", work / "copy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return work / "dist"


def sources(folder, pattern="*"):
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(built):
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    package = {name for name in names if ".dist-info/" not in name}
    assert package == sources("fastnn", "*.py") | {"fastnn/py.typed"}
    assert {name.partition("/")[2] for name in names - package} >= {"METADATA", "RECORD", "licenses/LICENSE"}


def test_the_sdist_holds_the_tests_and_no_data_or_caches(built):
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {member.name.partition("/")[2] for member in file.getmembers() if member.isfile()}
    expected = sources("fastnn") | sources("tests") | sources("scripts") | {"README.md", "LICENSE", "CHANGELOG.md"}
    expected |= {"pyproject.toml", "setup.cfg", ".pre-commit-config.yaml", ".github/SECURITY.md"}
    assert expected <= names
    assert not [name for name in names if name in UNWANTED]
    assert not [name for name in names if name.endswith((".pyc", ".nbc", ".nbi", ".npz", ".gz"))]
    others = {name for name in names - expected if not name.startswith(("benchmarks/", ".github/", "fastnn_numba.egg"))}
    assert others == {"PKG-INFO"}


def test_the_metadata_would_be_accepted(built):
    pytest.importorskip("twine")
    files = sorted(map(str, built.iterdir()))
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == len(files) == 2
