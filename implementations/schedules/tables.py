"""Published grids of noise levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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


# Eleven levels that AUTOMATIC1111 and Forge offer as Align Your Steps GITS.
GITS = {
    "sd15": (14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029),
    "sdxl": (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029),
}

ROUNDED = 5e-4  # how far a level of three decimals may lie above that of the table of betas that it stands for


def ays(path: Path, steps: int, *, table: str = "sd15", clean: bool = True, keep_last: bool = False) -> Times:
    """Align Your Steps: the published noise levels, optimised for ``sd15``, ``sdxl`` or ``svd`` (2404.14507).

    For other numbers of steps their logarithms are interpolated. With ``clean``, the last level is replaced by sigma =
    0, on a path that has that end; or, with ``keep_last``, followed by it, as in AUTOMATIC1111. Raises ValueError on
    another table, and where the path does not reach its levels: ``svd`` starts at 700.
    """
    return _interpolate(path, steps, AYS, table, clean, keep_last)


def align_your_steps_gits(
    path: Path, steps: int, *, table: str = "sd15", clean: bool = True, keep_last: bool = True
) -> Times:
    """Align Your Steps GITS: levels for ``sd15`` or ``sdxl``, found by the method of GITS (2405.14326, AUTOMATIC1111).

    For other numbers of steps their logarithms are interpolated. With ``clean``, the last level is followed by sigma =
    0, on a path that has that end; or, without ``keep_last``, replaced by it. Raises ValueError on another table, and
    where the path does not reach its levels.
    """
    return _interpolate(path, steps, GITS, table, clean, keep_last)


def _interpolate(
    path: Path, steps: int, tables: Mapping[str, Sequence[float]], table: str, clean: bool, keep_last: bool
) -> Times:
    check_steps(steps)
    if table not in tables:
        raise ValueError(f"table must be one of {', '.join(tables)}, got {table!r}")
    known, ends = tables[table], clean and float(path.sigma(path.t_min)) == 0
    points = np.linspace(0, len(known) - 1, steps if ends and keep_last else steps + 1)
    levels = torch.from_numpy(np.interp(points, np.arange(len(known)), [math.log(level) for level in known])).exp()
    largest = float(path.ratio(path.t_max))
    levels[0] = min(known[0], largest) if known[0] - largest < ROUNDED else known[0]
    if len(levels) > 1:
        levels[-1] = known[-1]
    if ends and keep_last:
        levels = torch.cat([levels, torch.zeros(1, dtype=torch.float64)])
    elif ends:
        levels[-1] = 0
    return times_at(path, levels)
