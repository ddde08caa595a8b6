"""scripts/datasets.py: what the loaders return, where they look, and one clear error for each kind of bad file."""

import gzip

import numpy as np
import pytest
import scipy.sparse as sp

import datasets
from mnist_files import NAMES, idx_bytes, small_digits, write_mnist

LOADERS = {
    "mnist": datasets.load_mnist,
    "imdb": datasets.load_imdb,
    "reuters": datasets.load_reuters,
    "boston_housing": datasets.load_boston,
    "california_housing": datasets.load_california,
}


# --- MNIST: what is returned ---


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dotted", [False, True])
def test_mnist_returns_what_the_files_hold(tmp_path, compress, dotted):
    arrays = small_digits(30, 10)

    def name(key):
        return NAMES[key].replace("-idx", ".idx") if dotted else NAMES[key]

    folder = write_mnist(tmp_path / "mnist", arrays, compress=compress, name=name)
    data = datasets.load_mnist(folder, normalize=False, flatten=False)
    (X, y), (X_test, y_test) = data
    for got, key in ((X, "train_images"), (y, "train_labels"), (X_test, "test_images"), (y_test, "test_labels")):
        np.testing.assert_array_equal(got, arrays[key])
    assert (data.name, data.is_real, data.image_shape) == ("MNIST", True, (28, 28))
    assert str(folder) in data.note


def test_mnist_options(small_mnist_dir):
    (raw, digits), _ = datasets.load_mnist(small_mnist_dir, normalize=False, flatten=False)
    assert raw.dtype == np.uint8 and raw.shape == (300, 28, 28)
    (X, _), _ = datasets.load_mnist(small_mnist_dir)
    assert X.dtype == np.float32 and X.shape == (300, 784) and X.flags.c_contiguous
    np.testing.assert_allclose(X, raw.reshape(300, 784) / 255, rtol=1e-6)
    (_, one_hot), _ = datasets.load_mnist(small_mnist_dir, one_hot=True)
    assert one_hot.shape == (300, 10) and set(np.unique(one_hot)) == {0, 1}
    np.testing.assert_array_equal(one_hot.argmax(axis=1), digits)


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    # Some browsers unpack a download and keep its .gz name.
    folder = write_mnist(tmp_path / "mnist", compress=False)
    for name in NAMES.values():
        (folder / name).rename(folder / f"{name}.gz")
    assert len(datasets.load_mnist(folder).train[0]) == 300


# --- Where the loaders look ---


@pytest.mark.parametrize("through_environment", [False, True])
@pytest.mark.parametrize("parent", [False, True])
def test_folder_is_the_set_or_its_parent(small_mnist_dir, monkeypatch, through_environment, parent):
    place = small_mnist_dir.parent if parent else small_mnist_dir
    if through_environment:
        monkeypatch.setenv("FASTNN_DATA", str(place))
    data = datasets.load_mnist(None if through_environment else place)
    assert data.is_real and len(data.train[0]) == 300


def test_argument_wins_over_environment(small_mnist_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "absent"))
    assert datasets.load_mnist(small_mnist_dir).is_real


@pytest.mark.parametrize("name", LOADERS)
def test_stand_in_says_so(name):
    data = LOADERS[name]()
    again = LOADERS[name]()
    assert not data.is_real and "not given" in data.note
    for (X, y), (X_again, y_again) in zip(data, again):
        n = X.shape[0] if hasattr(X, "shape") else len(X)
        assert n == len(y) > 50
        assert (X - X_again).nnz == 0 if sp.issparse(X) else np.array_equal(X, X_again)
        assert np.array_equal(y, y_again)


@pytest.mark.parametrize("name", LOADERS)
def test_missing_folder_or_file_is_named(name, tmp_path):
    absent = tmp_path / "absent"
    with pytest.raises(datasets.DataError, match="absent: no such folder"):
        LOADERS[name](absent)
    (tmp_path / name).mkdir()
    with pytest.raises(datasets.DataError, match=rf"{name}/\S+: no such file, plain or .gz"):
        LOADERS[name](tmp_path)


