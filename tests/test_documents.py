"""The documents: short, their links lead somewhere, and tests/README.md names every test file."""

import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    ".github/SECURITY.md",
    *(f"{folder}/README.md" for folder in ("benchmarks", "scripts", "fastnn", "tests")),
)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_and_the_changelog_are_short():
    assert len(read("README.md").encode()) <= 10_000
    assert len(read("CHANGELOG.md").splitlines()) <= 60


def test_the_first_ten_lines_say_how_fast_it_is():
    first = read("README.md").splitlines()[:10]
    assert sum(line.startswith("|") for line in first) >= 4


def test_the_readmes_programs_run_without_a_warning(capsys):
    programs = re.findall(r"```python\n(.*?)```", read("README.md"), flags=re.DOTALL)
    for program in programs:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(program, {})
    scores = [float(line) for line in capsys.readouterr().out.split()]
    assert programs and min(scores) > 0.9


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_pictures_are_there(name):
    targets = [target for target in LINK.findall(read(name)) if not target.startswith("https://")]
    missing = [target for target in targets if not (ROOT / name).parent.joinpath(target).is_file()]
    assert not missing, missing


@pytest.mark.parametrize("folder", ["scripts", "tests"])
def test_every_picture_and_every_test_file_is_shown(folder):
    if folder == "scripts":
        found = sorted(path.name for path in (ROOT / "scripts" / "pictures").glob("*.png"))
        text = read("scripts/README.md") + read("benchmarks/README.md")
    else:
        found = sorted(f"`{path.stem}`" for path in (ROOT / "tests").rglob("test_*.py"))
        text = read("tests/README.md")
    assert found and not [name for name in found if name not in text]
