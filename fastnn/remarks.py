"""Warnings in scikit-learn's name: programs silence them by the module that gives them."""

from functools import partial
from types import FunctionType

from sklearn.neural_network import _multilayer_perceptron as mlp


def _call(function):
    return function()


_calls = FunctionType(_call.__code__, vars(mlp))  # a frame that belongs to scikit-learn's module


def in_sklearns_name(function, *args, **options):
    """A function that warns as ``function(*args, **options)`` does, with a ``stacklevel`` of at most 3.

    ``warnings`` takes the frame of that level for the place where the warning is given.
    """
    return partial(_calls, partial(_calls, partial(function, *args, **options)))
