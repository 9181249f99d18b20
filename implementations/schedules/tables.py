"""Published grids of noise levels."""

from __future__ import annotations

import math

import numpy as np
import torch

from implementations.diffusion.path import Path
from implementations.schedules.spacing import Times, check_steps, times_at

# Eleven levels sigma/alpha of ten steps, from the authors' project page (2404.14507).
AYS = {
    "sd15": (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
             0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
    "sdxl": (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141,
             0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}  # fmt: skip


def ays(path: Path, steps: int, *, table: str = "sd15", clean: bool = True) -> Times:
    """Align Your Steps: the published noise levels, optimised for ``sd15``, ``sdxl`` or ``svd`` (2404.14507).

    For other numbers of steps their logarithms are interpolated. With ``clean``, the last level is replaced by sigma =
    0, on a path that has that end. Raises ValueError on another table, and where the path does not reach its levels:
    ``svd`` starts at 700.
    """
    check_steps(steps)
    if table not in AYS:
        raise ValueError(f"table must be one of {', '.join(AYS)}, got {table!r}")
    logs = [math.log(level) for level in AYS[table]]
    levels = torch.from_numpy(np.interp(np.linspace(0, 10, steps + 1), np.arange(11), logs)).exp()
    levels[0], levels[-1] = AYS[table][0], AYS[table][-1]
    if clean and float(path.sigma(path.t_min)) == 0:
        levels[-1] = 0
    return times_at(path, levels)
