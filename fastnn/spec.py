"""A network without loss or solver: sizes and names of activations become offsets and ids.

Nothing is allocated here but these small arrays.
"""

import functools
from typing import NamedTuple

import numpy as np

from .core.nn.activations import ACTIVATIONS
from .core.nn.update import GROUP
from .core.records import Layout
from .core.simd.target import LINE_BYTES, VECTOR_BYTES

PADDING = 64  # elements of padding behind every buffer, since tiles load and store whole vectors
# Rows a multiple of this apart fall into few sets of L1: they get one more cache line between them.
CONFLICT_BYTES = 512


class NetworkSpec(NamedTuple):
    """All that it takes to predict, besides the weights."""

    units: tuple  # features, hidden layers, outputs
    hidden_activation: str | tuple  # a name in ``ACTIVATIONS``, or one for each hidden layer
    out_activation: str
    dtype: np.dtype

    def layout(self, n_rows):
        """Layout for ``n_rows`` rows of a batch or block, see `make_layout`.

        Raises
        ------
        ValueError
            When there is no activation of a name; the message lists the legal ones.
        """
        layout = make_layout(self.units, self.dtype, n_rows)
        layout.activation[:] = activation_ids(self.hidden_activation, self.out_activation, len(self.units) - 1)
        return layout

    def first_layers(self, n):
        """The network of the first ``n`` layers."""
        names = self.hidden_activation if isinstance(self.hidden_activation, str) else self.hidden_activation[: n - 1]
        return self._replace(units=self.units[: n + 1], hidden_activation=names)


def padded_stride(n, itemsize):
    """Leading dimension for rows of ``n`` elements: whole vectors, and no multiple of `CONFLICT_BYTES`."""
    lanes = VECTOR_BYTES // itemsize
    stride = -(-n // lanes) * lanes
    if stride * itemsize % CONFLICT_BYTES == 0:
        stride += LINE_BYTES // itemsize
    return stride


def make_layout(units, dtype, n_rows):
    """Offsets of a network's parameters, and of its activations and deltas for ``n_rows`` rows.

    Parameters
    ----------
    units : sequence of int
        Units of each level: features, hidden layers, outputs.
    dtype : numpy.dtype
    n_rows : int
        Rows of a batch or block.

    Returns
    -------
    Layout
        ``activation`` is all zeros; `NetworkSpec.layout` fills it in. The other arrays are read-only.
    """
    offsets = _offsets(tuple(map(int, units)), dtype, int(n_rows))
    return offsets._replace(activation=np.zeros(len(units) - 1, dtype=np.int64))


@functools.lru_cache(maxsize=128)
def _offsets(units, dtype, n_rows):
    """`make_layout` without activations. (It takes 20 us, and `partial_fit` with 200 rows 650.)"""
    units = np.asarray(units, dtype=np.int64)
    fan_in, fan_out = units[:-1], units[1:]
    strides = np.array([padded_stride(int(n), dtype.itemsize) for n in units], dtype=np.int64)
    ends = np.cumsum(fan_in * fan_out + fan_out)
    weight = ends - (fan_in * fan_out + fan_out)
    levels = _starts(strides[:-1] * n_rows)
    deltas = _starts(strides[1:] * n_rows)
    copies = strides[:-1] * fan_out
    copies[0] = 0
    layout = Layout(
        units=units,
        stride=strides,
        weight=weight,
        bias=weight + fan_in * fan_out,
        activation=np.empty(0, dtype=np.int64),
        level=np.append(levels, 0),
        delta=np.append(0, deltas),
        transposed=_starts(copies),
        squares=_starts(-(-fan_in // GROUP)),
    )
    for array in layout:
        array.flags.writeable = False
    return layout


def without_input(layout):
    """The layout without activations of level 0, for networks that read the rows of X in place."""
    return layout._replace(level=np.maximum(layout.level - layout.level[1], 0))


def _starts(sizes):
    return np.cumsum(sizes) - sizes


def n_params(layout):
    """Number of weights and biases."""
    return int(layout.bias[-1] + layout.units[-1])


def activation_ids(hidden_activation, out_activation, n_layers):
    """Ids in ``ACTIVATIONS`` of all layers; ``hidden_activation`` as in `make_plan`.

    Raises
    ------
    ValueError
        When a name is none of an activation's, with the legal ones.
    """
    hidden = (hidden_activation,) * (n_layers - 1) if isinstance(hidden_activation, str) else hidden_activation
    for name in hidden:
        _check_name("activation", name, [legal for legal, row in ACTIVATIONS.items() if row.hidden])
    _check_name("out_activation_", out_activation, ACTIVATIONS)
    return [ACTIVATIONS[name].id for name in (*hidden, out_activation)]


def _check_name(what, name, legal):
    if name not in legal:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, legal))}, got {name!r}.")


def keeps_inputs(layout):
    """Whether one of the hidden activations keeps its input."""
    kept = {row.id for row in ACTIVATIONS.values() if row.keeps_input}
    return not kept.isdisjoint(layout.activation[:-1].tolist())
