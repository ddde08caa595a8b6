"""Whom the cache trusts. Who can write a file of the cache can run any code in the processes that load it.

So a file is loaded only if the user of this process or root owns it and no other user may write it, and only from a
folder of which the same is true and that no other user may exchange. Nothing is written elsewhere either. Files are
judged once they are open, so it is the file that is read that has been judged, whatever its name leads to meanwhile.
With FASTNN_TRUST_CACHE=1 any file and folder will do.

On Windows files have no such owners and modes, and nothing is checked: the user's cache folder is the user's there.
"""

import contextlib
import functools
import os
import stat
import warnings

SWITCH = "FASTNN_TRUST_CACHE"
ADVICE = "Set NUMBA_CACHE_DIR to a writable folder."
FOLDER_MODE, FILE_MODE = 0o755, 0o644  # of what is made here: a umask of 000 or 002 would let others write


class Untrusted(OSError):
    """Where compiled code cannot be kept since others could have put theirs there, and why."""

    advice = (
        f"Set NUMBA_CACHE_DIR to a folder that is yours and that only you can write to (chmod go-w), or {SWITCH}=1 "
        "if you trust everybody who can write there."
    )


def advice_for(error):
    """What helps where a folder cannot be used."""
    return getattr(error, "advice", ADVICE)


def is_trusting():
    """Whether the user trusts everybody who can write to the cache."""
    return os.environ.get(SWITCH) == "1"


def check_folder(place):
    """Make a folder if need be and it can be; see that no other user may write to it, or put another in its place.

    Of the folders above it only those count that any user may write to, and where each may rename what is another's.
    (Their owners, and the members of a group that may write there, can put a folder of their own in the place of this
    one, but files in that are theirs, and not loaded.)

    Raises
    ------
    Untrusted
    """
    if not hasattr(os, "geteuid") or is_trusting():
        return
    for parent in _parents(place):
        mode = getattr(_status(parent), "st_mode", 0)
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise Untrusted(f"no code in {place} is trusted, since any user may exchange what is in {parent}")
    with contextlib.suppress(OSError):  # who writes there will see it
        make_folder(place)
    status = _status(place)
    found = status and fault(status, place)
    if found:
        raise Untrusted(f"no code in {place} is trusted, since it {found}")


def _status(path):
    """The status of a file or folder; None where there is none, or nobody may look."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _parents(place):
    """All folders above a folder, by its name and where links lead."""
    found = {}
    for path in (os.path.abspath(place), os.path.realpath(place)):
        while (parent := os.path.dirname(path)) != path:
            path = found.setdefault(parent, parent)
    return list(found)


def make_folder(place):
    """Make a folder, and those above it, that other users may not write to; OSError where that fails."""
    if os.path.isdir(place):
        return
    parent = os.path.dirname(os.path.abspath(place))
    if parent != os.fspath(place):
        make_folder(parent)
    try:
        os.mkdir(place, FOLDER_MODE)
    except FileExistsError:  # another process may have made it
        if not os.path.isdir(place):
            raise


def may_be_code(descriptor, path):
    """Whether what is in an open file may be run; if not because of who may have written it, one warning says so."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return False
    found = fault(status, descriptor) if hasattr(os, "geteuid") else None
    if found is None or is_trusting():
        return True
    _warn_once(f"{path} {found}")
    return False


_told = []  # what has been a warning


def _warn_once(reason):
    if not _told:
        _told.append(reason)
        warnings.warn(
            f"fastnn does not load another user's code ({reason}); it compiles anew and replaces the file where it "
            f"can. Set {SWITCH}=1 if you trust everybody who can write there.",
            RuntimeWarning,
            stacklevel=2,
        )


def fault(status, file):
    """Why others may have written a file or folder, as a verb and what follows; None where they cannot.

    Parameters
    ----------
    status : os.stat_result
    file : int or path
        The same, to look for access control lists.
    """
    if status.st_uid != os.geteuid() and status.st_uid != 0:
        return f"belongs to {_user_name(status.st_uid)}"
    if status.st_mode & stat.S_IWOTH:
        return "can be written by any user"
    if status.st_mode & stat.S_IWGRP and not (_is_private(status.st_uid, status.st_gid) and not _has_list(file)):
        return "can be written by a group of users"
    return None


def _user_name(uid):
    import pwd

    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user of number {uid}"


@functools.cache
def _is_private(uid, gid):
    """Whether a group is a user's own: of its name, without other members. (Where users have one, umask is 002.)"""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


def _has_list(file):
    """Whether Linux grants somebody access beyond the mode. (In the mode all that they may do is the group's.)"""
    try:
        return bool(os.getxattr(file, "system.posix_acl_access"))
    except (AttributeError, OSError):
        return False
