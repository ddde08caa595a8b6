"""The data sets of all scripts and tests: MNIST, IMDB, Reuters, Boston and California housing.

Each loader takes `data`, a folder: the data set's own or a parent that holds it (DIR/mnist, DIR/imdb, ...).
Without it the environment variable FASTNN_DATA is asked. Without either the loader returns a stand-in that is
bundled with scikit-learn or generated, and says so in the result's `note`. A folder that was named but does not
hold a sound data set raises DataError, which names the file.
"""

import csv
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn import datasets as bundled

from _idx import DataError, find_file, read_bytes, read_labelled_images

__all__ = ["DataError", "Dataset", "load_boston", "load_california", "load_imdb", "load_mnist", "load_reuters"]


@dataclass(frozen=True)
class Dataset:
    """Training and test data; unpacks as `(X_train, y_train), (X_test, y_test)`."""

    name: str
    train: tuple
    test: tuple
    is_real: bool  # False for a stand-in
    note: str  # where it comes from, one sentence without a stop
    image_shape: tuple | None = None

    def __iter__(self):
        return iter((self.train, self.test))


def find_folder(data, name):
    """Return the folder of data set `name`, or None where neither `data` nor FASTNN_DATA is given."""
    given = data if data is not None else os.environ.get("FASTNN_DATA")
    if not given:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder / name if (folder / name).is_dir() else folder


def load_mnist(data=None, *, normalize=True, flatten=True, one_hot=False, fetch=False):
    """Load the MNIST digits, or scikit-learn's 8 x 8 digits in their place.

    Parameters
    ----------
    data : path, optional
        Folder with the four IDX files, plain or .gz, or its parent.
    normalize : bool
        Pixels as float32 in [0, 1]; otherwise as they are stored, uint8.
    flatten : bool
        One row of pixels per image; otherwise (n, rows, columns).
    one_hot : bool
        Labels as rows of ten 0/1 values; otherwise digits.
    fetch : bool
        Download through `sklearn.datasets.fetch_openml`, which keeps a copy; `data` is not asked.
    """
    folder = None if fetch else find_folder(data, "mnist")
    if fetch:
        name, note = "MNIST", "from OpenML"
        parts = _fetch_mnist()
    elif folder is not None:
        name, note = "MNIST", f"from {folder}"
        parts = [read_labelled_images(folder, part) for part in ("train", "t10k")]
        if parts[0][0].shape[1:] != parts[1][0].shape[1:]:
            sizes = [" x ".join(map(str, images.shape[1:])) for images, _ in parts]
            path = find_file(folder, "t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte")
            raise DataError(f"{path}: images of {sizes[1]} pixels, but those for training have {sizes[0]}")
    else:
        name, note = "digits", "bundled with scikit-learn; the real MNIST was not given"
        parts = _bundled_digits()
    white = 255 if name == "MNIST" else 16
    shape = parts[0][0].shape[1:]
    ready = []
    for images, labels in parts:
        X = images.astype(np.float32) / np.float32(white) if normalize else images
        X = X.reshape(len(X), -1) if flatten else X
        y = labels.astype(np.int64)
        ready.append((X, np.eye(10, dtype=np.int64)[y] if one_hot else y))
    return Dataset(name, *ready, is_real=name == "MNIST", note=note, image_shape=shape)


def _fetch_mnist():
    try:
        import pandas  # noqa: F401  (scikit-learn's fast parser needs it)

        parser = "auto"
    except ImportError:
        parser = "liac-arff"
    try:
        X, y = bundled.fetch_openml("mnist_784", version=1, as_frame=False, return_X_y=True, parser=parser)
    except (OSError, ValueError) as error:
        raise DataError(f"mnist_784: OpenML could not deliver it: {error}") from error
    images, labels = X.astype(np.uint8).reshape(-1, 28, 28), y.astype(np.uint8)
    return [(images[:60000], labels[:60000]), (images[60000:], labels[60000:])]


def _bundled_digits():
    digits = bundled.load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images, labels = digits.images[order].astype(np.uint8), digits.target[order]
    return [(images[:1437], labels[:1437]), (images[1437:], labels[1437:])]  # four fifths, one fifth


