"""What becomes of arrays on their way in: converted piece by piece, by several threads, and looked through for NaN."""

import re

import numpy as np
import pytest

from fastnn import MLPRegressor, encode
from fastnn.encode import cast

ROWS, COLUMNS, PIECE = 23, 7, 35  # pieces of 5 rows, the last one shorter


@pytest.fixture(params=[1, 2, 3], ids="{} threads".format)
def n_threads(request, monkeypatch):
    monkeypatch.setattr(encode, "PIECE", PIECE)
    return request.param


SOURCES = {
    "float32": lambda X: X.astype(np.float32),
    "float64": lambda X: X,
    "big-endian": lambda X: X.astype(">f4"),
    "integers": lambda X: (100 * X).astype(np.int16),
    "Fortran": lambda X: np.asfortranarray(X, np.float32),
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "misaligned": lambda X: np.frombuffer(b"0" + X.astype(np.float32).tobytes(), np.float32, offset=1).reshape(X.shape),
    "one dimension": lambda X: X[:, 0].copy(),
    "rows larger than pieces": lambda X: X.reshape(3, -1)[:, :50],
    "no rows": lambda X: X[:0],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("source", SOURCES)
def test_cast_converts_as_numpy_does(source, dtype, n_threads):
    given = SOURCES[source](np.random.RandomState(0).standard_normal((ROWS, COLUMNS))[: ROWS - ROWS % 3])
    result = cast(given, dtype, "X", n_threads=n_threads)
    np.testing.assert_array_equal(result, given.astype(dtype))
    assert result.dtype == dtype and result.flags.c_contiguous and result.flags.aligned and not result.flags.writeable
    fits = given.dtype == dtype and given.flags.c_contiguous and given.flags.aligned
    assert np.shares_memory(result, given) == (fits and given.size > 0)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf]], ids=str)
@pytest.mark.parametrize("row", [0, 4, 5, 12, ROWS - 2])
def test_cast_finds_what_is_not_finite_in_every_piece(row, values, n_threads):
    for given in (np.float32, np.float64):
        X = np.ones((ROWS, COLUMNS), given)
        X[row, 1 : 1 + len(values)] = values
        with pytest.raises(ValueError, match="NaN" if np.isnan(values[0]) else "infinity"):
            cast(X, np.float32, "X", n_threads=n_threads)


def test_cast_takes_finite_values_whose_sum_is_not(n_threads):
    X = np.full((ROWS, COLUMNS), 1.7e308)
    assert cast(X, np.float64, "X", n_threads=n_threads).base is not None


@pytest.mark.parametrize("size", [-1e19, 3e38, -1e39, 1e300])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.longdouble])
def test_cast_refuses_what_float32_cannot_learn_from(given, size, n_threads):
    if given is np.float32 and abs(size) > 1e38 * 3.4:
        return
    X = np.ones((ROWS, COLUMNS), given)
    X[ROWS - 1, 0] = size
    told = f"X holds {abs(size):.3g}, which is finite but too large to learn from in float32"
    with pytest.raises(ValueError, match=re.escape(told)):
        cast(X, np.float32, "X", n_threads=n_threads)
    assert cast(X, np.float64, "X", n_threads=n_threads)[-1, 0] == X[-1, 0]
    X[ROWS - 1, 0] = encode.LARGEST
    assert cast(X, np.float32, "X", n_threads=n_threads)[-1, 0] == encode.LARGEST


def test_fit_gives_the_same_model_however_many_threads_convert(n_threads):
    rng = np.random.RandomState(0)
    X, y = np.asfortranarray(rng.standard_normal((40, COLUMNS))), rng.standard_normal(40)
    settings = dict(hidden_layer_sizes=(5,), batch_size=20, max_iter=3, random_state=0)
    models = [MLPRegressor(**settings, n_jobs=k).fit(X, y) for k in (1, n_threads)]
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])
