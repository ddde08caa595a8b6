"""Where machine code is kept between processes, under which names, and which of it nobody will ask for again.

Every symbol and every cache file carries a fingerprint of all that machine code depends on: each module of ``core`` and
the compiler's versions (`version`), the processor and the debugging switches. A changed module is another name; old
machine code cannot be found, let alone run. It only takes room until `remove_older` is called. Modules are read through
the loaders that import them, so this holds in a zip, in a frozen program and where only byte code is installed. Where
they cannot be read nothing is kept. No file's date counts.

A file holds what was compiled for one signature of one function, behind a checksum of that and of whose code it is.
Nothing in a file is used before its checksum is found right. Whatever is wrong with it, the function is compiled anew.
Files that other users may have written are not used at all: see `trust`.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import pickle
import pkgutil
import re
import sys
import tempfile
import time
import types
import warnings
from typing import NamedTuple

import llvmlite
import numba
import numpy as np
from numba import config

from . import private, trust
from .private import CompileResult, dumps

CORE = __name__.rpartition(".core.")[0] + ".core"  # the package that the fingerprint is of, with all packages below it

# module.function_kind_dtype_fingerprint-signature.pyXY.nbc. Before, a line number stood for the signature, and each
# function had an index (.nbi) of numbered files. A name with an end behind it is a file that some process is writing,
# or was when it was killed.
FILE = re.compile(
    r"(?:\w+\.)+\w+_(?:leaf|serial|parallel)_(?:float32|float64|int32|int64)_(?P<fingerprint>[0-9a-f]{16,})"
    r"-[0-9a-f]+\.py\d+\w*(?:\.\d+)?\.nb[ic](?P<unfinished>\.tmp\.\w+)?"
)
VERSION_DIGITS, TARGET_DIGITS = 16, 8
ABANDONED_SECONDS = 3600.0  # an unfinished file that nobody has touched for so long has no writer: a write takes 1 ms
PYTHON = f"py{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"


# ------------------------------------------------------------------------------------------------- fingerprint


class SourcesUnknown(RuntimeError):
    """Why it cannot be told what ``core`` is made from."""


def version():
    """Hexadecimal digest of the modules of ``core`` and of the versions of the compiler; reads them anew.

    Raises
    ------
    SourcesUnknown
        When a module cannot be read, or one is loaded that no finder lists.
    """
    return _digest(_contents())


def _digest(contents):
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name.removeprefix(CORE)}\n{len(content)}\n".encode() + content)
    digest.update(repr((numba.__version__, llvmlite.__version__, np.__version__)).encode())
    return digest.hexdigest()[:VERSION_DIGITS]


def _contents():
    """What each module of ``core`` is made from, by its name."""
    package = sys.modules[CORE]
    try:
        contents = {spec.name: _content(spec) for spec in (package.__spec__, *_specs(CORE, package.__path__))}
    except SourcesUnknown:
        raise
    except Exception as error:  # of a finder whose zip has gone, say
        raise SourcesUnknown(f"{CORE} cannot be listed: {error!r}") from error
    unlisted = {name for name in tuple(sys.modules) if f"{name}.".startswith(f"{CORE}.")} - contents.keys()
    if unlisted:
        raise SourcesUnknown(f"{min(unlisted)} is loaded, but no finder lists it")
    return contents


def _specs(package, path):
    """The specs of all modules below a package: those of loaded ones, others are found without importing them."""
    for finder, last, is_package in pkgutil.iter_modules(path):
        name = f"{package}.{last}"
        # A finder may take its time: that of zips compiles each source, 41 ms for them all (Emerald Rapids).
        spec = getattr(sys.modules.get(name), "__spec__", None) or finder.find_spec(name)
        if spec is None:
            raise SourcesUnknown(f"{name} is listed, but not found")
        yield spec
        if is_package:
            yield from _specs(spec.name, spec.submodule_search_locations)


def _content(spec):
    """Bytes of the file that a module is imported from; else of its source; else of its byte code."""
    for read in (
        lambda: spec.loader.get_data(spec.origin) + _unchecked(spec),
        lambda: spec.loader.get_source(spec.name).encode(),
        lambda: repr(_described(spec.loader.get_code(spec.name))).encode(),
    ):
        with contextlib.suppress(Exception):  # loaders lack methods, return None, raise what they like
            return read()
    raise SourcesUnknown(f"the loader of {spec.name} gives neither its source nor its code")


def _unchecked(spec):
    """The byte code beside a source, where it is of the kind that Python may run without a look at the source."""
    with contextlib.suppress(OSError), open(spec.cached or "", "rb") as file:
        header = file.read(8)  # a magic number and flags, the first of which is that kind
        return header + file.read() if header[4:5] and header[4] & 1 else b""
    return b""


def _described(constant):
    """A code object, or one of its constants, by what counts when it runs: the same in every process."""
    if isinstance(constant, types.CodeType):
        code = constant
        counts = code.co_name, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        return counts, names, code.co_code, code.co_exceptiontable, _described(code.co_consts)
    if isinstance(constant, tuple):
        return tuple(map(_described, constant))
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)


def _at_import():
    try:
        return version()
    except SourcesUnknown:  # who wants to keep code will be told why
        return "0" * VERSION_DIGITS


_imported = _at_import()  # now, since a process may live on when its sources are replaced


@functools.cache
def fingerprint():
    """Hexadecimal digest of all that machine code depends on: `version` when imported, then processor and switches."""
    switches = (config.BOUNDSCHECK, config.OPT, private.target_description())
    return _imported + hashlib.sha256(repr(switches).encode()).hexdigest()[:TARGET_DIGITS]


@functools.cache
def covered():
    """Names of the modules that the fingerprint covers.

    Raises
    ------
    SourcesUnknown
        When it says nothing about the code of this process.
    """
    contents = _contents()
    if _digest(contents) != _imported:
        raise SourcesUnknown("its sources have changed since they were imported")
    return contents.keys()


# ------------------------------------------------------------------------------------------------------- files

MAGIC, DIGEST_BYTES = b"fastnn machine code\r\n", 32


def _read(path, identity):
    """What `_write` has written to a file for this identity; None where it does not hold that, bit by bit."""
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not trust.may_be_code(file.fileno(), path) or file.read(len(MAGIC)) != MAGIC:
                return None
            checksum, content = file.read(DIGEST_BYTES), file.read()
    except OSError:  # most often there is none
        return None
    return content if checksum == _checksum(identity, content) else None


def _open_at_once(path, flags):
    # A pipe in the place of a file would wait for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), trust.FILE_MODE)


def _checksum(identity, content):
    """Against accidents, not against those who may write here (`trust` is).

    (For the 25 files of a first fit, 0.7 MB, BLAKE2b takes 0.7 ms, SHA-256 0.4, or 2.1 where the processor has no
    instructions for it, CRC-32 0.14: Emerald Rapids.)
    """
    return hashlib.blake2b(identity + b"\0" + content, digest_size=DIGEST_BYTES).digest()


def _write(path, identity, content):
    """Put ``content`` into a file that `_read` knows, whatever stands there; it is there whole or not at all."""
    trust.make_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.tmp.{os.urandom(8).hex()}")
    try:
        with open(unfinished, "xb", opener=_open_at_once) as file:
            file.write(MAGIC + _checksum(identity, content) + content)
        with contextlib.suppress(OSError):  # of a folder, where it is empty
            os.rmdir(path)
        os.replace(unfinished, path)
    except OSError:
        if _read(path, identity) is None:  # on Windows a file that somebody reads cannot be replaced
            raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)


class MachineCodeCache(private.NullCache):
    """Keeps what Numba has compiled of one function, a file for each signature, and never fails the user's call.

    Files that cannot be used are compiled anew and replaced. Where code cannot be kept one warning says why. Functions
    from outside of ``core``, of which the fingerprint says nothing, are not kept.

    To load, Numba's own cache gets all of Numba ready to compile, and reads an index for each function. (A first fit
    with a warm cache took .30 s of processor time with the former, .17 without, Zen 3.)
    """

    def __init__(self, function):
        self._module, self._function = function.__module__, function.__qualname__
        self._keeps = self._module.startswith(f"{CORE}.")

    @property
    def cache_path(self):
        return str(folder())

    def _file(self, sig):
        """The file of a signature, and all that it is kept for.

        Raises
        ------
        SourcesUnknown, OSError
            When nothing can be kept.
        """
        if self._module not in covered():
            raise SourcesUnknown(f"no finder lists {self._module}")
        function = f"{self._module.removeprefix(CORE + '.')}.{self._function}"
        key = hashlib.blake2b(repr(sig).encode(), digest_size=4).hexdigest()
        name = f"{function}-{key}.{PYTHON}.nbc"
        return folder() / name, f"{name}\n{sig!r}".encode()

    def load_overload(self, sig, target_context):
        if not self._keeps or private.lacks(private.CACHE):
            return None
        try:
            content = _read(*self._file(sig))
            if content is not None:
                return CompileResult._rebuild(target_context, *pickle.loads(content))
        except (SourcesUnknown, OSError) as error:
            complain(error)
        except Exception as error:  # it is what was written, but not what this Numba takes
            give_up(error)
        return None

    def save_overload(self, sig, data):
        if not self._keeps or private.lacks(private.CACHE):
            return
        try:
            if data.lifted or data.library.has_dynamic_globals:
                raise ValueError(f"{self._function} holds addresses of this process")
            _write(*self._file(sig), dumps(data._reduce()))
        except (SourcesUnknown, OSError) as error:  # a full disk, a folder gone or read-only
            complain(error)
        except Exception as error:
            give_up(error)


# Why machine code could not be kept. The first one has been a warning, or is one that `private` gives.
complaints = [private.explanation()] if private.lacks(private.CACHE) else []


def complain(reason):
    """Warn, once in a process, that machine code cannot be kept."""
    complaints.append(str(reason))
    if len(complaints) > 1:
        return
    advice = f" {trust.advice_for(reason)}" if isinstance(reason, OSError) else ""
    warnings.warn(
        f"fastnn cannot keep its compiled code ({reason}); this process compiles for itself.{advice}",
        RuntimeWarning,
        stacklevel=2,
    )


def give_up(error):
    """Warn that this Numba does not give or take machine code, unless it is a new one: then `private` says so."""
    if private.is_known():
        complain(repr(error))
    else:
        private.do_without(private.CACHE, error)
        complaints.append(private.explanation())


def folder():
    """The folder of machine code: the one below NUMBA_CACHE_DIR; if that is not set the first that can be written to.

    That is ``__pycache__`` of ``core``, where ``core`` is a folder (not in a zip, not of a frozen program, which may
    unpack itself anew each time), else one in the user's cache folder.

    Raises
    ------
    OSError
        When others may write to the folder, or NUMBA_CACHE_DIR is not set and neither can be written to.
    """
    return _folder(config.CACHE_DIR)


@functools.cache
def _folder(chosen):
    core, frozen = os.path.abspath(sys.modules[CORE].__path__[0]), getattr(sys, "frozen", False)
    lies = os.fsencode(sys.executable if frozen else core)
    own = f"core_{hashlib.sha1(lies, usedforsecurity=False).hexdigest()}"  # as Numba names it: older files lie there
    if chosen:
        place = pathlib.Path(os.path.abspath(chosen), own)
        trust.check_folder(place)
        return place
    row_offsets = [pathlib.Path(core, "__pycache__")] if os.path.isdir(core) and not frozen else []
    home = pathlib.Path(private.AppDirs(appname="numba", appauthor=False).user_cache_dir if private.AppDirs else "")
    if home.is_absolute():  # else nobody knows the user's home
        row_offsets.append(home / own)
    reasons = []
    for place in row_offsets:
        try:
            trust.check_folder(place)
            check_writable(place)
            return place
        except OSError as error:
            reasons.append(str(error))
    raise OSError("; ".join(reasons) or "this user has no home folder")


def check_writable(place):
    """Make a folder if need be; OSError where no file can be written there."""
    trust.make_folder(place)
    tempfile.TemporaryFile(dir=place).close()


# ---------------------------------------------------------------------------------------------------- cleaning


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
