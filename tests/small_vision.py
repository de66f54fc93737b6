"""The vision table in small: generated images, a narrow teacher of random weights."""

import copy

import jax
import jax.numpy as jnp
import numpy as np

import runs
from experiments.vision_table.protocol import Protocol
from kd.config import build, load_config
from kd.core import rng
from kd.models import MODELS
from kd.models.weights.families import FAMILIES
from kd.models.weights.names import written

CONFIG = runs.ROOT / "configs" / "vision_table.py"
NETWORK = {"name": "resnet", "depth": 8, "width": 0.25, "stem": 4}
STUDENT = {"name": "mlp", "widths": (8,)}
ARMS = ("hard", "longer", "kd", "crd")
LAYERS = {"hidden": ("Dense_0", "pooled")}


def weights(path, seed=1):
    """A file of random weights of a network like the student, under PyTorch's names."""
    options = {key: value for key, value in NETWORK.items() if key != "name"}
    model = MODELS["resnet"](10, **options)
    shown = jnp.zeros((1, 32, 32, 3))
    params, extra = jax.jit(lambda: model.init(rng.key(seed), shown))()
    np.savez(path, **written(params, extra, FAMILIES["resnet"].namings({})[0]))
    return path


def config(file, argument="quick", **changes):
    """The experiment's config with these images and both networks narrow, as mappings."""
    told = load_config(CONFIG, argument).to_dict()
    told["teacher"] |= {"source": f"weights:{file}", "model": dict(NETWORK)}
    run = told["run"]
    run["student"] = dict(NETWORK)
    run["data"] |= {
        "source": "shapes",
        "train": "train[:48]",
        "eval": "train[1000:1060]",
        "batch_size": 16,
        "views": 2,
    }
    run["mesh"] |= {"devices": 1}
    run["log_steps"] = 3
    told["test"] = "test[:60]"
    return copy.deepcopy({**told, **changes})


def tiny(file, **changes):
    """The same with a few arms and a student without convolutions, which takes seconds."""
    told = config(file)
    told["run"]["student"] = dict(STUDENT)
    whole = config(file, "")["arms"]
    told["arms"] = {name: told["arms"].get(name, whole[name]) for name in ARMS}
    told["arms"]["crd"]["objective"]["crd"]["taps"] = LAYERS
    told["arms"]["crd"]["trials"] = {"crd": {"weight": (1e-4, 1e-3)}}
    return {**told, **changes}


def protocol(told):
    return build(Protocol, told, "config")