def load_imdb(data=None):
    """Load the IMDB reviews as a binary bag of 10,000 words: X in CSR, float32; y is 1 for a positive review."""
    folder = find_folder(data, "imdb")
    if folder is None:
        parts = [_generated_reviews(2000, seed) for seed in (0, 1)]
        return Dataset("generated reviews", *parts, is_real=False, note="generated; the real IMDB was not given")
    path = find_file(folder, "imdb_bow10000.npz")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {
                key: stored[key] for part in ("train", "test") for key in (f"n_{part}", f"gaps_{part}", f"y_{part}")
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    parts = [
        _decode_reviews(path, *(arrays[f"{key}_{part}"] for key in ("n", "gaps", "y"))) for part in ("train", "test")
    ]
    return Dataset("IMDB", *parts, is_real=True, note=f"from {folder}")


def _decode_reviews(path, n_words, gaps, y, vocabulary=10000):
    """Turn the stored gaps between sorted word numbers into CSR rows; a gap of 255 means 255 more, go on."""
    n_words = n_words.astype(np.int64)
    position = np.cumsum(gaps, dtype=np.int64)[gaps < 255]
    position += np.arange(1, len(position) + 1)
    indptr = np.concatenate([[0], np.cumsum(n_words)])
    if len(y) != len(n_words) or indptr[-1] != len(position):
        raise DataError(f"{path}: mismatched: {len(y)} labels, {len(n_words)} reviews, {len(position)} words")
    before = np.concatenate([[0], position])[indptr[:-1]]  # running position at each review's start
    indices = (position - np.repeat(before, n_words) - 1).astype(np.int32)
    if indices.min() < 0 or indices.max() >= vocabulary or not np.isin(y, (0, 1)).all():
        raise DataError(f"{path}: damaged: a word number or a label is out of range")
    ones = np.ones(len(indices), np.float32)
    return sp.csr_matrix((ones, indices, indptr.astype(np.int32)), (len(y), vocabulary)), y.astype(np.int64)


def _generated_reviews(n, seed, vocabulary=10000, length=130):
    """Reviews of about `length` words with Zipf's frequencies; each class prefers one half of 400 telling words."""
    rng = np.random.RandomState(seed)
    y = rng.randint(0, 2, n)
    common = np.minimum(rng.zipf(1.2, (n, length)), vocabulary) - 1
    telling = 200 + 2 * rng.randint(0, 200, (n, 10)) + np.where(rng.rand(n, 10) < 0.75, y[:, None], 1 - y[:, None])
    columns = np.hstack([common, telling])
    X = sp.csr_matrix(
        (np.ones(columns.size, np.float32), (np.repeat(np.arange(n), columns.shape[1]), columns.ravel())),
        (n, vocabulary),
    )
    X.data[:] = 1  # a word that occurs twice counts once
    return X, y


def load_reuters(data=None, *, subset="R52"):
    """Load Reuters-21578, ModApte split, as raw text: X is a list of texts.

    `subset` "R8" or "R52": y is an array of one topic name per text. "R90": y is a list of tuples of topics.
    """
    if subset not in ("R8", "R52", "R90"):
        raise ValueError(f"subset must be 'R8', 'R52' or 'R90', got {subset!r}")
    folder = find_folder(data, "reuters")
    if folder is None:
        parts = [_generated_news(n, seed, subset) for n, seed in ((1600, 0), (400, 1))]
        return Dataset("generated news", *parts, is_real=False, note="generated; the real Reuters was not given")
    path = find_file(folder, "reuters_modapte.tsv")
    lines = _text(path).split("\n")
    header = lines[0].split("\t")
    columns = ("split", "topics90", "label52", "in_r8", "title", "body")
    if not set(columns) <= set(header):
        raise DataError(f"{path}: its first line must name the columns {', '.join(columns)}")
    at = [header.index(column) for column in columns]
    parts = {"train": ([], []), "test": ([], [])}
    for number, line in enumerate(lines[1:-1], start=2):
        row = line.split("\t")
        if len(row) != len(header) or row[at[0]] not in parts:
            raise DataError(f"{path}: line {number} is damaged: {len(row)} fields, {len(header)} expected")
        split, topics, label, in_r8, title, body = (row[i] for i in at)
        if subset != "R90" and (not label or (subset == "R8" and in_r8 != "1")):
            continue
        texts, targets = parts[split]
        texts.append(f"{title}\n{body}")
        targets.append(tuple(topics.split()) if subset == "R90" else label)
    if lines[-1] or not all(texts for texts, _ in parts.values()):
        raise DataError(f"{path}: truncated: its last line has no end, or a split is empty")
    ready = [(X, y if subset == "R90" else np.array(y)) for X, y in parts.values()]
    return Dataset(f"Reuters {subset}", *ready, is_real=True, note=f"from {folder}")


def _generated_news(n, seed, subset, n_topics=8):
    """Texts of 40 words, a third of them from their topic's own forty; R90 adds a second topic to one text in five."""
    rng = np.random.RandomState(seed)
    topic, second = rng.randint(0, n_topics, (2, n))
    second = np.where((subset == "R90") & (rng.rand(n) < 0.2), second, topic)
    texts = []
    for first, other in zip(topic, second):
        own = [f"w{rng.choice((first, other))}x{k}" for k in rng.randint(0, 40, 13)]
        texts.append(" ".join([*own, *(f"common{k}" for k in rng.randint(0, 500, 27))]))
    if subset == "R90":
        return texts, [tuple(sorted({f"topic{a}", f"topic{b}"})) for a, b in zip(topic, second)]
    return texts, np.array([f"topic{a}" for a in topic])


def load_boston(data=None):
    """Load Boston housing: 404 training and 102 test rows, 13 features, the median price in 1000 dollars.

    The training rows are the first 404 after `RandomState(113).shuffle`, a split that published results use.
    """
    folder = find_folder(data, "boston_housing")
    if folder is None:
        X, y = bundled.load_diabetes(return_X_y=True)
        name, note = "diabetes", "bundled with scikit-learn; the real Boston housing was not given"
    else:
        _, table = _table(find_file(folder, "boston.csv"))
        X, y = table[:, :-1], table[:, -1]
        name, note = "Boston housing", f"from {folder}"
    order = np.arange(len(y))
    np.random.RandomState(113).shuffle(order)
    return Dataset(name, *_split(X, y, order, len(y) * 404 // 506), is_real=folder is not None, note=note)


def load_california(data=None, *, fetch=False):
    """Load California housing in scikit-learn's form: 8 features, the median value in 100,000 dollars; 80 % train."""
    folder = None if fetch else find_folder(data, "california_housing")
    name = "California housing"
    if fetch:
        X, y = bundled.fetch_california_housing(return_X_y=True)
        note = "downloaded by scikit-learn"
    elif folder is not None:
        path = find_file(folder, "cal_housing_raw.csv")
        header, table = _table(path, skip=("ocean_proximity",))
        column = {key: table[:, i] for i, key in enumerate(header)}
        try:
            X, y = _california_features(column), column["median_house_value"] / 100000
        except KeyError as error:
            raise DataError(f"{path}: has no column {error}") from None
        note = f"from {folder}"
    else:
        X, y = bundled.make_friedman1(4000, 8, noise=1.0, random_state=0)
        name, note = "Friedman 1", "generated by scikit-learn; the real California housing was not given"
    order = np.random.RandomState(0).permutation(len(y))
    return Dataset(name, *_split(X, y, order, len(y) * 4 // 5), is_real=name != "Friedman 1", note=note)


def _california_features(column):
    homes = column["households"]
    features = (
        column["median_income"],
        column["housing_median_age"],
        column["total_rooms"] / homes,
        column["total_bedrooms"] / homes,
        column["population"],
        column["population"] / homes,
        column["latitude"],
        column["longitude"],
    )
    return np.column_stack(features)


def _split(X, y, order, n_train):
    """Cut rows, taken in `order`, into training and test parts; X in float32."""
    X = X.astype(np.float32)
    return [(X[rows], y[rows]) for rows in (order[:n_train], order[n_train:])]


def _text(path):
    try:
        return read_bytes(path).decode("utf8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from None


def _table(path, skip=()):
    """Return (header, float64 values) of a CSV file without the columns in `skip`."""
    rows = list(csv.reader(io.StringIO(_text(path), newline="")))
    keep = [i for i, name in enumerate(rows[0]) if name not in skip] if rows else []
    try:
        values = np.array([[float(row[i]) for i in keep] for row in rows[1:]])
    except (IndexError, ValueError) as error:
        raise DataError(f"{path}: a row is damaged: {error}") from None
    if values.size == 0:
        raise DataError(f"{path}: truncated: it holds no rows")
    return [rows[0][i] for i in keep], values
