"""The decorator of samplers: one signature, what a solver states reaches its entry, a bad state has its step."""

import inspect
import math

import pytest
import torch

from implementations.catalogue.entry import SamplerEntry
from implementations.diffusion import VP, Denoiser, Prediction
from implementations.samplers import SAMPLERS, sampler
from tests.exact import OWN, gaussian, normal

TIMES = torch.tensor([0.9, 0.7, 0.5, 0.3, 0.1], dtype=torch.float64)


@sampler(count=lambda touching, *, twice, **_: len(touching) * (1 + twice), order_of=lambda *, twice, **_: 1 + twice)
def ddim_or_heun(problem, *, twice: bool = False):
    """DDIM, or Heun in sigma."""
    name = "heun" if twice else "ddim"
    return SAMPLERS[name](problem.denoiser, problem.x, torch.stack(problem.times))


@pytest.mark.parametrize("name", OWN)
def test_every_sampler_has_the_contracts_signature(name):
    function = SAMPLERS[name].resolve()
    positional, named = [], {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = parameter.default
        else:
            positional.append(parameter.name)
    assert positional == ["denoiser", "x", "times"]
    assert [named.pop(option) for option in ("condition", "noise", "generator", "callback")] == [None] * 4
    assert inspect.Parameter.empty not in named.values()  # every option of its own has a default
    assert SAMPLERS[name].options({}) == {**named, **SAMPLERS[name].preset}
    assert function.__doc__


def test_what_a_solver_states_reaches_its_entry():
    entry = SamplerEntry("mine", f"{__name__}:ddim_or_heun")
    assert [entry.evaluations(TIMES, path=VP(), twice=twice) for twice in (False, True)] == [4, 8]
    assert [entry.theory({"twice": twice}) for twice in (False, True)] == [1, 2]
    oracle, x = gaussian(VP()), normal(3, 6)
    assert torch.equal(entry(oracle, x, TIMES, twice=True), SAMPLERS["heun"](oracle, x, TIMES))
    assert repr(ddim_or_heun).startswith("ddim_or_heun(denoiser")


def test_a_solver_takes_the_problem_and_keywords_alone():
    def plain(denoiser, x, times, *, noise=None):
        return x

    with pytest.raises(TypeError, match=r"made of a function \(problem, \*, \.\.\.\), got plain"):
        sampler(plain)
    with pytest.raises(TypeError, match=r"ddim_or_heun\(\) got an unexpected keyword argument 'thrice'"):
        ddim_or_heun(gaussian(VP()), normal(3, 6), TIMES, thrice=True)


class Breaks(Denoiser):
    """Data of 0, but NaN for one sample below t = 0.6, in a dtype that may be wider than the state's."""

    path = VP()

    def __init__(self, dtype):
        self.dtype = dtype

    def __call__(self, x, t, condition=None):
        x0 = torch.zeros_like(x, dtype=self.dtype)
        if float(t) < 0.6:
            x0[1] = math.nan
        return Prediction(self.path, x, t, x0=x0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (5,), (2, 4, 4)])
def test_one_sample_that_is_no_longer_finite_has_its_step(shape, dtype):
    x = normal(3, *shape).float()
    layouts = [x, x.expand(2, *x.shape)[1]]
    if x.ndim == 4:
        layouts += [x.to(memory_format=torch.channels_last), x.flip(0).transpose(2, 3)]
    for start in layouts:
        for name in ("ddim", "euler", "heun", "dpmpp_2m", "ddpm"):
            step = 2 if name == "heun" else 3  # Heun meets it at the end of a step
            with pytest.raises(FloatingPointError, match=f"not finite after step {step} of 4, from t"):
                SAMPLERS[name](Breaks(dtype), start, TIMES)
