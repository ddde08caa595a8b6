"""A program full of mistakes: `test_types` looks whether the checker finds each one, nobody runs it."""

import numpy as np

import fastnn
from fastnn import Checkpoint, LossCurveDisplay, MLPClassifier, MLPRegressor

X, y = np.zeros((20, 3)), np.arange(20)

MLPClassifier(activation="rleu")  # mistake
MLPClassifier((64, 32), ["relu", "softmax"])  # mistake
MLPClassifier(solver="adamw")  # mistake
MLPClassifier(learning_rate="cosines")  # mistake
MLPClassifier(init="xavier")  # mistake
MLPClassifier(loss="cross_entropy")  # mistake
MLPClassifier(dtype="float16")  # mistake
MLPClassifier(n_jobs="all")  # mistake
MLPClassifier(hidden_layer_sizes="100")  # mistake
MLPClassifier(hidden_layer_size=100)  # mistake
MLPClassifier((64,), "relu", "adam")  # mistake
MLPClassifier(class_weight="equal")  # mistake
MLPRegressor((64, 64))  # mistake: the loss comes first
MLPRegressor(loss="log_loss")  # mistake
MLPRegressor(class_weight={0: 1})  # mistake
MLPClassifier().fit(X)  # mistake
MLPClassifier().fit(X, y, None, X, y)  # mistake: validation data are keywords
MLPClassifier().fit(X, y, x_val=X)  # mistake
MLPClassifier().partial_fit(X, y, labels=[0, 1])  # mistake
MLPRegressor().partial_fit(X, y, classes=[0, 1])  # mistake
MLPClassifier().transform(X, layer="last")  # mistake
MLPClassifier().predict(X, y)  # mistake
MLPClassifier().summary() + 1  # mistake
MLPClassifier.from_sklearn(X, dtype="single")  # mistake
Checkpoint("model.pkl", 10)  # mistake
Checkpoint("model.pkl", every="10")  # mistake
LossCurveDisplay.from_estimator(MLPClassifier(), mertic="loss")  # mistake
LossCurveDisplay([1.0]).plot(logscale=True)  # mistake
fastnn.MLPClasifier()  # mistake
fastnn.register_onnx(MLPClassifier)  # mistake
