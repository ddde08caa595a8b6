"""scripts/_example.py: exit statuses, the table of figures, pictures with and without matplotlib."""

import builtins
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import _example as example
from datasets import DataError
from example_runs import assert_picture, read_table


def test_a_broken_claim_is_status_1_and_named(capsys):
    def script(args, report):
        report.add("first", "1.0", "1.1", ">= 1", True)
        report.add("second, far off", "", "3", "<= 2", False)
        report.add("third", "4", "")
        report.add("of a stand-in", "5", "9", "<= 5", False, real=False)

    assert example.run(script, "Title.", []) == 1
    printed = capsys.readouterr()
    table = {
        "first": ("1.0", "1.1", ">= 1: met"),
        "second, far off": ("", "3", "<= 2: NOT MET"),
        "third": ("4", "", ""),
    }
    table["of a stand-in"] = ("", "9", "")
    assert read_table(printed.out) == table
    assert printed.err == "error: second, far off is 3, claimed was <= 2\n"


def test_kept_claims_are_status_0(capsys):
    assert example.run(lambda args, report: report.add("it", "1", "1", "= 1", True), "Title.", []) == 0
    assert capsys.readouterr().err == ""


def test_bad_data_is_status_2_and_one_line(capsys):
    def script(args, report):
        raise DataError(f"{args.data}/file: truncated")

    assert example.run(script, "Title.", ["--data", "folder"]) == 2
    assert capsys.readouterr().err == "error: folder/file: truncated\n"


def test_options(tmp_path):
    seen = []
    example.run(lambda args, report: seen.append(args), "Title.", ["--quick", "--out", str(tmp_path)])
    example.run(lambda args, report: seen.append(args), "Title.", [])
    assert [(args.data, args.quick, args.out) for args in seen] == [
        (None, True, tmp_path),
        (None, False, example.PICTURES),
    ]


def test_epochs_are_that_many_and_warn_of_nothing():
    rng = np.random.RandomState(0)
    X, y = rng.rand(40, 3), rng.randint(0, 2, 40)

    def script(args, report):
        network = MLPClassifier((3,), random_state=0, **example.epochs(25)).fit(X, y)
        report.add("epochs", "", str(network.n_iter_), "25", network.n_iter_ == 25)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        assert example.run(script, "Title.", []) == 0


def draw(figure, height):
    ax = figure.subplots()
    ax.fill_between([0, 1], [0, height])


def test_picture_is_written_into_a_new_folder(tmp_path, capsys):
    path = tmp_path / "new" / "drawn.png"
    example.save_picture(path, draw, (8, 4), 2)
    assert_picture(path)
    assert str(path) in capsys.readouterr().out or not path.exists()


def test_without_matplotlib_it_says_so(tmp_path, capsys, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    example.save_picture(tmp_path / "drawn.png", draw, (8, 4), 2)
    assert "Picture: left out, matplotlib is not installed" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_real", [True, False])
def test_a_stand_in_is_called_one(capsys, is_real):
    from datasets import Dataset

    example.say_where_from(Dataset("Set", (), (), is_real=is_real, note="from somewhere"))
    out = capsys.readouterr().out
    assert "Data: Set (from somewhere)" in out and ("STAND-IN" in out) == (not is_real)
