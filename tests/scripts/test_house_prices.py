"""scripts/house_prices.py: its claims on the real sets, standardisation without a look at held-out rows."""

import numpy as np
import pytest
from sklearn.model_selection import KFold

import house_prices
from datasets import load_boston
from example_runs import assert_picture, run_example

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the number of epochs is given


def test_real_houses_in_quick_form(real_data_dir, tmp_path, capsys):
    outcome = run_example(house_prices, capsys, "--quick", "--data", real_data_dir, "--out", tmp_path)
    assert outcome.status == 0 and outcome.err == ""
    published, here, claim = outcome.figures["mean of the folds"]
    assert (published, claim) == ("2.384", "mean <= 2.9: met") and 2.0 < float(here) <= 2.9
    folds = [float(outcome.figures[f"Boston housing, validation MAE, fold {k}"][1]) for k in (1, 2, 3, 4)]
    assert abs(np.mean(folds) - float(here)) < 1e-3
    assert 0.4 < float(outcome.figures["California housing, test RMSE"][1]) <= 0.53
    assert_picture(tmp_path / "house_prices.png", 1000, 800)


def test_stand_ins_claim_nothing(tmp_path, capsys):
    outcome = run_example(house_prices, capsys, "--quick", "--out", tmp_path)
    assert outcome.status == 0 and outcome.out.count("STAND-IN") == 2
    assert {(published, claim) for published, _, claim in outcome.figures.values()} == {("", "")}
    assert_picture(tmp_path / "house_prices.png", 1000, 800)


def test_held_out_rows_touch_nothing_that_is_learned():
    (X, y), _ = load_boston()
    rows, held_out = next(iter(KFold(4).split(X)))
    networks = []
    for scale in (1, 1000):
        changed = X.copy()
        changed[held_out] *= scale
        networks.append(house_prices.fit_fold(changed, y, rows, held_out, 2, seed=0))
    for a, b in zip(networks[0].coefs_, networks[1].coefs_):
        np.testing.assert_array_equal(a, b)
    key = "val_neg_mean_absolute_error"
    assert networks[0].history_[key] != networks[1].history_[key]  # they are looked at, after each epoch
