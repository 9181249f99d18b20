"""RES: exponential Adams-Bashforth on the data predicted, with the exact moments of the kernel, and its ancestral."""

from __future__ import annotations

from implementations.diffusion.denoiser import Prediction
from implementations.diffusion.path import Images
from implementations.samplers.ancestral_steps import aim_below
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import FORMS, History, check_order, multistep
from implementations.samplers.stochastic import check_eta, check_s_noise


@sampler
def res_multistep(problem: Problem, *, order: int = 2) -> Images:
    """Multistep RES on the predicted data: ``x' = (sigma'/sigma) x + alpha' h sum_k w_k x0_k`` (2308.02157).

    h is the step of the log-SNR and x0_k is the data predicted k steps ago. The weights make the step exact where x0 is
    a polynomial in the log-SNR, of degree ``order`` - 1. They are those of UniPC's predictor, and at order 2 those of
    DPM-Solver++ with ``heun``. Raises ValueError on an order outside 1 to 4.
    """
    return multistep(problem, FORMS["data"], check_order(order, 4))


@sampler
def res_multistep_ancestral(problem: Problem, *, eta: float = 1.0, s_noise: float = 1.0) -> Images:
    """Ancestral RES of order 2: its step to below the next noise level, and noise back up to it (2308.02157, ComfyUI).

    In the level r = sigma/alpha it goes down to ``r_down = sqrt(r'^2 - r_up^2)`` and adds noise of deviation ``r_up =
    eta r' sqrt(1 - r'^2/r^2)``. The data predicted before stand as far behind the start of the step, in log-SNR, as
    the step before went down. Were they placed where they were predicted, the weak order would be 1: the noise between
    both predictions moves the line through them. ``eta`` in [0, 1]: at 0 it is ``res_multistep``; ``s_noise``
    multiplies the noise. Raises ValueError on others, and on ascending times unless eta is 0.
    """
    eta, s_noise, form, history = check_eta(eta, 1.0), check_s_noise(s_noise), FORMS["data"], History(2)
    if eta:
        problem.require_descending()
    went = 0.0  # how far the step before went down

    def step(i: int, x: Images, prediction: Prediction) -> Images:
        nonlocal went
        here, there = problem.points[i], problem.points[i + 1]
        down, up = aim_below(here, there, eta)
        latest, *before = history.push(i, here.log_snr, prediction.x0)
        y = form.integrate(here, down, x, [latest, *((here.log_snr - went, x0) for _, x0 in before)])
        went = down.log_snr - here.log_snr
        return y.add_(problem.noise(i, x), alpha=up * s_noise) if eta else y

    return problem.solve(step)
