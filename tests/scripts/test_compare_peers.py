"""The comparison script: its options, its JSON file, and that every library is given the same work."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numba import config
from sklearn.neural_network import MLPClassifier

import compare_peers
from peers import workloads

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run_script(*arguments):
    command = [sys.executable, str(SCRIPTS / "compare_peers.py"), *map(str, arguments)]
    environment = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}  # must not reach what is measured
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quick_run_writes_times_ratios_and_share(tmp_path):
    file = tmp_path / "times.json"
    output = run_script(
        *("--quick", "--workload", "moons", "--peers", "fastnn", "sklearn"),
        *("--threads", 1, "--repeats", 2, "--seconds", 0.02, "--json", file),
    )
    assert "200, 2-3-1, full, sgd, tanh" in output
    report = json.loads(file.read_text())
    assert set(report) == {"machine", "python", "versions", "missing", "blas", "settings", "results"}
    assert "\nBLAS kernels: " in output
    assert set(report["blas"]) == set(report["versions"])
    assert all(kernels and "Nehalem" not in kernels for kernels in report["blas"].values())
    assert set(report["versions"]) == {"sgemm", "fastnn", "sklearn"} and report["missing"] == {}
    (row,) = report["results"]
    assert (row["workload"], row["n"], row["units"], row["threads"]) == ("moons", 200, [2, 3, 1], 1)
    assert row["peak_gflops"] > 0 and set(row["seconds"]) == {"fastnn", "sklearn"}
    for name, seconds in row["seconds"].items():
        low, high = row["spread"][name]
        assert 0 < low <= seconds <= high
        assert row["epochs_per_fit"][name] >= 1 and row["threads_used"][name] == 1
        assert 0 < row["share_of_peak"][name] < 1
    assert row["ratios"] == {"sklearn": pytest.approx(row["seconds"]["sklearn"] / row["seconds"]["fastnn"])}
    whole = {name: sum(cores >= compare_peers.WHOLE for cores in row["cores"][name]) for name in row["cores"]}
    assert {name: len(values) for name, values in row["cores"].items()} == dict(sgemm=2, fastnn=2, sklearn=2)
    assert all(cores > 0 for values in row["cores"].values() for cores in values)
    assert row["undisturbed"]["runs"] == whole
    assert set(row["undisturbed"]["seconds"]) == {name for name in ("fastnn", "sklearn") if whole[name]}


class Yardstick:
    """Stands in for the yardstick's process: what it answers when it is asked for paces, one after the other."""

    def __init__(self, *paces):
        self.paces = list(paces)

    def ask(self, do, seconds):
        one, together = self.paces.pop(0)
        return {"one": one, "all": together}


@pytest.mark.parametrize(
    ("paces", "wait", "found", "left"),
    [
        ([(10, 19)], 60, 19, 0),  # all are there
        ([(10, 11), (9, 15), (10, 18), (10, 20)], 60, 18, 1),  # 0.9 of two are enough
        ([(10, 11), (10, 20)], 0, 11, 1),  # nobody waits
        ([(8, 16), (10, 20)], 60, 16, 1),  # the best pace of one thread that was seen so far is what counts
    ],
)
def test_waiting_for_all_cores(paces, wait, found, left, monkeypatch):
    monkeypatch.setattr(compare_peers, "BETWEEN_LOOKS", 0)
    child = Yardstick(*paces)
    assert compare_peers.Cores(child, 2, wait).ready() == found
    assert len(child.paces) == left


def test_medians_of_undisturbed_runs_stand_beside_those_of_all():
    workload = workloads.BY_NAME["mnist-100"]
    found = compare_peers.summary(workload, {"sgemm": [1.0, 3.0, 2.0], "fastnn": [0.1, 0.3], "jax": [0.6]})
    assert found["seconds"] == {"fastnn": pytest.approx(0.2), "jax": 0.6} and found["ratios"] == {
        "jax": pytest.approx(3)
    }
    assert found["peak_gflops"] == pytest.approx(compare_peers.SGEMM_FLOPS / 2e9)
    assert found["share_of_peak"]["jax"] == pytest.approx(workload.flops() / 0.6 / compare_peers.SGEMM_FLOPS * 2)


def test_check_finds_the_loss_of_scikit_learn(tmp_path):
    """Full batches leave no choice to a shuffle, so the same seed must end at the same loss."""
    file = tmp_path / "losses.json"
    run_script(
        *("--check", "--workload", "moons", "--peers", "fastnn", "sklearn"),
        *("--threads", 1, "--check-epochs", 20, "--json", file),
    )
    (row,) = json.loads(file.read_text())["results"]
    assert row["loss"]["fastnn"] == pytest.approx(row["loss"]["sklearn"], rel=1e-4)


