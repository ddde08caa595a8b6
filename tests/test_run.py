"""``python -m fastnn run``: programs run as without it, trained by fastnn, and the table says what ran where."""

import os
import re
import signal
import subprocess
import sys

import pytest

from fastnn import __main__ as program
from fastnn import __version__
from processes import ROOT

WITHOUT = []
WITH = ["-m", "fastnn", "run"]

# Prints what a program sees of how it is run.
SEEN = """
import sys, os, pickle, inspect
import __main__
class Own: pass
def function(): pass
print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__ and __spec__.name, __main__.Own is Own)
print(type(pickle.loads(pickle.dumps(Own()))).__module__, inspect.getsource(function), __builtins__.__name__)
print(sorted(k for k in globals() if k.startswith("__")))
"""
ENDS = {
    "status": "import sys; sys.exit(7)",
    "error": "def f():\n    raise BrokenPipeError('x')\nf()",
    "syntax": "x = = 1",
    "hook": "import sys\nsys.excepthook = lambda k, e, tb: print(k, tb.tb_frame.f_code.co_name, tb.tb_lineno)\n1 / 0",
    "ctrl-c": "raise KeyboardInterrupt",
    "exit handler": "import atexit, sys\natexit.register(lambda: print('last', sys.modules['__main__'].x))\nx = 1",
}


def python(folder, *arguments, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def outcome(done):
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("way", ["script", "package"])
def test_a_program_sees_what_it_sees_without(way, tmp_path):
    folder = tmp_path / ("package" if way == "package" else "inner")
    folder.mkdir()
    (folder / "__main__.py").write_text(SEEN)
    called = {"script": [os.path.join("inner", "__main__.py")], "package": ["-m", "package"]}[way]
    arguments = ["-v", "--dtype", "x", "run"]
    assert outcome(python(tmp_path, *WITH, *called, *arguments)) == outcome(python(tmp_path, *called, *arguments))


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_without(end, tmp_path):
    (tmp_path / "program.py").write_text(ENDS[end])
    with_it, without = (python(tmp_path, *how, "program.py") for how in (WITH, WITHOUT))
    assert outcome(with_it) == outcome(without)
    if end == "ctrl-c" and os.name == "posix":
        assert with_it.returncode == -signal.SIGINT


def test_a_folder_and_a_zip_run(tmp_path):
    (tmp_path / "__main__.py").write_text("import sys; print(sys.argv[1:], __name__); 1 / 0")
    done = python(tmp_path, *WITH, ".", "a")
    assert (done.returncode, done.stdout) == (1, "['a'] __main__\n")
    assert "runpy" not in done.stderr


FITS = """
import sys, warnings, multiprocessing
import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
X = np.random.RandomState(0).standard_normal((60, 4))
y = np.argmax(X[:, :3], axis=1)
options = {"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0}
class Own(MLPClassifier):
    def _backprop(self, *args):
        return super()._backprop(*args)
def made_there(seed):
    import fastnn.patch.methods as methods
    return MLPClassifier(**options).fit(X, y).n_iter_, methods.current()
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    model = MLPClassifier(**options)
    for _ in range(3):
        model.partial_fit(X, y, classes=[0, 1, 2])
    Own(**options).fit(X, y)
    cross_val_score(model, X, y, cv=2, n_jobs=2)
    print(Parallel(n_jobs=2)([delayed(made_there)(0)]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(made_there, [0]))
    MLPClassifier(**options).fit(X, y[1:])
"""


def test_the_table_says_what_ran_where_even_if_the_program_fails(tmp_path):
    (tmp_path / "program.py").write_text(FITS)
    done = python(tmp_path, *WITH, "-v", "--dtype", "float32", "program.py", PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stdout) == (1, "[(2, 'float32')]\n" * 2)
    error, _, table = done.stderr.partition("fastnn: ")
    assert error.rstrip().splitlines()[-1].startswith("ValueError: Found input variables with inconsistent")
    first, head, *rows = table.splitlines()
    assert re.fullmatch(r"8 fits by fastnn in \d+\.\d\d s, 1 fit by scikit-learn in \d+\.\d\d s", first)
    rows = [re.split(r"  +", row.strip()) for row in rows]
    assert re.split(r"  +", head.strip())[-1] == "by"
    cells = [(row[0], row[1], row[2], row[3], *row[5:]) for row in rows]
    assert ("program.py:20", "MLPClassifier.partial_fit", "3", "60 x 4", "1", "float32", "fastnn") in cells
    own = ("program.py:21", "Own.fit", "1", "60 x 4", "float64", "scikit-learn: Own overrides _backprop")
    assert own in cells
    assert ("a worker process", "MLPClassifier.fit", "2", "30 x 4", "1", "float32", "fastnn") in cells
    assert cells[2][-1] == "fastnn (raised ValueError)"
    assert sum(int(row[2]) for row in rows) == 9
    assert not list(tmp_path.glob("fastnn-fits-*"))


def test_without_fits_the_table_says_so(tmp_path):
    done = python(tmp_path, *WITH, "-v", "-m", "this", TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "fastnn: no fit of scikit-learn's MLPClassifier or MLPRegressor\n")
    assert not list(tmp_path.iterdir())


def test_children_run_the_sitecustomize_that_is_hidden(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import builtins; builtins.hidden = 1")
    child = "import sys; print(hidden, 'sklearn' in sys.modules); from sklearn.neural_network import MLPClassifier as M"
    child += "; print(M._fit.__module__)"
    (tmp_path / "program.py").write_text(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    done = python(tmp_path, *WITH, "program.py", PYTHONPATH=path)
    assert (done.stdout, done.stderr) == ("1 False\nfastnn.patch.methods\n", "")


# arguments -> status, the last line of the error
MISSING = {
    ("nothing.py",): (2, "python -m fastnn run: can't open file 'nothing.py': No such file or directory"),
    ("-m", "email"): (1, "python -m fastnn run: No module named email, or a package without __main__"),
}
WRONG = {
    (): "error: give a script, or -m and a module",
    ("--dtype", "x", "a.py"): "error: argument --dtype: invalid choice: 'x'",
    ("-x", "a.py"): "error: unrecognized arguments: -x",
}


@pytest.mark.parametrize("arguments", MISSING, ids=" ".join)
def test_a_program_that_is_not_there_is_named(arguments, tmp_path):
    done = python(tmp_path, *WITH, *arguments)
    assert (done.returncode, done.stderr.splitlines()[-1]) == MISSING[arguments]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        program.main(["run", *arguments])
    assert WRONG[arguments] in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        program.main(["--version"])
    assert capsys.readouterr().out == f"fastnn {__version__}\n"


def test_importing_fastnn_imports_no_patch(tmp_path):
    code = "import fastnn, sys; print([name for name in sys.modules if name.startswith('fastnn.patch')])"
    assert python(tmp_path, "-c", code).stdout == "[]\n"


@pytest.mark.slow
def test_scikit_learns_own_tests_of_its_networks_pass(tmp_path):
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "sklearn.neural_network.tests.test_mlp"]
    done = python(tmp_path, *WITH, "-v", *arguments)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^fastnn: \d{3,} fits by fastnn in [\d.]+ s$", done.stderr, re.MULTILINE)
