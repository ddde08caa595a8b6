"""The parameters as one vector: the arrays that users see are its views, and others are copied into it."""

import numpy as np
import pytest

import reference
from fastnn import infer, state
from fastnn.spec import n_params
from test_engine import Problem


def test_coefs_are_the_network():
    problem = Problem("squared_error", (4,), "tanh", n_outputs=2, dtype=np.float64)
    network = (problem.layout, problem.plan, problem.state.params, problem.data)
    problem.state.coefs[0][2, 1] = 3.0
    problem.state.intercepts[1][:] = (5.0, -5.0)
    problem.coefs[0][2, 1] = 3.0
    problem.intercepts[1][:] = (5.0, -5.0)
    out = infer.forward(*network, n_threads=1)
    expected = reference.forward(problem.coefs, problem.intercepts, problem.X, "tanh", "identity")[-1]
    np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)
    assert all(coef.flags.c_contiguous and coef.flags.writeable for coef in problem.state.coefs)
    problem.train(1, 0.1)
    assert problem.state.coefs[0].base is problem.state.params.base  # training writes in place
    assert problem.state.coefs[0][2, 1] != 3.0


def test_flat_params_of_untouched_views_is_no_copy():
    problem = Problem("squared_error", (4, 3), "tanh", n_outputs=2, dtype=np.float32)
    own = problem.state
    flat = state.flat_params(problem.layout, np.dtype(np.float32), own.coefs, own.intercepts)
    assert np.shares_memory(flat, own.params)
    assert flat.size == own.params.size == n_params(problem.layout)


PACKED = {
    "a copy": lambda coefs, intercepts: ([c.copy() for c in coefs], intercepts),
    "one new array": lambda coefs, intercepts: ([coefs[0], coefs[1].copy(), coefs[2]], intercepts),
    "Fortran order": lambda coefs, intercepts: ([np.asfortranarray(c) for c in coefs], intercepts),
    "another dtype": lambda coefs, intercepts: ([c.astype(float) for c in coefs], intercepts),
    "lists": lambda coefs, intercepts: ([c.tolist() for c in coefs], [b.tolist() for b in intercepts]),
    "a view of views": lambda coefs, intercepts: ([c[::-1][::-1] for c in coefs], tuple(b[:] for b in intercepts)),
}


@pytest.mark.parametrize("how", PACKED)
def test_flat_params_of_other_arrays_packs_their_values(how):
    problem = Problem("squared_error", (4, 3), "tanh", n_outputs=2, dtype=np.float32)
    own = problem.state
    flat = state.flat_params(problem.layout, np.dtype(np.float32), *PACKED[how](own.coefs, own.intercepts))
    assert flat.dtype == np.float32
    np.testing.assert_array_equal(flat, own.params)
    if how != "a view of views":
        assert not np.shares_memory(flat, own.params)
    problem.state.params[:] = flat  # the packed vector works like the first one
    assert state.split(problem.layout, flat)[0][1].shape == (4, 3)


def test_flat_params_that_swap_two_layers_are_not_taken_for_the_views():
    problem = Problem("squared_error", (6, 6), "tanh", n_outputs=6, dtype=np.float32)
    own = problem.state
    swapped = own.coefs[::-1]
    flat = state.flat_params(problem.layout, np.dtype(np.float32), swapped, own.intercepts)
    np.testing.assert_array_equal(state.split(problem.layout, flat)[0][0], own.coefs[2])


def test_views_that_were_found_before_are_looked_at_again():
    problem = Problem("squared_error", (6, 6), "tanh", n_outputs=6, dtype=np.float32)
    own, dtype = problem.state, np.dtype(np.float32)
    for _ in range(2):
        flat = state.flat_params(problem.layout, dtype, own.coefs, own.intercepts)
        assert np.shares_memory(flat, own.params) and flat.ctypes.data == own.params.ctypes.data
    assert not np.shares_memory(state.flat_params(problem.layout, dtype, own.coefs[::-1], own.intercepts), own.params)
    state.flat_params(problem.layout, dtype, own.coefs, own.intercepts)
    replaced = [own.coefs[0] + 1, *own.coefs[1:]]
    copied = state.flat_params(problem.layout, dtype, replaced, own.intercepts)
    assert not np.shares_memory(copied, own.params)
    np.testing.assert_array_equal(state.split(problem.layout, copied)[0][0], replaced[0])
    own.coefs[1].shape = (36,)
    with pytest.raises(ValueError, match=r"coefs_\[1\] must have shape"):
        state.flat_params(problem.layout, dtype, own.coefs, own.intercepts)


REFUSED = {
    "coefs missing": (lambda c, b: (c[:2], b), r"coefs_ must hold 3 arrays, one for each layer, got 2"),
    "intercepts missing": (lambda c, b: (c, []), r"intercepts_ must hold 3 arrays, one for each layer, got 0"),
    "transposed": (lambda c, b: ([c[0].T, *c[1:]], b), r"coefs_\[0\] must have shape \(6, 4\), got \(4, 6\)"),
    "long bias": (lambda c, b: (c, [b[0], np.ones(4), b[2]]), r"intercepts_\[1\] must have shape \(3,\), got \(4,\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_flat_params_refuses_what_does_not_fit(case):
    change, message = REFUSED[case]
    problem = Problem("squared_error", (4, 3), "tanh", n_outputs=2, dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        state.flat_params(problem.layout, np.dtype(np.float32), *change(problem.state.coefs, problem.state.intercepts))


def test_adopt_copies():
    problem = Problem("squared_error", (4,), "tanh", n_outputs=2, dtype=np.float32)
    coefs, intercepts = [c + 1 for c in problem.coefs], [b - 1 for b in problem.intercepts]
    problem.state.adopt(coefs, intercepts)
    for own, given in zip(problem.state.coefs + problem.state.intercepts, coefs + intercepts, strict=True):
        np.testing.assert_array_equal(own, given.astype(np.float32))
        assert not np.shares_memory(own, given)
