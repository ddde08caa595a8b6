"""scripts/imdb_sentiment.py: its claim on the real reviews, the whole way on generated ones."""

import pytest

import imdb_sentiment
from datasets import load_imdb
from example_runs import assert_picture, run_example

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the number of epochs is given


def mean(text):
    return float(text.split()[0])


def test_real_reviews_in_quick_form(real_data_dir, tmp_path, capsys):
    outcome = run_example(imdb_sentiment, capsys, "--quick", "--data", real_data_dir, "--out", tmp_path)
    assert outcome.status == 0 and outcome.err == ""
    _, here, claim = outcome.figures["test accuracy at the best epoch"]
    assert mean(here) >= 87.2 and claim == "mean >= 87.2 %: met"
    assert 85 < mean(outcome.figures["test accuracy, all reviews, as many epochs"][1]) < 90
    assert 0.26 < mean(outcome.figures["least validation loss"][1]) < 0.31
    assert_picture(tmp_path / "imdb_sentiment.png")


def test_generated_reviews_claim_nothing(tmp_path, capsys):
    outcome = run_example(imdb_sentiment, capsys, "--quick", "--out", tmp_path)
    assert outcome.status == 0 and "STAND-IN" in outcome.out
    _, here, claim = outcome.figures["test accuracy at the best epoch"]
    assert mean(here) > 65 and claim == ""  # 18 steps learn something; chance is 50 %
    assert_picture(tmp_path / "imdb_sentiment.png")


def test_the_chosen_epoch_is_the_one_whose_weights_are_kept():
    (X, y), _ = load_imdb()
    held_out = {"X_val": X[:800], "y_val": y[:800]}
    network, best = imdb_sentiment.fit_and_choose(6, 0, (X[800:], y[800:]), held_out)
    scores = network.validation_scores_
    assert len(scores) == 6 and scores[best - 1] == max(scores) == network.score(X[:800], y[:800])
    assert network.history_["val_accuracy"] == scores


def test_bad_folder_is_one_line(tmp_path, capsys):
    outcome = run_example(imdb_sentiment, capsys, "--data", tmp_path)
    assert outcome.status == 2 and outcome.err.startswith(f"error: {tmp_path}") and outcome.err.count("\n") == 1
