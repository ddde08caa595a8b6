"""Activations and losses of extreme, certain and missing numbers, compiled and as plain Python."""

import numpy as np
import pytest

from fastnn.core.nn import activations
from kernel_calls import LOSS_CASES, by_dtype, call_loss, compiled, loss_constants, loss_data, read_only

HIDDEN = [name for name, row in activations.ACTIVATIONS.items() if row.hidden]
OUTPUT = [*activations.ACTIVATIONS]


# (activation, extreme logits of one row) -> outputs, exactly
EXTREMES = {
    "softmax, far apart": ("softmax", (1e4, -1e4, 0), (1, 0, 0)),
    "softmax, all large": ("softmax", (3e4, 3e4), (0.5, 0.5)),
    "logistic": ("logistic", (1e4, -1e4, 0), (1, 0, 0.5)),
    "exp": ("exp", (1e4, -1e4, 0), (np.inf, 0, 1)),
    "identity": ("identity", (1e4, -1e4, 0), (1e4, -1e4, 0)),
}


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", EXTREMES)
def test_extreme_outputs(case, dtype):
    name, logits, expected = EXTREMES[case]
    z = np.repeat(np.array(logits, dtype), 16)
    args = (z, len(logits), 16, np.empty(16, dtype), np.empty(16, dtype))
    compiled(activations.activate_output, dtype)(activations.ACTIVATIONS[name].id, *args)
    np.testing.assert_array_equal(z, np.repeat(np.array(expected, dtype), 16))


# (loss, output, target) -> (loss / -log eps, delta): probabilities are kept one eps of float64 away from 0 and 1, in
# float32 too. After no activation a single output of the log loss stands for both classes.
CLIPPED = [
    ("binary_log_loss", 0, 1, 1, -1),
    ("binary_log_loss", 1, 0, 1, 1),
    ("binary_log_loss", 0, 0, 0, 0),
    ("binary_log_loss", 1, 1, 0, 0),
    ("log_loss", 0, 1, 1, -1),
    ("log_loss", 1, 1, 0, 0),
    ("log_loss", 1, 0, 1, 1),
    ("log_loss", 0, 0, 0, 0),
]


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("loss, p, y, expected, delta", CLIPPED)
def test_certain_outputs_have_finite_losses(loss, p, y, expected, delta, dtype):
    sums, output = (p, "identity") if loss == "log_loss" else (1e4 * (2 * p - 1), None)
    z, row_loss = np.full(16, sums, dtype), np.empty(3, dtype)
    targets = np.full((3, 1), y, dtype)
    call_loss(loss, z, row_loss, np.empty(0, np.int32), targets, np.empty(0, dtype), np.arange(3), 1, 16, output)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(row_loss, -np.log(2.0**-52) * expected, rtol=4 * eps, atol=2 * eps)
    np.testing.assert_array_equal(z[:3], np.full(3, delta, dtype))


# (loss, hyper-parameters, loss of a certain mistake / -log eps): what is right and certain costs nothing.
CERTAIN = [
    ("focal", {"focal_gamma": 0.5}, 1),
    ("focal", {"focal_gamma": 5.0}, 1),
    ("binary_focal", {"focal_gamma": 0.5}, 2),
    ("smoothed_log_loss", {"label_smoothing": 0.3}, 0.85),
    ("smoothed_binary_log_loss", {"label_smoothing": 0.3}, 1.7),
]


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("loss, numbers, mistake", CERTAIN)
def test_certain_classes_have_finite_losses(loss, numbers, mistake, dtype):
    """Two outputs, of which the first is certain, for the labels 0 and 1."""
    z, row_loss, smoothing = np.repeat(np.array([1e4, -1e4], dtype), 16), np.empty(2, dtype), "smoothed" in loss
    labels, none = np.array([0, 1], np.int32), np.empty(0, dtype)
    constants = loss_constants(loss, numbers)
    call_loss(loss, z, row_loss, labels, none.reshape(0, 0), none, np.arange(2), 2, 16, constants=constants)
    eps = np.finfo(dtype).eps
    per_output = -np.log(2.0**-52)
    right = 0.15 * smoothing * (2 if "binary" in loss else 1)
    np.testing.assert_allclose(row_loss, per_output * np.array([right, mistake]), rtol=8 * eps, atol=1e-7)
    off = 0.15 * smoothing
    expected = np.array([[off, 1 - off], [-off, off - 1]])
    np.testing.assert_allclose(z.reshape(2, 16)[:, :2], expected, rtol=8 * eps, atol=1e-7)


@pytest.mark.nojit
@by_dtype
def test_nan_is_visible_where_it_goes_in_and_nowhere_else(dtype):
    size, bad = 40, 11
    rest = np.arange(size) != bad
    for name in HIDDEN:
        z = np.linspace(-2, 2, size).astype(dtype)
        z[bad] = np.nan
        compiled(activations.activate, dtype)(activations.ACTIVATIONS[name].id, z)
        np.testing.assert_array_equal(np.isfinite(z), rest, err_msg=name)
        a, d = np.full(size, 0.25, dtype), np.ones(size, dtype)
        d[bad] = np.nan
        row = activations.ACTIVATIONS[name]
        if row.keeps_input:
            compiled(activations.differentiate_input, dtype)(row.id, read_only(a), read_only(a), d)
        else:
            compiled(activations.differentiate, dtype)(row.id, read_only(a), d)
        np.testing.assert_array_equal(np.isfinite(d), rest, err_msg=name)
    for name in OUTPUT:
        for position in range(3):
            z = np.ones((3, 48), dtype)
            z[position, bad] = np.nan
            args = (3, 48, np.empty(48, dtype), np.empty(48, dtype))
            compiled(activations.activate_output, dtype)(activations.ACTIVATIONS[name].id, z.reshape(-1), *args)
            assert np.isnan(z[:, bad] if name == "softmax" else z[position, bad]).all(), name
            assert np.isfinite(np.delete(z, bad, axis=1)).all(), name


@pytest.mark.nojit
@by_dtype
@pytest.mark.parametrize("case", LOSS_CASES)
def test_nan_outputs_targets_and_weights_are_visible_in_their_rows(case, dtype):
    loss, n_outputs, uses_labels, numbers = LOSS_CASES[case]
    n, rng = 20, np.random.default_rng(0)
    for what, bad in (("output", 3), ("target", 7), ("weight", 19)):
        labels, targets, _ = loss_data(loss, n_outputs, uses_labels, n, dtype, rng)
        weights, z = np.ones(n, dtype), np.full((n_outputs, 32), 0.5, dtype)
        row_loss = np.zeros(n, dtype)
        if what == "output":
            z[:, bad] = np.nan
        elif what == "weight":
            weights[bad] = np.nan
        elif uses_labels:
            continue
        else:
            targets[bad, -1] = np.nan
        args = (
            (labels, targets + dtype(0.5), weights)
            if numbers.get("tweedie_power", 0) > 2
            else (labels, targets, weights)
        )
        constants = loss_constants(loss, numbers)
        call_loss(loss, z.reshape(-1), row_loss, *args, np.arange(n), n_outputs, 32, constants=constants)
        np.testing.assert_array_equal(np.isnan(row_loss), np.arange(n) == bad, err_msg=what)
        np.testing.assert_array_equal(np.isnan(z[-1, :n]), np.arange(n) == bad, err_msg=what)
