"""``summary``: layers, parameters, memory and time of an estimator as a text table."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from ._typed import Part
from .core.nn.optimizers import OPTIMIZERS
from .parameters import activation_names, dtype_for, hidden_units
from .plan import constants_of, n_state_arrays
from .train import CHUNK_ROWS

LBFGS_VECTORS = 36  # as long as the parameters: the gradient and what SciPy 1.17 keeps, measured after 15 iterations
HEADER = ("layer", "units", "activation", "parameters", "bytes in training")
LEFT = (True, False, True, False, False)  # columns that are aligned to the left


class SummaryMixin(Part):
    """The part of `BaseMLP` that describes itself."""

    def summary(self) -> str:
        """Layers, activations, parameters, memory in training and time of an epoch.

        Memory is that of the weights with all that training keeps beside them, and of the activations of a mini-batch;
        the data and the work space of each thread are not counted. Before the fit the numbers of features and outputs
        are not known, and what depends on them is "?".

        Returns
        -------
        table : str
            To be printed.

        Raises
        ------
        NotFittedError
            Before the fit, where no hidden layer is asked for, so that nothing is known.
        ValueError
            When a parameter has an illegal value.

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> table = MLPClassifier((8, 4), tol=1, random_state=0).fit([[0.0], [1.0]], [0, 1]).summary()
        >>> print(table.splitlines()[0])
        MLPClassifier 1-8-4-1, solver='adam', computed in float32
        """
        self._validate_params()
        fitted = "coefs_" in vars(self)
        hidden = () if fitted else hidden_units(self.hidden_layer_sizes, self.n_hidden_layers)
        if not (fitted or hidden):
            raise NotFittedError(
                f"Nothing is known of this {type(self).__name__} before its fit: it has no hidden layer. Call 'fit'."
            )
        units = self._mlp_units() if fitted else (None, *hidden, None)
        names = [*activation_names(self.activation, len(units) - 2), self.out_activation_ if fitted else None]
        dtype = self._mlp_summary_dtype(fitted)
        shown = "-".join("?" if n is None else str(n) for n in units)
        copies, rows = self._mlp_copies(dtype), self._mlp_batch_rows()
        counts = [None if None in pair else (pair[0] + 1) * pair[1] for pair in pairwise(units)]
        table: list[tuple[Any, ...]] = [HEADER, ("input", units[0], "", "", "")]
        for i, (n, name, count) in enumerate(zip(units[1:], names, counts, strict=True), 1):
            layer = f"hidden {i}" if i < len(names) else "output"
            table.append((layer, n, name, count, times(count, copies * dtype.itemsize)))
        widths = None if None in units else sum(units[:-1]) + sum(units[1:])
        table.append((f"batch of {rows:,} rows", "", "", "", times(widths, rows * dtype.itemsize)))
        totals = [
            None if any(row[i] is None for row in table) else sum(row[i] or 0 for row in table[2:]) for i in (3, 4)
        ]
        table.append(("total", "", "", *totals))
        first = f"{type(self).__name__} {shown}, solver={str(self.solver)!r}, computed in {dtype}"
        return "\n".join([first, *lines_of(table), *self._mlp_time_of_an_epoch()])

    def _mlp_summary_dtype(self, fitted):
        if self.solver == "lbfgs":
            return np.dtype(np.float64)
        if isinstance(self.dtype, str) and self.dtype == "match" and not fitted:
            return np.dtype(np.float64)  # that of most X
        return self._mlp_network_dtype(None, True) if fitted else dtype_for(self.dtype)

    def _mlp_copies(self, dtype):
        """Arrays as long as the parameters that training holds: see "Memory" in fastnn/README.md."""
        if self.solver == "lbfgs":
            return 2 + LBFGS_VECTORS
        kept = int(self._mlp_keep(None) is not None)
        row = OPTIMIZERS[self.solver]
        settings = {name: getattr(self, name) for name in row.hyper_parameters}
        gradient = int(self.max_grad_norm is not None)
        return 2 + n_state_arrays(row, constants_of(row, settings, dtype), self.ema_decay) + gradient + kept

    def _mlp_batch_rows(self):
        if self.solver == "lbfgs":
            return CHUNK_ROWS
        epochs = len(getattr(self, "loss_curve_", None) or ())
        n_samples = self.t_ // epochs if epochs and getattr(self, "t_", 0) else math.inf
        return min(200 if isinstance(self.batch_size, str) else int(self.batch_size), n_samples)

    def _mlp_time_of_an_epoch(self):
        history = getattr(self, "history_", None)
        seconds = history.get("seconds", ()) if isinstance(history, dict) else ()
        seconds = [each for each in seconds if each == each]  # without NaN
        if not seconds:
            return []
        what = "iteration" if self.solver == "lbfgs" else "epoch"
        return [f"seconds per {what}: {np.median(seconds):.3g} (median of {len(seconds)})"]


def times(count, factor):
    """The product, None for an unknown count."""
    return None if count is None else count * factor


def lines_of(table):
    """The rows of a table as aligned lines; None is "?"."""
    cells = [["?" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [
        "  ".join(c.ljust(w) if left else c.rjust(w) for c, w, left in zip(row, widths, LEFT)).rstrip() for row in cells
    ]
