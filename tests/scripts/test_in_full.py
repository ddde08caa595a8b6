"""Every worked example in full on the data that it is about, as a user runs it: all that it claims is met."""

import re

import pytest

import house_prices
import imdb_sentiment
import moons
import reuters_topics
import sigmoid_network
import squared_error_digits
import train_mnist
import two_layer_net
import what_users_wanted
from example_runs import assert_picture, run_example

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),  # the number of epochs is given
]

# The number of claims that each makes on real data.
CLAIMS = {
    two_layer_net: 4,
    sigmoid_network: 4,
    squared_error_digits: 2,
    imdb_sentiment: 1,
    reuters_topics: 2,
    house_prices: 2,
    what_users_wanted: 8,
}


def check(module, outcome, n_claims, picture):
    assert outcome.err == "" and outcome.status == 0
    claims = [claim for _, _, claim in outcome.figures.values() if claim]
    assert len(claims) == n_claims and all(claim.endswith(": met") for claim in claims)
    assert not any(re.search(r"\ds\b|\d m?s\b", claim) for claim in claims)  # no time is claimed
    assert "STAND-IN" not in outcome.out and "Machine: " in outcome.out
    assert_picture(picture / f"{module.__name__}.png")


@pytest.mark.parametrize("module", CLAIMS, ids=lambda module: module.__name__)
def test_example_meets_its_claims(module, real_data_dir, tmp_path, capsys):
    outcome = run_example(module, capsys, "--data", real_data_dir, "--out", tmp_path)
    check(module, outcome, CLAIMS[module], tmp_path)


def test_moons_meet_their_claims(tmp_path, capsys):
    check(moons, run_example(moons, capsys, "--out", tmp_path), 3, tmp_path)


ONE_CYCLE = ["--one-cycle", "--batch", 128]
# Test accuracies in per cent that each seed exceeds: twelve gave 97.53 +- 0.12 and 97.98 +- 0.13; with one cycle six
# gave 98.17 +- 0.09, 98.56 +- 0.09 and 98.68 +- 0.06, and with shifted digits three gave 99.05 to 99.15.
NETWORKS = {
    "default": ([], {"fastnn": 96.9, "scikit-learn": 96.9}),
    "rmsprop": (["--hidden", 512, "--solver", "rmsprop", "--batch", 128, "--epochs", 5], {"fastnn": 97.3}),
    "192, 2 epochs": ([*ONE_CYCLE, "--hidden", 192, "--epochs", 2, "--learning-rate", 0.007], {"fastnn": 97.8}),
    "256, 5 epochs": ([*ONE_CYCLE, "--hidden", 256, "--epochs", 5, "--learning-rate", 0.004], {"fastnn": 98.2}),
    "512, 5 epochs": ([*ONE_CYCLE, "--hidden", 512, "--epochs", 5, "--learning-rate", 0.004], {"fastnn": 98.4}),
    "512, shifted": (
        [*ONE_CYCLE, "--hidden", 512, "--epochs", 10, "--learning-rate", 0.004, "--shift"],
        {"fastnn": 98.85},
    ),
}


@pytest.mark.parametrize(("options", "least"), NETWORKS.values(), ids=NETWORKS)
def test_train_mnist_in_full(options, least, real_data_dir, tmp_path, capsys):
    arguments = ["--data", real_data_dir, "--out", tmp_path, *options]
    assert train_mnist.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr()
    accuracies = dict(re.findall(r"^(fastnn|scikit-learn) +(\d+\.\d\d)%", printed.out, re.MULTILINE))
    assert printed.err == "" and set(accuracies) == set(least)
    assert all(float(accuracies[name]) >= percent for name, percent in least.items())
    assert_picture(tmp_path / "train_mnist.png")