def test_fetch_asks_openml_and_names_it_when_it_fails(monkeypatch, tmp_path):
    images = np.arange(70010 * 784, dtype=np.uint32).astype(np.uint8).reshape(-1, 784)[:70000]
    labels = (np.arange(70000) % 10).astype(str)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "not asked"))
    monkeypatch.setattr(datasets.bundled, "fetch_openml", lambda *args, **kwargs: (images, labels))
    (X, y), (X_test, y_test) = datasets.load_mnist(fetch=True, normalize=False)
    assert (X.shape, X_test.shape) == ((60000, 784), (10000, 784))
    np.testing.assert_array_equal(X_test[0], images[60000])
    assert y[:3].tolist() == [0, 1, 2] and y_test.dtype == np.int64

    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(datasets.bundled, "fetch_openml", fail)
    with pytest.raises(datasets.DataError, match=r"^mnist_784.*no network"):
        datasets.load_mnist(fetch=True)


# --- MNIST: one clear error per kind of damage ---

ARRAYS = small_digits(30, 10)
IMAGES = idx_bytes(ARRAYS["train_images"])
LABELS = idx_bytes(ARRAYS["train_labels"])
BAD_FILES = [
    # key of the file, its new content (None: deleted), what the message says
    ("train_images", None, "no such file, plain or .gz"),
    ("test_labels", None, "no such file, plain or .gz"),
    ("train_images", b"", "truncated: 0 bytes"),
    ("train_images", IMAGES[:9], "truncated: 9 bytes, the header alone has 16"),
    ("train_images", IMAGES[:-1], "truncated: 23519 bytes of images, its header announces 23520"),
    ("train_labels", LABELS[:20], "truncated: 12 bytes of labels, its header announces 30"),
    ("train_images", gzip.compress(IMAGES)[:-300], "truncated: the compressed data ends too early"),
    ("train_images", gzip.compress(IMAGES)[:20] + bytes(40) + gzip.compress(IMAGES)[60:], "cannot be read"),
    ("train_images", IMAGES + b"\0", "too long: 23521 bytes of images"),
    ("train_images", b"<!DOCTYPE html>", "not an IDX file of images or labels: it starts with 0x3c21444f"),
    ("train_images", b"\0\0\x0d\x03" + IMAGES[4:], "not an IDX file"),
    ("train_images", LABELS, "holds labels where images are expected"),
    ("test_labels", idx_bytes(ARRAYS["test_images"]), "holds images where labels are expected"),
    ("train_labels", idx_bytes(np.zeros(29)), "29 labels, but train-images-idx3-ubyte holds 30 images"),
    ("test_labels", LABELS, "30 labels, but t10k-images-idx3-ubyte holds 10 images"),
    ("train_labels", idx_bytes([*range(10), *range(10), *range(9), 10]), "label 10 of image 29 is not a digit"),
    ("test_images", idx_bytes(np.zeros((10, 8, 8))), "images of 8 x 8 pixels, but those for training have 28 x 28"),
    ("test_images", idx_bytes(np.zeros((0, 28, 28))), "empty: its header announces no images"),
]


@pytest.mark.parametrize(("key", "content", "message"), BAD_FILES)
def test_bad_file_gives_one_error_that_names_it(tmp_path, key, content, message):
    folder = write_mnist(tmp_path / "mnist", ARRAYS, compress=False)
    path = folder / NAMES[key]
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(datasets.DataError) as caught:
        datasets.load_mnist(folder)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


# --- The other sets: damage ---


def write_imdb(folder, **changes):
    """Two training reviews, words {0, 2} and {300}, and one test review, word {1}, in the stored form."""
    stored = {
        "n_train": np.array([2, 1], np.uint16),
        "gaps_train": np.array([0, 1, 255, 45], np.uint8),
        "y_train": np.array([1, 0], np.uint8),
        "n_test": np.array([1], np.uint16),
        "gaps_test": np.array([1], np.uint8),
        "y_test": np.array([1], np.uint8),
    }
    stored.update(changes)
    folder.mkdir()
    np.savez(folder / "imdb_bow10000.npz", **{key: value for key, value in stored.items() if value is not None})
    return folder


def test_imdb_decodes_gaps(tmp_path):
    # The running position counts every stored word as one step more: 0, 2 and 2 + 255 + 45 + 1 - 3 = 300.
    (X, y), (X_test, y_test) = datasets.load_imdb(write_imdb(tmp_path / "imdb"))
    assert X.shape == (2, 10000) and X.dtype == np.float32
    assert [row.indices.tolist() for row in X] == [[0, 2], [300]]
    assert (X_test.indices.tolist(), y.tolist(), y_test.tolist()) == ([1], [1, 0], [1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None}, "y_train"),
        ({"y_train": np.array([1], np.uint8)}, "mismatched: 1 labels, 2 reviews, 3 words"),
        ({"n_train": np.array([2, 2], np.uint16)}, "mismatched: 2 labels, 2 reviews, 3 words"),
        ({"y_test": np.array([7], np.uint8)}, "damaged"),
        ({"gaps_test": np.array([255] * 40 + [1], np.uint8)}, "damaged"),
    ],
)
def test_bad_imdb_is_named(tmp_path, changes, message):
    folder = write_imdb(tmp_path / "imdb", **changes)
    with pytest.raises(datasets.DataError, match=message) as caught:
        datasets.load_imdb(folder)
    assert str(folder / "imdb_bow10000.npz") in str(caught.value)


