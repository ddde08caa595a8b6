"""scripts/squared_error_digits.py: its claims, its reason for the slow run, and its NumPy half."""

import re

import numpy as np
import pytest

import _example
import squared_error_digits
from datasets import load_mnist

EPOCH_LINE = re.compile(r"^ +(\d+) +(\d+\.\d{4}) +(\d+\.\d\d)%$", re.MULTILINE)
SATURATED = re.compile(r"^  (raw|scaled) pixels, .*: hidden units saturated for (\d+\.\d)% of the images", re.MULTILINE)


def run(capsys, *arguments):
    main, doc = squared_error_digits.main, squared_error_digits.__doc__
    status = _example.run(main, doc, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def check(out, n_epochs):
    epochs = EPOCH_LINE.findall(out)
    raw, scaled = epochs[: len(epochs) // 2], epochs[len(epochs) // 2 :]
    assert [int(run[-1][0]) for run in (raw, scaled)] == [n_epochs, n_epochs]
    assert float(scaled[-1][1]) < 0.5 * float(raw[-1][1])  # loss
    assert float(scaled[-1][2]) > float(raw[-1][2]) + 20  # accuracy, per cent
    saturated = {kind: float(share) for kind, share in SATURATED.findall(out)}
    assert saturated["raw"] > 85 and saturated["scaled"] < 60


def test_stand_in(tmp_path, capsys):
    status, out, err = run(capsys, "--quick", "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "Data: digits (bundled with scikit-learn" in out and "A STAND-IN" in out
    check(out, 200)
    plt = pytest.importorskip("matplotlib.pyplot")
    picture = plt.imread(tmp_path / "squared_error_digits.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1000 and picture[..., :3].std() > 0.05


def test_real_digits(real_data_dir, tmp_path, capsys):
    status, out, err = run(capsys, "--data", real_data_dir, "--quick", "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "Network: 784-30-10, sigmoid, squared error, batches of 256, 10 epochs" in out
    check(out, 10)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the number of epochs is given
@pytest.mark.parametrize(
    ("losses", "seed"),
    [([[]], 0), ([[8], [0, 3], []], 2), ([[1], [1], [1], [1]], 3)],
)
def test_the_first_seed_that_has_lost_no_digit_is_chosen(losses, seed, monkeypatch, capsys):
    (X, y), _ = load_mnist()
    asked, starts = iter(losses), []

    def lost_digits(network, X, y):
        starts.append(network.random_state)
        return np.array(next(asked), int)

    monkeypatch.setattr(_example, "lost_digits", lost_digits)
    monkeypatch.setattr(squared_error_digits, "MOST_STARTS", 4)
    monkeypatch.setattr(squared_error_digits, "PATIENCE", 2)
    assert squared_error_digits.choose_seed(X, y) == seed and starts == list(range(len(losses)))
    out = capsys.readouterr().out
    assert out.count("given up") == sum(map(bool, losses))
    assert ("Seed 1: given up, it reads less than half of 0, 3 after 2 epochs\n" in out) == (seed == 2)


def test_bad_data_is_one_line_on_stderr(tmp_path, capsys):
    status, out, err = run(capsys, "--data", tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: {tmp_path / 'train-images-idx3-ubyte'}: no such file, plain or .gz\n"


def test_hidden_derivative_is_that_of_the_sigmoid_and_never_overflows():
    X, W, b = np.array([[1.0], [255.0]], np.float32), np.array([[0.5, -100.0, 0.0]]), np.array([0.25, 0.0, 0.0])
    with np.errstate(over="raise"):
        found = squared_error_digits.hidden_derivative(X, W, b)
    a = 1 / (1 + np.exp(-0.75))
    np.testing.assert_allclose(found[0], [a * (1 - a), np.exp(-100), 0.25], rtol=1e-12)
    assert 0 <= found[1, 1] < 1e-300 and found[1, 2] == 0.25
