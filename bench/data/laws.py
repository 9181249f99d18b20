"""Distributions whose Fréchet distance or AP is known, on which the coverage of confidence intervals is measured.

They were fixed before the methods that they judge, and are not changed to suit an interval.

Features: a real and a generated distribution, each with independent coordinates, so that means m and standard
deviations s are known and the Fréchet distance of the two is ``sum (m_i - m'_i)² + (s_i - s'_i)²``. Detections: images
with truths and detections of three classes, whose figures are approximated on very many images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

FeatureLawName = Literal["equal", "shifted", "skewed", "heavy", "sparse"]
DetectionLawName = Literal["strong", "weak"]
DETECTORS = {"strong": (2.5, 1.0), "weak": (0.5, 4.0)}  # q and f of ``DetectionLaw``


class FeatureSample(NamedTuple):
    """Samples of real and of generated features, as drawn from a ``FeatureLaw``."""

    real: Float64[Tensor, "n d"]
    generated: Float64[Tensor, "m d"]


@dataclass(frozen=True)
class FeatureLaw:
    """A pair of distributions of features, real and generated, whose Fréchet distance is known.

    Their ``d`` coordinates are independent.

    - ``equal``: one Gaussian on both sides, with variance ``1 / i`` at coordinate i.
    - ``shifted``: that Gaussian; the generated one has mean .2 and standard deviations 1.2 times as large.
    - ``skewed``: gamma variables of shape 2; the generated ones are 1.3 times as large.
    - ``heavy``: Student's t with 7 degrees of freedom; the generated ones have mean .3.
    - ``sparse``: normals clipped at 0, as features behind a ReLU are; the generated normals have mean .25.
    """

    law: FeatureLawName
    d: int

    def draw(self, n: int, m: int, generator: torch.Generator) -> FeatureSample:
        """Draw ``n`` rows of real and ``m`` rows of generated features."""
        return FeatureSample(self._rows(n, False, generator), self._rows(m, True, generator))

    def distance(self) -> float:
        """The squared Fréchet distance of the two distributions, ``sum (m_i - m'_i)² + (s_i - s'_i)²``.

        m and s are mean and standard deviation of a coordinate.
        """
        (mean, deviation), (other, spread) = (self._moments(side) for side in (False, True))
        return float((mean - other).square().sum() + (deviation - spread).square().sum())

    def _scale(self) -> Float64[Tensor, " d"]:
        return torch.arange(1, self.d + 1, dtype=torch.float64).rsqrt()

    def _rows(self, n: int, generated: bool, generator: torch.Generator) -> Float64[Tensor, "n d"]:
        normal = torch.randn(n, self.d, generator=generator, dtype=torch.float64)
        if self.law == "equal" or (self.law == "shifted" and not generated):
            return normal * self._scale()
        if self.law == "shifted":
            return 0.2 + 1.2 * normal * self._scale()
        if self.law == "skewed":
            uniform = torch.rand(2, n, self.d, generator=generator, dtype=torch.float64)
            return (1.3 if generated else 1.0) * -(1 - uniform).log().sum(0)
        if self.law == "heavy":
            others = torch.randn(7, n, self.d, generator=generator, dtype=torch.float64)
            return normal / (others.square().sum(0) / 7).sqrt() + (0.3 if generated else 0.0)
        return (normal + (0.25 if generated else 0.0)).clamp(min=0)

    def _moments(self, generated: bool) -> tuple[Float64[Tensor, " d"], Float64[Tensor, " d"]]:
        """Mean and standard deviation of each coordinate."""
        one = torch.ones(self.d, dtype=torch.float64)
        if self.law == "equal" or (self.law == "shifted" and not generated):
            return 0 * one, self._scale()
        if self.law == "shifted":
            return 0.2 * one, 1.2 * self._scale()
        if self.law == "skewed":
            factor = 1.3 if generated else 1.0
            return 2 * factor * one, math.sqrt(2) * factor * one
        if self.law == "heavy":
            return (0.3 if generated else 0.0) * one, math.sqrt(7 / 5) * one
        shift = 0.25 if generated else 0.0
        density = math.exp(-(shift**2) / 2) / math.sqrt(2 * math.pi)
        above = 0.5 * (1 + math.erf(shift / math.sqrt(2)))
        mean = shift * above + density
        return mean * one, math.sqrt((shift**2 + 1) * above + shift * density - mean**2) * one


class DetectionSample(NamedTuple):
    """Truths and detections drawn from a ``DetectionLaw``, as flat arrays that ``evaluate_coco`` takes.

    Image ids count from 0.
    """

    truths: tuple[np.ndarray, ...]  # images, boxes xyxy, labels
    detections: tuple[np.ndarray, ...]  # images, boxes xyxy, labels, scores


@dataclass(frozen=True)
class DetectionLaw:
    """A distribution of images with 1 + Poisson(3) truths of three classes, and detections by a simulated detector.

    The classes have the shares .6, .3 and .1. Each image has a difficulty z, a standard normal. A truth is found with
    probability ``logistic(q - z)``. The centre of its detection is off by a normal with standard deviation ``.06 exp(.4
    z)`` in units of the sides, per axis; the log of its sides is off by the same. Its score is the logistic of a normal
    with mean 1.5 - z. The number of false detections is Poisson with mean f, and their scores are logistic of normals
    with mean -1. ``strong``: q = 2.5, f = 1; ``weak``: q = .5, f = 4.
    """

    law: DetectionLawName

    def draw(self, images: int, rng: np.random.Generator) -> DetectionSample:
        """Draw ``images`` images, their truths and the simulated detector's detections of them."""
        truths, difficulty = _draw_truths(images, rng)
        return DetectionSample(truths, _detect(self.law, truths, difficulty, rng))

    def draw_pair(
        self, other: DetectionLawName, images: int, rng: np.random.Generator
    ) -> tuple[DetectionSample, DetectionSample]:
        """Draw images with their truths, and what the detectors of this law and of ``other`` find in them.

        What is difficult is so for both: they share the difficulty of each image, and nothing else.
        """
        truths, difficulty = _draw_truths(images, rng)
        one, two = (DetectionSample(truths, _detect(law, truths, difficulty, rng)) for law in (self.law, other))
        return one, two


