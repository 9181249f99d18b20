"""The probe of a model: every wrong convention, planted on an exact denoiser wrapped as a network, is named."""

import pytest
import torch

from bench.models.probe import probe
from implementations.diffusion import EDM, VE, VP, Cosine, EmpiricalOracle, MixtureOracle, Network, RectifiedFlow
from tests.exact import TABLE

PATTERNS = (torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(0)).sign() * 0.9).double()


class Wrapped(torch.nn.Module):
    """An exact denoiser as a network of (x, time): its output is ``sign`` times the view ``head``."""

    def __init__(self, oracle, head="eps", time=lambda t: t, sign=1.0):
        super().__init__()
        self.oracle, self.head, self.time, self.sign = oracle, head, time, sign

    def forward(self, x, time):
        path = self.oracle.path
        t = self.time(time.double()).clamp(path.t_min, path.t_max)  # of a time that it never saw, as a network would
        alpha, sigma = path.alpha(t), path.sigma(t)
        scale = (-1,) + (1,) * (x.ndim - 1)
        x0 = self.oracle(x, t).x0
        eps = (x - alpha.reshape(scale) * x0) / sigma.reshape(scale).clamp(min=1e-3)
        views = {
            "x0": x0,
            "eps": eps,
            "v": alpha.reshape(scale) * eps - sigma.reshape(scale) * x0,
            "velocity": eps - x0,
        }
        return (self.sign * views[self.head]).float()


def images(path):
    return MixtureOracle(path, PATTERNS, torch.full((12,), 0.01).double(), torch.ones(12))


def points(path):
    means = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64)
    return MixtureOracle(path, means, torch.full((4,), 0.01).double(), torch.ones(4))


def draw(oracle):
    return oracle.sample(256, generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("make", [images, points])
@pytest.mark.parametrize(
    ("path", "head"),
    [(VP(), "eps"), (VP(), "v"), (VP(), "x0"), (Cosine(), "v"), (EDM(), "x0"), (VE(), "eps"), (TABLE, "eps"),
     (RectifiedFlow(), "velocity")],
)  # fmt: skip
def test_the_right_convention_is_not_warned_of(make, path, head):
    oracle = make(path)
    found = probe(Network(path, Wrapped(oracle, head), head), draw(oracle), range=(-1, 1) if make is images else None)
    assert found.warning == ""
    assert max(found.losses) < 1.1  # no denoiser is better, so that the best linear one is no better either
    assert len(found.levels) == 3


def test_an_oracle_without_a_network_is_probed_too():
    oracle = images(VP())
    assert probe(oracle, draw(oracle), range=(-1, 1)).warning == ""


@pytest.mark.parametrize("make", [images, points])
@pytest.mark.parametrize(
    ("path", "trained", "read", "says"),
    [
        (VP(), {"head": "v"}, {"head": "eps"}, ["head v, not eps"]),
        (VP(), {"head": "eps"}, {"head": "v"}, ["head eps, not v"]),
        (VP(), {"head": "eps"}, {"head": "x0"}, ["head eps, not x0"]),
        (TABLE, {"head": "v"}, {"head": "eps"}, ["head v, not eps"]),
        (VP(), {"sign": -1.0}, {}, ["the opposite sign"]),
        (RectifiedFlow(), {"head": "velocity", "sign": -1.0}, {"head": "velocity"}, ["the opposite sign"]),
        (VP(), {"time": lambda t: t / 999}, {}, ["time 999 t given"]),
        (VP(), {}, {"time": lambda t: 999 * t}, ["time t given"]),
        (TABLE, {"time": lambda t: 999 * t}, {}, ["time t / 999 given"]),
        (EDM(), {"time": lambda t: (4 * t).exp()}, {}, ["time log(sigma) / 4 given"]),
        (RectifiedFlow(), {"head": "velocity", "time": lambda t: 1 - t, "sign": -1.0}, {"head": "velocity"},
         ["time 1 - t given", "the opposite sign"]),
    ],
)  # fmt: skip
def test_a_wrong_convention_is_named(make, path, trained, read, says):
    oracle = make(path)
    denoiser = Network(path, Wrapped(oracle, **trained), **({"head": "eps"} | read))
    warning = probe(denoiser, draw(oracle), range=(-1, 1) if make is images else None).warning
    for part in says:
        assert part in warning, warning
    assert len(says) == warning.count(" and ") + 1 - warning.count(", and ")  # and nothing else is


@pytest.mark.parametrize(("own", "given"), [((-1, 1), (0, 1)), ((0, 1), (-1, 1))])
@pytest.mark.parametrize("network", [True, False])
def test_the_wrong_range_is_named(own, given, network):
    scale = (own[1] - own[0]) / 2
    oracle = MixtureOracle(VP(), own[0] + (PATTERNS + 1) * scale, torch.full((12,), 0.01 * scale**2), torch.ones(12))
    data = given[0] + (draw(oracle) - own[0]) * (given[1] - given[0]) / (own[1] - own[0])
    denoiser = Network(VP(), Wrapped(oracle)) if network else oracle
    assert f"data in {own[0]} to {own[1]}, not {given[0]} to {given[1]}" in probe(denoiser, data, range=given).warning


def test_noise_that_no_convention_explains_is_said():
    oracle = images(VP())

    class Broken(torch.nn.Module):
        def forward(self, x, time):
            return 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))

    warning = probe(Network(VP(), Broken()), draw(oracle), range=(-1, 1)).warning
    assert "at most 2 is expected, and no other head, sign, time and range explains it" in warning


def test_the_optimum_of_gaussian_data_is_the_best_linear_denoiser():
    oracle = MixtureOracle(VP(), torch.zeros(1, 3).double(), torch.tensor([[1.0, 0.5, 0.1]]).double(), torch.ones(1))
    data = oracle.sample(20_000, generator=torch.Generator().manual_seed(2)).float()
    found = probe(oracle, data)
    assert found.losses == pytest.approx((1, 1, 1), abs=0.03)  # 60,000 squares: 0.6 % each, and the data's variances


def test_a_condition_reaches_the_model():
    path = VP()
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    oracle = MixtureOracle(path, means, torch.full((2,), 0.01).double(), torch.ones(2), labels=torch.arange(2))
    labels = torch.arange(256) % 2
    data = oracle.sample(256, generator=torch.Generator().manual_seed(3), condition=labels).float()
    right, wrong = (probe(oracle, data, condition=given).losses[1] for given in (labels, 1 - labels))
    assert wrong > 10 * right


def test_data_of_an_empirical_oracle_are_known_exactly():
    oracle = EmpiricalOracle(VP(), PATTERNS)
    assert probe(oracle, PATTERNS.float(), range=(-1, 1)).losses[0] < 1e-3
