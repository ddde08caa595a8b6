"""No bit of any fit changes by accident: digests of many of them, see ``golden``."""

import pytest

import golden


@pytest.mark.parametrize("name", golden.cases())
def test_bits_are_what_they_were(name):
    expected = golden.known()[name]
    assert [golden.digests(name, n_jobs) for n_jobs in golden.THREADS] == [expected] * len(golden.THREADS)


def test_the_file_holds_these_cases_and_no_others():
    assert list(golden.known()) == list(golden.cases())
