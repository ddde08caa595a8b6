"""scripts/train_mnist.py from end to end on a small MNIST: what it prints, what it draws, how it fails."""

import builtins
import re

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier as SklearnClassifier

import train_mnist
from datasets import load_mnist

EPOCH_LINE = re.compile(r"^ +(\d+) +(\d\.\d{4}) +(\d+\.\d\d)% +(\d+\.\d\d)% +\d+\.\d{3} s$", re.MULTILINE)
RESULT_LINE = re.compile(r"^(fastnn|scikit-learn) +(\d+\.\d\d)% +(\d+\.\d\d) s +(\d+\.\d{3}) s$", re.MULTILINE)


def run(capsys, *arguments):
    status = train_mnist.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_whole_job(small_mnist_dir, tmp_path, capsys):
    options = ("--data", small_mnist_dir, "--hidden", 40, 20, "--epochs", 8, "--batch", 20, "--out", tmp_path / "new")
    status, out, err = run(capsys, *options)
    assert status == 0 and err == ""
    assert f"Data: MNIST, 300 training and 100 test images of 28 x 28 pixels (from {small_mnist_dir})" in out
    assert "Network: 784-40-20-10, relu, adam, batches of 20, float32" in out
    epochs = EPOCH_LINE.findall(out)
    assert [int(number) for number, *_ in epochs] == list(range(1, 9))
    losses = [float(loss) for _, loss, *_ in epochs]
    assert losses[-1] < 0.5 * losses[0]
    assert float(epochs[-1][2]) > 85 and float(epochs[-1][3]) > 75
    results = {name: float(accuracy) for name, accuracy, *_ in RESULT_LINE.findall(out)}
    assert set(results) == {"fastnn", "scikit-learn"}
    assert abs(results["fastnn"] - results["scikit-learn"]) <= 2  # same seed, same trajectory: at most 2 of 100
    assert re.search(r"^fastnn trains \d+\.\d times as fast as scikit-learn$", out, re.MULTILINE)
    assert re.search(r"^BLAS kernels: \w", out, re.MULTILINE)
    plt = pytest.importorskip("matplotlib.pyplot")
    picture = plt.imread(tmp_path / "new" / "train_mnist.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 900 and picture[..., :3].std() > 0.05


def test_each_epoch_is_shuffled_anew(small_mnist_dir, tmp_path, capsys):
    options = ("--data", small_mnist_dir, "--hidden", 10, "--epochs", 3, "--batch", 50, "--seed", 5)
    _, out, _ = run(capsys, *options, "--no-compare", "--out", tmp_path)
    printed = [float(loss) for _, loss, *_ in EPOCH_LINE.findall(out)]
    (X, y), _ = load_mnist(small_mnist_dir)

    def losses(random_state):
        network = SklearnClassifier((10,), batch_size=50, random_state=random_state)
        return [network.partial_fit(X, y, classes=np.arange(10)).loss_ for _ in range(3)]

    np.testing.assert_allclose(printed, losses(np.random.RandomState(5)), atol=1e-4)  # printed with four decimals
    assert abs(printed[-1] - losses(5)[-1]) > 1e-3  # an int repeats the first shuffle


def test_no_compare_leaves_scikit_learn_out(small_mnist_dir, tmp_path, capsys):
    options = ("--data", small_mnist_dir, "--hidden", "--epochs", 1, "--no-compare", "--n-jobs", 1, "--out", tmp_path)
    status, out, _ = run(capsys, *options, "--solver", "sgd", "--learning-rate", 0.1)
    assert status == 0
    assert "Network: 784-10, relu, sgd, batches of 200, float32, threads: 1" in out
    assert [name for name, *_ in RESULT_LINE.findall(out)] == ["fastnn"]


def test_rmsprop_goes_without_scikit_learn(small_mnist_dir, tmp_path, capsys):
    options = ("--data", small_mnist_dir, "--hidden", 512, "--solver", "rmsprop", "--batch", 128, "--epochs", 5)
    status, out, err = run(capsys, *options, "--out", tmp_path)
    assert status == 0 and err == ""
    assert "Network: 784-512-10, relu, rmsprop, batches of 128" in out
    assert [name for name, *_ in RESULT_LINE.findall(out)] == ["fastnn"]
    assert "Published test accuracy of this network: 97.77%" in out


def test_one_cycle_and_shifted_digits(small_mnist_dir, tmp_path, capsys):
    options = ("--data", small_mnist_dir, "--hidden", 40, "--epochs", 6, "--batch", 20, "--learning-rate", 0.005)
    losses = {}
    for extra in ((), ("--one-cycle",), ("--one-cycle", "--shift")):
        status, out, err = run(capsys, *options, "--no-compare", *extra, "--out", tmp_path)
        assert status == 0 and err == "" and len(EPOCH_LINE.findall(out)) == 6
        assert [name for name, *_ in RESULT_LINE.findall(out)] == ["fastnn"]
        losses[extra] = [float(loss) for _, loss, *_ in EPOCH_LINE.findall(out)]
    plain, smoothed, moved = losses.values()
    assert smoothed[-1] > 0.4 > plain[-1]  # smoothed labels leave a loss of about 0.5
    assert moved[-1] > smoothed[-1]  # and digits that move are harder to learn


def test_shifted_images_are_whole_and_move_by_one_pixel():
    rng = np.random.RandomState(0)
    images = np.zeros((500, 6, 5), np.float32)
    images[:, 1:-1, 1:-1] = rng.rand(500, 4, 3)
    moved = train_mnist.shifted(images.reshape(500, -1), (6, 5), rng)
    assert moved.shape == (500, 30) and moved.dtype == np.float32
    seen = set()
    for image, other in zip(images, moved.reshape(images.shape)):
        moves = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (np.roll(image, (a, b), (0, 1)) == other).all()]
        seen.update(moves)
        assert len(moves) == 1
    assert len(seen) == 9


def test_quick_run_is_two_epochs_alone(mnist_dir, tmp_path, capsys):
    status, out, _ = run(capsys, "--quick", "--data", mnist_dir, "--out", tmp_path)
    assert status == 0 and "Data: MNIST, " in out
    n_train = int(re.search(r"MNIST, (\d+) training", out)[1])
    assert n_train in (300, 5000) and len(EPOCH_LINE.findall(out)) == 2
    assert [name for name, *_ in RESULT_LINE.findall(out)] == ["fastnn"]
    (_, first, *_), (_, second, *_) = EPOCH_LINE.findall(out)
    assert float(second) < float(first)
    assert "Published" not in out


def test_small_digits_stand_in(tmp_path, capsys):
    status, out, _ = run(capsys, "--epochs", 1, "--no-compare", "--out", tmp_path)
    assert status == 0
    assert "Data: digits, 1437 training and 360 test images of 8 x 8 pixels (bundled with scikit-learn" in out
    assert "--data DIR" in out and "--fetch" in out


def test_bad_data_is_one_line_on_stderr(tmp_path, capsys):
    status, out, err = run(capsys, "--data", tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: {tmp_path / 'train-images-idx3-ubyte'}: no such file, plain or .gz\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--data", "x", "--fetch"], "not allowed with argument"),
        (["--solver", "x"], "argument --solver"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_mnist.main(arguments)
    assert message in capsys.readouterr().err


def test_without_matplotlib_it_says_so(small_mnist_dir, tmp_path, capsys, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    status, out, _ = run(capsys, "--data", small_mnist_dir, "--epochs", 1, "--no-compare", "--out", tmp_path)
    assert status == 0 and "Picture: left out, matplotlib is not installed" in out
    assert list(tmp_path.iterdir()) == []
