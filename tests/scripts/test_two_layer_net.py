"""scripts/two_layer_net.py: its claims hold on real and on bundled digits, and its NumPy half is right by itself."""

import re

import numpy as np
import pytest
from sklearn.metrics import log_loss

import _example
import two_layer_net
from fastnn import MLPClassifier

GRADIENT_LINE = re.compile(r"^  ([Wb][12]): +(\d+) of +(\d+) weights, .* largest difference (\S+)$", re.MULTILINE)
EPOCH_LINE = re.compile(r"^ +(\d+) +(\d+\.\d{4}) +(\d+\.\d\d)% +(\d+\.\d\d)%(?: +(\d+\.\d\d)%)?$", re.MULTILINE)


def run(capsys, *arguments):
    status = _example.run(two_layer_net.main, two_layer_net.__doc__, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def check_gradients(out):
    differences = GRADIENT_LINE.findall(out)
    assert [name for name, *_ in differences] == 2 * ["W1", "b1", "W2", "b2"]
    assert all(int(looked_at) == min(300, int(size)) for _, looked_at, size, _ in differences)
    assert max(float(difference) for *_, difference in differences) < 1e-7


def test_stand_in(tmp_path, capsys):
    status, out, err = run(capsys, "--quick", "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "Data: digits (bundled with scikit-learn" in out and "A STAND-IN" in out
    check_gradients(out)
    epochs = EPOCH_LINE.findall(out)
    assert all(float(test) > 90 and not published for *_, test, published in (epochs[16], epochs[-1]))
    plt = pytest.importorskip("matplotlib.pyplot")
    picture = plt.imread(tmp_path / "two_layer_net.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1000 and picture[..., :3].std() > 0.05


def test_published_accuracies(real_data_dir, tmp_path, capsys):
    status, out, err = run(capsys, "--data", real_data_dir, "--quick", "--out", tmp_path)
    assert (status, err) == (0, "")
    check_gradients(out)
    epochs = EPOCH_LINE.findall(out)
    assert [int(number) for number, *_ in epochs] == 2 * [1, 2, 3, 4, 5]
    apart = [abs(float(test) - float(published)) for *_, test, published in epochs]
    assert max(apart[1:5] + apart[6:]) < 1  # per cent; after one epoch seeds differ by more


def test_bad_data_is_one_line_on_stderr(tmp_path, capsys):
    status, out, err = run(capsys, "--data", tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: {tmp_path / 'train-images-idx3-ubyte'}: no such file, plain or .gz\n"


@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_numpy_loss_is_the_networks(activation):
    rng = np.random.RandomState(3)
    X, y = rng.randn(40, 6), rng.randint(0, 4, 40)
    network = MLPClassifier((5,), activation=activation, dtype="float64", random_state=0)
    network.partial_fit(X, y, classes=range(4))
    parameters = [array for pair in zip(network.coefs_, network.intercepts_) for array in pair]
    assert abs(two_layer_net.loss(parameters, activation, X, y) - log_loss(y, network.predict_proba(X))) < 1e-12


def test_numerical_gradient_leaves_the_parameters_as_they_were():
    rng = np.random.RandomState(3)
    parameters = [rng.randn(6, 5), rng.randn(5), rng.randn(5, 4), rng.randn(4)]
    before = [array.copy() for array in parameters]
    X, y = rng.randn(7, 6), rng.randint(0, 4, 7)
    gradient = two_layer_net.numerical_gradient(parameters, parameters[3], range(4), "logistic", X, y)
    assert abs(gradient.sum()) < 1e-8 and np.abs(gradient).max() > 0.01  # of softmax: p - y, summing to zero
    for array, copy in zip(parameters, before):
        np.testing.assert_array_equal(array, copy)
