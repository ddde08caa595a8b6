"""scripts/sigmoid_network.py: its lines and claims, and its NumPy networks against each other and against fastnn."""

import re

import numpy as np
import pytest

import _example
import sigmoid_network
from datasets import load_mnist

EPOCH_LINE = re.compile(r"^Epoch (\d+): (\d+) / (\d+)$", re.MULTILINE)


def run(capsys, *arguments):
    status = _example.run(sigmoid_network.main, sigmoid_network.__doc__, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_stand_in(tmp_path, capsys):
    status, out, err = run(capsys, "--quick", "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "Data: digits (bundled with scikit-learn" in out and "A STAND-IN" in out
    assert "Images: 1197 to train, 240 for validation, 360 to test, batches of 10" in out
    epochs = EPOCH_LINE.findall(out)
    assert [int(number) for number, *_ in epochs[:30]] == list(range(30)) and len(epochs) == 30 + 30 + 60
    assert int(epochs[-1][1]) > 0.9 * 240  # cross-entropy; the two before it may have lost a digit
    assert "Given up" not in out and ">= 94.7%" not in out
    assert "weights apart from NumPy's, float64" in out and "NOT MET" not in out
    plt = pytest.importorskip("matplotlib.pyplot")
    picture = plt.imread(tmp_path / "sigmoid_network.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1000 and picture[..., :3].std() > 0.05


def test_real_digits(real_data_dir, tmp_path, capsys):
    status, out, err = run(capsys, "--data", real_data_dir, "--quick", "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "Images: 50000 to train, 10000 for validation, 10000 to test, batches of 10" in out
    counts = [int(right) for _, right, _ in EPOCH_LINE.findall(out)]
    assert len(counts) == 6 and "Given up" not in out  # three epochs come before anything is given up
    assert counts[5] > 9300


# After six epochs each of 24 seeds reads three quarters of the images of every digit.
QUICK_TO_LEARN = {**sigmoid_network.CHAPTER_3, "learning_rate_init": 1.0}
SMALL = sigmoid_network.Setting("small", 20, QUICK_TO_LEARN, "validation", 8, 0.95, 0.9, 0.2, 3, ("#0b4f8a", "-", "o"))


def train_small(n_runs=3, change=lambda digits: digits, n_epochs=8, patience=6):
    """Runs of a network that learns all ten digits, unless those it learns from are ``change``d."""
    (X, y), validation = load_mnist()
    training = X, change(y)
    return sigmoid_network.train_runs(SMALL, training, validation, validation, n_epochs, n_runs, patience)


# What lost_digits says of the starts in turn -> seeds that are kept, seeds that are given up.
LOSSES = (
    ([[], [], []], [0, 1, 2], []),
    ([[8], [], [3, 4], [], []], [1, 3, 4], [0, 2]),
    ([[8], [0], [], [1], [2]], [2], [0, 1, 3, 4]),
    ([[8]] * 5, [], [0, 1, 2, 3, 4]),
)


@pytest.mark.parametrize(("losses", "kept", "given_up"), LOSSES)
def test_starts_are_taken_in_order_and_those_that_lost_a_digit_given_up(losses, kept, given_up, monkeypatch, capsys):
    asked = iter(losses)
    monkeypatch.setattr(_example, "lost_digits", lambda *args: np.array(next(asked), int))
    monkeypatch.setattr(sigmoid_network, "MOST_STARTS", 5)
    runs = train_small(n_epochs=4, patience=2)
    out = capsys.readouterr().out
    assert (runs.seeds, runs.given_up) == (kept, given_up) and next(asked, None) is None
    assert [len(share) for share in runs.shares] == [4] * len(kept) and runs.seconds > 0
    epochs = [int(number) for number, *_ in EPOCH_LINE.findall(out)]
    expected = [epoch for lost in losses for epoch in range(2 if lost else 4)]
    assert epochs == expected and out.count("Given up: ") == len(given_up)
    if losses[0]:
        assert "Given up: it reads less than half of the validation images of 8\n" in out


def test_a_digit_that_cannot_be_learned_is_what_a_start_is_given_up_for(monkeypatch, capsys):
    monkeypatch.setattr(sigmoid_network, "MOST_STARTS", 2)
    runs = train_small(change=lambda digits: np.where(digits == 8, 3, digits))
    assert (runs.seeds, runs.given_up, runs.shares) == ([], [0, 1], [])
    assert capsys.readouterr().out.count("Given up: it reads less than half of the validation images of 8\n") == 2
    runs = train_small(n_runs=2)
    assert (runs.seeds, runs.given_up) == ([0, 1], []) and min(share[-1] for share in runs.shares) > 0.8
    assert "Given up" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("best", "given_up", "quick", "row"),
    [
        ([0.91, 0.95], [1, 2], False, ("95.00%", "95.00%, seeds 0, 3 (2 of 4 starts given up)", ">= 90.0%: met")),
        ([0.89], [], False, ("95.00%", "89.00%, seed 0", ">= 90.0%: NOT MET")),
        ([], [0, 1], False, ("95.00%", "0.00%, seed none (2 of 2 starts given up)", ">= 90.0%: NOT MET")),
        ([0.21], [], True, ("", "21.00%, seed 0", ">= 20.0%: met")),
    ],
)
def test_report_of_runs(best, given_up, quick, row):
    seeds = [seed for seed in range(9) if seed not in given_up][: len(best)]
    report = _example.Report()
    runs = sigmoid_network.Runs([np.array([0.1, share]) for share in best], seeds, given_up, 1.0)
    sigmoid_network.add_result(report, SMALL, runs, is_real=True, quick=quick)
    assert report.rows == [("small, best epoch", *row)] and len(report.broken) == ("NOT" in row[2])


def test_claims_are_near_what_is_published():
    for setting in sigmoid_network.SETTINGS:
        assert setting.published - 0.008 <= setting.claimed < setting.published


def test_bad_data_is_one_line_on_stderr(tmp_path, capsys):
    status, out, err = run(capsys, "--data", tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: {tmp_path / 'train-images-idx3-ubyte'}: no such file, plain or .gz\n"


def test_numpy_gradient_against_differences():
    rng = np.random.RandomState(0)
    coefs, intercepts = [rng.randn(4, 3), rng.randn(3, 2)], [rng.randn(3), rng.randn(2)]
    X, Y = rng.randn(5, 4), rng.rand(5, 2)

    def cost():
        a = X
        for W, b in zip(coefs, intercepts):
            a = 1 / (1 + np.exp(-(a @ W + b)))
        return 0.5 * np.sum((a - Y) ** 2)

    gradients = sigmoid_network.summed_gradient(coefs, intercepts, X, Y)
    for arrays, which in ((coefs, 0), (intercepts, 1)):
        for array, gradient in zip(arrays, gradients):
            flat, h = array.reshape(-1), 1e-6
            for i in range(flat.size):
                w, costs = flat[i], []
                for flat[i] in (w + h, w - h):
                    costs.append(cost())
                flat[i] = w
                assert abs((costs[0] - costs[1]) / (2 * h) - gradient[which].reshape(-1)[i]) < 1e-8
