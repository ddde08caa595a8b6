"""Tests on an emulated processor: what is missing is said, what is there is used, nothing is set up twice."""

import shutil
import subprocess
import sys

import pytest

import _arm


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Nothing is set up, and all tools are there; commands are noted, not run."""
    for name, place in {"FOLDER": ".arm64", "SYSTEM": ".arm64/root"}.items():
        monkeypatch.setattr(_arm, name, tmp_path / place)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return tmp_path / ".arm64"


@pytest.mark.parametrize(
    ("system", "tools", "reason"),
    [
        ("darwin", "qemu-aarch64-static debootstrap dpkg-deb", "on Linux only"),
        ("linux", "debootstrap dpkg-deb", "qemu is not installed"),
        ("linux", "qemu-aarch64 dpkg-deb", "debootstrap not installed"),
        ("linux", "qemu-aarch64", "debootstrap and dpkg-deb not installed"),
    ],
)
def test_nothing_runs_and_the_reason_is_said(folder, monkeypatch, capsys, system, tools, reason):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in tools.split() else None)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("something was run"))
    assert _arm.main([]) == 0
    said = capsys.readouterr().out
    assert said.startswith("skipped: ") and reason in said


def test_it_is_set_up_once(folder, monkeypatch):
    done = []

    def run(command, **options):
        done.append([str(part) for part in command])
        if "debootstrap" in done[-1][0]:
            archives = folder / "archives/var/cache/apt/archives"
            archives.mkdir(parents=True)
            (archives / "python3.11-minimal_3.11.2_arm64.deb").write_text("")
        if "dpkg-deb" in done[-1][0]:
            for name in ("python3.11", "python3.9", "python3.11-config"):
                (folder / "root/usr/bin" / name).write_text("")
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    assert _arm.main([]) == 3
    assert [line[0].rpartition("/")[2] for line in done] == [
        "debootstrap",
        "dpkg-deb",
        done[2][0].rpartition("/")[2],
        "python3",
    ]
    assert "--python-version=3.11" in done[2] and "--only-binary=:all:" in done[2]
    assert [requirement for requirement in done[2] if requirement.startswith(("numba>", "pytest>"))]
    assert done[3][-len(_arm.SELECTION) :] == list(_arm.SELECTION)
    assert "CPU part\t: 0xd0c" in (folder / "root/proc/cpuinfo").read_text()
    assert "usr/bin/python3.11'" in (folder / "python3").read_text()
    done.clear()
    assert _arm.main(["tests/core"]) == 3
    assert [line[-1] for line in done] == ["tests/core"]


def test_what_cannot_be_set_up_is_an_error(folder, monkeypatch, capsys):
    def fail(command, **options):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    assert _arm.main([]) == 1
    assert "could not be filled" in capsys.readouterr().err
    assert not (folder / "complete").exists()
