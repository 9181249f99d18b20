from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from bench.data.toy import TOYS, Checkerboard, EightGaussians, Rings, TwoMoons

toys = pytest.mark.parametrize("toy", [cls() for cls in TOYS.values()], ids=list(TOYS))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def grid(limit, cells):
    """Midpoints of ``cells x cells`` squares over [-limit, limit]^2, and a square's area."""
    edge = 2 * limit / cells
    axis = (torch.arange(cells, dtype=torch.float64) + 0.5) * edge - limit
    return torch.cartesian_prod(axis, axis), edge**2


@toys
def test_density_integrates_to_one(toy):
    points, area = grid(8.0, 384)
    # Midpoints are spectrally exact for the smooth densities (cells of 1/24 against a noise of .1), and exact for the
    # board, whose edges are grid lines.
    total = sum(toy.log_density(part).exp().sum() * area for part in points.split(4096))
    assert math.isclose(total, 1, abs_tol=1e-9)


@toys
def test_samples_follow_the_density(toy):
    n, limit, cells = 40_000, 6.0, 24
    points, area = grid(limit, cells * 16)
    mass = torch.cat([toy.log_density(part).exp() * area for part in points.split(4096)])
    mass = mass.reshape(cells, 16, cells, 16).sum(dim=(1, 3)).flatten()
    x = toy.sample(n, seeded()).double()
    cell = torch.floor((x + limit) * (cells / (2 * limit))).clamp(0, cells - 1)
    counts = torch.bincount((cell[:, 0] * cells + cell[:, 1]).long(), minlength=cells**2)
    full = mass * n >= 5  # the chi-square approximation needs about five expected counts in a bin; the rest is one bin
    expected = torch.cat([mass[full], 1 - mass[full].sum(dim=0, keepdim=True)]) * n
    observed = torch.cat([counts[full], counts[~full].sum(dim=0, keepdim=True)]).double()
    some = expected > 5
    assert observed[~some].sum() <= 20  # a rest of at most 5 expected counts: 20 has a chance below 1e-6
    chi_square = ((observed - expected)[some].square() / expected[some]).sum()
    # One fixed draw of a correct sampler fails with a chance of 1e-4.
    assert stats.chi2.sf(chi_square.item(), int(some.sum()) - 1) > 1e-4


@toys
def test_samples_depend_on_the_generator_alone(toy):
    first = toy.sample(50, seeded(3))
    torch.manual_seed(99)
    assert torch.equal(first, toy.sample(50, seeded(3)))
    assert not torch.equal(first, toy.sample(50, seeded(4)))
    assert first.shape == (50, 2)
    assert first.dtype == torch.get_default_dtype()
    assert toy.sample(0).shape == (0, 2)


def rotation(angle):
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, s], [-s, c]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("toy", "move"),
    [
        pytest.param(TwoMoons(), lambda x: torch.tensor([1.0, 0.5], dtype=torch.float64) - x, id="moons half turn"),
        pytest.param(Checkerboard(), lambda x: x.flip(-1), id="board diagonal"),
        pytest.param(Checkerboard(), lambda x: -x, id="board half turn"),
        pytest.param(Rings(), lambda x: x @ rotation(0.7), id="rings any turn"),
        pytest.param(EightGaussians(), lambda x: x @ rotation(math.pi / 4), id="gaussians eighth turn"),
        pytest.param(EightGaussians(), lambda x: x * torch.tensor([1.0, -1.0]).double(), id="gaussians mirror"),
    ],
)
def test_symmetries(toy, move):
    x = 3 * torch.randn(500, 2, generator=seeded(), dtype=torch.float64)
    # Rounding of the moved points, times a log-gradient of at most |x| / noise^2 = 1e3.
    torch.testing.assert_close(toy.log_density(move(x)), toy.log_density(x), rtol=1e-12, atol=1e-10)


def test_log_density_stays_finite_far_away():
    far = torch.tensor([[100.0, 0.0], [0.0, -100.0]], dtype=torch.float64)
    for toy in (TwoMoons(), Rings(), EightGaussians()):
        assert toy.log_density(far).isfinite().all()
    assert (Checkerboard().log_density(far) == -math.inf).all()


def test_thin_moons_are_refused():
    with pytest.raises(ValueError, match=r"noise 0\.01"):
        TwoMoons(noise=0.01)