def test_list_names_every_workload():
    lines = run_script("--list").splitlines()
    assert [line.split()[1] for line in lines] == [w.name for w in workloads.WORKLOADS]


@pytest.mark.parametrize("arguments", [("--threads", "0"), ("--workload", "nothing"), ("--peers", "nobody")])
def test_bad_options_are_refused(arguments):
    command = [sys.executable, str(SCRIPTS / "compare_peers.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and arguments[0] in done.stderr


def test_flops_of_the_issue_formula():
    """2n(2 * all products + all but the first); a prediction passes once forward."""
    fit = workloads.Workload("", 10, (4, 3, 2, 1), 5, "adam")
    assert fit.flops() == 2 * 10 * (2 * (12 + 6 + 2) + 6 + 2)
    predict = workloads.Workload("", 10, (4, 3, 2, 1), 5, "adam", kind="predict")
    assert predict.flops() == 2 * 10 * (12 + 6 + 2)


def test_every_workload_makes_the_data_it_declares():
    for workload in workloads.WORKLOADS:
        small = workload.shrunk(300)
        X, y = workloads.make_data(small)
        again, _ = workloads.make_data.__wrapped__(small)
        outputs = small.units[-1]
        assert X.shape == (small.n, small.units[0]) and X.dtype == np.float32, workload.name
        assert (again != X).sum() == 0, workload.name
        if small.output == "identity":
            assert y.dtype == np.float32 and y.shape == ((small.n,) if outputs == 1 else (small.n, outputs))
        else:
            assert set(np.unique(y)) <= set(range(max(outputs, 2))), workload.name


def test_initial_weights_and_loss_are_those_of_scikit_learn():
    """One epoch at a rate of nearly zero leaves the drawn weights, and their loss is loss_ without L2."""
    workload = workloads.BY_NAME["odd-widths"].shrunk(200)
    X, y = workloads.make_data(workload)
    coefs, intercepts = workloads.initial_weights(workload, seed=3)
    peer = MLPClassifier(workload.hidden, batch_size=200, solver="sgd", learning_rate_init=1e-30, alpha=0, max_iter=1)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        peer.set_params(random_state=3).fit(X, y)
    for ours, theirs in zip(coefs + intercepts, peer.coefs_ + peer.intercepts_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert workloads.training_loss(workload, X, y, coefs, intercepts) == pytest.approx(peer.loss_, rel=1e-5)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="multiplies by compiled kernels")
@pytest.mark.parametrize("name", ["mnist-100", "covertype"])
def test_the_limit_does_the_products_of_a_step(name):
    """All but those of ten outputs or fewer, each correctly."""
    from peers import limit_peer

    workload = workloads.BY_NAME[name].shrunk(512)
    job = limit_peer.make_job(workload, None, None, 2)
    assert job.run(1) > 0
    for one in job.jobs:
        counted = 0
        for (c, ldc, a, a_row, a_k, at, b, b_k, m, n, n_k), per_step in one.products:
            rows, columns = np.arange(m) * a_row, np.arange(n_k) * a_k
            if at.size and a_row == 0:
                rows = at[:m] // 4
            elif at.size:
                columns = at[:n_k] // 4
            factor = a[rows[:, None] + columns].astype(np.float64)
            product = factor @ b[np.arange(n_k)[:, None] * b_k + np.arange(n)]
            found = c[np.arange(m)[:, None] * ldc + np.arange(n)]
            np.testing.assert_allclose(found, product, rtol=1e-4)
            counted += 2 * m * n * n_k * per_step
        wide = [i * o for i, o in pairwise(workload.units) if o >= limit_peer.FEWEST_OUTPUTS]
        flops = 2 * workload.batch_rows * (2 * sum(wide) + sum(wide[1:]))
        assert counted == pytest.approx(flops / 2, rel=1e-6)
        assert sum(w.size for w in one.moments) == pytest.approx(
            2 * sum(i * o for i, o in pairwise(workload.units)), rel=1e-3
        )


@pytest.mark.parametrize("name", ["moons", "imdb", "predict", "search-1"])
def test_no_limit_is_given_where_other_work_counts(name):
    from peers import limit_peer

    with pytest.raises(NotImplementedError):
        limit_peer.make_job(workloads.BY_NAME[name], None, None, 1)
