"""Specialists beside a generalist, and the two as one teacher: Hinton, Vinyals & Dean (2015),
section 5.
"""

from kd.specialists.clusters import Classes, check_classes, class_names, clusters, covariance
from kd.specialists.enriched import Enriched, enriched
from kd.specialists.fit import fit
from kd.specialists.together import joint, team

__all__ = [
    "Classes",
    "Enriched",
    "check_classes",
    "class_names",
    "clusters",
    "covariance",
    "enriched",
    "fit",
    "joint",
    "team",
]
