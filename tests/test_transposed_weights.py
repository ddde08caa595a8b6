"""Large layers that keep no transposed copy of their weights: the backward pass turns them panel by panel."""

import warnings

import numpy as np
import pytest

from fastnn import MLPClassifier, plan, train
from fastnn.core.simd.target import few_registers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(7,), (13, 40, 9), (130, 257, 29)], ids=str)  # one panel and many
@pytest.mark.parametrize("batch", [3, 29, 100])
def test_transposed_weights_change_no_bit(batch, hidden, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 11)), np.arange(100) % 5
    options = dict(hidden_layer_sizes=hidden, batch_size=batch, max_iter=2, random_state=0, dtype=dtype)
    asked, found = [], []
    for least in (1, plan.NO_LIMIT):  # all layers, none
        monkeypatch.setattr(train, "max_copied_weights", lambda n, least=least: asked.append(n) or np.int64(least))
        for n_jobs in (1, 2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # two epochs are too few
                model = MLPClassifier(n_jobs=n_jobs, **options).fit(X, y)
            found.append(b"".join(array.tobytes() for array in model.coefs_ + model.intercepts_))
    assert len(asked) == 4
    assert found.count(found[0]) == 4


@pytest.mark.parametrize(("n_threads", "turned"), [(1, True), (3, True), (4, False), (64, False)])
def test_many_threads_share_a_copy(n_threads, turned):
    expected = plan.MANY_WEIGHTS if turned and few_registers() else plan.NO_LIMIT
    assert plan.max_copied_weights(n_threads) == expected
