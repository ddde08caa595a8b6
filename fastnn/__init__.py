"""scikit-learn's multi-layer perceptrons, trained by compiled Numba kernels.

Importing compiles nothing and starts no thread: kernels are compiled, or loaded from the cache, when first used.
"""

import gc as _gc
import typing as _typing

# Numba makes so many objects that Python would look for garbage among all of scikit-learn's: .1 of .38 s (Zen 3). And
# then among what was imported, 20 of 145 ms (Zen 5): thawed, that counts as old at once.
_collecting = _gc.isenabled()
_gc.disable()
try:
    from . import interop as _interop
    from ._classifier import MLPClassifier
    from ._regressor import MLPRegressor
finally:
    if _collecting:
        if _gc.get_freeze_count() == 0:  # else somebody wants what is frozen to stay so
            _gc.freeze()
            _gc.unfreeze()
        _gc.enable()

if _typing.TYPE_CHECKING:  # else they are imported when first used, below
    from .checkpoint import Checkpoint
    from .display import LossCurveDisplay
    from .patch import patch_sklearn, unpatch_sklearn

__all__ = [
    "Checkpoint",
    "LossCurveDisplay",
    "MLPClassifier",
    "MLPRegressor",
    "__version__",
    "patch_sklearn",
    "register_onnx",
    "unpatch_sklearn",
]
__version__ = "0.1.0.dev0"


if not _typing.TYPE_CHECKING:  # which would then take any name for one of ours

    def __getattr__(name):
        if name == "LossCurveDisplay":  # not needed for training
            from .display import LossCurveDisplay

            return LossCurveDisplay
        if name == "Checkpoint":
            from .checkpoint import Checkpoint

            return Checkpoint
        if name in ("patch_sklearn", "unpatch_sklearn", "load_ipython_extension", "unload_ipython_extension"):
            from . import patch

            return getattr(patch, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def register_onnx() -> None:
    """Register the estimators with skl2onnx, which must be installed.

    Afterwards ``skl2onnx.to_onnx`` converts fitted fastnn estimators, alone or inside pipelines. What it would export
    wrongly raises ValueError: ``loss="poisson"``, "gamma", "tweedie", regression with several outputs or quantiles,
    classes that are neither strings nor integers.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.register_onnx()  # doctest: +SKIP
    >>> onnx = skl2onnx.to_onnx(fitted, X[:1])  # doctest: +SKIP
    """
    _interop.register_onnx(MLPClassifier, MLPRegressor)
