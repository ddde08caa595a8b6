"""What lets type checkers see through scikit-learn's decorators and through classes that are parts of an estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

    def available_if(check: Callable[[Any], Any]) -> Callable[[Function], Function]:
        """scikit-learn's decorator, which hides the signature of the method."""

    def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Function], Function]:
        """scikit-learn's ``_fit_context``, which is not annotated."""

    class Part:
        """A class that makes an estimator together with others, whose attributes it uses."""

        def __init__(self, **parameters: Any) -> None: ...

        def __init_subclass__(cls, **options: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...
else:
    from sklearn.base import _fit_context as fit_context  # noqa: F401 - for the estimators
    from sklearn.utils.metaestimators import available_if  # noqa: F401 - for the estimators

    Part = object
