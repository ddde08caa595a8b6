"""What surrounds a compilation leaves no trace, and each twin of an entry is made once."""

import gc
import threading
import time

import pytest

from fastnn.core.compile import jit
from fastnn.core.compile.exclusive import SELDOM, collecting_seldom


@pytest.fixture
def thresholds():
    before = gc.get_threshold()
    yield gc.set_threshold
    gc.set_threshold(*before)


@pytest.mark.parametrize("own", [(700, 10, 10), (2000, 10, 0), (10**6, 7, 500)], ids=str)
def test_garbage_is_looked_for_seldom_until_the_last_block_ends(own, thresholds):
    thresholds(*own)
    own = gc.get_threshold()  # Python 3.14 has no third one
    with collecting_seldom():
        inside = gc.get_threshold()
        assert all(now >= least for now, least in zip(inside[:2], SELDOM[:2], strict=True)) and inside[0] >= own[0]
        with pytest.raises(KeyError), collecting_seldom():
            assert gc.get_threshold() == inside
            raise KeyError
        assert gc.get_threshold() == inside
    assert gc.get_threshold() == own


def test_who_wants_no_collections_gets_none(thresholds):
    thresholds(0, 10, 10)
    with collecting_seldom():
        assert gc.get_threshold()[0] == 0
    assert gc.get_threshold()[0] == 0


def test_threads_that_ask_at_once_get_one_twin(monkeypatch):
    made = []

    def slow(*args, **options):
        time.sleep(0.02)
        made.append(object())
        return made[-1]

    monkeypatch.setattr(jit, "_cached", slow)
    own, start, found = jit.Entry(lambda x: x), threading.Barrier(4), []

    def ask():
        start.wait()
        found.append(own.twin("float32"))

    everyone = [threading.Thread(target=ask) for _ in range(4)]
    for thread in everyone:
        thread.start()
    for thread in everyone:
        thread.join()
    assert len(made) == 1 and found == made * 4
