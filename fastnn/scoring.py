"""Loss and scores of network outputs on rows of some data, as scikit-learn defines them, without its metrics' checks.

They run after every epoch that has validation data; the checks of ``sklearn.metrics`` would cost more than the epoch.
``rows`` are indices or a slice; ``outputs`` has one row for each.
"""

import numpy as np

from .core.nn.losses import LOSSES


def mean_loss(loss, outputs, data, rows, constants=()):
    """Weighted mean of the loss over rows, a name in ``LOSSES``, in float64 and without any penalty."""
    labels = data.labels[rows] if data.labels.size else data.labels
    targets = data.targets[rows] if data.targets.size else data.targets
    values = LOSSES[loss].rows_of(outputs, labels, targets, *constants)
    return float(np.average(values, weights=data.sample_weight[rows] if data.sample_weight.size else None))


def accuracy(outputs, data, rows):
    """Share of rows, by weight, whose predicted classes are all right; ``outputs`` are probabilities of ``rows``."""
    if data.labels.size:
        right = outputs.argmax(axis=1) == data.labels[rows]
    else:
        right = ((outputs > 0.5) == (data.targets[rows] > 0.5)).all(axis=1)
    return float(np.average(right, weights=data.sample_weight[rows] if data.sample_weight.size else None))


def r2(outputs, data, rows):
    """Coefficient of determination, the mean over outputs; a constant target scores 1 when met exactly, else 0."""
    y = data.targets[rows].astype(np.float64)
    weight = data.sample_weight[rows].astype(np.float64) if data.sample_weight.size else np.ones(len(y))
    unexplained = _weighted_sum(weight, (y - outputs) ** 2)
    total = _weighted_sum(weight, (y - np.average(y, axis=0, weights=weight)) ** 2)
    ratio = np.divide(unexplained, total, out=np.ones_like(total), where=total != 0)
    return float(np.mean(np.where(unexplained == 0, 1.0, 1.0 - ratio)))


def _weighted_sum(weight, values):
    """Over rows, in the one order that NumPy's sums have on every processor; products of BLAS have none."""
    return np.add.reduce(weight[:, np.newaxis] * values, axis=0)
