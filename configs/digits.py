"""Hard labels on scikit-learn's digits: the smallest run there is."""

from ml_collections import ConfigDict

from kd.config import base_config, choose


def get_config(arg: str = "") -> ConfigDict:
    choose(arg, "")
    config = base_config()
    config.data.source = "digits"
    config.data.batch_size = 100  # examples
    config.student = {"name": "mlp", "widths": (64, 64)}
    config.objective = {"hard": {"weight": 1.0}}
    config.optim.learning_rate = 0.05
    config.total_epochs = 30
    config.eval_epochs = 10
    config.checkpoint_epochs = 10
    return config
