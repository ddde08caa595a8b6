"""A warning where validation data have not gone through the transformers that the training data went through."""

import sys
import warnings
from types import FrameType

from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline


def warn_of_untransformed(estimator):
    """Warn if the estimator is being fitted by a pipeline, or a target's transformer, that has left X_val as it was.

    To be called where validation data are given.

    The callers are looked up on the stack: a pipeline passes ``mlpclassifier__X_val`` on without a word.
    """
    frame: FrameType | None = sys._getframe(1)
    kind = type(estimator).__name__
    while frame is not None:
        caller = frame.f_locals.get("self") if frame.f_code.co_name in ("fit", "fit_transform") else None
        if isinstance(caller, Pipeline) and caller.steps[-1][1] is estimator:
            before = [name for name, step in caller.steps[:-1] if step not in (None, "passthrough")]
            if before and "X_val" not in (getattr(caller, "transform_input", None) or ()):
                warnings.warn(
                    f"X_val came to {kind} as it was given, while X has been transformed by {', '.join(before)}. Let "
                    "the pipeline transform both: sklearn.set_config(enable_metadata_routing=True), then "
                    f"Pipeline(..., transform_input=['X_val']) with {kind}(...).set_fit_request(X_val=True, "
                    "y_val=True), and fit(X, y, X_val=X_val, y_val=y_val). If X_val has been transformed already, "
                    "ignore this.",
                    stacklevel=2,
                )
            return
        if isinstance(caller, TransformedTargetRegressor) and getattr(caller, "regressor_", None) is estimator:
            warnings.warn(
                f"y_val came to {kind} as it was given, while y has been transformed by TransformedTargetRegressor: "
                "transform y_val alike. If it has been, ignore this.",
                stacklevel=2,
            )
            return
        frame = frame.f_back
