"""Reproducers: scripts of a few lines that show what a check found; the figure is the last line that they print."""

from __future__ import annotations

from bench.audit.subject import LEVELS, Subject

PROBES = ("Dirac", "ConstantDenoiser", "RecordingDenoiser")
RADIUS = "float(torch.hypot(path.alpha({t}), path.sigma({t})))"
_ORACLE = """\
oracle = GaussianOracle(path, torch.linspace(-1, 1, 6).double(), torch.linspace(0.05, 2, 6).double())
z = torch.randn({n}, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
"""


def script(subject: Subject, body: str, path: str = "", names: str = "", imports: str = "") -> str:
    """Write a reproducer, a script that shows what a check found: imports, the sampler, the path, then the body.

    The sampler is called ``sampler`` and the path ``path``. ``names`` are those that the body uses of
    ``implementations.diffusion`` and of the probes, ``imports`` further lines.
    """
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
    """Lines of a reproducer that define the Gaussian oracle of six modes, and z, standard normal draws of n samples."""
    return _ORACLE.format(n=n)


def times(subject: Subject, steps: int | str, clean: bool = False) -> str:
    """An expression, for a reproducer, of the time grid on which a sampler is audited (``Subject.times``)."""
    if subject.as_shipped:
        return f'SCHEDULES["uniform"](path, {steps})'
    levels = ", ".join(f"{name}={value}" for name, value in LEVELS.items())
    clean = clean or subject.entry.to_data == "must"
    turned = ".flip(0)" if subject.entry.ascending else ""
    return f'SCHEDULES["karras"](path, {steps}, clean={clean}, {levels}){turned}'


def first_state(subject: Subject, recorder: str) -> str:
    """An expression, for a reproducer, of the time and gain at which a sampler first evaluates the network.

    For a scheduler as shipped, it reads them off the first call that ``recorder`` saw.
    """
    if not subject.as_shipped:
        return "times[0], 1.0"
    return f"{recorder}.calls[0].t, float({recorder}.calls[0].x[0, 0])"
