"""Another user's code in the cache does not run, and is told of once."""

import builtins
import os
import pickle
import shutil
import stat
import tempfile
import types
from pathlib import Path

import pytest
from numba import config

from fastnn.core.compile import cache as machine_code
from fastnn.core.compile import trust
from processes import files, run
from tiny import N_COMPILED, N_FILES, RESULTS, calls, copy_core, in_forks

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code"),
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners and modes here"),
]
MALLORY, ALICE = 54321, 54322  # users without an entry anywhere

# ---- one file or folder ---------------------------------------------------------------------------------------------
# owner, mode, whether the group is the owner's own, whether there is an access control list -> what is said, or None
STATUS = {
    "mine": ("me", 0o644, False, False, None),
    "root's": (0, 0o755, False, False, None),
    "another's": (MALLORY, 0o600, False, False, f"belongs to the user of number {MALLORY}"),
    "mine, for any user": ("me", 0o646, True, False, "can be written by any user"),
    "root's, for any user": (0, 0o777, True, False, "can be written by any user"),
    "mine, for my own group": ("me", 0o664, True, False, None),
    "mine, for a group": ("me", 0o664, False, False, "can be written by a group of users"),
    "mine, for my own group and a list": ("me", 0o664, True, True, "can be written by a group of users"),
    "mine, with a list of those who may read": ("me", 0o644, False, True, None),
}


@pytest.mark.parametrize("case", STATUS)
def test_who_may_have_written_a_file(case, monkeypatch):
    owner, mode, private, listed, said = STATUS[case]
    monkeypatch.setattr(os, "geteuid", lambda: ALICE)
    monkeypatch.setattr(trust, "_is_private", lambda uid, gid: private)
    monkeypatch.setattr(trust, "_has_list", lambda file: listed)
    status = types.SimpleNamespace(st_uid=ALICE if owner == "me" else owner, st_gid=ALICE, st_mode=mode)
    assert trust.fault(status, None) == said


# user's name, group's name, its members -> is it the user's own?
GROUPS = {
    "own": ("alice", "alice", [], True),
    "own, and listed there": ("alice", "alice", ["alice"], True),
    "shared": ("alice", "staff", [], False),
    "own, with another member": ("alice", "alice", ["alice", "mallory"], False),
    "nobody knows": (None, None, None, False),
}


@pytest.mark.parametrize("case", GROUPS)
def test_which_group_is_a_users_own(case, monkeypatch):
    user, group, members, private = GROUPS[case]

    def known(**entry):
        if user is None:
            raise KeyError
        return types.SimpleNamespace(**entry)

    monkeypatch.setattr("pwd.getpwuid", lambda uid: known(pw_name=user))
    monkeypatch.setattr("grp.getgrgid", lambda gid: known(gr_name=group, gr_mem=members))
    trust._is_private.cache_clear()
    assert trust._is_private(ALICE, ALICE) == private
    trust._is_private.cache_clear()


# modes of cache, cache/a, cache/a/b -> what the error for cache/a/b says, or None
FOLDERS = {
    "mine alone": ((0o700, 0o700, 0o700), None),
    "others may read": ((0o755, 0o755, 0o755), None),
    "any user may write to it": ((0o755, 0o755, 0o777), "can be written by any user"),
    "it is sticky": ((0o755, 0o755, 0o1777), "can be written by any user"),
    "below one that any user may write to": ((0o755, 0o777, 0o755), "any user may exchange what is in"),
    "far below one": ((0o777, 0o755, 0o755), "any user may exchange what is in"),
    "below a sticky one": ((0o755, 0o1777, 0o755), None),
    "below a group's": ((0o755, 0o775, 0o755), None),
}


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("case", FOLDERS)
def test_which_folders_are_trusted(case, linked, tmp_path, monkeypatch):
    modes, said = FOLDERS[case]
    place = tmp_path / "cache" / "a" / "b"
    trust.make_folder(place)
    for folder, mode in zip((place.parent.parent, place.parent, place), modes, strict=True):
        folder.chmod(mode)
    if linked:
        (tmp_path / "link").symlink_to(place)
        place = tmp_path / "link"
    if said is None:
        trust.check_folder(place)
        return
    with pytest.raises(trust.Untrusted, match=said):
        trust.check_folder(place)
    monkeypatch.setenv(trust.SWITCH, "1")
    trust.check_folder(place)
    monkeypatch.setenv(trust.SWITCH, "0")
    with pytest.raises(trust.Untrusted):
        trust.check_folder(place)


