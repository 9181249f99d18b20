"""Reproducers: a script of a few lines that shows what a check found, and prints its figure last."""

from __future__ import annotations

from bench.audit.subject import LEVELS, Subject

PROBES = ("Dirac", "Told", "Witness")
RADIUS = "float(torch.hypot(path.alpha({t}), path.sigma({t})))"
_ORACLE = """\
oracle = GaussianOracle(path, torch.linspace(-1, 1, 6).double(), torch.linspace(0.05, 2, 6).double())
z = torch.randn({n}, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
"""


def script(subject: Subject, body: str, path: str = "", names: str = "", imports: str = "") -> str:
    """The imports, the sampler as ``sampler``, the path as ``path``, then the body, which uses ``names``."""
    path = path or subject.path_name
    wanted = sorted({path.partition("(")[0], *names.split()})
    probes, diffusion = ([n for n in wanted if (n in PROBES) == ours] for ours in (True, False))
    found = f"SAMPLERS[{subject.entry.name!r}]"
    lines = [
        *(["import functools", ""] if subject.options else []),
        "import torch",
        *([f"from bench.audit.probe import {', '.join(probes)}"] if probes else []),
        f"from implementations.diffusion import {', '.join(diffusion)}",
        "from implementations.samplers import SAMPLERS",
        *imports.splitlines(),
        "",
        f"sampler = functools.partial({found}, **{dict(subject.options)!r})"
        if subject.options
        else f"sampler = {found}",
        f"path = {path}",
        body.strip(),
    ]
    return "\n".join(lines) + "\n"


def oracle(n: int) -> str:
    """The six modes and the draws z of n samples."""
    return _ORACLE.format(n=n)


def times(subject: Subject, steps: int | str, clean: bool = False) -> str:
    """The expression of ``Subject.times``."""
    if subject.own_grid:
        return f'SCHEDULES["uniform"](path, {steps})'
    levels = ", ".join(f"{name}={value}" for name, value in LEVELS.items())
    clean = clean or subject.entry.to_data == "must"
    turned = ".flip(0)" if subject.entry.ascending else ""
    return f'SCHEDULES["karras"](path, {steps}, clean={clean}, {levels}){turned}'


def begins(subject: Subject, witness: str) -> str:
    """The expression of ``Subject.begins``: of a scheduler as shipped, where the witness of a first run was asked."""
    if not subject.own_grid:
        return "times[0], 1.0"
    return f"{witness}.evaluations[0].t, float({witness}.evaluations[0].x[0, 0])"
