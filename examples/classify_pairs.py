"""A BERT learns (history text, item text) → label: python classify_pairs.py PAIRS.csv BERT."""

import sys

import polars as pl

from isthmus.config import CrossEncoderConfig
from isthmus.evaluation.labels import auc, classification_report
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.tasks.pairs import pairs_from_table

table, base = sys.argv[1:3]  # columns history, item, label; a folder or a hub name
pairs, classes = pairs_from_table(pl.read_csv(table))
how = CrossEncoderConfig(tune="full", epochs=8, patience=3, batch=16, learning_rate=3e-4)
encoder = CrossEncoder.fit(
    pairs["train"], pairs["validation"], classes=classes, base=base, config=how
)

test = pairs["test"]
chances = encoder.tell(test.first, test.second)  # [pairs, classes]
told = chances.argmax(axis=1)  # one class for each pair
for line in classification_report(test.label.astype(int), told, classes):
    print(f"{line.name:10} {line.precision:.2f} {line.recall:.2f} {line.f1:.2f} {line.support}")
print(f"AUC {auc(test.label == 1, chances[:, 1]):.3f}")
