"""The loss of the peer, written as its users write it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, hard_weight: float
) -> Tensor:
    """``T^2 KL(teacher || student) + w CE``, means over the batch; logits ``[b v]``, labels
    ``[b]``.
    """
    soft = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * soft + hard_weight * F.cross_entropy(student, labels)
