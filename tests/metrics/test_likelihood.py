"""Bits a dimension of densities whose code length is known by hand."""

from __future__ import annotations

import math

import pytest
import torch

from metrics import bits_per_dim


@pytest.mark.parametrize("d", [1, 3, 3072])
@pytest.mark.parametrize(("volume", "scale"), [(256.0, 1.0), (1.0, 1 / 256), (2.0, 1 / 128), (25.6, 0.1)])
def test_an_even_density_over_256_levels_has_8_bits(d: int, volume: float, scale: float):
    """On [0, 256)^d, [0, 1)^d, [-1, 1)^d and one more: log p = -d log volume."""
    log_likelihood = torch.full((4,), -d * math.log(volume), dtype=torch.float64)
    found = bits_per_dim(log_likelihood, d, scale=scale)
    assert found.value == pytest.approx(8, rel=1e-12)
    assert found.error < 1e-6  # of equal samples: the root of rounding


def test_levels_of_whole_probability():
    """A fair die told as log(1/6) nats has log2 6 bits, and knows of no scale."""
    assert bits_per_dim(torch.full((2,), -math.log(6), dtype=torch.float64), 1).value == pytest.approx(math.log2(6))


def test_a_dequantiser_pays_back_what_it_chose():
    """Where q puts the noise in half of each level and the model half its mass there, both together lose nothing.

    On [0, 256)^d with p = 2/256 in the lower half of levels: log p - log q = d log(2/256) - d log 2 = -8 d log 2.
    """
    d, n = 5, 3
    log_p, log_q = (torch.full((n,), d * math.log(v), dtype=torch.float64) for v in (2 / 256, 2))
    assert bits_per_dim(log_p, d, dequantisation=log_q).value == pytest.approx(8, rel=1e-12)
    assert bits_per_dim(log_p, d).value == pytest.approx(7, rel=1e-12)


def test_error_and_interval_are_those_of_a_mean():
    nats = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 30 - 900
    found, bits = bits_per_dim(nats, 100), -nats / 100 / math.log(2)
    error = float(bits.std()) / math.sqrt(50)
    truth = (
        float(bits.mean()),
        error,
        *(float(bits.mean()) + z * error for z in (-2.0095752371292392, 2.0095752371292392)),
    )
    assert found == pytest.approx(truth, rel=1e-10)
    narrow = bits_per_dim(nats, 100, level=0.5)
    assert narrow.high - narrow.value == pytest.approx(0.6795296452626508 * error, rel=1e-10)


@pytest.mark.unchecked
def test_bad_input_is_refused_by_name():
    nats = torch.tensor([-1.0, -2.0, -3.0])
    for wrong, message in [
        (lambda: bits_per_dim(nats[:, None], 3), r"\(3, 1\)"),
        (lambda: bits_per_dim(nats, 3, dequantisation=nats[:2]), r"\(3,\) and \(2,\)"),
        (lambda: bits_per_dim(nats.log(), 3), "3 of 3 log-likelihoods are not finite"),
        (lambda: bits_per_dim(nats, 0), "dimensions is 0"),
        (lambda: bits_per_dim(nats, 3, scale=0.0), r"scale is 0\.0"),
        (lambda: bits_per_dim(nats[:1], 3), "there are 1"),
        (lambda: bits_per_dim(nats, 3, level=2.0), r"level is 2\.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
