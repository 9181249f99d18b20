"""The equivariance check: does one log-SNR grid give the same samples on every path, up to scale?"""

from __future__ import annotations

from bench.audit.finding import Measurement, NotApplicable, Undecided
from bench.audit.script import RADIUS, oracle, script, times
from bench.audit.subject import CONTINUOUS, Subject, normal, six_modes, state_at


def equivariance(subject: Subject) -> Measurement:
    """One log-SNR grid gives the same samples on every path, rescaled.

    This check of a sampler's audit runs it on each path from the same start, up to scale; the figure is the largest
    relative difference from the samples of the first path.
    """
    coordinate = subject.options.get("coordinate", subject.entry.coordinate)
    if subject.as_shipped:
        raise NotApplicable("its grid is its own")
    if subject.entry.adaptive:
        raise NotApplicable("it chooses its steps")
    if coordinate == "t":
        raise NotApplicable("it integrates in t, in which paths differ")
    if coordinate is None and not subject.peer:
        raise NotApplicable("it states no coordinate to integrate in, so that paths may differ")
    limit = 1e-5 if subject.peer else 1e-12  # other libraries keep their levels in float32
    if subject.refusals:
        raise Undecided("on {}: {}".format(*next(iter(subject.refusals.items()))))
    if len(subject.paths) < 2:
        raise NotApplicable("there are fewer than two of the paths that it takes")
    figure = 0.0
    for clean in (False, True) if subject.ends_clean else (False,):
        found = []
        for name in subject.paths:
            path = CONTINUOUS[name]()
            if clean and float(path.sigma(path.t_min)) > 0:
                continue
            grid = subject.times(path, 12, clean=clean)
            x = state_at(path, grid[0], normal(4))
            found.append(subject(six_modes(path), x, grid) / float(path.alpha(grid[-1])))
        figure = max([figure, *(float((y - found[0]).abs().max() / found[0].abs().max()) for y in found[1:])])
    return Measurement(figure, f"at most {limit:g}", figure <= limit, "", _equivariance_script(subject))


def _equivariance_script(subject: Subject) -> str:
    names = " ".join(name.partition("(")[0] for name in subject.paths)
    body = f"""\
largest = 0.0
for clean in {(False, True) if subject.ends_clean else (False,)}:
    found = []
    for path in ({", ".join(subject.paths)}):
        if clean and path.sigma(path.t_min) > 0:
            continue
        {oracle(4).strip().replace(chr(10), chr(10) + " " * 8)}
        times = {times(subject, 12, clean=True).replace("clean=True", "clean=clean")}
        x = z * {RADIUS.format(t="times[0]")}
        found.append(sampler(oracle, x, times) / path.alpha(times[-1]))
    largest = max([largest, *(float((y - found[0]).abs().max() / found[0].abs().max()) for y in found[1:])])
print(largest)"""
    return script(subject, body, names=f"GaussianOracle SCHEDULES {names}")
