"""Weights from outside, and ours as others have them: one table of names for both directions."""

from kd.models.weights.families import FAMILIES
from kd.models.weights.pretrained import Pretrained, from_file, from_folder, to_folder

__all__ = ["FAMILIES", "Pretrained", "from_file", "from_folder", "to_folder"]
