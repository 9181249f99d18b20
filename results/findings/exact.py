"""Problems with known answers for the findings about other libraries; nothing here uses this project's code.

The data are a Gaussian with independent components of mean ``MEAN`` and standard deviation ``SPREAD``. At level
(alpha, sigma) the state ``x = alpha x0 + sigma eps`` has variance ``alpha^2 SPREAD^2 + sigma^2``, the exact network is

    eps(x) = sigma (x - alpha MEAN) / (alpha^2 SPREAD^2 + sigma^2)

and the probability flow keeps ``(x - alpha MEAN) / sqrt(alpha^2 SPREAD^2 + sigma^2)``. All numbers are float64.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MEAN = torch.tensor([0.7, -0.4, 0.2, 1.1, 0.0, -0.9], dtype=torch.float64)
SPREAD = torch.tensor([0.3, 0.5, 1.0, 1.6, 0.8, 0.2], dtype=torch.float64)
START = torch.tensor([0.6, -1.3, 0.4, 1.1, -0.7, 0.9], dtype=torch.float64)  # in standard deviations of the state
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

Level = tuple[float, float]  # alpha, sigma
Figures = dict[str, float | str]


def state(level: Level, z: Tensor = START) -> Tensor:
    """The state at ``level`` on the flow's line through ``z``, which is counted in standard deviations."""
    alpha, sigma = level
    return alpha * MEAN + (alpha**2 * SPREAD**2 + sigma**2).sqrt() * z


def noise(x: Tensor, level: Level) -> Tensor:
    """The exact network's answer: the mean of eps given ``x`` at ``level``."""
    alpha, sigma = level
    return sigma * (x - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2)


def data(x: Tensor, level: Level) -> Tensor:
    """The mean of x0 given ``x`` at ``level``."""
    alpha, sigma = level
    return MEAN + alpha * SPREAD**2 * (x - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2)


def slope(counts: Sequence[int], errors: Sequence[float]) -> float:
    """Minus the slope of log error over log count by least squares: the order of accuracy."""
    x = torch.tensor([math.log(n) for n in counts], dtype=torch.float64)
    y = torch.tensor([math.log(e) for e in errors], dtype=torch.float64)
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def rms(x: Tensor) -> float:
    """The root of the mean square."""
    return float(x.square().mean().sqrt())


def karras(steps: int, highest: float, lowest: float, rho: float = 7.0) -> Tensor:
    """``steps + 1`` levels sigma/alpha from highest to lowest (2206.00364, eq. 5)."""
    ramp = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return (highest ** (1 / rho) + ramp * (lowest ** (1 / rho) - highest ** (1 / rho))) ** rho


def stable_diffusion_ratios() -> Tensor:
    """sigma/alpha of the 1,000 timesteps of Stable Diffusion's betas, in float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    return ((1 - kept) / kept).sqrt()


def vp(ratio: float) -> Level:
    """The variance-preserving (alpha, sigma) of a ratio sigma/alpha."""
    alpha = 1 / math.sqrt(1 + ratio**2)
    return alpha, ratio * alpha


def command(functions: Sequence[Callable[[], Figures]], chosen: Sequence[str]) -> None:
    """Print the figures of the named functions, or of all."""
    names = {function.__name__: function for function in functions}
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise SystemExit(f"no finding is called {unknown[0]}; there are {', '.join(names)}")
    for name in chosen or names:
        print(name)
        for figure, value in names[name]().items():
            print(f"  {figure}: {value if isinstance(value, str) else format(value, '.3g')}")
