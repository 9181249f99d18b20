"""RES: exponential Adams-Bashforth on the data predicted, with the exact moments of the kernel."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser
from implementations.diffusion.grid import Callback
from implementations.diffusion.noise import Noise
from implementations.diffusion.path import Images
from implementations.samplers.contract import sampler
from implementations.samplers.exponential import FORMS, checked_order, multistep


@sampler
def res_multistep(
    denoiser: Denoiser,
    x: Images,
    times: Float[Tensor, " points"],
    *,
    noise: Noise,
    callback: Callback | None = None,
    condition: Any = None,
    order: int = 2,
) -> Images:
    """Multistep RES: ``x' = (sigma'/sigma) x + alpha' h sum_k w_k x0_k`` (2308.02157).

    The weights make the step exact where x0 is a polynomial in the log-SNR, of degree ``order`` - 1: they are
    UniPC's predictor's, and DPM-Solver++'s with ``heun`` at 2. Raises ValueError on an order outside 1 to 4.
    """
    form, order = FORMS["data"], checked_order(order, 4)
    return multistep(denoiser, x, times, form=form, order=order, callback=callback, condition=condition)
