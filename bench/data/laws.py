"""Laws whose figures are known, from which the coverage of intervals is measured.

They were written down before the methods that they judge: a law is not changed to suit an interval.

Features: two sides, real and generated, each of independent coordinates, so that means and variances are known and the
Fréchet distance of the laws is ``sum (m_i - m'_i)² + (s_i - s'_i)²``. Detections: images with truths and detections of
three classes, whose figures are those of very many images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

FeatureLaw = Literal["equal", "shifted", "skewed", "heavy", "sparse"]
DetectionLaw = Literal["strong", "weak"]


class Sides(NamedTuple):
    """Real and generated features."""

    real: Float64[Tensor, "n d"]
    generated: Float64[Tensor, "m d"]


@dataclass(frozen=True)
class Features:
    """Pairs of feature sets of ``d`` coordinates.

    - ``equal``: one Gaussian on both sides, of variances ``1 / i`` at coordinate i.
    - ``shifted``: that Gaussian; the generated one has a mean of .2 and standard deviations 1.2 times as large.
    - ``skewed``: gamma variables of shape 2; the generated ones are 1.3 times as large.
    - ``heavy``: Student's t with 7 degrees of freedom; the generated ones have a mean of .3.
    - ``sparse``: normals cut off below 0, as features behind a ReLU are; the generated normals have a mean of .25.
    """

    law: FeatureLaw
    d: int

    def draw(self, n: int, m: int, generator: torch.Generator) -> Sides:
        """``n`` real and ``m`` generated rows."""
        return Sides(self._rows(n, False, generator), self._rows(m, True, generator))

    def distance(self) -> float:
        """The Fréchet distance of the two laws."""
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


class Scenes(NamedTuple):
    """Truths and detections as flat arrays (``evaluate_coco`` takes them as they are); image ids count from 0."""

    truths: tuple[np.ndarray, ...]  # images, boxes xyxy, labels
    detections: tuple[np.ndarray, ...]  # images, boxes xyxy, labels, scores


@dataclass(frozen=True)
class Detections:
    """Images with one truth and, besides, a Poisson number of mean 3, of three classes with shares .6, .3 and .1.

    Each image has a difficulty, a standard normal z. A truth is found with the probability of the logistic function at
    ``q - z``; the centre of its detection is off by ``.06 exp(.4 z)`` sides (normal, each axis), its sides by
    factors of that log deviation, and its score is the logistic of a normal about 1.5 - z. The number of false
    detections is Poisson of mean f, their scores are about -1. ``strong``: q = 2.5, f = 1; ``weak``: q = .5, f = 4.
    """

    law: DetectionLaw

    def draw(self, images: int, rng: np.random.Generator) -> Scenes:
        """``images`` images."""
        found_at, false = (2.5, 1.0) if self.law == "strong" else (0.5, 4.0)
        difficulty = rng.standard_normal(images)
        image = np.repeat(np.arange(images), 1 + rng.poisson(3, images))
        label, box = _label(rng, len(image)), _boxes(rng, len(image))
        z = difficulty[image]
        kept = rng.random(len(image)) < _logistic(found_at - z)
        blur = 0.06 * np.exp(0.4 * z)[:, None]
        centre, sides = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
        centre = centre + blur * sides * rng.standard_normal(sides.shape)
        sides = sides * np.exp(blur * rng.standard_normal(sides.shape))
        near = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1)[kept]
        score = _logistic(1.5 - z + rng.standard_normal(len(image)))[kept]
        other = np.repeat(np.arange(images), rng.poisson(false, images))
        wrong = _logistic(-1 + rng.standard_normal(len(other)))
        found = (
            np.concatenate([image[kept], other]),
            np.concatenate([near, _boxes(rng, len(other))]),
            np.concatenate([label[kept], _label(rng, len(other))]),
            np.concatenate([score, wrong]),
        )
        return Scenes((image, box, label), found)


def _label(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice(3, n, p=[0.6, 0.3, 0.1])


def _boxes(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 4"]:
    """Sides log-uniform in 16 to 200 pixels, anywhere in 640 x 480."""
    sides = np.exp(rng.uniform(np.log(16), np.log(200), (n, 2)))
    corner = rng.random((n, 2)) * (np.array([640, 480]) - sides)
    return np.concatenate([corner, corner + sides], axis=1)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
