"""The speech experiment on the synthetic corpus: small networks, two seeds, seconds."""

import copy

import runs
from experiments.hinton2015.speech.protocol import RUNS, Protocol
from kd.config import build, load_config

CONFIG = runs.ROOT / "configs" / "hinton2015_speech.py"


def tiny(source, **changes):
    """The experiment on the synthetic corpus: small networks, two seeds, seconds."""
    config = load_config(CONFIG, "quick").to_dict()
    config["speech"] |= {
        "data": {"source": str(source), "data_dir": None},
        "utterances": None,
        "bins": 12,
        "per_word": 3,
    }
    config |= {
        "ensemble": 2,
        "temperatures": (1.0, 4.0),
        "bands": {"share_of_gain": (0.8, 1.5)},
        **changes,
    }
    for name in RUNS:
        config[name]["student"]["widths"] = (16,)
        config[name]["data"] |= {"batch_size": 64, "eval": "validation", "train": "train"}
        config[name] |= {
            "total_epochs": 4 if name == "aligner" else 3,
            "eval_epochs": 1.0,
            "checkpoint_epochs": None,
        }
        config[name]["mesh"]["devices"] = 1
        config[name]["log_steps"] = 64
        config[name]["optim"]["learning_rate"] = 1e-2
    for name in ("small_hard", "small_soft"):
        config[name]["data"]["train"] = "train[:30%]"
    if "hypotheses" not in changes:
        config["teachers"] = {"short": config["baseline"] | {"total_epochs": 1}}
        config["hypotheses"] = {
            name: hypothetically(config, name) for name in ("unchanged", "hard", "small")
        }
    return config


def hypothetically(config, name):
    """Hypotheses that change nothing, and one that has another teacher."""
    distilled = copy.deepcopy(config["distilled"])
    distilled["objective"]["soft_targets"]["temperature"] = 4.0
    return {
        "unchanged": {"claim": "nothing is changed", "run": distilled, "control": "hard"},
        "hard": {"claim": "nor is it here", "of": "baseline", "run": config["baseline"]},
        "small": {
            "claim": "the teacher",
            "of": "small_soft",
            "run": config["small_soft"],
            "teacher": "short",
        },
    }[name]


def protocol(config):
    return build(Protocol, config, "config")
