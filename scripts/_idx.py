"""The IDX format, in which MNIST is distributed: one array of bytes per file, plain or compressed with gzip.

A file is: two zero bytes, 0x08 (unsigned bytes), the number of dimensions, each dimension as a big-endian
32-bit integer, then the values, last dimension fastest. Images are (n, rows, columns), labels are (n,).
"""

import gzip
import math
import struct
import zlib

import numpy as np

KINDS = {1: "labels", 3: "images"}
GZIP_MAGIC = b"\x1f\x8b"


class DataError(ValueError):
    """A data set that cannot be used; the message names the file."""


def find_file(folder, *names):
    """Return the first of `names` that `folder` holds, each plain or with .gz."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(f"{folder / names[0]}: no such file, plain or .gz")


def read_bytes(path):
    """Return the content of a file, uncompressed when it is gzip (told by its content, not by its name)."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except EOFError:
        raise DataError(f"{path}: truncated: the compressed data ends too early") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def read_idx(path, n_dims):
    """Return the array of an IDX file that must have `n_dims` dimensions: 1 for labels, 3 for images."""
    content = read_bytes(path)
    if len(content) < 4:
        raise DataError(f"{path}: truncated: {len(content)} bytes, not even a header")
    if content[:3] != b"\x00\x00\x08" or content[3] not in KINDS:
        raise DataError(f"{path}: not an IDX file of images or labels: it starts with 0x{content[:4].hex()}")
    if content[3] != n_dims:
        raise DataError(f"{path}: holds {KINDS[content[3]]} where {KINDS[n_dims]} are expected")
    start = 4 + 4 * n_dims
    if len(content) < start:
        raise DataError(f"{path}: truncated: {len(content)} bytes, the header alone has {start}")
    shape = struct.unpack(f">{n_dims}I", content[4:start])
    expected, found = math.prod(shape), len(content) - start
    if found != expected:
        state = "truncated" if found < expected else "too long"
        raise DataError(f"{path}: {state}: {found} bytes of {KINDS[n_dims]}, its header announces {expected}")
    if expected == 0:
        raise DataError(f"{path}: empty: its header announces no {KINDS[n_dims]}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_labelled_images(folder, part):
    """Return (images, labels) of one part of MNIST, `part` being "train" or "t10k", checked against each other."""
    images_path = find_file(folder, f"{part}-images-idx3-ubyte", f"{part}-images.idx3-ubyte")
    labels_path = find_file(folder, f"{part}-labels-idx1-ubyte", f"{part}-labels.idx1-ubyte")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(f"{labels_path}: {len(labels)} labels, but {images_path.name} holds {len(images)} images")
    if labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise DataError(f"{labels_path}: label {labels[row]} of image {row} is not a digit 0 to 9")
    return images, labels
