"""Where machine code is kept between processes, under which names, and which of it nobody will ask for again.

Numba's cache looks only at the file and the byte code of the cached function itself. So every symbol and every cache
file carries a fingerprint of all that machine code depends on: each file of this folder and the compiler's versions
(`version`), the processor and the debugging switches. A changed file is another name; old machine code cannot be found,
let alone run. It only takes room until `remove_older` is called.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import time
import warnings
from typing import NamedTuple

import llvmlite
import numba
import numpy as np
from numba import config
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

# What `jit` names: module.function_kind_dtype_fingerprint, then Numba's line number, Python version and file number.
# A name with an end behind it is a file that some process is writing, or was when it was killed.
FILE = re.compile(
    r"\w+\.\w+_(?:leaf|serial|parallel)_(?:float32|float64|int32|int64)_(?P<fingerprint>[0-9a-f]{16,})"
    r"-\d+\.py\d+\w*(?:\.\d+)?\.nb[ic](?P<unfinished>\.tmp\.\w+)?"
)
VERSION_DIGITS, TARGET_DIGITS = 16, 8
ABANDONED_SECONDS = 3600.0  # an unfinished file that nobody has touched for so long has no writer: a write takes 1 ms


def version():
    """Hexadecimal digest of the sources of ``core`` and of the versions of the compiler; reads them anew."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(repr((numba.__version__, llvmlite.__version__, np.__version__)).encode())
    return digest.hexdigest()[:VERSION_DIGITS]


@functools.cache
def fingerprint():
    """Hexadecimal digest of all that machine code depends on: `version`, then processor and switches."""
    switches = (config.BOUNDSCHECK, config.OPT, cpu_target.target_context.codegen().magic_tuple())
    return version() + hashlib.sha256(repr(switches).encode()).hexdigest()[:TARGET_DIGITS]


class MachineCodeCache(FunctionCache):
    """Numba's file cache that never fails the user's call: a bad file is compiled anew, a failed save warns once."""

    def load_overload(self, sig, target_context):
        """As Numba's, but whoever loads does not get all of Numba ready to compile; whoever compiles does that anyway.

        (A first fit with a warm cache took .30 s of processor time with it, .17 without, Zen 3.)
        """
        try:
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception:  # whatever a damaged pickle or a foreign file raises; the cure is the same
            self._remove_index()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, a folder gone or read-only, a damaged index
            self._remove_index()
            complain(str(error))

    def _remove_index(self):
        with contextlib.suppress(OSError):
            pathlib.Path(self.cache_path, self._impl.filename_base + ".nbi").unlink(missing_ok=True)


complaints = []  # why machine code could not be kept; the first one has been a warning


def complain(reason):
    """Warn, once in a process, that machine code cannot be kept."""
    complaints.append(reason)
    if len(complaints) > 1:
        return
    warnings.warn(
        f"fastnn cannot keep its compiled code ({reason}); it is compiled again in every process. "
        "Set NUMBA_CACHE_DIR to a writable folder.",
        RuntimeWarning,
        stacklevel=2,
    )


def folder():
    """The folder that Numba has chosen for the machine code of ``core``; made if need be.

    Raises
    ------
    RuntimeError
        When none of Numba's places can be written.
    """
    return pathlib.Path(FunctionCache(_anything).cache_path)


def _anything():
    """Stands for the functions of ``core``: Numba's choice depends on the folder of the source alone."""


class CacheFile(NamedTuple):
    """One of fastnn's files in the cache."""

    path: pathlib.Path
    n_bytes: int
    current: bool  # of this version, whatever the processor, the switches and the Python it was made with


def cache_files(place):
    """fastnn's files in a folder, indices first; nothing else that lies there is ever looked at.

    Unfinished files are listed once they are abandoned, as not current.
    """
    found, now, own = [], time.time(), fingerprint()[:VERSION_DIGITS]
    with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
        for entry in entries:
            named = FILE.fullmatch(entry.name)
            with contextlib.suppress(FileNotFoundError):  # another process may remove it now
                if named and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    unfinished = named["unfinished"] is not None
                    if unfinished and now - status.st_mtime < ABANDONED_SECONDS:
                        continue
                    current = not unfinished and named["fingerprint"][:VERSION_DIGITS] == own
                    found.append(CacheFile(pathlib.Path(entry.path), status.st_size, current))
    return sorted(found, key=lambda file: (file.path.suffix != ".nbi", file.path.name))


def remove_older(place):
    """Remove what other versions left in a folder. Other processes may be reading and writing there.

    A process of another version that loses an index or a file compiles that function anew. Indices go first, so that
    none is left that names a missing file.

    Returns
    -------
    removed : list of CacheFile
    kept : list of tuple of (CacheFile, str)
        What could not be removed, and why.
    """
    removed, kept = [], []
    for file in cache_files(place):
        if not file.current:
            try:
                file.path.unlink(missing_ok=True)
                removed.append(file)
            except OSError as error:
                kept.append((file, str(error)))
    return removed, kept
