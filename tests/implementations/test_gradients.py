"""Gradients through samplers: where an entry says so, autograd's are finite differences'."""

import re
from pathlib import Path

import pytest
import torch

from implementations.diffusion import SCHEDULES, VP, Denoiser, Prediction
from implementations.samplers import SAMPLERS, PerSampleNoise
from tests.exact import normal

OWN = [name for name, entry in SAMPLERS.items() if entry.source == "fidmap" and entry.family != "peer"]


class Curved(Denoiser):
    """eps = tanh(scale x), which is linear in neither."""

    path = VP()

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x, t, condition=None):
        return Prediction(self.path, x, t, eps=torch.tanh(x * self.scale.to(x.dtype)))


def objective(name, x, scale):
    times = SCHEDULES["karras"](VP(), 4, clean=False, sigma_min=0.1, sigma_max=20.0)
    times = times.flip(0) if SAMPLERS[name].ascending else times
    found = SAMPLERS[name](Curved(scale), x, times, noise=PerSampleNoise(range(3)))
    return (found * normal(3, 4, seed=1)).sum()


def apart(name, step):
    """The larger relative difference of the derivative along a direction of x, and by the denoiser's parameter."""
    x, scale = normal(3, 4, seed=2).requires_grad_(), torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    by_x, by_scale = torch.autograd.grad(objective(name, x, scale), [x, scale])
    v = normal(3, 4, seed=3)
    with torch.no_grad():
        along = (objective(name, x + step * v, scale) - objective(name, x - step * v, scale)) / (2 * step)
        across = (objective(name, x, scale + step) - objective(name, x, scale - step)) / (2 * step)
    pairs = ((float((by_x * v).sum()), float(along)), (float(by_scale), float(across)))
    return max(abs(a - b) / abs(b) for a, b in pairs)


@pytest.mark.parametrize("name", OWN)
def test_gradients_are_finite_differences(name):
    assert SAMPLERS[name].differentiable
    assert apart(name, 1e-6) < 1e-6  # of central differences: 1e-12 of the third derivative, 1e-10 of rounding


@pytest.mark.parametrize("name", ["diffusers_ddim", "diffusers_dpmpp_2m", "diffusers_euler_ancestral"])
def test_gradients_of_diffusers_are_finite_differences_of_float32(name):
    pytest.importorskip("diffusers")
    assert SAMPLERS[name].differentiable
    assert apart(name, 1e-2) < 0.02  # its schedulers cast to float32 on the way


def test_k_diffusion_keeps_no_graph_and_says_so():
    pytest.importorskip("k_diffusion")
    x = normal(3, 4, seed=2).requires_grad_()
    scale = torch.tensor(1.3, dtype=torch.float64)
    for name in ("k_diffusion_euler", "k_diffusion_dpmpp_2m_sde"):
        assert not SAMPLERS[name].differentiable
        assert not objective(name, x, scale).requires_grad


def test_the_readme_s_example_runs_and_keeps_no_graph():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = re.findall(r"## Samplers in Python\n\n```python\n(.*?)```", readme, re.DOTALL)
    scale = torch.nn.Parameter(torch.tensor(0.5))
    names = {"my_module": lambda x, t: x * scale}
    exec(compile(block, "README.md", "exec"), names)
    assert names["x"].shape == names["noise"].shape
    assert names["x"].isfinite().all()
    assert not names["x"].requires_grad
