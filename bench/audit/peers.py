"""What is audited of another library: every entry as a solver, and as shipped with each setting that it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.audit.subject import Subject
from implementations.catalogue import SAMPLERS

LIBRARIES = ("diffusers", "k_diffusion")
SHIPPED: dict[str, list[dict[str, Any]]] = {
    "diffusers": [
        {},
        {"timestep_spacing": "linspace"},
        {"timestep_spacing": "leading"},
        {"timestep_spacing": "trailing"},
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True},
        {"set_alpha_to_one": False},
        {"set_alpha_to_one": False, "steps_offset": 1},
        {"timestep_spacing": "leading", "steps_offset": 1},
        {"skip_prk_steps": False},
    ],
    "k_diffusion": [{"spacing": spacing} for spacing in ("karras", "exponential", "polyexponential")],
}


def of_library(library: str) -> Iterator[Subject]:
    """The subjects of an audit of another library: each of its samplers as a solver, and as shipped with each setting.

    Settings that a sampler does not have are left out.
    """
    for name, found in SAMPLERS.items():
        if found.family == "peer" and name.startswith(f"{library}_"):
            entry = found.load()
            for options in entry.variants():
                yield Subject(entry, options)
            for options in SHIPPED[library]:
                subject = Subject(entry, {"mode": "shipped", **options})
                if subject.accepts_options:
                    yield subject
