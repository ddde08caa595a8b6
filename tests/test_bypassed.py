"""A warning tells of validation data that a pipeline has not transformed, and only then."""

import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier, MLPRegressor

X = np.random.RandomState(0).standard_normal((60, 4))
Y = (X[:, 0] > 0).astype(int)
NAMED = {"mlpclassifier__X_val": X, "mlpclassifier__y_val": Y}
GIVEN = {"X_val": X, "y_val": Y}


def network(kind=MLPClassifier):
    return kind(hidden_layer_sizes=(3,), max_iter=2, random_state=0)


def routed(steps, **options):
    requesting = network().set_fit_request(X_val=True, y_val=True)
    return Pipeline([*steps, ("net", requesting)], **options)


class Nested(StandardScaler):
    """A transformer that trains a network of its own, on data that it has prepared itself."""

    def fit(self, X, y=None):
        network().fit(X, y, **GIVEN)
        return super().fit(X, y)


SCALED = [("scale", StandardScaler())]
# case: (what is fitted, arguments, metadata routing, words of the warning)
TOLD = {
    "pipeline": (lambda: make_pipeline(StandardScaler(), network()), NAMED, False, "transformed by standardscaler"),
    "search": (
        lambda: GridSearchCV(make_pipeline(StandardScaler(), network()), {}, cv=2), NAMED, False, "by standardscaler",
    ),
    "routing without transform_input": (lambda: routed(SCALED), GIVEN, True, "transformed by scale"),
    "target": (
        lambda: TransformedTargetRegressor(network(MLPRegressor), func=np.exp, inverse_func=np.log), GIVEN, False,
        "y_val came to MLPRegressor as it was given",
    ),
}  # fmt: skip
SILENT = {
    "alone": (network, GIVEN, False),
    "no transformer": (lambda: make_pipeline("passthrough", network()), NAMED, False),
    "transform_input": (lambda: routed(SCALED, transform_input=["X_val"]), GIVEN, True),
    "no validation data": (lambda: make_pipeline(StandardScaler(), network()), {}, False),
    "a network inside a transformer": (lambda: make_pipeline(Nested(), network()), {}, False),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", TOLD)
def test_untransformed_validation_data_are_told(case):
    make, given, routing, words = TOLD[case]
    with config_context(enable_metadata_routing=routing), pytest.warns(UserWarning, match=words):
        make().fit(X, Y, **given)


@pytest.mark.parametrize("case", SILENT)
def test_other_validation_data_are_not(case):
    make, given, routing = SILENT[case]
    with config_context(enable_metadata_routing=routing), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make().fit(X, Y, **given)
    assert not [each for each in caught if "as it was given" in str(each.message)]
