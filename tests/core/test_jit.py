"""What surrounds a compilation leaves no trace."""

import gc

import pytest

from fastnn.core.compile.exclusive import SELDOM, collecting_seldom


@pytest.fixture
def thresholds():
    before = gc.get_threshold()
    yield gc.set_threshold
    gc.set_threshold(*before)


@pytest.mark.parametrize("own", [(700, 10, 10), (2000, 10, 0), (10**6, 7, 500)], ids=str)
def test_garbage_is_looked_for_seldom_until_the_last_block_ends(own, thresholds):
    thresholds(*own)
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
