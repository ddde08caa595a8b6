"""``python -m fastnn run``: a script or module as Python runs it, with scikit-learn patched."""

import atexit
import builtins
import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import tempfile
import types
import zipfile

from . import fits, patch_sklearn

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")


def run(arguments, *, is_module=False, dtype="match", verbose=False):
    """Run a script, or a module, in this process, which is to do nothing else.

    Parameters
    ----------
    arguments : list of str
        The script's path or the module's name, and what it is to find behind it in ``sys.argv``.
    is_module : bool
    dtype : {"match", "float32"}
    verbose : bool
        Whether to write a table of all fits to stderr in the end.

    Raises
    ------
    BaseException
        What the program raises, whose traceback is then shown as without fastnn.
    """
    try:
        patch_sklearn(dtype=dtype)
    except RuntimeError as error:
        print(f"fastnn: {error}", file=sys.stderr)
    else:
        _patch_children(dtype, verbose)
    sys.argv[:] = arguments
    try:
        (_run_module if is_module else _run_script)(arguments[0])
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook = _without_our_frames(sys.excepthook)
        raise


def _patch_children(dtype, verbose):
    """Let child processes find the patch, and tell of their fits."""
    path = os.environ.get("PYTHONPATH")
    os.environ |= {"FASTNN_PATCH": dtype, "PYTHONPATH": SITE if not path else SITE + os.pathsep + path}
    if not verbose:
        return
    descriptor, os.environ[fits.FILE] = tempfile.mkstemp(prefix="fastnn-fits-")
    os.close(descriptor)
    fits.record()
    atexit.register(_print_table, os.environ[fits.FILE])  # runs after all that the program registers


def _print_table(file):
    lines = fits.table()
    if lines is None:
        return
    try:
        os.remove(file)
        print(*lines, sep="\n", file=sys.stderr)
    except OSError:  # a closed pipe, or the file has been removed
        pass


# ---- the program -----------------------------------------------------------------------------------------------------
def _new_main(**attributes):
    """A fresh ``__main__`` that stays in ``sys.modules``, also for what runs at the exit."""
    main, before = types.ModuleType("__main__"), vars(sys.modules["__main__"])
    if "__annotations__" in before:  # versions of Python differ
        attributes["__annotations__"] = {}
    vars(main).update(__builtins__=builtins, **attributes)
    sys.modules["__main__"] = main
    return vars(main)


def _run_script(path):
    if os.path.isdir(path) or zipfile.is_zipfile(path):
        _first_on_path(path)
        runpy.run_path(path, run_name="__main__")
        return
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"python -m fastnn run: can't open file {path!r}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    _first_on_path(os.path.dirname(os.path.realpath(path)))
    path = os.path.abspath(path)  # as Python shows it, except in sys.argv
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    own = _new_main(__file__=path, __loader__=loader, __cached__=None)
    exec(compile(source, path, "exec", dont_inherit=True), own)


def _run_module(name):
    _first_on_path(os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.loader is None:
        sys.exit(f"python -m fastnn run: No module named {name}, or a package without __main__")
    code = spec.loader.get_code(spec.name)
    sys.argv[0] = spec.origin
    own = _new_main(
        __file__=spec.origin, __loader__=spec.loader, __spec__=spec, __package__=spec.parent, __cached__=spec.cached
    )
    exec(code, own)


def _first_on_path(folder):
    """Put the program's folder where that of ``python -m fastnn`` is, unless Python puts none there."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


# ---- tracebacks ------------------------------------------------------------------------------------------------------
def _without_our_frames(show):
    """``sys.excepthook`` that shows tracebacks from the program's first frame on."""
    ours = {function.__code__ for function in (_run_script, _run_module)}

    def show_program(kind, error, traceback):
        rest = traceback
        while rest is not None and rest.tb_frame.f_code not in ours:
            rest = rest.tb_next
        if rest is not None:
            traceback = rest.tb_next
            while traceback is not None and traceback.tb_frame.f_globals.get("__name__") == "runpy":
                traceback = traceback.tb_next
        error.__traceback__ = traceback
        show(kind, error, traceback)

    return show_program
