"""Recipe for text: words as a sparse matrix, which the network takes as it is.

Run it as it is, or cell by cell (``# %%``) in an editor that knows cells. The data come with scikit-learn: sentences of
the descriptions of its data sets; the network tells which set a sentence is about.
"""

# %%
import re

from sklearn import datasets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from fastnn import MLPClassifier

# %%
sentences, names = [], []
for name in ("breast_cancer", "diabetes", "digits", "iris", "wine"):
    text = getattr(datasets, f"load_{name}")().DESCR
    found = [each for each in re.split(r"[.:]\s|\n\n|\n\s*-", text) if len(each.split()) >= 4]
    sentences += found
    names += [name] * len(found)
train, test, y_train, y_test = train_test_split(sentences, names, stratify=names, random_state=0)
print(f"{len(train)} sentences to learn from, {len(test)} to test")

# %% A search over pipelines; every network learns from the same sparse rows, with as many threads as they are worth.
model = make_pipeline(
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
    MLPClassifier((32,), learning_rate="cosine", learning_rate_init=0.01, max_iter=30, random_state=0),
)
search = GridSearchCV(model, {"mlpclassifier__alpha": [1e-4, 1e-2], "mlpclassifier__dropout": [0.0, [0.0, 0.3]]}, cv=3)
search.fit(train, y_train)
accuracy = search.score(test, y_test)
print(f"best: {search.best_params_}")
most_frequent = max(map(y_test.count, y_test)) / len(y_test)
print(f"accuracy on sentences never seen: {accuracy:.2f} (always the most frequent set: {most_frequent:.2f})")

# %%
for sentence in ("Malic acid and alkalinity of ash", "Radius and texture of the cell nucleus"):
    print(f"{sentence!r} is about {search.predict([sentence])[0]}")