def _draw_truths(images: int, rng: np.random.Generator) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Images, boxes and labels of truths, and the difficulty of each image."""
    difficulty = rng.standard_normal(images)
    image = np.repeat(np.arange(images), 1 + rng.poisson(3, images))
    label, box = _label(rng, len(image)), _boxes(rng, len(image))
    return (image, box, label), difficulty


def _detect(
    law: DetectionLawName, truths: tuple[np.ndarray, ...], difficulty: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Images, boxes, labels and scores of the detections that a simulated detector makes."""
    found_at, false = DETECTORS[law]
    image, box, label = truths
    z = difficulty[image]
    kept = rng.random(len(image)) < _logistic(found_at - z)
    blur = 0.06 * np.exp(0.4 * z)[:, None]
    centre, sides = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    centre = centre + blur * sides * rng.standard_normal(sides.shape)
    sides = sides * np.exp(blur * rng.standard_normal(sides.shape))
    near = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1)[kept]
    score = _logistic(1.5 - z + rng.standard_normal(len(image)))[kept]
    other = np.repeat(np.arange(len(difficulty)), rng.poisson(false, len(difficulty)))
    wrong = _logistic(-1 + rng.standard_normal(len(other)))
    return (
        np.concatenate([image[kept], other]),
        np.concatenate([near, _boxes(rng, len(other))]),
        np.concatenate([label[kept], _label(rng, len(other))]),
        np.concatenate([score, wrong]),
    )


def _label(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice(3, n, p=[0.6, 0.3, 0.1])


def _boxes(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 4"]:
    """Boxes with sides log-uniform in 16 to 200 pixels, anywhere in 640 x 480."""
    sides = np.exp(rng.uniform(np.log(16), np.log(200), (n, 2)))
    corner = rng.random((n, 2)) * (np.array([640, 480]) - sides)
    return np.concatenate([corner, corner + sides], axis=1)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
