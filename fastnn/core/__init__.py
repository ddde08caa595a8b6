"""Compiled code: everything in here imports only Numba, NumPy and its neighbours in this folder."""
