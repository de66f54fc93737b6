"""Small folders of Hugging Face, drawn at random and written by kd."""

import json

import jax
import numpy as np

from kd.data.seen import Seen
from kd.models import MODELS
from kd.models.abstract import shapes
from kd.models.normalised import normalised
from kd.teachers.trained import Trained

MEAN, DEVIATION = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
VIT = {"width": 12, "depth": 2, "heads": 3, "mlp": 20, "patch": 4}
FOLDERS = {
    "ViTForImageClassification": ("token_vit", VIT, 8),
    "DeiTForImageClassification": ("token_vit", {**VIT, "distillation": "token"}, 8),
    "DeiTForImageClassificationWithTeacher": ("token_vit", {**VIT, "distillation": "head"}, 8),
    "ResNetForImageClassification": (
        "resnet",
        {"form": "imagenet", "depth": 18, "width": 1 / 16},
        32,
    ),
}
"""A network for each class of Hugging Face, with the pixels of its images."""


def trained(name, classes=10, names=None, seed=0):
    """The network of a class, as if it had been trained on images of bytes."""
    model, options, side = FOLDERS[name]
    made = normalised(MODELS[model](classes, **options), MEAN, DEVIATION)
    wanted = shapes(made, jax.ShapeDtypeStruct((1, side, side, 3), np.float32))
    random = np.random.default_rng(seed)

    def draw(leaf):
        return random.uniform(0.1, 0.5, leaf.shape).astype(np.float32)

    def kernel(leaf):
        return random.normal(size=leaf.shape).astype(np.float32) * 0.3

    params = jax.tree.map(lambda leaf: kernel(leaf) if leaf.ndim > 1 else draw(leaf), wanted.params)
    seen = Seen((side, side, 3), "uint8", 1 / 255, 0.0, 1.0, image=True)
    return Trained(made, params, jax.tree.map(draw, wanted.extra), seen=seen, class_names=names)


def written(folder, name="ViTForImageClassification", **options):
    """A folder of it."""
    trained(name, **options).export(folder, format="hf")
    return folder


def edited(file, **changes):
    """A page with some of its fields changed; None takes one out."""
    told = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
