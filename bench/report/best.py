"""The best entry by a measure, and the entries that do not differ from it significantly.

The arrays of a record hold the measure for each case: under the measure's name for the judging cases, and under that
name with ``_choosing`` for other, choosing cases. Cases are the same for all entries at one seed. The entry with the
best mean on the choosing cases leads. Paired tests on the judging cases, corrected for the number of comparisons
(``metrics.paired``), decide which entries are worse.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.records.record import Record

if TYPE_CHECKING:
    import numpy as np

NAMED = 6  # entries that a cell lists by name; the rest are counted
LEVEL = 0.95
NOTE = (
    "The best by each measure on pairs that only choose, its mean on other pairs, then in brackets those that are not "
    "told from it: paired t tests on these pairs, by Holm at 5 % over all that are compared. < d: a difference of d is "
    "found in four of five repetitions, one under it may be there."
)

Arrays = Callable[[Record], dict[str, Any]]


def best(records: list[Record], name: str, arrays: Arrays, show: Callable[[Any], str]) -> str | None:
    """The text of a table's cell: the best entry by the measure ``name``, its mean, and the entries tied with it.

    ``arrays`` gives the arrays of a record, ``show`` formats a value. The cases of several seeds are pooled; an entry
    with other seeds than the leader is not compared. None where no record has the measure for each case.
    """
    import numpy as np

    from metrics.paired import differences_from

    kept: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for record in records:
        if record.status != "ok" or record.measure(name) is None:
            continue
        own = arrays(record)
        if name in own and f"{name}_choosing" in own:
            label = f"{record.cell.entry} {show(record.cell.parameters.get('options') or '')}".rstrip()
            kept.setdefault(label, []).append((record.cell.seed, own[name].numpy(), own[f"{name}_choosing"].numpy()))
    if not kept:
        return None
    seeds = {label: sorted(found, key=lambda each: each[0]) for label, found in kept.items()}
    chosen = {label: np.concatenate([each[2] for each in found]) for label, found in seeds.items()}
    judged = {label: np.concatenate([each[1] for each in found]) for label, found in seeds.items()}
    sign = -1 if next(m for r in records if (m := r.measure(name))).direction == "higher" else 1
    first = min(chosen, key=lambda label: (sign * chosen[label].mean(), label))
    others = {
        k: v for k, v in judged.items() if k != first and [e[0] for e in seeds[k]] == [e[0] for e in seeds[first]]
    }
    found = differences_from(judged[first], others, level=LEVEL)
    near = [k for k, each in found.items() if each.p_value > 1 - LEVEL or sign * each.mean > 0]
    near.sort(key=lambda label: sign * judged[label].mean())
    cell = f"{first} {show(float(statistics.fmean(judged[first])))}"
    if not near:
        return cell
    more = [f"{len(near) - NAMED} more"] if len(near) > NAMED else []
    blind = max(found[label].detectable for label in near)
    return f"{cell} ({', '.join([*near[:NAMED], *more])}; < {show(blind)})"
