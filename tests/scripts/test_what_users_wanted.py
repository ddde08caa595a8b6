"""scripts/what_users_wanted.py: what each keyword brings on the real sets, and the whole way on stand-ins."""

import numpy as np
import pytest

import what_users_wanted
from datasets import load_mnist
from example_runs import assert_picture, run_example

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the number of epochs is given


def number(text):
    return float(text.split()[0])


def test_real_data_in_quick_form(real_data_dir, tmp_path, capsys):
    outcome = run_example(what_users_wanted, capsys, "--quick", "--data", real_data_dir, "--out", tmp_path)
    assert outcome.status == 0 and outcome.err == ""
    figures = {name.split(":")[0]: row for name, row in outcome.figures.items()}
    assert len(figures) == 8 and all(claim.endswith(": met") for *_, claim in figures.values())
    without, found, _ = figures["class_weight='balanced'"]
    assert number(without) + 20 <= number(found) <= 100
    assert 87 <= number(figures["quantile=[.05, .5, .95]"][1]) <= 93
    assert number(figures["'onecycle', label_smoothing=.1, beta_2=.95"][1]) >= 97.7
    assert "784-192-32-10, solver='adam'" in outcome.out  # summary()
    assert_picture(tmp_path / "what_users_wanted.png", 1200, 600)


def test_stand_ins_claim_nothing(tmp_path, capsys):
    outcome = run_example(what_users_wanted, capsys, "--quick", "--out", tmp_path)
    assert outcome.status == 0 and outcome.out.count("STAND-IN") == 3
    assert len(outcome.figures) == 8 and {claim for *_, claim in outcome.figures.values()} == {""}
    assert_picture(tmp_path / "what_users_wanted.png", 1200, 600)


def test_scikit_learn_is_trained_until_it_reads_98_per_cent(monkeypatch):
    digits = load_mnist()
    monkeypatch.setattr(what_users_wanted, "MOST_PEER_EPOCHS", 3)
    curve = what_users_wanted.scikit_learn_curve(digits, range(2))
    assert curve.shape == (3, 2) and (np.diff(curve[:, 0]) > 0).all()  # it has not got there
    easy = type(digits)("easy", digits.train, (digits.train[0][:1], digits.train[1][:1]), False, "")
    monkeypatch.setattr(what_users_wanted, "MOST_PEER_EPOCHS", 60)
    curve = what_users_wanted.scikit_learn_curve(easy, range(2))
    assert len(curve) < 60 and curve[-1, 1] >= 98 > curve[:-1, 1].max(initial=0)
