"""Measures that tasks of several families declare: figures of images, and what a run costs."""

from __future__ import annotations

from bench.task import Measure

BATCH = 100  # images of a batch of a learned model, whose time is its latency
COSTS = [
    Measure("evaluations", "evaluations of the model, counted", direction="target", window=0.0),
    Measure("prepare_evaluations", "evaluations spent once, to learn beforehand", direction="target", window=0.0),
]
FIGURES = [
    Measure("fd_fmnist", "Frechet distance of Fashion-MNIST features to the data", window=0.02),
    Measure(
        "fd_fmnist_floor", "the same for exact draws of the oracle, or real images", direction="target", window=0.02
    ),
    Measure("precision", "share of samples within the balls of the data (k = 3)", direction="higher", window=0.01),
    Measure(
        "precision_floor", "the same for exact draws of the oracle, or real images", direction="target", window=0.01
    ),
    Measure("recall", "share of the data within the balls of the samples (k = 3)", direction="higher", window=0.01),
    Measure("recall_floor", "the same for exact draws of the oracle, or real images",
            direction="target", window=0.01),
]  # fmt: skip
OF_MODELS = [  # beside the figures of images, of a learned model
    Measure("kid", "kernel distance of Fashion-MNIST features to the data, unbiased", window=0.02, floor=1e-6),
    Measure("latency", "median time of a batch of 100 images of a model", unit="ms", deterministic=False),
]
