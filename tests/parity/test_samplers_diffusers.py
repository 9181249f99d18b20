"""Our solvers against diffusers' schedulers: the same grid, the same noise levels, the same exact predictions."""

import pytest
import torch

from implementations.diffusion import EDM, Denoiser, DiscreteVP, GaussianOracle, Prediction
from implementations.samplers import SAMPLERS

diffusers = pytest.importorskip("diffusers")

BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def oracle(path):
    return GaussianOracle(path, torch.linspace(-1, 1, 6).double(), torch.linspace(0.05, 2, 6).double())


class InAlphas(Denoiser):
    """An oracle of EDM's levels that answers with eps for variance-preserving states of the same level."""

    def __init__(self, path):
        self.path, self.oracle = path, oracle(EDM(sigma_max=1e9))

    def __call__(self, x, t, condition=None):
        return Prediction(self.path, x, t, eps=self.oracle(x / self.path.alpha(t), self.path.ratio(t)).eps)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim(steps, eta):
    peer = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="leading", set_alpha_to_one=True)
    peer.alphas_cumprod = (1 - BETAS).cumprod(0)  # its own are float32
    peer.set_timesteps(steps)
    path, x, noises = DiscreteVP(BETAS), normal(3, 6), normal(steps, 3, 6)
    model = InAlphas(path)
    expected = x
    for k, t in enumerate(peer.timesteps):
        prediction = model(expected, t.double())
        expected = peer.step(prediction.eps, int(t), expected, eta=eta, variance_noise=noises[k]).prev_sample
    times = torch.cat([peer.timesteps.double(), torch.tensor([-1.0]).double()])  # it ends at alpha-bar = 1
    found = SAMPLERS["ddim"](model, x, times, eta=eta, noise=lambda k, like: noises[k])
    # float64 on both sides: rounding, of 1 - alpha-bar by subtraction too, 1e-12 of it at alpha-bar near 1
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("steps", [5, 10, 20])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_dpmpp_2m(steps, final):
    peer = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_order=2, lower_order_final=False, final_sigmas_type=final
    )
    peer.set_timesteps(steps)
    levels = peer.sigmas.double()  # the levels that it really steps through, float32 there
    path = EDM(sigma_max=1e9)
    exact, expected = oracle(path), normal(3, 6)
    x = expected * (1 + levels[0] ** 2).sqrt()
    for k, t in enumerate(peer.timesteps):
        radius = (1 + levels[k] ** 2).sqrt()  # its states are variance preserving
        expected = peer.step(exact(expected * radius, levels[k]).eps, t, expected).prev_sample
    distinct = levels[: int((levels.diff() < 0).sum()) + 1]
    found = SAMPLERS["dpmpp_2m"](exact, x, distinct) / (1 + levels[-1] ** 2).sqrt()
    # the peer's coefficients are float32: 6e-8 a step, on states of size up to 3
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("karras", [False, True])
def test_euler(steps, karras):
    peer = diffusers.EulerDiscreteScheduler(use_karras_sigmas=karras)
    peer.set_timesteps(steps)
    levels = peer.sigmas.double()
    exact = oracle(EDM(sigma_max=1e9))
    x = expected = normal(3, 6) * levels[0]
    for k, t in enumerate(peer.timesteps):
        peer.is_scale_input_called = True  # its warning wants a scaled input, which an oracle has no use for
        expected = peer.step(exact(expected, levels[k]).eps, t, expected).prev_sample.double()
    found = SAMPLERS["euler"](exact, x, levels, coordinate="sigma")
    # the peer's state is float32 inside a step: 6e-8 of a state of up to 300, which the steps shrink with it
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
