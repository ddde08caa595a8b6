"""Recipe for a long training: progress, going on after a stop, saving and loading, data that come in pieces.

Run it as it is, or cell by cell (``# %%``) in an editor that knows cells. The data come with scikit-learn.
"""

# %%
import tempfile
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastnn import Checkpoint, MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
folder = Path(tempfile.mkdtemp())

# %% Progress: ``verbose=2`` prints losses, scores, the rate and the time left.
model = MLPClassifier((64,), learning_rate="onecycle", learning_rate_init=0.01, max_iter=3, random_state=0, verbose=2)
model.set_params(metrics="accuracy").fit(X_train, y_train, X_val=X_test, y_val=y_test)

# %% A file to go on from: written after every 50 epochs and at the end, here after the time allowed (needs
# scikit-learn 1.9, the first with callbacks).
settings = {"learning_rate": "cosine", "max_iter": 400, "tol": 0, "n_iter_no_change": 400, "random_state": 0}
model = MLPClassifier((64,), **settings, max_seconds=0.05).set_callbacks(Checkpoint(folder / "digits.pickle", every=50))
model.fit(X_train, y_train)
print(f"ended by {model.stop_reason_} after {model.n_iter_} epochs")

# %% In another process, on another day: the same weights as training that was never stopped.
resumed = joblib.load(folder / "digits.pickle").set_params(warm_start=True, max_seconds=None)
resumed.fit(X_train, y_train)
whole = MLPClassifier((64,), **settings).fit(X_train, y_train)
exact = all(np.array_equal(a, b) for a, b in zip(resumed.coefs_, whole.coefs_, strict=True))
print(f"went on to epoch {resumed.n_iter_}; as if it had never been stopped: {exact}")

# %% Saving and loading a finished model. A pickle may run any code when it is loaded: load only your own.
joblib.dump(whole, folder / "model.joblib", compress=3)
loaded = joblib.load(folder / "model.joblib")
same = np.array_equal(loaded.predict_proba(X_test), whole.predict_proba(X_test))
print(f"{(folder / 'model.joblib').stat().st_size / 1024:.0f} KiB; the same probabilities: {same}")

# %% Data that come in pieces: each ``partial_fit`` is an epoch of its rows.
stream = MLPClassifier((64,), batch_size=16, learning_rate_init=0.01, random_state=0)
for rows in np.array_split(np.arange(len(X_train)), 20):
    stream.partial_fit(X_train[rows], y_train[rows], classes=np.arange(10))
accuracy = stream.score(X_test, y_test)
print(f"accuracy after 20 pieces, each seen once: {accuracy:.3f}")
