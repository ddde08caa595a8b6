"""The environment of the two commands: made when it is missing or does not fit, and only then."""

import os
import subprocess
import sys

import pytest

import _venv


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of nothing but pyproject.toml; the list holds the commands that were to be run there."""
    (tmp_path / "pyproject.toml").write_text("[project]")
    monkeypatch.delenv("FASTNN_PYTHON", raising=False)
    monkeypatch.setattr(_venv, "ROOT", tmp_path)
    done = []

    def call(command, **options):
        if "-c" in command:
            return 0 if os.path.exists(command[0]) else 1
        done.append(" ".join(command[1:]))
        if "venv" in command:
            for name in ("bin/python", "Scripts/python.exe"):
                path = tmp_path / command[-1] / name
                path.parent.mkdir(parents=True)
                path.write_text("")
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    return tmp_path, done


CHANGES = {
    "nothing": ("plot", (), lambda root: None, 0),
    "an extra less": ("test,plot", (), lambda root: None, 0),
    "another extra": ("bench", (), lambda root: None, 1),
    "a pin": ("plot", ("numba==0.63.*",), lambda root: None, 1),
    "pyproject.toml": ("plot", (), lambda root: (root / "pyproject.toml").write_text("[tool]"), 1),
    "half an installation": ("plot", (), lambda root: (root / ".venv" / "fastnn-stamp").unlink(), 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_environment_is_made_once_for_what_it_was_made_for(change, checkout):
    root, done = checkout
    extras, pins, happen, expected = CHANGES[change]
    first = _venv.interpreter(".venv", extras if expected == 0 else "plot")
    assert os.path.exists(first) and first.startswith(str(root))
    assert [line.split()[1] for line in done] == ["venv", "pip"]
    done.clear()
    happen(root)
    assert _venv.interpreter(".venv", "plot" if expected == 0 else extras, pins) == first
    assert len(done) == expected
    assert all(f"--editable {root}[{extras}]" in line and line.endswith(("]", *pins)) for line in done)


def test_a_copied_environment_is_made_anew(checkout, monkeypatch, tmp_path_factory):
    root, done = checkout
    _venv.interpreter(".venv", "plot")
    copy = tmp_path_factory.mktemp("copy") / "of it"
    root.rename(copy)
    monkeypatch.setattr(_venv, "ROOT", copy)
    done.clear()
    _venv.interpreter(".venv", "plot")
    assert [line.split()[1] for line in done] == ["pip"]


def test_an_own_interpreter_is_used_as_it_is(checkout, monkeypatch):
    root, done = checkout
    monkeypatch.setenv("FASTNN_PYTHON", "/own/python")
    monkeypatch.setenv("PYTHONPATH", "before")
    assert _venv.interpreter(".venv", "plot") == "/own/python"
    assert os.environ["PYTHONPATH"] == os.pathsep.join([str(root), "before"])
    assert done == []


@pytest.mark.parametrize(
    ("fails", "message"),
    [("venv", "python3-venv"), ("pip", "7"), ("version", "fastnn needs Python 3.11 or newer")],
)
def test_what_cannot_be_made_ends_with_a_message(fails, message, checkout, monkeypatch):
    root, _ = checkout
    before = subprocess.call
    monkeypatch.setattr(subprocess, "call", lambda command, **options: 7 if fails in command else before(command))
    if fails == "version":
        monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    with pytest.raises(SystemExit, match=message):
        _venv.interpreter(".venv", "plot")
    assert not (root / ".venv" / "fastnn-stamp").exists()
