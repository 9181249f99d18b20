"""Findings about ComfyUI's samplers and schedulers, whose formulas were read and are written anew here, not run.

    python results/findings/of_comfyui.py [NAME ...]

ComfyUI is in no package. Its states are x/alpha and its levels sigma/alpha, as k-diffusion's. The rows of
results/audit-findings.md say what each finding means and when it holds.
"""

import sys

import exact
import scipy.stats
from exact import Figures, karras, rms, slope, state
from torch import Tensor

HIGH, LOW = 20.0, 0.05


def _end(levels: Tensor) -> Tensor:
    """Step through levels with the published weights of order 4, the first three steps of Adams-Bashforth's orders."""
    s, x, past = levels.tolist(), state((1.0, float(levels[0]))), list[Tensor]()
    for i in range(len(s) - 1):
        past = [exact.noise(x, (1.0, s[i])), *past[:3]]
        h, *before = (s[i - j + 1] - s[i - j] for j in range(min(i, 3) + 1))
        x = x + h * sum(w * eps for w, eps in zip(_weights(h, *before), past, strict=True))
    return x


def _weights(h: float, *before: float) -> list[float]:
    """Weights of the latest values for a step of h, the steps before it given: those of order 4 as published."""
    if not before:
        return [1.0]
    a, *further = before
    first, second = 1 + h / (2 * a), -h / (2 * a)
    if not further:
        return [first, second]
    b, *last = further
    if not last:  # Adams-Bashforth's, so that the start leaves less than what is measured
        p = (1 - h / (3 * (h + a))) * h * (h + a) / (2 * a * (a + b))
        return [first + p, second - (1 + a / b) * p, p * a / b]
    (c,) = last
    q, k = h / (3 * (h + a)), a * (a + b) / (b * (b + c))
    p = (1 - q * h * (h + a) / (a * (a + b))) / 2
    t = (1 - q) / 2 + (1 - h / (2 * (h + a))) * h / (6 * (h + a + b))
    t *= h * (h + a) * (h + a + b) / (a * (a + b) * (a + b + c))
    return [
        first + p + t,
        second - (1 + a / b) * p - (1 + a / b + k) * t,
        p * a / b + (a / b + k * (1 + b / c)) * t,
        -t * k * a / b,
    ]


def ipndm_v() -> Figures:
    """`ipndm_v` of order 4 is not Adams-Bashforth: of order 2 on Karras levels, and of none where steps alternate."""
    counts, errors, apart = (320, 640, 1280), [], []
    for steps in counts:
        levels = karras(steps, HIGH, LOW)
        errors.append(rms(_end(levels) - state((1.0, LOW))))
        uneven = levels.clone()
        uneven[1:-1:2] += 0.3 * (levels[:-2:2] - levels[1:-1:2])
        apart.append(rms(_end(uneven) - state((1.0, LOW))))
    equal = [24 * w for w in _weights(1.0, 1.0, 1.0, 1.0)]
    return {
        "order on Karras levels": slope(counts, errors),
        "error where every other level is moved, 320 steps": apart[0],
        "error where every other level is moved, 1280 steps": apart[-1],
        "24 times the weights of equal steps (Adams-Bashforth: 55, -59, 37, -9)": ", ".join(f"{w:.0f}" for w in equal),
    }


def ddim_uniform() -> Figures:
    """`ddim_uniform` walks from timestep 1 in strides of N // steps, so that it may make more steps than asked for."""
    made = {steps: len(range(1, 1000, 1000 // steps)) for steps in range(1, 101)}
    return {
        "steps made where 30 are asked for": float(made[30]),
        "of 1 to 100 steps, numbers that give more": float(sum(n > steps for steps, n in made.items())),
    }


def beta() -> Figures:
    """`beta` rounds quantiles to timesteps and makes one of those that coincide, so that steps are lost."""

    def count(steps: int) -> int:
        quantiles = [scipy.stats.beta.ppf(1 - i / steps, 0.6, 0.6) for i in range(steps)]
        return len({round(999 * q) for q in quantiles})

    least = next(steps for steps in range(1, 200) if count(steps) < steps)
    return {"least number of steps of which one is lost": float(least), "steps made of 200": float(count(200))}


FINDINGS = [ipndm_v, ddim_uniform, beta]

if __name__ == "__main__":
    exact.command(FINDINGS, sys.argv[1:])
