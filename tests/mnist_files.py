"""Writes small data sets in MNIST's file format, made from the 8 x 8 digits that scikit-learn bundles."""

import gzip
import struct

import numpy as np
from sklearn.datasets import load_digits

NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx_bytes(values):
    """The IDX file of an array of bytes: magic number, big-endian dimensions, values."""
    values = np.asarray(values, np.uint8)
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def small_digits(n_train=300, n_test=100):
    """The four arrays of a small set, by the keys of NAMES: each 8 x 8 digit enlarged to 24 x 24 in a 28 x 28 frame."""
    digits = load_digits()
    small = np.minimum(digits.images[: n_train + n_test] * 16, 255).astype(np.uint8)
    images = np.pad(np.kron(small, np.ones((1, 3, 3), np.uint8)), ((0, 0), (2, 2), (2, 2)))
    labels = digits.target[: n_train + n_test].astype(np.uint8)
    return {
        "train_images": images[:n_train],
        "train_labels": labels[:n_train],
        "test_images": images[n_train:],
        "test_labels": labels[n_train:],
    }


def write_mnist(folder, arrays=None, *, compress=True, name=NAMES.get):
    """Write four IDX files into a new folder and return it; `name` gives the file name for a key of NAMES."""
    folder.mkdir(parents=True)
    for key, values in (arrays or small_digits()).items():
        content = idx_bytes(values)
        path = folder / (f"{name(key)}.gz" if compress else name(key))
        path.write_bytes(gzip.compress(content, mtime=0) if compress else content)
    return folder
