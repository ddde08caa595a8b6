"""House rules that no linter knows: the one-way road of imports, no machine's paths, short files and functions, the
field's words.

A module may import only modules of a strictly later line of ROAD, wherever the import stands (inside a function too).
"""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Left of the road first. One line is one rank; names are relative to the package, "" is the package itself.
ROAD = """
    __main__
    ""
    patch.program patch.site patch.site.sitecustomize
    patch
    patch.workers
    patch.methods
    patch.engine patch.fits
    patch.refusals display checkpoint
    _classifier _regressor
    _base _docs
    preparation predict learning hidden summary
    unfinished
    interop persistence
    parameters labels quantiles optimizer
    lbfgs evaluation bypassed
    encode
    train infer
    state load_balance walk
    plan
    spec stopping scoring schedules initial
    curves corrections
    _types _typed arithmetic threads history progress_lines overrides csr transaction blas remarks callbacks
    journal
    core
    core.engine.entries
    core.engine.driver
    core.engine.dropped core.engine.sparse
    core.engine.dense core.engine.shards
    core.engine.bookkeeping
    core.engine.programs core.parallel.stealing core.nn.sparse_network core.nn.dropout
    core.nn.prediction core.nn.update
    core.nn.network
    core.nn.layer core.nn.losses
    core.nn.classification_losses core.nn.regression_losses
    core.nn.activations core.nn.loss_base
    core.simd.spmm core.simd.gemm core.nn.activation_loops core.nn.optimizers
    core.parallel.barrier
    core.simd.vecmath core.simd.transpose core.simd.rng core.parallel.partition core.simd.csr_check
    core.simd.vector
    core.simd.scalar core.simd.reduce
    core.simd.tile
    core.simd.llvm
    core.compile.dispatch core.records
    core.compile.jit core.compile.packing
    core.simd.target
    core.compile.cache core.compile.passes core.compile.plain
    core.compile.exclusive
    core.compile.private core.compile.announcement core.compile.trust core.tuning
    core.engine core.parallel core.nn core.simd core.compile
"""
RANK = {
    ".".join(filter(None, ["fastnn", name.strip('"')])): rank
    for rank, line in enumerate(ROAD.strip().splitlines())
    for name in line.split()
}
CORE_MAY_IMPORT = {"numpy", "numba", "llvmlite"}  # besides the standard library

MAX_LINES = {"fastnn": 400, "": 450}  # of a file, by its folder; "" is anywhere else
MAX_FUNCTION_LINES, MAX_PARAMETERS = 60, 12  # of a function of `fastnn/`
MAY_BE_LONG = {"__init__"}  # of the estimators: a line for each parameter
MAY_TAKE_MORE = {"__init__", "fit"}  # and products: each matrix is an array, an offset and two strides
FOLDERS = ("fastnn", "tests", "benchmarks", "scripts", ".ci", ".github")
TEXT = {".py", ".md", ".cfg", ".toml", ".sh", ".txt", ".yml", ".yaml", ".ini", ""}
# Spelt in pieces, so that this file obeys its own rules.
MACHINE_PATH = re.compile(r"(?<![\w.$})-])/(?:" + "|".join(("work", "tmp", "root")) + r")(?![\w-])")
DATA_FOLDER = "/".join(("..", "shared", "data"))

# Identifiers that `fastnn/` does not use, one line for each field's word: left of the colon what is refused.
WORDS = """
    meeting: barrier
    come: arrive
    all_done: is_last
    open_phase: release
    look: load_acquire
    ticket: fetch_add
    claim claims unclaim: stealing, or prefetch_for_write
    offer: publish
    next_strip: next_tile
    strip strips: tile
    quantum quanta: granularity
    Shares: LoadBalance
    family member: dispatch table, implementation
    ingredients: passes
    Remembering: MemoizedTyping
    load_unit: load_vector
    store_unit: store_vector
    whole_units: whole_vectors
    UNIT_BYTES: VECTOR_BYTES
    spread: broadcast
    positive: zero_if_negative
    larger: maximum
    k_splits: n_splits
    row_splits: n_shards
    places locate: row_offsets
    learn_rows: forward_backward
    learn_weights: update_weights
    follow_weights: refresh_derived
    turned_weights: transposed
    from_one way_back: single_output_backward
    one_output_sums: single_output_sums
    factors: step_scalars
    rest_1: one_minus_beta_1
    rest_2: one_minus_beta_2
    slot: workspace
    ROOM: padding
    marks: counters
    walk_wide: gemm_direct
    walk_narrow: gemm_packed
    crowded: register_limit
    halved: half_vector_tails
    Faster: ThreadCountTuner
    DOUBTFUL_FLOPS: TUNED_FLOPS
    grown: extended_history
"""
REFUSED = {
    old: new.strip()
    for old_words, new in (line.split(":") for line in WORDS.strip().splitlines())
    for old in old_words.split()
}
METHODS = {"strip"}  # of Python's strings
KEPT = set()  # (file, identifier)


