"""RES: exponential Adams-Bashforth on the data predicted, with the exact moments of the kernel."""

from __future__ import annotations

from implementations.diffusion.path import Images
from implementations.samplers.contract import Problem, sampler
from implementations.samplers.exponential import FORMS, check_order, multistep


@sampler
def res_multistep(problem: Problem, *, order: int = 2) -> Images:
    """Multistep RES on the predicted data: ``x' = (sigma'/sigma) x + alpha' h sum_k w_k x0_k`` (2308.02157).

    h is the step of the log-SNR and x0_k is the data predicted k steps ago. The weights make the step exact where x0 is
    a polynomial in the log-SNR, of degree ``order`` - 1. They are those of UniPC's predictor, and at order 2 those of
    DPM-Solver++ with ``heun``. Raises ValueError on an order outside 1 to 4.
    """
    return multistep(problem, FORMS["data"], check_order(order, 4))
