"""Types of the public signatures: legal strings as in the tables, programs that check, and mistakes that are found."""

import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from sklearn.utils._param_validation import StrOptions

import fastnn
from fastnn import MLPClassifier, MLPRegressor, _types
from fastnn.core.nn.activations import ACTIVATIONS
from fastnn.core.nn.optimizers import OPTIMIZERS
from fastnn.initial import BIASES, INITS
from fastnn.parameters import CLASSIFICATION_LOSSES, CLASSIFIER_OUTPUTS, REGRESSION_LOSSES
from fastnn.schedules import NAMES

ROOT = Path(__file__).resolve().parent.parent
# name in `_types` -> what the tables say
TABLES = {
    "ActivationName": {name for name, row in ACTIVATIONS.items() if row.hidden},
    "SolverName": {"lbfgs", *OPTIMIZERS},
    "ScheduleName": set(NAMES),
    "InitName": set(INITS),
    "BiasName": set(BIASES),
    "RegressionLoss": REGRESSION_LOSSES,
    "ClassificationLoss": CLASSIFICATION_LOSSES,
    "OutActivation": {"auto", *CLASSIFIER_OUTPUTS},
}


def strings_of(annotation):
    """All strings that a type has as literals, also inside of another type."""
    if isinstance(annotation, str):
        return {annotation}
    return set().union(*map(strings_of, typing.get_args(annotation)))


@pytest.mark.parametrize("name", TABLES)
def test_literals_are_the_names_in_the_tables(name):
    written = strings_of(getattr(_types, name))
    missing, surplus = TABLES[name] - written, written - TABLES[name]
    assert not missing, f"write {sorted(missing)} into the Literal {name} of fastnn/_types.py: a table has them"
    assert not surplus, f"take {sorted(surplus)} out of the Literal {name} of fastnn/_types.py: no table has them"


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_every_parameter_has_a_type_with_its_legal_strings(kind):
    problems = []
    for name, parameter in inspect.signature(kind).parameters.items():
        said = parameter.annotation
        if said is inspect.Parameter.empty:
            problems.append(f"{name} has no type")
            continue
        words = [getattr(_types, word) for word in re.findall(r"\w+", said) if hasattr(_types, word)]
        written = set().union(*map(strings_of, words))
        rules = kind._parameter_constraints[name]
        legal = set().union(*(rule.options for rule in rules if isinstance(rule, StrOptions)))
        if written != legal:
            problems.append(f"{name}: {said} allows {sorted(written)}, the constructor {sorted(legal)}")
    assert not problems, "\n".join(problems)


def public_functions():
    for name in fastnn.__all__:
        thing = getattr(fastnn, name)
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing):
            for owner in reversed(thing.__mro__):
                if owner.__module__.startswith("fastnn."):
                    for inner, member in vars(owner).items():
                        function = getattr(member, "__func__", getattr(member, "fn", member))
                        own = inspect.isfunction(function) and function.__module__.startswith("fastnn.")
                        if own and not inner.startswith("_"):
                            yield f"{name}.{inner}", function


def test_public_methods_have_types():
    seen, problems = set(), []
    for name, function in public_functions():
        seen.add(name)
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
        if any(p.annotation is p.empty for p in parameters) or signature.return_annotation is signature.empty:
            problems.append(name)
    assert {"MLPClassifier.fit", "MLPClassifier.partial_fit", "MLPRegressor.transform", "register_onnx"} <= seen
    assert not problems, problems


def test_the_package_says_that_it_has_types():
    assert (Path(fastnn.__file__).parent / "py.typed").is_file()


@pytest.fixture(scope="module")
def checked():
    """What the type checker says about the two programs: lines with an error, by file."""
    pytest.importorskip("mypy")
    programs = ["tests/typed_program.py", "tests/typed_mistakes.py"]
    command = [sys.executable, "-m", "mypy", "--show-error-codes", "--no-error-summary", *programs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = {program: {} for program in programs}
    for line in done.stdout.splitlines():
        name, number, kind, text = line.split(":", 3)
        if kind.strip() == "error":
            found[Path(name).as_posix()][int(number)] = text.strip()
    return found


def test_a_program_with_types_checks(checked):
    assert checked["tests/typed_program.py"] == {}


def test_mistakes_are_found_and_nothing_else(checked):
    lines = (ROOT / "tests" / "typed_mistakes.py").read_text(encoding="utf-8").splitlines()
    mistakes = {number: line for number, line in enumerate(lines, 1) if "# mistake" in line}
    found = checked["tests/typed_mistakes.py"]
    assert len(mistakes) >= 30
    assert not [line for number, line in mistakes.items() if number not in found]
    assert not [(lines[number - 1], text) for number, text in found.items() if number not in mistakes]