# ---- what the rules read --------------------------------------------------------------------------------------------
def module_name(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_path(name):
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def text_files():
    found = [p for p in ROOT.iterdir() if p.is_file()]
    for folder in FOLDERS:
        found += [p for p in (ROOT / folder).rglob("*") if p.is_file()]
    for path in sorted(found):
        inner = path.relative_to(ROOT).parts[1:]
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inner)
        if not hidden and path.suffix in TEXT and not path.name.startswith(".coverage"):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def imported(source, module, is_package=False):
    """(line, dotted name) of every import, relative ones resolved; `from a import b` is a.b where that has a rank."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if node.level else []
            parts = parts[: len(parts) - node.level + is_package] if node.level else parts
            base = ".".join(parts + ([node.module] if node.module else []))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if inner in RANK else base


def road_violations(source, module, is_package=False):
    if module not in RANK:
        return [f"{module} has no rank in ROAD"]
    problems = []
    for line, target in imported(source, module, is_package):
        top = target.split(".")[0]
        where = f"{module}:{line} imports {target}"
        if top == "fastnn":
            if target not in RANK:
                problems.append(f"{where}, which has no rank in ROAD")
            elif RANK[target] <= RANK[module]:
                problems.append(f"{where}, which is not to its right on the road")
            elif module.startswith("fastnn.core") and not target.startswith("fastnn.core"):
                problems.append(f"{where}, from outside core")
        elif module.startswith("fastnn.core") and top not in CORE_MAY_IMPORT | sys.stdlib_module_names:
            problems.append(f"{where}: core stands on {sorted(CORE_MAY_IMPORT)} alone")
    return problems


def text_violations(name, text):
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        if MACHINE_PATH.search(line):
            problems.append(f"{name}:{number} names a path of one machine: {line.strip()}")
        if DATA_FOLDER in line and name != "tests/conftest.py":
            problems.append(f"{name}:{number} names {DATA_FOLDER}, which belongs in tests/conftest.py alone")
    most = MAX_LINES.get(name.split("/")[0], MAX_LINES[""])
    if name.endswith((".py", ".sh")) and len(text.splitlines()) > most:
        problems.append(f"{name} has {len(text.splitlines())} lines, more than {most}")
    return problems


def function_violations(name, source):
    """Functions that are too long, with their docstrings, or have too many parameters."""
    problems, in_class = [], {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            in_class.update(dict.fromkeys(node.body, node.name))
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        where = f"{name}:{node.lineno} {node.name}"
        length = node.end_lineno - node.lineno + 1
        if length > MAX_FUNCTION_LINES and not (node in in_class and node.name in MAY_BE_LONG):
            problems.append(f"{where} has {length} lines, more than {MAX_FUNCTION_LINES}")
        arguments = node.args
        count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
        exempt = name.startswith("fastnn/core/simd/") or (node in in_class and node.name in MAY_TAKE_MORE)
        if count > MAX_PARAMETERS and not exempt:
            problems.append(f"{where} has {count} parameters, more than {MAX_PARAMETERS}")
    return problems


def word_violations(name, source):
    """Identifiers of WORDS, with or without an underscore before them; methods of strings and KEPT are allowed."""
    problems, before = [], ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        word = token.string.lstrip("_")
        allowed = (before == "." and word in METHODS) or (name, token.string) in KEPT
        if token.type == tokenize.NAME and word in REFUSED and not allowed:
            problems.append(f"{name}:{token.start[0]} says {token.string}: the field says {REFUSED[word]}")
        before = token.string
    return problems


# ---- the rules on this repository -----------------------------------------------------------------------------------
def test_imports_follow_the_road():
    sources = {module_name(p): p for p in sorted((ROOT / "fastnn").rglob("*.py"))}
    edges, problems = 0, []
    for module, path in sources.items():
        source, is_package = path.read_text(encoding="utf-8"), path.name == "__init__.py"
        problems += road_violations(source, module, is_package)
        edges += sum(target.startswith("fastnn") for _, target in imported(source, module, is_package))
    assert not problems, "\n".join(problems)
    assert set(sources) == {name for name in RANK if module_path(name).exists()}
    assert edges >= len(sources) // 2  # most modules stand on another one: the parser has seen the road


def test_the_reference_is_independent():
    own = {"reference", "reference_activations", "reference_dropout", "reference_optimizers"}
    for module in own:
        source = (ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8")
        names = {name.split(".")[0] for _, name in imported(source, module)}
        assert "numpy" in names
        assert names <= {"numpy"} | own | sys.stdlib_module_names


def test_texts_name_no_machine_and_files_are_short():
    files = dict(text_files())
    assert {"tests/test_lint.py", "tests/reference.py"} <= set(files)
    problems = [problem for name, text in files.items() for problem in text_violations(name, text)]
    assert not problems, "\n".join(problems)


def test_functions_are_short():
    paths = sorted((ROOT / "fastnn").rglob("*.py"))
    problems = [
        problem
        for path in paths
        for problem in function_violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert paths and not problems, "\n".join(problems)


def test_identifiers_are_the_fields_words():
    paths = sorted((ROOT / "fastnn").rglob("*.py"))
    problems = [
        problem
        for path in paths
        for problem in word_violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert paths and not problems, "\n".join(problems)


# ---- the rules on made-up sources: (module, source, is it refused?) -------------------------------------------------
ROAD_CASES = {
    "to the right": ("fastnn.plan", "from .core.records import TrainPlan", False),
    "absolute, to the right": ("fastnn.plan", "import fastnn.core.nn.losses", False),
    "module out of a package": ("fastnn._base", "from . import state, plan", False),
    "from a package's __init__": ("fastnn", "from ._classifier import MLPClassifier", False),
    "foreign package": ("fastnn.encode", "import numpy as np\nfrom sklearn.utils import check_array", False),
    "core stands on numba": ("fastnn.core.simd.gemm", "import os\nimport numpy\nfrom numba import njit", False),
    "inside core, to the right": ("fastnn.core.simd.gemm", "from .tile import tile", False),
    "to the left": ("fastnn.plan", "from .encode import encode", True),
    "to the left, absolute": ("fastnn.plan", "from fastnn.encode import encode", True),
    "to the left, plain": ("fastnn.plan", "import fastnn._base", True),
    "to the left, second name": ("fastnn.state", "from . import plan, encode", True),
    "to the left, in a function": ("fastnn.train", "def f():\n    from ._base import x", True),
    "the package itself": ("fastnn.plan", "from . import __version__", True),
    "same rank": ("fastnn.core.simd.gemm", "from ..nn.activations import ACTIVATIONS", True),
    "itself": ("fastnn.plan", "from . import plan", True),
    "core to the outside": ("fastnn.core.engine.entries", "from ...threads import resolve_n_jobs", True),
    "core to the outside, absolute": ("fastnn.core.compile.jit", "from fastnn import plan", True),
    "core's __init__ to the left": ("fastnn.core", "from .. import threads", True),
    "core on a foreign package": ("fastnn.core.simd.gemm", "import scipy.linalg", True),
    "module without a rank": ("fastnn.helpers", "import numpy", True),
    "import without a rank": ("fastnn.plan", "from .helpers import x", True),
}


@pytest.mark.parametrize("case", ROAD_CASES)
def test_road_rule_on_made_up_sources(case):
    module, source, refused = ROAD_CASES[case]
    problems = road_violations(source, module, is_package=module in ("fastnn", "fastnn.core"))
    assert len(problems) == refused, problems


SLASH = "/"
TEXT_CASES = {
    "plain": ("scripts/a.sh", "ls ./build/tmp $HOME/work https://example.org/root temp/works", False),
    "longer name": ("README.md", f"{SLASH}workshop and {SLASH}tmp-like", False),
    "data folder in conftest": ("tests/conftest.py", DATA_FOLDER, False),
    "short file": ("fastnn/a.py", "x = 1\n" * 400, False),
    "short file of tests": ("tests/a.py", "x = 1\n" * 450, False),
    "long prose": ("README.md", "line\n" * 451, False),
    "machine path": ("README.md", f"see {SLASH}work{SLASH}main", True),
    "quoted machine path": ("fastnn/a.py", f"x = '{SLASH}tmp{SLASH}x'", True),
    "home of root": ("setup.cfg", f"cache = {SLASH}root", True),
    "data folder elsewhere": ("scripts/datasets.py", f"Path('{DATA_FOLDER}')", True),
    "long file": ("fastnn/core/a.py", "x = 1\n" * 401, True),
    "long file of tests": ("tests/a.py", "x = 1\n" * 451, True),
}


@pytest.mark.parametrize("case", TEXT_CASES)
def test_text_rules_on_made_up_files(case):
    name, text, refused = TEXT_CASES[case]
    assert len(text_violations(name, text)) == refused


def function(name, n_lines, n_parameters=0, indent=""):
    parameters = ", ".join(f"p{i}" for i in range(n_parameters))
    return f"{indent}def {name}({parameters}):\n" + f"{indent}    x = 1\n" * (n_lines - 1)


FUNCTION_CASES = {
    "short": ("fastnn/a.py", function("f", 60, 12), False),
    "a long constructor": ("fastnn/a.py", "class A:\n" + function("__init__", 61, 13, "    "), False),
    "fit": ("fastnn/a.py", "class A:\n" + function("fit", 60, 13, "    "), False),
    "a product": ("fastnn/core/simd/a.py", function("f", 60, 25), False),
    "long": ("fastnn/a.py", function("f", 61), True),
    "long, with a docstring": ("fastnn/a.py", 'def f():\n    """A\n' + "\n" * 58 + '    """\n', True),
    "a long method": ("fastnn/a.py", "class A:\n" + function("fit", 61, 1, "    "), True),
    "a long inner function": ("fastnn/a.py", "class A:\n    if x:\n" + function("f", 61, 1, " " * 8), True),
    "no constructor": ("fastnn/a.py", function("__init__", 61), True),
    "a long product": ("fastnn/core/simd/a.py", function("f", 61), True),
    "many parameters": ("fastnn/core/nn/a.py", function("f", 2, 13), True),
    "many keywords": ("fastnn/a.py", "def f(a, *, " + ", ".join("bcdefghijklm") + "):\n    return a", True),
}


@pytest.mark.parametrize("case", FUNCTION_CASES)
def test_function_rules_on_made_up_sources(case):
    name, source, refused = FUNCTION_CASES[case]
    assert len(function_violations(name, source)) == refused


WORD_CASES = {
    "the field's words": ("barrier, tile, lanes = arrive(n), next_tile(n), broadcast(x)", False),
    "in a comment, a docstring and a text": ('"""A meeting."""\nx = "strip"  # a slot', False),
    "part of a longer name": ("claims_made, spread_out, slots, Places = 1, 2, 3, 4", False),
    "a method of str": ("line = text.strip()", False),
    "a name": ("meeting = 0", True),
    "a private name": ("_ends, _marks = 0, 1", True),
    "a function": ("def learn_rows(x):\n    return x", True),
    "a call": ("y = spread(x)", True),
    "an argument": ("def f(x, slot):\n    return x", True),
    "a keyword": ("f(x, factors=1)", True),
    "an attribute": ("y = buffers.claims", True),
    "a class": ("class Shares:\n    pass", True),
    "an import": ("from .vector import load_unit", True),
    "strip that is no method": ("strip = 3", True),
}


@pytest.mark.parametrize("case", WORD_CASES)
def test_word_rule_on_made_up_sources(case):
    source, refused = WORD_CASES[case]
    assert len(word_violations("fastnn/a.py", source)) == refused
