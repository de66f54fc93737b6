"""Write digits as a folder of images, and what a model of scikit-learn says of each as a CSV file.

Command:  python docs/soft_labels.py digits-images
"""

import csv
import pathlib
import sys

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

folder = pathlib.Path(sys.argv[1])
print("a forest of scikit-learn learns digits", flush=True)
digits = load_digits()
images, labels = digits.images, digits.target
model = RandomForestClassifier(200, random_state=0).fit(digits.data[:1200], labels[:1200])
answers = model.predict_proba(digits.data)

rows = []
for i, (image, label) in enumerate(zip(images, labels, strict=True)):
    file = pathlib.Path("train" if i < 1200 else "test", str(label), f"{i:04}.png")
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / file)
    rows.append([file.as_posix(), *answers[i]])

with (folder / "soft_labels.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["file", *(f"probability_{name}" for name in model.classes_)])
    writer.writerows(rows)
print(f"{len(rows):,} images and {folder / 'soft_labels.csv'}")