def test_where_files_have_no_owners_nothing_is_checked(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file"):
        path.chmod(0o777)
    monkeypatch.delattr(os, "geteuid")
    trust.check_folder(tmp_path)
    with open(tmp_path / "file") as file:
        assert trust.may_be_code(file.fileno(), tmp_path / "file")


def test_the_open_file_is_judged_and_not_its_name(tmp_path, monkeypatch):
    """Another one takes its place between the opening and the reading."""
    path, other = tmp_path / "mine", tmp_path / "other"
    machine_code._write(path, b"name", b"mine")
    shutil.copy(path, other)
    path.chmod(0o666)
    monkeypatch.setattr(trust, "_told", ["before"])
    opened = machine_code._open_at_once

    def open_and_exchange(name, flags):
        descriptor = opened(name, flags)
        os.replace(other, path)
        return descriptor

    monkeypatch.setattr(machine_code, "_open_at_once", open_and_exchange)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert machine_code._read(path, b"name") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="this system has no such lists")
def test_access_control_lists_are_seen(tmp_path):
    assert not trust._has_list(tmp_path)
    # Version 2: owner rwx, the user 54321 rwx, group r-x, mask rwx, others r-x.
    entries = [(1, 7, -1), (2, 7, MALLORY), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    packed = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + (who % 2**32).to_bytes(4, "little")
        for tag, rights, who in entries
    )
    try:
        os.setxattr(tmp_path, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"this file system has no such lists: {error}")
    assert trust._has_list(tmp_path)
    assert trust.fault(tmp_path.stat(), tmp_path) == "can be written by a group of users"


# ---- processes ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A copy of the package, and a cache filled by the tiny entries."""
    folder = copy_core(tmp_path_factory.mktemp("tiny"))
    assert run(folder, folder / "cache", calls())["compiled"] == N_COMPILED
    return folder, folder / "cache"


def give_away(path):
    """Make a file another user's, or, where only root could, leave that to `AS_ANOTHER`."""
    if os.geteuid() == 0:
        os.chown(path, MALLORY, MALLORY)


def all_files(change):
    return lambda place: [change(path) for path in files(place)]


AS_ANOTHER = "" if not hasattr(os, "geteuid") or os.geteuid() == 0 else "os.geteuid = lambda: os.getuid() + 1"
# what is done to the folder with the files, statements before the first call, and of a first and a second process:
# how many functions are compiled, what the one warning says
DONE = {
    "nothing": (lambda place: None, "", (0, None), (0, None)),
    "a folder for all": (lambda place: place.chmod(0o777), "", (N_COMPILED, "chmod go-w"), (N_COMPILED, "chmod go-w")),
    "a folder for all who are trusted": (
        lambda place: place.chmod(0o777),
        "os.environ['FASTNN_TRUST_CACHE'] = '1'",
        (0, None),
        (0, None),
    ),
    "files for all": (all_files(lambda path: path.chmod(0o666)), "", (N_COMPILED, "does not load"), (0, None)),
    "another's folder": (give_away, AS_ANOTHER, (N_COMPILED, "belongs to"), (N_COMPILED, "belongs to")),
}
if AS_ANOTHER == "":
    DONE["another's files"] = (all_files(give_away), "", (N_COMPILED, "belongs to"), (0, None))


@pytest.fixture(scope="module")
def answers(tiny, tmp_path_factory):
    """What two processes, one after the other, answer in each case, and what lies in the folder before and after."""
    folder, good = tiny
    jobs, places, found = [], [], []
    for change, before, *_ in DONE.values():
        cache = tmp_path_factory.mktemp("changed") / "cache"
        shutil.copytree(good, cache)
        [place] = {path.parent for path in files(cache)}
        change(place)
        places.append(place)
        found.append(files(place, "*"))
        jobs += [(folder, cache, calls(before))] * 2
    said = in_forks(folder, jobs)
    left = [(before, files(place, "*")) for before, place in zip(found, places, strict=True)]
    return dict(zip(DONE, zip(said[::2], said[1::2], left, strict=True), strict=True))


@pytest.mark.parametrize("case", DONE)
def test_what_others_can_write_is_compiled_anew_and_told_once(answers, case):
    *got, (before, after) = answers[case]
    for answer, (compiled, said) in zip(got, DONE[case][2:], strict=True):
        assert (answer["results"], answer["compiled"]) == (RESULTS, compiled)
        assert len(answer["warnings"]) == (said is not None)
        for category, text in answer["warnings"]:
            assert category == "RuntimeWarning"
            assert said in text
            assert "FASTNN_TRUST_CACHE=1" in text
            assert str(before[0].parent) in text
    assert after == before  # nothing is written to a folder that is not trusted
    assert len(after) == N_FILES


