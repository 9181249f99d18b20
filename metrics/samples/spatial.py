"""The spatial Fréchet distance, of feature maps before they are pooled (2103.03841, sec. 5; "sFID")."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from metrics.checks import takes_arrays
from metrics.samples.frechet import FeatureStatistics


@takes_arrays("maps")
def spatial_features(maps: Float[Tensor, "n c h w"], *, channels: int = 7) -> Float[Tensor, "n k"]:
    """Features for sFID: the first channels of a network's feature maps, flattened, so that positions matter.

    A mean over the map discards them (2103.03841, sec. 5). The paper takes 7 channels of Inception's 17 x 17
    ``mixed_6/conv``: 2,023 features, about as many as the 2,048 pooled ones. They can be given to every function of
    features. Raises ValueError on another shape and on more channels than there are.
    """
    if maps.ndim != 4:
        raise ValueError(f"maps have the shape {tuple(maps.shape)}; (n, c, h, w) is accepted")
    if not 1 <= channels <= maps.shape[1]:
        raise ValueError(f"channels is {channels}; 1 to the maps' {maps.shape[1]} are accepted")
    return maps[:, :channels].flatten(1)


@takes_arrays("maps")
def spatial_statistics(
    maps: Float[Tensor, "n c h w"], *, channels: int = 7, extractor: str = "", resize: str = "", data: str = ""
) -> FeatureStatistics:
    """Mean and scatter of a network's feature maps, flattened, for sFID by ``frechet_distance``; shards merge by ``+``.

    ``+spatialN``, with N the channels, is added to the name of the extractor, so that spatial and pooled statistics are
    never compared.
    """
    name = f"{extractor}+spatial{channels}"
    features = spatial_features(maps, channels=channels)
    return FeatureStatistics.from_features(features, extractor=name, resize=resize, data=data)
