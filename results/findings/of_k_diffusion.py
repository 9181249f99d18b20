"""Findings about k-diffusion's samplers, called as they are, on a problem whose answer is known.

    python results/findings/of_k_diffusion.py [NAME ...]

Its states are x/alpha and its levels sigma/alpha, so the exact network at level sigma is the mean of the data given
``x0 + sigma eps``. The rows of results/audit-findings.md say what each finding means and when it holds.
"""

import importlib
import importlib.util
import sys
import types

import exact
import torch
from exact import Figures, data, karras, rms, slope, state
from torch import Tensor

# `import k_diffusion` asks for everything that its training needs; its samplers stand in one module.
_package = types.ModuleType("k_diffusion_samplers_alone")
_package.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
sys.modules[_package.__name__] = _package
sampling = importlib.import_module(f"{_package.__name__}.sampling")


def network(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of k-diffusion's convention."""
    return data(x, (1.0, float(sigma[0])))


def dpm_adaptive() -> Figures:
    """`dpm_adaptive` takes one norm over the batch for its error, so a sample depends on its neighbours."""
    starts = torch.stack([state((1.0, 20.0)), state((1.0, 20.0), -3 * exact.START)])
    together = sampling.sample_dpm_adaptive(network, starts, 0.05, 20.0, disable=True)
    alone = sampling.sample_dpm_adaptive(network, starts[:1], 0.05, 20.0, disable=True)
    return {"one sample alone and in a batch of two differ by": float((together[0] - alone[0]).abs().max())}


def one_step() -> Figures:
    """`dpmpp_2m_sde` and `dpmpp_3m_sde` cannot take one step to sigma = 0: they read `h`, which nothing has set."""
    out: Figures = {}
    for name in ("dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_2m"):
        sample = getattr(sampling, f"sample_{name}")
        options = {"noise_sampler": lambda *_: 0.0} if name.endswith("sde") else {}
        try:
            found = sample(network, state((1.0, 1.0))[None], torch.tensor([1.0, 0.0]).double(), disable=True, **options)
            out[name] = "finite" if bool(found.isfinite().all()) else "not finite"
        except UnboundLocalError as error:
            out[name] = type(error).__name__
    return out


def dpmpp_3m_sde() -> Figures:
    """`dpmpp_3m_sde` without noise is of order 2: its second difference is half of f''."""
    out: Figures = {}
    for name, eta in (("dpmpp_3m_sde", 0.0), ("dpmpp_2m_sde", 0.0)):
        errors, counts = [], (160, 320, 640)
        for steps in counts:
            # two small first steps, so that the start of lower order leaves less than what is measured
            ratios = karras(steps, 20.0, 0.05)
            first = ratios[0] * (ratios[1] / ratios[0]) ** torch.tensor([0.0, 1e-4, 1e-3, 1e-2, 0.1])
            grid = torch.cat([first, ratios[1:]])
            x = getattr(sampling, f"sample_{name}")(
                network, state((1.0, 20.0))[None], grid, disable=True, eta=eta, noise_sampler=lambda *_: 0.0
            )
            errors.append(rms(x[0] - state((1.0, 0.05))))
        out[f"order of {name}"] = slope(counts, errors)
    return out


FINDINGS = [dpm_adaptive, one_step, dpmpp_3m_sde]

if __name__ == "__main__":
    exact.command(FINDINGS, sys.argv[1:])
