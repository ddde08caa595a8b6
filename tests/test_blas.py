"""One BLAS thread while L-BFGS runs, and as many as before afterwards, whoever else is inside."""

import os
import threading

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from fastnn import MLPRegressor, lbfgs
from fastnn.blas import with_one_blas_thread

RNG = np.random.RandomState(0)
X = RNG.standard_normal((50, 3))
y = X[:, 0] * X[:, 1]
pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
CONTROLLER = ThreadpoolController().select(user_api="blas")


def n_blas_threads():
    return {library["num_threads"] for library in CONTROLLER.info()}


@pytest.fixture(autouse=True)
def three_threads():
    if not CONTROLLER.lib_controllers:
        pytest.skip("no BLAS here whose threads can be counted")
    with threadpool_limits(3, user_api="blas"):
        if n_blas_threads() != {3}:
            pytest.skip("the BLAS here takes no three threads")
        yield


def test_lbfgs_runs_beside_one_blas_thread(monkeypatch):
    seen, real = [], lbfgs.FullBatch.__call__

    def evaluated(self):
        seen.append(n_blas_threads())
        return real(self)

    monkeypatch.setattr(lbfgs.FullBatch, "__call__", evaluated)
    MLPRegressor(hidden_layer_sizes=4, solver="lbfgs", max_iter=3, random_state=0).fit(X, y)
    assert seen and all(each == {1} for each in seen)
    assert n_blas_threads() == {3}


def test_an_error_gives_the_threads_back():
    with pytest.raises(ZeroDivisionError):
        with_one_blas_thread(lambda: 1 / 0)
    assert n_blas_threads() == {3}


def test_two_at_a_time_leave_as_many_as_before():
    entered, leave = threading.Event(), threading.Event()

    def stay():
        entered.set()
        leave.wait(60)

    other = threading.Thread(target=with_one_blas_thread, args=(stay,))
    other.start()
    assert entered.wait(60)
    with_one_blas_thread(leave.set)
    other.join()
    assert n_blas_threads() == {3}
    assert with_one_blas_thread(n_blas_threads) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_forked_meanwhile_is_not_stuck():
    def fork():
        child = os.fork()
        if not child:
            os._exit(0 if with_one_blas_thread(n_blas_threads) == {1} else 1)
        return os.waitpid(child, 0)[1]

    assert with_one_blas_thread(fork) == 0
    assert n_blas_threads() == {3}
