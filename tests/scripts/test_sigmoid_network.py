"""scripts/sigmoid_network.py: its lines and claims, and its NumPy networks against each other and against fastnn."""

import re

import numpy as np
import pytest

import _example
import sigmoid_network

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
    assert int(epochs[29][1]) > 0.9 * 360 and int(epochs[-1][1]) > 0.9 * 240
    assert "weights apart from NumPy's, float64" in out and "NOT MET" not in out
    plt = pytest.importorskip("matplotlib.pyplot")
    picture = plt.imread(tmp_path / "sigmoid_network.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1000 and picture[..., :3].std() > 0.05


def test_real_digits(real_data_dir, tmp_path, capsys):
    status, out, err = run(capsys, "--data", real_data_dir, "--quick", "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "Images: 50000 to train, 10000 for validation, 10000 to test, batches of 10" in out
    counts = [int(right) for _, right, _ in EPOCH_LINE.findall(out)]
    assert len(counts) == 6
    assert counts[1] > 9000  # the source has 9295 there
    assert counts[5] > 9300


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
