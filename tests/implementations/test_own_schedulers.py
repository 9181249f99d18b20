"""A scheduler of one's own as a sampler: it takes the levels of the call, and what it does not state is measured."""

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, GaussianOracle, RectifiedFlow
from implementations.diffusion.noise import PerSampleNoise
from implementations.peers.draws import LentDraws
from implementations.samplers import SAMPLERS

HERE = "scheduler:tests.bench.own_schedulers:"
SAME = {"Multistep": "dpmpp_2m", "Euler": "euler", "Ancestral": "euler_ancestral", "Heun": "heun", "Flow": "euler",
        "Table": "ddim", "Strided": "ddim", "noisy": "ddpm"}  # fmt: skip
TO_DATA = {"Heun", "Table"}  # the last call of the network has no second one, the last step goes to the data


def run(sampler, path, clean=True, seeds=range(4)):
    times = SCHEDULES["karras"](path, 8, clean=clean, sigma_min=0.05, sigma_max=20.0)
    oracle = GaussianOracle(path, torch.linspace(-1, 1, 3).double(), torch.tensor([0.3, 1.0, 2.0]).double())
    z = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return sampler(oracle, path.prior(z, times[0]), times, noise=PerSampleNoise(seeds))


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("path", [VP(), RectifiedFlow(), EDM()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("name", SAME)
def test_a_scheduler_written_from_scratch_is_the_sampler_of_the_same_formula(name, path, clean):
    """Multistep has variance-preserving states, Flow straight ones, the others sigma/alpha: none of them says so."""
    scheduler = SAMPLERS[HERE + name].load()
    if name in TO_DATA and not clean:
        assert scheduler.to_data == "must"
    else:
        torch.testing.assert_close(run(scheduler, path, clean), run(SAMPLERS[SAME[name]], path, clean),
                                   rtol=1e-12, atol=1e-12)  # fmt: skip


def test_a_class_of_diffusers_is_run_as_that_class_is():
    pytest.importorskip("diffusers")
    from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler

    from implementations.peers.own_schedulers import as_sampler

    pairs = [
        (DPMSolverMultistepScheduler(), "diffusers_dpmpp_2m"), (HeunDiscreteScheduler(), "diffusers_heun"),
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), "diffusers_dpmpp_2m_sde"),
        (DPMSolverMultistepScheduler(algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
         "diffusers_dpm_solver_multistep_2"),
    ]  # fmt: skip
    for scheduler, name in pairs:
        before = dict(scheduler.config)
        clean = "dpm_solver" not in name
        found = run(as_sampler(scheduler, "mine:scheduler"), VP(), clean)
        torch.testing.assert_close(found, run(SAMPLERS[name], VP(), clean), rtol=1e-5, atol=1e-5)  # states in float32
        assert dict(scheduler.config) == before


def test_what_a_scheduler_forgets_shows_in_its_second_call():
    once = {name: SAMPLERS[HERE + name].load().resolve() for name in ("Multistep", "Forgetful")}
    first, second = ([run(sampler, VP()) for sampler in once.values()] for _ in range(2))
    assert torch.equal(first[0], first[1])
    assert torch.equal(second[0], first[0])
    assert not torch.allclose(second[1], first[1], rtol=1e-2)


def test_a_table_that_is_not_followed_is_run_on_its_own_timesteps():
    scheduler = SAMPLERS[HERE + "Fixed"].load()
    assert scheduler.options({}) == {"mode": "shipped"}
    with pytest.raises(ValueError, match="lives on DiscreteVP"):
        run(scheduler, VP())


@pytest.mark.parametrize(
    ("name", "says"),
    [("Stepless", "no scheduler: a class or an object with set_timesteps"), ("Levelless", "neither sigmas nor alphas"),
     ("Wordy", "step of Wordy returned str"), ("Choosy", "cannot make and set the scheduler"),
     ("Nobody", "has no attribute 'Nobody'")],
)  # fmt: skip
def test_what_is_no_scheduler_is_refused(name, says):
    with pytest.raises(ImportError, match=says):
        SAMPLERS[HERE + name].resolve()


def test_draws_are_lent_by_shape():
    x, seen = torch.zeros(2, 3), []

    def draw(like):
        seen.append(like)
        return torch.full_like(like, 7.0)

    with LentDraws(draw, x):
        lent = [torch.randn(2, 3), torch.randn((2, 3)), torch.randn(size=x.shape), torch.randn_like(x),
                torch.empty(2, 3).normal_(), torch.empty(2, 3).normal_(1.0, std=2.0)]  # fmt: skip
        torch.randn(3)
    assert [float(one.mean()) for one in lent] == [7.0, 7.0, 7.0, 7.0, 7.0, 15.0]
    assert len(seen) == 6
