"""Our schedules against diffusers'."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.schedulers.scheduling_utils import AysSchedules

from implementations.diffusion import EDM, SCHEDULES, DiscreteVP, RectifiedFlow
from implementations.schedules.tables import AYS
from implementations.schedules.zero_snr import rescale_betas

SD_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
FLOAT32 = 2e-7  # theirs are float32 on [0, 1]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers' own making


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_timesteps(spacing):
    path = DiscreteVP(SD_BETAS)
    # at 48 trailing steps two timesteps are as near, and arange's rounding chooses
    for steps in (*range(1, 48), 50, 100, 250, 1000):
        scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=0)
        scheduler.set_timesteps(steps)
        assert SCHEDULES[spacing](path, steps).tolist() == [*scheduler.timesteps.tolist(), -1], steps
    scheduler = diffusers.DDIMScheduler(steps_offset=1)
    scheduler.set_timesteps(30)
    assert SCHEDULES["leading"](path, 30, offset=1).tolist() == [*scheduler.timesteps.tolist(), -1]


def test_arange_gives_a_timestep_too_many():
    """61 trailing steps of diffusers are 62, the last at timestep -1; ours are as many as asked for."""
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(61)
    assert (len(scheduler.timesteps), int(scheduler.timesteps[-1])) == (62, -1)
    times = SCHEDULES["trailing"](DiscreteVP(SD_BETAS), 61)
    assert len(times) == 62  # of which the last is the clean end
    assert times[:-1].tolist() == scheduler.timesteps[:-1].tolist()


@pytest.mark.parametrize("steps", [1, 2, 5, 28])
def test_shifts_of_the_flow(steps):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    # its training end is shifted, and the equal steps to it once more; of one step, there is only the start
    last = float(scheduler.sigmas[-2])
    options = {} if steps == 1 else {"sigma_min": last / (1 - last)}
    ours = SCHEDULES["sd3_shift"](RectifiedFlow(), steps, **options)
    assert float((ours - scheduler.sigmas).abs().max()) < FLOAT32
    assert steps == 1 or last == pytest.approx(0.00893, abs=5e-6)

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    for tokens, mu in ((256, 0.5), (1024, 0.63), (4096, 1.15)):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
        ours = SCHEDULES["dynamic_shift"](RectifiedFlow(), steps, tokens=tokens)
        assert float((ours - scheduler.sigmas).abs().max()) < FLOAT32


def test_linear_quadratic():
    for steps, threshold in ((2, 0.025), (5, 0.025), (50, 0.025), (64, 0.1)):
        theirs = torch.tensor([*linear_quadratic_schedule(steps, threshold), 0.0], dtype=torch.float64)
        ours = SCHEDULES["linear_quadratic"](RectifiedFlow(), steps, threshold=threshold)
        assert float((ours - theirs).abs().max()) < FLOAT32
    theirs = torch.tensor([*linear_quadratic_schedule(20, 0.025, linear_steps=5), 0.0], dtype=torch.float64)
    ours = SCHEDULES["linear_quadratic"](RectifiedFlow(), 20, linear_steps=5)
    assert float((ours - theirs).abs().max()) < FLOAT32


def test_zero_terminal_snr():
    torch.testing.assert_close(rescale_betas(SD_BETAS), rescale_zero_terminal_snr(SD_BETAS), rtol=1e-10, atol=1e-13)


def test_align_your_steps():
    """Theirs have three decimals and end at 0; ours, of ten decimals, are 1.4 % from them at the most."""
    for ours, theirs in (
        ("sd15", "StableDiffusionSigmas"),
        ("sdxl", "StableDiffusionXLSigmas"),
        ("svd", "StableDiffusionVideoSigmas"),
    ):
        np.testing.assert_allclose(AYS[ours][:-1], AysSchedules[theirs][:-1], rtol=1.5e-2)


@pytest.mark.parametrize("steps", [2, 10, 40])
def test_karras_and_exponential_levels(steps):
    """Between the ends of its table; EulerDiscreteScheduler keeps levels in float32."""
    path = EDM(sigma_max=100.0)
    for option, name in (("use_karras_sigmas", "karras"), ("use_exponential_sigmas", "exponential")):
        scheduler = diffusers.EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **{option: True}
        )
        scheduler.set_timesteps(steps)
        bounds = {"sigma_max": float(scheduler.sigmas[0]), "sigma_min": float(scheduler.sigmas[-2])}
        ours = path.sigma(SCHEDULES[name](path, steps, **bounds))
        torch.testing.assert_close(ours, scheduler.sigmas.double(), rtol=1e-5, atol=0)
