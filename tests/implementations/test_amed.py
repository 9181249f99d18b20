"""AMED: what it learns brings few steps nearer to the flow, on samples it has not seen and on other paths."""

import math

import pytest
import torch

from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, GaussianOracle, MixtureOracle, RectifiedFlow
from implementations.diffusion.artifact import Artifact
from implementations.samplers import SAMPLERS
from implementations.samplers.amed import prepare
from tests.exact import normal


def mixture(path):
    return MixtureOracle(path, normal(4, 6), torch.full((4,), 0.1).double(), [0.1, 0.2, 0.3, 0.4])


def start(path, t, n, seed):
    return normal(n, 6, seed=seed) * math.hypot(float(path.alpha(t)), float(path.sigma(t)))


def test_learnt_steps_are_nearer_to_the_flow_on_samples_not_seen():
    path = VP()
    oracle = mixture(path)
    for steps in (3, 4, 6):
        times = SCHEDULES["karras"](path, steps)
        artifact = prepare(oracle, start(path, times[0], 64, 1), times)
        x = start(path, times[0], 256, 2)
        truth = SAMPLERS["heun"](oracle, x, SCHEDULES["karras"](path, 200))
        errors = [
            float((SAMPLERS["amed"](oracle, x, times, artifact=a) - truth).square().mean().sqrt())
            for a in (artifact, None)
        ]
        assert errors[0] < 0.8 * errors[1], errors


def test_without_an_artifact_it_is_the_midpoint_method():
    oracle, times, x = mixture(VP()), SCHEDULES["karras"](VP(), 6), normal(4, 6)
    found = SAMPLERS["amed"](oracle, x, times)
    torch.testing.assert_close(found, SAMPLERS["midpoint"](oracle, x, times), rtol=1e-12, atol=1e-12)


def test_what_is_learnt_is_a_middle_where_steps_are_short():
    """As the step shrinks the midpoint method is exact, so that r goes to 1/2 and c to 1."""
    times = torch.tensor([0.52, 0.5], dtype=torch.float64)
    oracle = GaussianOracle(VP(), torch.zeros(6).double(), torch.linspace(0.05, 2, 6).double())
    artifact = prepare(oracle, normal(32, 6), times, trials=30)
    assert float(artifact.tensors["share"][0]) == pytest.approx(0.5, abs=0.05)
    assert float(artifact.tensors["scale"][0]) == pytest.approx(1, abs=1e-3)


def test_what_is_learnt_does_not_depend_on_the_path():
    learnt = []
    for path in (VP(), EDM(), RectifiedFlow()):
        times = SCHEDULES["karras"](path, 4, sigma_max=20.0, sigma_min=0.05, clean=False)
        learnt.append(prepare(mixture(path), start(path, times[0], 16, 3), times))
    for artifact in learnt[1:]:
        torch.testing.assert_close(artifact.tensors["share"], learnt[0].tensors["share"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(artifact.tensors["scale"], learnt[0].tensors["scale"], rtol=1e-6, atol=1e-6)
    # and one of them serves another path, at the same levels
    times = SCHEDULES["karras"](EDM(), 4, sigma_max=20.0, sigma_min=0.05, clean=False)
    assert SAMPLERS["amed"](mixture(EDM()), 20 * normal(2, 6), times, artifact=learnt[0]).isfinite().all()


def test_its_price_and_its_file(tmp_path):
    times = SCHEDULES["karras"](VP(), 4)
    counting = CountingDenoiser(mixture(VP()))
    artifact = prepare(counting, normal(8, 6), times, substeps=3, trials=5)
    # the teacher 3 x 3 substeps of two and an end step; the student 3 steps of one and 5 trials, and an end step
    assert artifact.evaluations == counting.calls == 19 + 3 * 6 + 1
    artifact.save(tmp_path / "amed.safetensors")
    again = Artifact.load(tmp_path / "amed.safetensors")
    assert again.hash == artifact.hash
    left, right = (SAMPLERS["amed"](mixture(VP()), normal(3, 6), times, artifact=a) for a in (artifact, again))
    assert torch.equal(left, right)


def test_the_options_of_its_preparation_do_something():
    times, x = SCHEDULES["karras"](VP(), 4), normal(8, 6)
    hashes = {
        prepare(mixture(VP()), x, times, **options).hash
        for options in ({}, {"substeps": 2}, {"trials": 4}, {"substeps": 2, "trials": 4})
    }
    assert len(hashes) == 4


@pytest.mark.unchecked
def test_what_does_not_fit_is_named():
    oracle, x, times = mixture(VP()), normal(4, 6), SCHEDULES["karras"](VP(), 4)
    artifact = prepare(oracle, x, times, trials=3, substeps=1)
    with pytest.raises(ValueError, match="artifact must be prepared on the times of this call, 5 steps"):
        SAMPLERS["amed"](oracle, x, SCHEDULES["karras"](VP(), 5), artifact=artifact)
    with pytest.raises(ValueError, match="or other levels"):
        SAMPLERS["amed"](oracle, x, SCHEDULES["uniform"](VP(), 4), artifact=artifact)
    with pytest.raises(ValueError, match="artifact must be what amed prepared, got one of gits"):
        SAMPLERS["amed"](oracle, x, times, artifact=Artifact("gits", {}, 0))
    for option, least in (("substeps", 1), ("trials", 2)):
        with pytest.raises(ValueError, match=f"{option} must be an integer of at least {least}, got {least - 1}"):
            prepare(oracle, x, times, **{option: least - 1})
