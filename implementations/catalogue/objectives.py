"""Training losses and the densities of their times, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from implementations.catalogue.entry import Catalogue, Entry


@dataclass(frozen=True)
class ObjectiveEntry(Entry):
    """What the catalogue knows of a training loss without importing it.

    ``of`` says how it is called: ``noised`` data, (denoiser, x0, t, noise, condition); ``pairs``, the same where the
    noise is that from which a model made x0; ``trajectory``, (student, target, ...) at two times of one path;
    ``score``, (score, x, ...) at one level. ``preset`` holds the options that make it of another entry's function.
    """

    of: Literal["noised", "pairs", "trajectory", "score"] = "noised"
    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._resolved(*args, **{**self.preset, **options})


_IN = "implementations.objectives."
OBJECTIVES = Catalogue("objectives", ObjectiveEntry, [
    # regression on noised data
    ObjectiveEntry("eps", _IN + "regression:regression", "squared error of the noise", "2006.11239 (eq. 14)", preset={"view": "eps"}),
    ObjectiveEntry("x0", _IN + "regression:regression", "squared error of the data", "2202.00512", preset={"view": "x0"}),
    ObjectiveEntry("v", _IN + "regression:regression", "squared error of v", "2202.00512 (app. D)", preset={"view": "v"}),
    ObjectiveEntry("edm", _IN + "regression:regression", "squared error of the data, of equal size at every level at the start",
                   "2206.00364 (table 1)", preset={"view": "x0", "weighting": "edm"}),
    ObjectiveEntry("flow_matching", _IN + "regression:regression", "squared error of the velocity", "2210.02747", preset={"view": "velocity"}),
    ObjectiveEntry("rectified_flow", _IN + "regression:regression", "flow_matching on the straight path", "2209.03003 (eq. 1)",
                   preset={"view": "velocity"}),
    ObjectiveEntry("reflow", _IN + "regression:regression", "rectified_flow on pairs that a flow has made", "2209.03003 (sec. 2.2)", of="pairs",
                   preset={"view": "velocity"}),
    # two times of one trajectory
    ObjectiveEntry("consistency_distillation", _IN + "consistency:consistency_distillation", "one x0 along a step of a teacher's flow",
                   "2303.01469 (alg. 2)", of="trajectory"),
    ObjectiveEntry("consistency_training", _IN + "consistency:consistency_training", "one x0 along a line of equal noise",
                   "2303.01469 (alg. 3)", of="trajectory"),
    # scores at one level
    ObjectiveEntry("denoising_score_matching", _IN + "score_matching:denoising", "squared error to the score of the added noise",
                   "10.1162/NECO_a_00142", of="score"),
    ObjectiveEntry("sliced_score_matching", _IN + "score_matching:sliced", "implicit score matching along random directions", "1905.07088", of="score"),
    ObjectiveEntry("implicit_score_matching", _IN + "score_matching:implicit", "half the squared score and its divergence",
                   "jmlr.org/papers/v6/hyvarinen05a", of="score"),
])  # fmt: skip

TIMESTEPS = Catalogue("timesteps", Entry, [
    Entry("uniform", _IN + "timesteps:uniform", "t uniform on the path"),
    Entry("logit_normal", _IN + "timesteps:logit_normal", "log sigma/alpha normal", "2206.00364 (table 1); 2403.03206 (eq. 19)"),
    Entry("mode", _IN + "timesteps:mode", "the flow's time with a mode in the middle or at the ends", "2403.03206 (eq. 20)"),
    Entry("cosmap", _IN + "timesteps:cosmap", "the flow's time as the cosine path has it", "2403.03206 (eq. 21)"),
])  # fmt: skip
