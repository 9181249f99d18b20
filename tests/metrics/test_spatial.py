"""The spatial form sees where things are; pooled features do not."""

from __future__ import annotations

import pytest
import torch

from metrics.samples.frechet import FeatureStatistics, frechet_distance, frechet_distance_from_features
from metrics.samples.spatial import spatial_features, spatial_statistics


def maps(n: int = 40, c: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, c, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_first_channels_are_flattened():
    x = maps()
    assert spatial_features(x).shape == (40, 7 * 12)
    assert torch.equal(spatial_features(x, channels=2), torch.cat([x[:, 0].flatten(1), x[:, 1].flatten(1)], 1))
    changed = x.clone()
    changed[:, 7:] += 5
    assert torch.equal(spatial_features(changed), spatial_features(x))


def test_moved_contents_are_seen():
    """Columns turned round leave every pooled feature as it was."""
    x = maps()
    x[:, :, :, 0] += 2
    moved = x.roll(2, dims=3)
    pooled = [frechet_distance_from_features(x.mean((2, 3)), z.mean((2, 3))) for z in (x, moved)]
    assert pooled == pytest.approx([0, 0], abs=1e-12)  # of traces of 2 x 9 / 12
    # By the means: 7 channels of 3 rows in 2 columns, each 2 apart.
    assert frechet_distance(spatial_statistics(x), spatial_statistics(moved)) > 7 * 3 * 2 * 4 / 2


def test_statistics_merge_and_never_meet_pooled_ones():
    x, y = maps(), maps(30, seed=1)
    whole = spatial_statistics(torch.cat([x, y]), channels=3, extractor="net@01", resize="none")
    merged = sum((spatial_statistics(z, channels=3, extractor="net@01", resize="none") for z in [y]),
                 spatial_statistics(x, channels=3, extractor="net@01", resize="none"))  # fmt: skip
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-12)
    pooled = FeatureStatistics.from_features(spatial_features(y, channels=3), extractor="net@01", resize="none")
    with pytest.raises(ValueError, match=r"differ in extractor: 'net@01\+spatial3' and 'net@01'"):
        frechet_distance(whole, pooled)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"\(40, 108\)"):
        spatial_features(maps().flatten(1))
    with pytest.raises(ValueError, match="channels is 10; 1 to the maps' 9"):
        spatial_features(maps(), channels=10)
