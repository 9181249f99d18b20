"""A learned denoiser, and its description: a dictionary of JSON values from which the network is built and asked.

| key           | value                                                                             |
|---------------|-----------------------------------------------------------------------------------|
| network       | name in NETWORKS, or ``noisy_classifier``                                         |
| configuration | keywords that build it                                                            |
| path, head    | name of the path, and the view that the network gives                             |
| sigma_data    | of EDM's preconditioning around the network, null without                         |
| shape         | of one sample                                                                     |
| classes       | their number; the label of that value is the dropped one; 0 for a network without |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from implementations.catalogue import PATHS
from implementations.diffusion.denoiser import Network, Prediction
from implementations.diffusion.path import Images, Time

KEYS = ("network", "configuration", "path", "head", "sigma_data", "shape", "classes")


class Learned(Network):
    """A network of a description as a denoiser, with the ``shape`` of a sample and the number of ``classes``.

    ``condition`` is a class for all or one per sample; None, and the class of value ``classes``, is no class. Raises
    ValueError on a class out of range.
    """

    def __init__(self, description: Mapping[str, Any], module: nn.Module):
        super().__init__(PATHS[description["path"]](), module, description["head"])
        self.description = dict(description)
        self.shape, self.classes = tuple(description["shape"]), description["classes"]

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        return super().__call__(x, t, self._labels(condition, x))

    def _labels(self, condition: Any, x: Images) -> Tensor | None:
        if condition is None:
            return None
        labels = torch.as_tensor(condition, device=x.device)
        if not self.classes:
            raise ValueError(f"this network has no classes; condition must be None, got {condition!r}")
        if labels.is_floating_point() or labels.ndim > 1 or (labels.ndim and len(labels) != len(x)):
            raise ValueError(f"condition must be an int or {len(x)} ints, got {labels.dtype} of {tuple(labels.shape)}")
        if not bool(((labels >= 0) & (labels <= self.classes)).all()):
            wrong = labels[(labels < 0) | (labels > self.classes)].reshape(-1)[0]
            raise ValueError(f"condition {wrong} is no class; 0 to {self.classes - 1}, and {self.classes} for none")
        return labels.long().expand(len(x))


def build(description: Mapping[str, Any]) -> nn.Module:
    """Build the module of a description, with weights that are drawn from torch's global generator.

    Raises ValueError on a description that lacks a key or names what there is not.
    """
    if missing := [key for key in KEYS if key not in description]:
        raise ValueError(f"the description of the network lacks {missing[0]}; {', '.join(KEYS)} are needed")
    try:
        if description["network"] == "noisy_classifier":
            from implementations.weights.noisy_classifier import NoisyClassifier

            return NoisyClassifier(**description["configuration"])
        from implementations.networks import NETWORKS

        module = NETWORKS[description["network"]](**description["configuration"])
    except (LookupError, TypeError) as error:
        raise ValueError(f"the description of the network: {error}") from None
    if description["sigma_data"] is None:
        return module
    from implementations.networks import Preconditioned

    return Preconditioned(module, description["sigma_data"])
