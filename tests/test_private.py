"""A Numba that nobody knows yet: without any of its private parts the same bits, one warning, and never a crash.

Processes forked from one that has imported Numba change it, and call a leaf, a dispatch table, a kernel and an entry of
a package of nothing but ``core``, which compile in no time; some fit estimators.
"""

import os
import shutil

import numba
import pytest
from numba import config

import other_numba
from fastnn.core.compile import private
from fastnn.core.compile.private import BASIC, CACHE, OWN, TABLE
from processes import ROOT, files, run
from tiny import copy_core, in_forks

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs compiled code")

MODULE = """
from numba import prange

from .compile.dispatch import dispatch_table
from .compile.jit import entry, kernel, leaf
from .compile.packing import IN, INT, MATRIX, OUT, REAL
from .simd.scalar import fma

@kernel
def twice(x):
    return x + x

bend = dispatch_table("bend", ("x", OUT), ("slope", REAL))

@bend.implementation(1)
def line(x, slope):
    for i in range(x.size):
        x[i] = twice(x[i]) * slope

@bend.implementation(4)
def curve(x, slope):
    for i in range(x.size):
        x[i] = fma(x[i], x[i], slope)

@leaf(OUT, IN, INT)
def add(out, b, n):
    for i in range(n):
        out[i] += b[i]

@leaf(OUT, MATRIX, IN, REAL, INT)
def rows(out, a, b, factor, which):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j] = fma(a[i, j], factor, out[j])
    add(out, b, b.size)
    bend(which, out, 0.1)

@entry
def run(out, a, b):
    for k in prange(3):
        rows(out[k], a, b, 1.0 / 3.0, 4 * (k == 1) + (k == 0))
"""
CALLS = """
from other_numba import change, hide, rename
{before}
out["bits"] = []
for dtype in ("float32", "float64"):
    try:
        from fastnn.core import few
        from fastnn.core.compile.jit import load_leaves
    except ImportError as error:
        out["refused"] = str(error)
        break
    load_leaves(dtype, implementations=frozenset({{(few.bend, 1), (few.bend, 4)}}))
    result = np.full((3, 7), 0.3, dtype)
    a, b = np.linspace(-1, 2, 35).reshape(5, 7).astype(dtype), np.linspace(1, 3, 7).astype(dtype)
    few.run.twin(dtype)(result, a, b)
    out["bits"].append(result.tobytes().hex())
"""
# Numba's own code names these in other senses too, so they are only kept from being found.
EVERYDAY = {"codegen", "compile", "dumps", "finalize", "fndesc", "func_id", "jit", "library", "lifted", "overloads"}
EVERYDAY |= {"passes", "state", "no_cfunc_wrapper", "no_cpython_wrapper"}


def hidden(part):
    """Statements that take a part away; "" for what every class has."""
    name = part.attribute.partition("(")[0]
    if name == "__init__":
        return ""
    way = "hide" if part.purpose == BASIC or name in EVERYDAY or not name else "rename"
    return f"{way}({part.module!r}, {part.owner!r}, {name!r})"


def changed(part):
    """Statements that give a part other parameters; "" where it has none that count."""
    name, _, parameters = part.attribute.partition("(")
    return f"change({part.module!r}, {part.owner!r}, {name!r})" if parameters else ""


# id -> (part, statements). The last of each purpose is in the quick tests too.
CASES = {f"{part} {way.__name__}": (part, way(part)) for part in TABLE for way in (hidden, changed) if way(part)}
WITHOUT_LIBRARY = "numba.core.codegen.JITCodeLibrary hidden"
LAST = {part.purpose: case for case, (part, _) in CASES.items()}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """A function that tells what processes answer whose Numba is changed by statements."""
    folder = copy_core(tmp_path_factory.mktemp("few"))
    (folder / "fastnn" / "core" / "few.py").write_text(MODULE)
    shutil.copy(other_numba.__file__, folder)

    def ask(all_statements):
        caches = [tmp_path_factory.mktemp("cache") for _ in all_statements]
        scripts = [CALLS.format(before=statements) for statements in all_statements]
        found = in_forks(folder, [(folder, cache, script) for cache, script in zip(caches, scripts, strict=True)])
        return [(answer, len(files(cache))) for answer, cache in zip(found, caches, strict=True)]

    return ask


@pytest.fixture(scope="module")
def plain(answers):
    [(answer, n_files)] = answers([""])
    assert answer["warnings"] == []
    assert n_files == 2 * 5
    return answer


def check(answer, n_files, part, plain):
    purpose = part.purpose
    if purpose == BASIC:
        assert f"Numba {numba.__version__}" in answer["refused"]
        assert str(part) in answer["refused"]
        return
    [[category, text]] = answer["warnings"]
    assert category == "RuntimeWarning"
    assert private.PURPOSE[purpose] in text or (str(part) in text and private.PURPOSE[OWN] in text)
    assert answer["bits"] == plain["bits"]
    assert (n_files == 0) == (purpose in (OWN, CACHE, private.TARGET))


