"""The choice between libraries: who may choose from what, on which seeds, and what is said of ties."""

import math

import pytest
import scipy.stats

from bench.task import Context
from bench.tasks.samplers import choice
from bench.tasks.samplers.choice import OWN, Combination, choose_best, combine, measure_distance
from bench.tasks.samplers.declarations import sampler_choice
from bench.tasks.samplers.images import EXTRACTOR, class_mixture, features, mixture_pixels
from implementations.diffusion import VP
from metrics import FeatureStatistics


def parameters(**changes):
    small = {
        "ours": ["ddim", "dpmpp_2m"], "theirs": ["diffusers_ddim", "k_diffusion_dpmpp_2m"], "schedules": ["karras"],
        "choosing": 2, "judging": 2, "finalists": 1, "samples": 65, "nfe": 5,
    }  # fmt: skip
    return sampler_choice.parameters(**(small | changes))


@pytest.fixture
def scripted(monkeypatch):
    """Distances by a table in place of samples; gives the seeds that each pair was asked for."""
    asked = []

    def distance(parameters, pair, seed, device):
        asked.append((str(pair), seed))
        return {"ddim": 3.0, "dpmpp_2m": 2.0}.get(pair.sampler, 2.0 + 0.01 * (seed % 2) - 0.005)

    monkeypatch.setattr(choice, "measure_distance", distance)
    return asked


def test_seeds_that_choose_do_not_judge(scripted):
    sampler_choice.run(parameters(), Context())
    by_pair = {pair: [seed for other, seed in scripted if other == pair] for pair, _ in scripted}
    assert by_pair["ddim karras"] == [1000]  # no finalist
    assert by_pair["dpmpp_2m karras"] == [1000, 1001, 1500, 1501]
    sampler_choice.run(parameters(), Context(seed=1))
    other = [seed for pair, seed in scripted[len(scripted) // 2 :] if pair == "dpmpp_2m karras"]
    assert other == [2000, 2001, 2500, 2501]


def test_a_difference_is_paired_and_a_tie_is_named(scripted):
    measures = sampler_choice.run(parameters(), Context())
    difference = measures["k-diffusion"]["difference"]
    assert difference.value == pytest.approx(0.0, abs=1e-12)
    low, high = difference.interval
    assert (low + high) / 2 == pytest.approx(difference.value)
    # t of one degree of freedom at 1 - .05 / 4: two differences hold at once
    assert high == pytest.approx(0.005 * scipy.stats.t.ppf(1 - 0.05 / 4, 1), rel=1e-4)
    assert measures["k-diffusion"]["detectable"].value > high
    assert measures["k-diffusion"]["tie"] == 1.0
    assert measures["fidmap"]["fd_fmnist"].reference == "dpmpp_2m karras"
    assert "difference" not in measures["fidmap"]


def test_who_may_choose_from_what(scripted):
    assert [str(pair) for pair in combine(parameters(), OWN)] == ["ddim karras", "dpmpp_2m karras"]
    diffusers = [str(pair) for pair in combine(parameters(), "diffusers")]
    assert diffusers[:3] == [
        "diffusers_ddim karras", "diffusers_ddim as shipped", "diffusers_ddim as shipped timestep_spacing=leading"
    ]  # fmt: skip
    assert "k_diffusion_dpmpp_2m as shipped spacing=exponential" in map(str, combine(parameters(), "k-diffusion"))
    with pytest.raises(ValueError, match="torchsde has no sampler among diffusers_ddim"):
        combine(parameters(), "torchsde")
    assert choose_best(parameters(), OWN, Context()).sampler == "dpmpp_2m"


@pytest.mark.unchecked  # the checks of a hundred evaluations take longer than they do
def test_distances_are_of_samples_and_infinite_where_a_pair_does_not_exist(monkeypatch):
    drawn = features(mixture_pixels(class_mixture(VP()).sample(500)))
    monkeypatch.setattr(choice, "_truth", lambda: FeatureStatistics.from_features(drawn, extractor=EXTRACTOR))
    ours = Combination("dpmpp_2m", "log_snr", {})
    exact, coarse = (measure_distance(parameters(nfe=nfe, samples=80), ours, 0, "cpu") for nfe in (20, 3))
    assert exact < coarse / 2
    shipped = Combination("k_diffusion_dpmpp_2m", "uniform", {"mode": "shipped", "spacing": "karras"})
    assert measure_distance(parameters(), shipped, 0, "cpu") < math.inf
    unknown = shipped._replace(options={"mode": "shipped", "spacing": "leading"})
    assert measure_distance(parameters(), unknown, 0, "cpu") == math.inf
