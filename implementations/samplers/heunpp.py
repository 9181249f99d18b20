"""Heun++: Heun's step with a look ahead to the time after the next, and weights that fall with the noise level."""

from __future__ import annotations

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.adams import transfer
from implementations.samplers.contract import Problem, sampler


def _count_evaluations(touching: list[bool], **_: object) -> int:
    n = len(touching)
    return sum(1 if end else min(3, n - i) for i, end in enumerate(touching))


@sampler(count=_count_evaluations)
def heunpp2(problem: Problem) -> Images:
    """Heun++: a step of DDIM's form with ``(1 - w1 - w2) eps + w1 eps1 + w2 eps2`` in place of eps.

    eps1 and eps2 are predicted at the ends of two Euler steps in r = sigma/alpha, to the next time and to the one after
    it. ``w_k = r_k / (3 r_max)``, with r_k the level of eps_k and r_max the largest finite level of the grid; the last
    step but one has eps1 alone, with ``w1 = r_1 / (2 r_max)``, and the last is Euler's (Carzit's
    sd-webui-samplers-scheduler, without churn). Heun's own weight of eps1 is 1/2: these weights make the order 1.
    """
    levels = [point.ratio for point in problem.points]
    top = max(level for level, point in zip(levels, problem.points, strict=True) if point.alpha > 0)

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        here, there = problem.points[i], problem.points[i + 1]
        ahead = problem.points[i + 1 : i + 3]
        if ahead[-1] is problem.points[-1]:
            ahead.pop()
        shares, values, state, before = [1.0], [prediction.eps], x, here
        for point in ahead:
            state = transfer(before, point, state, [1.0], values[-1:])
            values.append(problem.ask(state, point).eps)
            shares.append(point.ratio / ((len(ahead) + 1) * top))
            before = point
        shares[0] -= sum(shares[1:])
        return transfer(here, there, x, shares, values)

    return problem.solve(step)
