"""scripts/reuters_topics.py: its claims on the real texts, the whole way on generated ones."""

import numpy as np
import pytest

import reuters_topics
from example_runs import assert_picture, run_example

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the number of epochs is given


@pytest.fixture
def quick_real(real_data_dir, tmp_path, capsys):
    return run_example(reuters_topics, capsys, "--quick", "--data", real_data_dir, "--out", tmp_path)


def test_real_texts_in_quick_form(quick_real, tmp_path):
    assert quick_real.status == 0 and quick_real.err == ""
    wide, narrow = (quick_real.figures[f"test accuracy, tf-idf, 64-{n}"] for n in (64, 4))
    assert float(wide[1].split()[0]) >= 91.0 and wide[2] == "mean >= 91.0 %: met"
    assert float(narrow[1].split()[0]) < float(wide[1].split()[0]) - 3  # four units are too few for 52 topics
    assert quick_real.figures["integer and one-hot targets"][1] == "same bits"
    assert_picture(tmp_path / "reuters_topics.png", rows=800)


def test_generated_texts_claim_nothing_but_the_bits(tmp_path, capsys):
    outcome = run_example(reuters_topics, capsys, "--quick", "--out", tmp_path)
    assert outcome.status == 0 and "STAND-IN" in outcome.out
    assert outcome.figures["test accuracy, tf-idf, 64-64"][2] == ""
    assert float(outcome.figures["test accuracy, tf-idf, 64-64"][1].split()[0]) > 80
    assert outcome.figures["integer and one-hot targets"] == ("", "same bits", "same bits: met")
    assert_picture(tmp_path / "reuters_topics.png", rows=800)


def test_bits_differ_where_the_networks_do(monkeypatch):
    """The comparison is one that can fail: another seed for the one-hot run is noticed."""
    X = np.random.RandomState(0).rand(300, 5).astype(np.float32)
    y = np.array(["a", "b", "c"])[np.arange(300) % 3]
    assert reuters_topics.same_bits(X, y, 2)
    original = reuters_topics.new_network

    def other_seed(n_second, n_epochs, seed, **options):
        return original(n_second, n_epochs, seed + len(options), **options)

    monkeypatch.setattr(reuters_topics, "new_network", other_seed)
    assert not reuters_topics.same_bits(X, y, 2)