def test_a_umask_of_zero_makes_files_for_their_owner_alone(tiny, tmp_path):
    folder, _ = tiny
    tmp_path.chmod(0o755)
    cache = tmp_path / "new" / "cache"
    first, second = in_forks(folder, [(folder, cache, calls("os.umask(0)"))] * 2)
    assert (first["compiled"], first["warnings"]) == (N_COMPILED, [])
    assert (second["compiled"], second["warnings"]) == (0, [])
    made = [cache.parent, cache, *files(cache, "*")]
    assert len(made) == 3 + N_FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o755, 0o644}


def test_beside_sources_that_others_may_write_the_users_cache_is_next(tmp_path, monkeypatch):
    core = tmp_path / "core"
    (core / "__pycache__").mkdir(parents=True)
    (core / "__pycache__").chmod(0o777)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(machine_code.sys.modules[machine_code.CORE], "__path__", [str(core)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    machine_code._folder.cache_clear()
    try:
        assert machine_code.folder() != core / "__pycache__"
        assert list((core / "__pycache__").iterdir()) == []
        (core / "__pycache__").chmod(0o755)
        machine_code._folder.cache_clear()
        assert machine_code.folder() == core / "__pycache__"
    finally:
        machine_code._folder.cache_clear()


# ---- two users ------------------------------------------------------------------------------------------------------
class Attack:
    """A pickle that makes a file when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return builtins.open, (self.marker, "w")


BECOME = """
import grp, pwd
os.setgroups([])
os.setgid({user})
os.setuid({user})
"""
PLANT = """
from fastnn.core.compile import cache, trust
os.umask(0)
trust.FOLDER_MODE, trust.FILE_MODE = 0o777, 0o666
os.environ["FASTNN_TRUST_CACHE"] = "1"
cache.dumps = lambda _: {attack!r}
"""
AFTERWARDS = """
import pathlib
out["ran"] = os.path.exists({marker!r})
out["owners"] = [path.stat().st_uid for path in pathlib.Path({cache!r}).rglob("*.nbc")]
"""
TRUSTING = "os.environ['FASTNN_TRUST_CACHE'] = '1'"


# NUMBA_CACHE_DIR's mode
SHARED = {"any user may exchange files": 0o777, "sticky": 0o1777}


@pytest.fixture(scope="module")
def attacked():
    """What mallory answers in each kind of shared folder, then alice, and then alice where she trusts everybody."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can become two users, one after the other")
    with tempfile.TemporaryDirectory() as place:
        folder = copy_core(Path(place))
        jobs, shared = [], []
        for name, mode in enumerate(SHARED.values()):
            cache, marker = folder / f"shared {name}", folder / f"ran {name}" / "marker"
            for made, rights in ((cache, mode), (marker.parent, 0o777)):
                made.mkdir()
                made.chmod(rights)
            plant = PLANT.format(attack=pickle.dumps(Attack(str(marker))))
            as_mallory, as_alice = (BECOME.format(user=user) for user in (MALLORY, ALICE))
            ran = AFTERWARDS.format(marker=str(marker), cache=str(cache))
            for before in (as_mallory + plant, as_alice, as_alice + TRUSTING):
                jobs.append((folder, cache, calls(before) + ran))
            shared.append(cache)
        for path in (folder, *(folder / "fastnn").rglob("*")):
            path.chmod(0o755)
        said = in_forks(folder, jobs)
    return dict(zip(SHARED, zip(said[::3], said[1::3], said[2::3], shared, strict=True), strict=True))


@pytest.mark.parametrize("case", SHARED)
def test_what_another_user_plants_does_not_run(case, attacked):
    mallory, alice, trusting, shared = attacked[case]
    assert (mallory["results"], mallory["ran"], mallory["owners"]) == (RESULTS, False, [MALLORY] * N_FILES)
    assert (alice["results"], alice["ran"], alice["owners"]) == (RESULTS, False, [MALLORY] * N_FILES)
    assert alice["compiled"] == N_COMPILED
    [[category, text]] = alice["warnings"]
    assert (category, str(shared) in text) == ("RuntimeWarning", True)
    assert trusting["ran"]  # what the check is for: the same code runs where it is switched off
