"""scikit-learn's own ``MLPClassifier`` and ``MLPRegressor``, trained by fastnn.

Two private methods of the class that both inherit from are exchanged, ``_fit`` and ``_forward_pass_fast``: all that
``fit`` and ``partial_fit``, and all that ``predict`` and ``predict_proba``, come down to. The classes stay the objects
that they are, so names that were bound before, ``isinstance``, subclasses, parameters, ``repr``, ``clone`` and pickles
are scikit-learn's. So are the attributes of a fitted model: see `engine`.
"""

from typing import Any, Literal

from . import workers
from .methods import arrive, exchange, lock, patches, restore_unless_needed

DTYPES = ("match", "float32")


class Patch:
    """What `patch_sklearn` returns: a context manager, whose end takes this patch back.

    Attributes
    ----------
    dtype : {"match", "float32"}
        Precision of training.
    active : bool
        Whether this patch has been taken back neither by its end nor by `unpatch_sklearn`.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    @property
    def active(self) -> bool:
        return self in patches

    def __enter__(self) -> "Patch":
        return self

    def __exit__(self, *exception: object) -> None:
        with lock:
            if self in patches:
                patches.remove(self)
            restore_unless_needed()

    def __repr__(self) -> str:
        return f"<fastnn.patch_sklearn(dtype={self.dtype!r}), {'active' if self.active else 'taken back'}>"


def patch_sklearn(*, dtype: Literal["match", "float32"] = "match") -> Patch:
    """Let fastnn train scikit-learn's ``MLPClassifier`` and ``MLPRegressor`` in this process.

    The classes stay what they are, wherever they have been imported, and so do their parameters, their attributes and
    their pickles. What fastnn cannot do as scikit-learn does it, such as a subclass that overrides ``_backprop``, is
    trained by scikit-learn; the logger "fastnn" says why.

    Parameters
    ----------
    dtype : {"match", "float32"}, default="match"
        Precision of training. "match": as in scikit-learn, float32 where X is float32, else float64. "float32": always
        float32, which is faster.

    Returns
    -------
    patch : Patch
        A context manager: at its end what held before holds again. Where patches overlap, the newest one counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of the above.
    RuntimeError
        If this version of scikit-learn has no such methods as are exchanged.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> import fastnn
    >>> X, y = load_iris(return_X_y=True)
    >>> with fastnn.patch_sklearn():
    ...     clf = MLPClassifier((16,), early_stopping=True, random_state=0).fit(X, y)
    >>> type(clf).__module__
    'sklearn.neural_network._multilayer_perceptron'
    """
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"dtype must be {' or '.join(map(repr, DTYPES))}, got {dtype!r}.")
    with lock:
        exchange()
        patch = Patch(dtype)
        patches.append(patch)
        workers.register()
    return patch


def unpatch_sklearn() -> None:
    """Take back all patches of this process: scikit-learn trains its estimators itself again.

    Models that were fitted under a patch stay fitted, and scikit-learn goes on with them in ``partial_fit``. Without
    any patch nothing happens.

    Examples
    --------
    >>> import fastnn
    >>> patch = fastnn.patch_sklearn()
    >>> fastnn.unpatch_sklearn()
    >>> patch
    <fastnn.patch_sklearn(dtype='match'), taken back>
    """
    with lock:
        patches.clear()
        arrive(None)
        restore_unless_needed()


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext fastnn``: patch scikit-learn in a notebook's process."""
    patch_sklearn()


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext fastnn``: take all patches back."""
    unpatch_sklearn()
