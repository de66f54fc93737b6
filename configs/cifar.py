"""A small residual network on CIFAR-10: on labels alone, or with ``:distil`` taught by published
weights of a larger one.

Command:  kd train --config=configs/cifar.py --workdir=runs/alone
          kd train --config=configs/cifar.py:distil --workdir=runs/taught
          --config.teacher.source=weights:resnet20.npz
          kd eval --config=configs/cifar.py:distil --config.teacher.source=weights:resnet20.npz
Runtime:  hours on 2 cores
"""

from ml_collections import ConfigDict

from kd.config import base_config, choose

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for hard labels, ``distil`` for soft targets too; then give
    config.teacher.source, and config.teacher.model.depth where it is not 20.
    """
    distil = choose(arg, "", "distil") == "distil"
    inputs = {"mean": MEAN, "deviation": DEVIATION}
    config = base_config()
    config.data.source = "tfds:cifar10"
    config.data.batch_size = 128  # images
    config.data.jitter_pixels = 4
    config.student = {"name": "resnet", "depth": 8, **inputs}
    config.objective = {"hard": {"weight": 1.0}}
    if distil:
        config.objective = {
            "soft_targets": {"weight": 0.9, "temperature": 4.0},
            "hard": {"weight": 0.1},
        }
        config.teacher.source = "weights:resnet20.npz"
        config.teacher.model = {"name": "resnet", "depth": 20, **inputs}
        config.teacher.precompute = False  # every epoch shows other images
    config.optim.learning_rate = 0.1
    config.optim.learning_rate_schedule.shape = "cosine"
    config.optim.learning_rate_schedule.warmup_percent = 5.0
    config.optim.weight_decay = 5e-4
    config.total_epochs = 60
    config.eval_epochs = 5
    config.checkpoint_epochs = 5
    return config
