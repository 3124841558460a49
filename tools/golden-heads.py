#!/usr/bin/env python3
"""Write what scikit-learn's LogisticRegression finds on small sets, for the tests of crates/heads.

    tools/golden-heads.py > crates/heads/tests/golden/logistic.json

Needs numpy and scikit-learn (1.9.1 wrote the file that is there). Numbers of the sets have three
decimals, so that both programs read the same ones.
"""

import json
import warnings

import numpy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss

ROWS, COLUMNS = 120, 6
STRENGTHS = [0.01, 1.0, 100.0]


def rows(labels, seed):
    """Clouds that overlap, of unequal size, off the middle."""
    random = numpy.random.default_rng(seed)
    shares = numpy.arange(1, labels + 1) / numpy.arange(1, labels + 1).sum()
    of = random.choice(labels, ROWS, p=shares)
    middles = random.normal(size=(labels, COLUMNS))
    vectors = (middles[of] + 1.2 * random.normal(size=(ROWS, COLUMNS)) + 0.5).round(3)
    return vectors, of


def case(labels, seed):
    vectors, of = rows(labels, seed)
    fits = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000)
        model.fit(vectors, of)
        told = model.predict_proba(vectors)
        fits.append({
            "c": strength,
            "weights": model.coef_.tolist(),
            "bias": model.intercept_.tolist(),
            "probabilities": told[:10].tolist(),
            "accuracy": accuracy_score(of, told.argmax(1)),
            "macro_f1": f1_score(of, told.argmax(1), average="macro"),
            "log_loss": log_loss(of, told),
        })
    return {"vectors": vectors.tolist(), "of": of.tolist(), "fits": fits}


def main():
    warnings.simplefilter("error")
    print(json.dumps([case(2, 1), case(3, 2), case(5, 3)]))


main()
