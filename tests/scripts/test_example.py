"""scripts/_example.py: exit statuses, the table of figures, pictures with and without matplotlib."""

import builtins
import warnings
from types import SimpleNamespace

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
    printed = capsys.readouterr()
    assert printed.err == "" and f"Machine: {example.machine()}." in printed.out
    assert "\nBLAS kernels: " in printed.out


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


@pytest.mark.parametrize(
    ("values", "options", "text"),
    [
        ([2.3, 2.4, 2.5], {"digits": 2}, "2.40 +- 0.10"),
        ([0.88, 0.89], {"digits": 1, "per_cent": True}, "88.5 +- 0.7 %"),
        ([2.3456], {"digits": 3}, "2.346"),
        (np.array([0.925]), {"digits": 2, "per_cent": True}, "92.50 %"),
    ],
)
def test_spread_is_that_of_a_sample_and_only_of_several(values, options, text):
    assert example.spread(values, **options) == text


@pytest.mark.parametrize(
    ("answers", "lost"),
    [
        ([0, 0, 1, 1, 2, 2, 2, 2], []),
        ([0, 9, 1, 9, 2, 2, 9, 9], []),  # half of each
        ([0, 0, 9, 9, 2, 9, 9, 9], [1, 2]),
        ([3] * 8, [0, 1, 2]),
    ],
)
def test_a_digit_is_lost_where_fewer_than_half_of_its_images_are_read(answers, lost):
    network = SimpleNamespace(predict=lambda X: np.array(answers))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of the digits 3 to 9 there are no images
        assert example.lost_digits(network, None, np.array([0, 0, 1, 1, 2, 2, 2, 2])).tolist() == lost


CPUINFO = "processor\t: 0\nmodel name\t: Some Processor 9\nflags\t\t: fpu avx avx2 {}\n\nmodel name\t: another\n"


@pytest.mark.parametrize(
    ("cpuinfo", "text"),
    [
        (CPUINFO.format("avx512f avx512dq"), "Some Processor 9, AVX-512, 3 cores"),
        (CPUINFO.format("avx512"), "Some Processor 9, AVX2, 3 cores"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "its kind, 3 cores"),
        (None, "its kind, 3 cores"),
    ],
)
def test_machine_is_named_as_far_as_its_system_tells(cpuinfo, text, monkeypatch):
    def read_text(path):
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return cpuinfo

    monkeypatch.setattr(example.Path, "read_text", read_text)
    monkeypatch.setattr(example.platform, "processor", lambda: "")
    monkeypatch.setattr(example.platform, "machine", lambda: "its kind")
    monkeypatch.setattr(example.joblib, "cpu_count", lambda: 3)
    assert example.machine() == text


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
