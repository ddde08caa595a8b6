"""scripts/moons.py: the source's losses, the cycle of two steps, eight models in one picture."""

import numpy as np
import pytest
from sklearn.datasets import make_moons

import _example
import moons
from example_runs import assert_picture, run_example

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the number of steps is given


def source_losses(X, y, n_hidden, steps):
    """Losses after each step of the source's algorithm, written down once more in plain NumPy."""
    (W1, W2), (b1, b2) = moons.initial_weights(n_hidden)
    losses = []
    for _ in range(steps):
        for after in (False, True):
            hidden = np.tanh(X @ W1 + b1)
            P = np.exp(hidden @ W2 + b2)
            P /= P.sum(axis=1, keepdims=True)
            if after:
                penalty = 0.01 / 2 * ((W1**2).sum() + (W2**2).sum())
                losses.append((penalty - np.log(P[np.arange(len(y)), y]).sum()) / len(y))
            else:
                delta = P - np.eye(2)[y]
                d_hidden = (delta @ W2.T) * (1 - hidden**2)
                W2, b2 = W2 - 0.01 * (hidden.T @ delta + 0.01 * W2), b2 - 0.01 * delta.sum(axis=0)
                W1, b1 = W1 - 0.01 * (X.T @ d_hidden + 0.01 * W1), b1 - 0.01 * d_hidden.sum(axis=0)
    return losses


@pytest.mark.parametrize("n_hidden", [1, 3, 50])
def test_steps_are_those_of_the_source(n_hidden):
    X, y = make_moons(200, noise=0.20, random_state=0)
    network = moons.fit(n_hidden, X, y, 201)
    np.testing.assert_allclose(network.loss_curve_[1:], source_losses(X, y, n_hidden, 200), rtol=1e-9)


def test_quick_run_meets_the_published_losses(tmp_path, capsys):
    outcome = run_example(moons, capsys, "--quick", "--out", tmp_path)
    assert outcome.status == 0 and outcome.err == ""
    assert outcome.figures["loss at step 0"] == ("0.432387", "0.432387", "to 6 digits: met")
    assert outcome.figures["loss at step 1000"] == ("0.068947", "0.068947", "to 6 digits: met")
    ends = outcome.figures["loss at steps 20000 and 20001"][1].split(", ")
    assert sorted(ends) == ["0.070758", "0.071316"]  # one of them is the published end
    for name in ("logistic regression", *(f"{n} hidden unit" for n in moons.SIZES)):
        assert f"\n{name}" in outcome.out
    assert_picture(tmp_path / "moons.png", 1200, 1000)


def test_claims_hold_in_either_phase_of_the_cycle_and_can_fail():
    X, y = make_moons(200, noise=0.20, random_state=0)
    loss = np.array(moons.fit(3, X, y, moons.LAST + 3).loss_curve_[1:])
    other_phase = np.concatenate([loss[:1001], loss[1002:], loss[-2:-1]])
    elsewhere = np.where(np.arange(len(loss)) < moons.LAST, loss, 0.0712)
    assert len(other_phase) == len(loss) and abs(other_phase[-1] - loss[-1]) > 5e-4
    for losses, broken in ((loss, 0), (other_phase, 0), (elsewhere, 1), (loss + 2e-6, 3)):
        report = _example.Report()
        moons.add_losses(report, losses)
        assert len(report.broken) == broken, report.broken


def test_a_wide_network_sees_what_a_narrow_one_and_a_line_cannot():
    X, y = make_moons(200, noise=0.20, random_state=0)
    right = {n: moons.fit(n, X, y, 2000).score(X, y) for n in (1, 3, 5)}
    assert right[1] < 0.9 and right[3] > 0.95 and right[5] > 0.95
