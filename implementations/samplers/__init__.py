"""Samplers: ``sampler(denoiser, x, times, *, noise=None, callback=None, condition=None, **options) -> x``."""

from implementations.catalogue import SAMPLERS

__all__ = ["SAMPLERS"]