NEWS = "split\tnewid\ttopics90\tlabel52\tin_r8\ttitle\tbody\n"
GOOD_NEWS = NEWS + "".join(
    f"{split}\t{k}\t{topics}\t{label}\t{in_r8}\ttitle {k}\tbody {k}\n"
    for split in ("train", "test")
    for k, (topics, label, in_r8) in enumerate([("earn", "earn", 1), ("cocoa", "cocoa", 0), ("grain wheat", "", 0)])
)


@pytest.mark.parametrize(
    ("subset", "labels"),
    [("R8", ["earn"]), ("R52", ["earn", "cocoa"]), ("R90", [("earn",), ("cocoa",), ("grain", "wheat")])],
)
def test_reuters_subsets(tmp_path, subset, labels):
    (tmp_path / "reuters_modapte.tsv").write_text(GOOD_NEWS)
    (texts, y), (texts_test, _) = datasets.load_reuters(tmp_path, subset=subset)
    assert list(y) == labels and texts[0] == "title 0\nbody 0" and len(texts_test) == len(labels)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("reuters", "reuters_modapte.tsv", "a\tb\n", "must name the columns"),
        ("reuters", "reuters_modapte.tsv", GOOD_NEWS[:-3], "truncated"),
        ("reuters", "reuters_modapte.tsv", NEWS, "truncated"),
        ("reuters", "reuters_modapte.tsv", NEWS + "train\t1\n", "line 2 is damaged: 2 fields, 7 expected"),
        ("boston_housing", "boston.csv", "a,b\n1,2\n3\n", "a row is damaged"),
        ("boston_housing", "boston.csv", "a,b\n1,x\n", "a row is damaged"),
        ("boston_housing", "boston.csv", "", "truncated"),
        ("california_housing", "cal_housing_raw.csv", "longitude,latitude\n1,2\n", "has no column"),
        ("california_housing", "cal_housing_raw.csv", b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_bad_table_is_named(tmp_path, name, file, content, message):
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(datasets.DataError, match=message) as caught:
        LOADERS[name](tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / file}: ")


# --- The real files, where a machine has them ---


def test_real_mnist(real_data_dir):
    (X, y), (X_test, y_test) = datasets.load_mnist(real_data_dir)
    assert (X.shape, X_test.shape) == ((60000, 784), (10000, 784))
    assert y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (X.min(), X.max()) == (0, 1)


def test_real_imdb(real_data_dir):
    for X, y in datasets.load_imdb(real_data_dir):
        assert X.shape == (25000, 10000) and y.sum() == 12500
        assert 120 < X.nnz / 25000 < 140 and X.has_sorted_indices


@pytest.mark.parametrize(("subset", "sizes"), [("R8", (5485, 2189)), ("R52", (6532, 2568)), ("R90", (7770, 3019))])
def test_real_reuters(real_data_dir, subset, sizes):
    (X, y), (X_test, y_test) = datasets.load_reuters(real_data_dir, subset=subset)
    assert (len(X), len(X_test)) == (len(y), len(y_test)) == sizes
    topics = {topic for row in y for topic in row} if subset == "R90" else set(y)
    assert len(topics) == int(subset[1:])


def test_real_housing(real_data_dir):
    (X, y), (X_test, y_test) = datasets.load_boston(real_data_dir)
    assert (X.shape, X_test.shape) == ((404, 13), (102, 13))
    assert np.concatenate([y, y_test]).mean() == pytest.approx(22.5328, abs=1e-4)
    (X, y), (X_test, y_test) = datasets.load_california(real_data_dir)
    means = [3.8707, 28.6395, 5.4290, 1.0967, 1425.4767, 3.0707, 35.6319, -119.5697]
    np.testing.assert_allclose(np.vstack([X, X_test]).astype(float).mean(axis=0), means, rtol=1e-7, atol=5e-5)
    assert np.concatenate([y, y_test]).mean() == pytest.approx(2.0686, abs=1e-4)
