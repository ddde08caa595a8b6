"""A program of a user who writes types: `test_types` has it checked, nobody runs it."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier as TheirClassifier

import fastnn
from fastnn import Checkpoint, LossCurveDisplay, MLPClassifier, MLPRegressor

X: NDArray[np.float64] = np.zeros((20, 3))
y: NDArray[np.int64] = np.arange(20) % 2


def rate(epoch: int) -> float:
    return 0.01 / (1 + epoch)


classifier = MLPClassifier(
    (64, 32),
    ["relu", "mish"],
    solver="nadam",
    learning_rate=rate,
    batch_size="auto",
    init="he_normal",
    loss="focal",
    out_activation="softmax",
    n_jobs=-1,
    dtype=np.float64,
    metrics=["accuracy"],
    class_weight={0: 1.0, 1: 2.5},
    restore_best=True,
    dropout=[0.1, 0.5, 0.5],
    random_state=np.random.RandomState(0),
    n_iter_no_change=np.inf,
    scoring=lambda estimator, X, y: 0.5,
)
assert_type(classifier.fit(X, y, X_val=X, y_val=y), MLPClassifier)
assert_type(classifier.partial_fit(X.tolist(), y.tolist(), classes=[0, 1]), MLPClassifier)
probabilities: NDArray[np.floating[Any]] = classifier.predict_proba(X)
assert_type(classifier.score(X, y), float)
assert_type(classifier.loss_curve_, list[float])
hidden = classifier.transform(X, layer="logits")[:, 0] + classifier.coefs_[0].sum()
print(classifier.summary().upper(), classifier.history_["val_loss"][-1], classifier.classes_.size)
if classifier.stop_reason_ == "max_seconds" and classifier.best_validation_score_ is not None:
    print(f"{classifier.best_validation_score_:.3f}")
theirs: TheirClassifier = MLPClassifier().fit(X, y).to_sklearn()
assert_type(MLPClassifier.from_sklearn(theirs, dtype="match"), MLPClassifier)

regressor = MLPRegressor("quantile", 64, n_hidden_layers=2, quantile=(0.1, 0.5, 0.9), random_state=None, n_jobs=None)
prediction = regressor.fit(X, X[:, 0]).predict(X)[:, 0].mean()
regressor.set_callbacks(Checkpoint("model.pkl", every=10))
display = LossCurveDisplay.from_estimator(regressor, what="loss", training_kwargs={"color": "k"})
display.plot(display.ax_, log_scale=True).figure_.savefig("curves.png")
fastnn.register_onnx()
print(fastnn.__version__.split("."))
