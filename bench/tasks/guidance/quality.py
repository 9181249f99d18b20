"""Images that a guidance scheme draws from a learned model of Fashion-MNIST: their quality, their class, their cost.

Every scheme begins at the same starts, sample i of class i modulo their number, and is judged by the test images and a
classifier that guides none. What a scheme needs beside the class is given as follows.

| need        | given                                                                               |
|-------------|-------------------------------------------------------------------------------------|
| classifier  | the checkpoint ``classifier``, of noised images                                     |
| weak        | the checkpoint ``weak``                                                             |
| loss        | ``-log p(class | x0)`` of it at its least noise; the model is asked without a class     |
| measurement | test image i, with a hole, blurred or small; the model is asked without a class         |
| attention   | the network's middle layer, or the option ``layers``                                |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.data import fashion_mnist
from bench.task import Context, Measurements, Value
from bench.tasks.budget import Budgeted
from bench.tasks.draws import generator
from bench.tasks.guidance.schemes import make_scheme
from bench.tasks.measures import BATCH
from bench.tasks.model_images import judge, pixels, test_features
from bench.tasks.model_samples import TIMED, Drawn, Start, draw
from bench.tasks.trained import SEEN, class_labels, open_model, start_of
from implementations.catalogue import GUIDANCE, WEIGHTS
from implementations.diffusion.denoiser import CountingDenoiser, Denoiser
from implementations.guidance.operators import blurring, inpainting, super_resolution
from metrics.extractors.fmnist import load_fmnist
from metrics.samples.accuracy import conditional_accuracy

if TYPE_CHECKING:
    from bench.tasks.guidance.declarations import GuidedParameters

NOISE = 0.05  # standard deviation of a measurement
SPREAD = 0.7  # that of the data, by which posterior guidance weighs a measurement at high noise levels
WHITE = 255  # what pixels saturate at: the background is black in real images too


def guidance_quality(parameters: GuidedParameters, context: Context) -> Measurements:
    """Distances to the test images, accuracy, saturation and cost of images that a scheme draws at a scale."""
    run = GuidedRun(parameters, context)
    drawn = run.draw(run.afford(), run.start, TIMED)
    measures = judge(drawn.samples, parameters.images, context)
    context.keep("seconds", torch.tensor(drawn.seconds, dtype=torch.float64))
    stored = fashion_mnist.from_unit(drawn.samples)
    measures |= {
        **_accuracy(context.arrays["features"], run.labels, parameters.images),
        "saturation": Value(float((stored == WHITE).double().mean()), n=len(stored)),
        "saturation_real": float((fashion_mnist.load("test")[0][: parameters.images] == WHITE).double().mean()),
        "evaluations": drawn.calls,
        "network_evaluations": drawn.rows,
        "latency": drawn.latency(context.seed),
    }
    if run.measured is not None:
        measures["misfit"] = run.misfit(drawn.samples)
    return measures


@dataclass(frozen=True, eq=False)
class GuidedRun:
    """A scheme on a model, with its starts and what it needs."""

    parameters: GuidedParameters
    context: Context

    @cached_property
    def model(self) -> Any:
        """The checkpoint that is guided; raises ValueError on one without classes."""
        found: Any = open_model(self.parameters.network, self.context.device)
        if not found.classes:
            raise ValueError(f"{self.parameters.network} has no classes to be guided by")
        return found

    @cached_property
    def start(self) -> Start:
        """The starts: with the classes as conditions, unless the scheme asks the model without one."""
        found = start_of(self.model, self.parameters.samples, self.context, BATCH)
        unconditional = {"loss", "measurement"} & set(GUIDANCE[self.parameters.guidance].needs)
        return found._replace(conditions=None) if unconditional else found

    @cached_property
    def labels(self) -> Tensor:
        """The class that each sample should be of: of a measured image its own."""
        n = self.parameters.samples
        if self.measured is None:
            return class_labels(n, self.model.classes)
        return fashion_mnist.load("test")[1][:n].long()

    @cached_property
    def weak(self) -> CountingDenoiser | None:
        """The weaker model, counted, where the scheme needs one."""
        if "weak" not in GUIDANCE[self.parameters.guidance].needs:
            return None
        return CountingDenoiser(open_model(self.parameters.weak, self.context.device))

    @cached_property
    def classifier(self) -> Any:
        """The classifier of noised images; raises ValueError on a denoiser, and on one of another path."""
        found, name = WEIGHTS[self.parameters.classifier](self.context.device), self.parameters.classifier
        if isinstance(found, Denoiser):
            raise ValueError(f"classifier {name} is a denoiser; a noisy classifier is accepted")
        if found.path != self.model.path:
            raise ValueError(f"classifier {name} is of {found.path!r}, the model of {self.model.path!r}")
        return found

    @cached_property
    def operator(self) -> Callable[[Tensor], Tensor]:
        """What a measurement is of an image: the option ``operator``."""
        hole = torch.ones(28, 28)
        hole[7:21, 7:21] = 0
        known = {"inpainting": inpainting(hole), "blurring": blurring(2.0), "super_resolution": super_resolution(4)}
        name = self.parameters.options.get("operator", "inpainting")
        if name not in known:
            raise ValueError(f"options: operator is {name!r}; {', '.join(known)} are accepted")
        return known[name]

    @cached_property
    def measured(self) -> Tensor | None:
        """The measurements, one per sample, where the scheme needs them."""
        if "measurement" not in GUIDANCE[self.parameters.guidance].needs:
            return None
        clean = self.operator(pixels(self.parameters.samples))
        noise = torch.randn(clean.shape, generator=generator(self.context.seed, "data"))
        return (clean + NOISE * noise).to(self.context.device)

    def wrap(self, denoiser: Denoiser, part: range) -> Denoiser:
        """The scheme around the model, for some of the samples; a scale per band is the larger in the high one."""
        w = self.parameters.scale
        scale = (w, (1 + w) / 2) if self.parameters.guidance == "frequency_decoupled" else w
        options = {key: value for key, value in self.parameters.options.items() if key != "operator"}
        return make_scheme(self.parameters.guidance, denoiser, scale, options, self.given(part), "images of this model")

    def given(self, part: range) -> dict[str, dict[str, Any]]:
        """The options that meet the scheme's needs, for some of the samples."""
        needs, found = GUIDANCE[self.parameters.guidance].needs, dict[str, dict[str, Any]](attention={}, images={})
        rows = slice(part.start, part.stop)
        if "classifier" in needs:
            found["classifier"] = {"classifier": self.classifier, "time": lambda t: t}
        if "weak" in needs:
            found["weak"] = {"weak": self.weak}
        if "loss" in needs:
            wanted, least = self.labels[rows].to(self.context.device), self.model.path.t_min
            found["loss"] = {"loss": lambda x0: cross_entropy(self.classifier(x0, least), wanted, reduction="none")}
        if self.measured is not None:
            found["measurement"] = {
                "measurement": self.measured[rows], "operator": self.operator, "noise": NOISE, "spread": SPREAD,
            }  # fmt: skip
        return found

    def afford(self) -> int:
        """The most calls that the budget allows; evaluations of the network are counted on one sample."""
        own = self.parameters
        if own.counted == "calls":
            return own.nfe
        one = self.start._replace(n=1, batch=1)
        found = next((nfe for nfe in range(own.nfe, 0, -1) if self.draw(nfe, one, 0).rows <= own.nfe), None)
        if found is None:
            raise ValueError(f"nfe: one call of {own.guidance} takes more than {own.nfe} evaluations of the network")
        return found

    def draw(self, nfe: int, start: Start, timed: int) -> Drawn:
        """Draw the samples within so many calls; evaluations of the weaker model count too."""
        budget = Budgeted(sampler=self.parameters.sampler, schedule=self.parameters.schedule, nfe=nfe)
        return draw(start, budget, pixels(SEEN), self.wrap, others=[self.weak] if self.weak else [], timed=timed)

    def misfit(self, samples: Tensor) -> Value:
        """The RMS distance of what is measured of the samples to the measurements, in units of their noise."""
        assert self.measured is not None
        residual = self.operator(samples) - self.measured.cpu()
        return Value(float((residual / NOISE).double().square().mean().sqrt()), n=len(samples))


def _accuracy(features: Tensor, labels: Tensor, images: int) -> dict[str, Value]:
    """The share of samples that the judging classifier takes for their class, and that of real images."""
    head = load_fmnist().head
    found = conditional_accuracy(head(features.float()), labels).overall
    real = conditional_accuracy(head(test_features(images).float()), fashion_mnist.load("test")[1][:images].long())
    return {
        "accuracy": Value(found.value, (found.low, found.high), n=found.n),
        "accuracy_real": Value(real.overall.value, (real.overall.low, real.overall.high), n=real.overall.n),
    }
