"""The examples in the docstrings of the public API run, and say what they print."""

import doctest
import inspect
import warnings

import pytest

import fastnn

NEEDS = {"LossCurveDisplay": "matplotlib"}
METHODS = ("transform", "summary", "to_sklearn", "from_sklearn")  # of both estimators


def documented():
    """Everything public that has examples to show, by its name."""
    public = {name: getattr(fastnn, name) for name in fastnn.__all__ if name != "__version__"}
    inner = {f"MLPClassifier.{name}": inspect.getattr_static(fastnn.MLPClassifier, name) for name in METHODS}
    return public | {name: getattr(member, "fn", getattr(member, "__func__", member)) for name, member in inner.items()}


def examples(name):
    thing = documented()[name]
    return doctest.DocTestParser().get_doctest(inspect.getdoc(thing), {}, name, None, 0)


@pytest.mark.parametrize("name", documented())
def test_examples_say_what_they_print(name, tmp_path, monkeypatch, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    if name == "Checkpoint" and not hasattr(fastnn.MLPClassifier, "set_callbacks"):
        pytest.skip("callbacks come with scikit-learn 1.9")
    test = examples(name)
    assert test.examples, f"{name} has no example"
    monkeypatch.chdir(tmp_path)  # an example may write a file
    monkeypatch.setenv("MPLBACKEND", "agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner = doctest.DocTestRunner()
        runner.run(test)
    assert not runner.failures, capsys.readouterr().out


def test_only_what_needs_another_package_is_skipped():
    skipped = {
        name for name in documented() if any(example.options.get(doctest.SKIP) for example in examples(name).examples)
    }
    assert skipped == {"register_onnx"}
