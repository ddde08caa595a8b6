"""Long work of a few fixtures, almost all of it compiling in other processes, that begins when the tests do.

A suite walks through its tests on one core. What waits for another process can be under way on a second one since the
start: so a suite with an empty cache took 7:55 minutes, 10:42 without (Zen 3, 2 cores, two hours of one day).
"""

import concurrent.futures
import pathlib
import tempfile

from fastnn.threads import available_threads

_works = {}  # name of a fixture: function of an empty folder
_begun = {}  # name of a fixture: future of what its function returns
_folder = tempfile.TemporaryDirectory(prefix="fastnn-early-", ignore_cleanup_errors=True)
_pool = concurrent.futures.ThreadPoolExecutor(1)


def early(function):
    """Let ``function(folder)`` begin with the tests if one of them needs the fixture of its name; see `result`."""
    _works[function.__name__] = function
    return function


def begin(names):
    """Begin, one after the other, what fixtures of these names will ask for; nothing where there is but one core."""
    if available_threads() > 1:
        for name in _works.keys() & set(names):
            _submit(name)


def result(name):
    """What the function of that name has returned, when it has."""
    if name not in _begun:
        _submit(name)
    return _begun[name].result()


def _submit(name):
    folder = pathlib.Path(_folder.name, name)
    folder.mkdir()
    _begun[name] = _pool.submit(_works[name], folder)


def give_up():
    """Begin nothing more."""
    _pool.shutdown(wait=False, cancel_futures=True)
