"""Compiled code: everything in here imports only Numba, NumPy and its neighbours in this folder."""

from .compile import private as _private  # noqa: F401 - first: it names what Numba lacks and nothing can do without
