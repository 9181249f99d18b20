"""Micro-benchmarks, run by `nox -s microbench` and imported into a store; skipped by a plain pytest."""

import pytest
import torch

from bench.data.scenes import scenes
from bench.tasks.metrics.detection import perturb
from bench.tasks.samplers.overhead import Idle
from implementations.boxes import LOSSES, NMS
from implementations.diffusion import SCHEDULES, VP
from implementations.samplers import SAMPLERS
from metrics import FeatureStatistics, evaluate_coco, frechet_distance, sliced_wasserstein


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_sampler_of_ten_steps(benchmark, name):
    path = VP()
    x, eps, noise = torch.randn(3, 16, 4, 64, 64)
    times = SCHEDULES["karras"](path, 10)
    benchmark(SAMPLERS[name], Idle(path, eps), x, times, noise=lambda draw, like: noise)


@pytest.mark.parametrize("name", list(LOSSES))
def test_box_loss_with_gradient(benchmark, name):
    corner, sides = torch.rand(2, 2, 100_000, 2)
    pred, target = torch.cat([corner, corner + sides + 0.1], dim=-1).unbind()
    pred.requires_grad_()
    benchmark(lambda: torch.autograd.grad(LOSSES[name](pred, target).sum(), pred))


@pytest.mark.parametrize("name", [name for name in NMS if name != "iou_guided"])
def test_nms_of_10_000_boxes_over_80_classes(benchmark, name):
    corner, sides = torch.rand(2, 10_000, 2) * torch.tensor([[[600.0]], [[100.0]]])
    boxes, scores, labels = torch.cat([corner, corner + sides], 1), torch.rand(10_000), torch.randint(80, (10_000,))
    benchmark(NMS[name], boxes, scores, labels)


def test_coco_evaluation_of_200_scenes(benchmark):
    truth = scenes(200).coco
    found = perturb(truth, "jitter", 0.1).entries()
    benchmark(evaluate_coco, truth, found)


def test_frechet_distance_of_512_features(benchmark):
    a, b = (FeatureStatistics.from_features(torch.randn(2000, 512)) for _ in range(2))
    benchmark(frechet_distance, a, b)


def test_sliced_wasserstein_of_2000_samples(benchmark):
    x, y = torch.randn(2, 2000, 16)
    benchmark(sliced_wasserstein, x, y)