def check_cases(cases, answers, plain):
    wrong = []
    for case, answer in zip(cases, answers([CASES[case][1] for case in cases]), strict=True):
        part, _ = CASES[case]
        try:
            check(*answer, part, plain)
        except Exception as error:
            wrong.append(f"{case}: {error!r}\n{answer}")
    assert not wrong, "\n\n".join(wrong)


def test_without_one_part_of_each_purpose(answers, plain):
    check_cases([*LAST.values(), WITHOUT_LIBRARY], answers, plain)


@pytest.mark.slow
@pytest.mark.parametrize("purpose", (BASIC, *private.PURPOSE))
def test_without_any_part(purpose, answers, plain):
    check_cases([case for case in CASES if CASES[case][0].purpose == purpose], answers, plain)


# What no look-up shows: id -> statements after which a compilation raises an exception.
RAISES = """
def raises(*args, **named):
    raise {error}("changed")
"""
LATE = {
    "class": ("TypeError", "numba.core.codegen.JITCodeLibrary.__init_subclass__ = raises"),
    "pipeline": ("NotImplementedError", "passes.PassManager = raises"),
    "kernel": ("AttributeError", "passes.KernelLibrary._finalize_final_module = raises"),
    "leaf": ("TypeError", "passes.MachineCode._optimize_final_module = raises"),
    "entry": ("AttributeError", "init = passes.MachineCode.__init__; passes.MachineCode.__init__ = lambda *given: "
              "raises() if '_serial_' in given[-1] else init(*given)"),
}  # fmt: skip


def late(case, version="99.0"):
    error, statement = LATE[case]
    lines = ["import numba.core.codegen", f"numba.__version__ = {version!r}"]
    lines += ["from fastnn.core.compile import passes"] if "passes." in statement else []
    return "\n".join(lines) + RAISES.format(error=error) + statement


def test_an_exception_while_compiling_leads_to_plain_njit(answers, plain):
    for case, (answer, _) in zip(LATE, answers([late(case) for case in LATE]), strict=True):
        assert type(answer) is dict, f"{case}: {answer}"
        assert len(answer["warnings"]) == 1, f"{case}: {answer}"
        [[category, text]] = answer["warnings"]
        assert (category, answer["bits"]) == ("RuntimeWarning", plain["bits"]), case
        assert f"{LATE[case][0]}: " in text and private.PURPOSE[OWN] in text, case


def test_a_mistake_is_raised_under_a_known_numba(answers):
    for case, (answer, _) in zip(LATE, answers([late(case, numba.__version__) for case in LATE]), strict=True):
        assert type(answer) is str and f"{LATE[case][0]}: " in answer, f"{case}: {answer}"


def test_an_unknown_numba_of_which_nothing_has_changed_is_used_as_ever(answers, plain):
    [(answer, n_files)] = answers(["import numba; numba.__version__ = '99.0'"])
    assert (answer, n_files) == (plain, 2 * 5)


def test_the_table_is_complete_for_this_numba():
    assert private.explanation() == ""
    assert private.is_known()


# ---- whole fits -----------------------------------------------------------------------------------------------------
FITS = """
import hashlib
sys.path.append({tests!r})
from other_numba import change, hide, rename
{before}
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from fastnn import MLPClassifier, MLPRegressor, threads
threads.CROSSOVER_FLOPS = 0
warnings.simplefilter("ignore", ConvergenceWarning)
rng = np.random.RandomState(0)
X = rng.randint(-8, 9, (60, 5)) / np.float32(8)
sparse = sp.csr_array(np.where(X > 0, X, 0))
bits = hashlib.sha256()
options = dict(max_iter=3, random_state=0, n_jobs={n_jobs})
for model, given, y in (
    (MLPClassifier(hidden_layer_sizes=(7, 3), **options), X, np.arange(60) % 3),
    (MLPRegressor(hidden_layer_sizes=(7,), activation="tanh", solver="sgd", **options), X, X[:, 0] * X[:, 1]),
    (MLPClassifier(hidden_layer_sizes=(7,), **options), sparse, np.arange(60) % 2),
):
    model.fit(given, y)
    for array in (*model.coefs_, *model.intercepts_, model.predict(given)):
        bits.update(np.ascontiguousarray(array).tobytes())
out["bits"] = bits.hexdigest()
"""


def fits(before, n_jobs, cache):
    script = FITS.format(tests=str(ROOT / "tests"), before=before, n_jobs=n_jobs)
    return run(ROOT, cache, script, NUMBA_OPT="1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "before, n_jobs",
    [
        pytest.param(CASES[WITHOUT_LIBRARY][1], 2, id="by plain njit, two threads"),
        pytest.param(late("entry"), 1, id="by plain njit after an exception"),
        *(pytest.param(CASES[LAST[purpose]][1], 1, id=LAST[purpose]) for purpose in private.PURPOSE if purpose != OWN),
    ],
)
def test_whole_fits_have_the_same_bits(before, n_jobs, tmp_path):
    as_ever = fits("", n_jobs, os.environ.get("NUMBA_CACHE_DIR", ""))
    assert as_ever["warnings"] == []
    answer = fits(before, n_jobs, tmp_path)
    assert [category for category, _ in answer["warnings"]] == ["RuntimeWarning"]
    assert answer["bits"] == as_ever["bits"]
