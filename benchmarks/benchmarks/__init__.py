"""Benchmarks of fastnn for airspeed velocity, each with a scikit-learn (or NumPy) row beside it."""
