"""Recipes for tables: validation data in a pipeline, a rare class, several outputs.

Run it as it is, or cell by cell (``# %%``) in an editor that knows cells. The data come with scikit-learn.
"""

# %%
import sklearn
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_linnerud
from sklearn.metrics import recall_score
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier, MLPRegressor

sklearn.set_config(enable_metadata_routing=True)

# %% Validation data of one's own: the pipeline scales them by the training data, as it scales X.
X, y = load_breast_cancer(return_X_y=True)
X_rest, X_test, y_rest, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_train, X_val, y_train, y_val = train_test_split(X_rest, y_rest, stratify=y_rest, random_state=0)

network = MLPClassifier((32,), early_stopping=True, scoring="loss", max_iter=500, random_state=0)
network.set_fit_request(X_val=True, y_val=True)
model = Pipeline([("scale", StandardScaler()), ("network", network)], transform_input=["X_val"])
model.fit(X_train, y_train, X_val=X_val, y_val=y_val)

accuracy = model.score(X_test, y_test)
print(f"breast cancer: best epoch {network.best_epoch_} of {network.n_iter_}, accuracy {accuracy:.3f}")

# %% A rare class: of the malignant tumours (class 0) only one in ten is kept. Weights find more of them.
rare = (y == 1) | (X[:, 0] % 1 < 0.1)
X_rare, y_rare = X[rare], y[rare]
recalls = {}
for weight in (None, "balanced"):
    network = MLPClassifier((32,), class_weight=weight, alpha=1, learning_rate_init=0.01, random_state=0)
    predicted = cross_val_predict(make_pipeline(StandardScaler(), network), X_rare, y_rare, cv=5)
    recalls[weight] = recall_score(y_rare, predicted, pos_label=0)
    print(f"class_weight={weight!r}: {recalls[weight]:.0%} of {(y_rare == 0).sum()} malignant tumours found")

# %% Several outputs: one network predicts weight, waist and pulse from three exercises.
X, y = load_linnerud(return_X_y=True)
network = make_pipeline(
    StandardScaler(),
    MLPRegressor(hidden_layer_sizes=(8,), learning_rate="cosine", learning_rate_init=0.01, random_state=0),
)
model = TransformedTargetRegressor(network, transformer=StandardScaler()).fit(X, y)
outputs = model.predict(X[:2])
print("weight, waist, pulse of two people:", outputs.round(1).tolist())
