"""A recipe: what is trained, on which data, with which seed, for how many steps; a checked TOML file."""

from __future__ import annotations

import difflib
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from bench.errors import UsageError
from bench.files import digest
from bench.task import check_name
from bench.toml import Strict, explain
from bench.train.jobs import JOBS
from implementations.catalogue.diffusion import PATHS, SCHEDULES
from implementations.catalogue.objectives import OBJECTIVES, TIMESTEPS
from implementations.catalogue.samplers import SAMPLERS

FOLDER = Path(__file__).parent / "recipes"
LONGEST = 1 / math.sqrt(12)  # the relative length of a plain mean over all steps

Share = Annotated[float, Field(ge=0, lt=1)]
Length = Annotated[float, Field(gt=0, lt=LONGEST)]
Name = r"^[a-z][a-z0-9_-]{0,63}$"


class Optimiser(Strict):
    """The optimiser of a recipe, with its learning rate ``rate``.

    Its rate rises linearly over the first ``warmup`` of the steps, then falls to 0, in a line or as a cosine. ``clip``
    bounds the norm of the gradient of all parameters; 0 leaves it as it is.
    """

    name: Literal["sgd", "adamw"]
    rate: float = Field(gt=0)
    momentum: Share = 0.9  # Nesterov momentum for sgd, beta_1 for adamw
    second: Share = 0.999  # beta_2 of adamw
    weight_decay: float = Field(default=0.0, ge=0)  # for tensors with two or more dimensions
    warmup: Share = 0.0
    decay: Literal["linear", "cosine"] = "linear"
    clip: float = Field(default=0.0, ge=0)


class Model(Strict):
    """The network of a recipe, and how it is asked: what the metadata of its weights say beside the data's shape.

    ``sigma_data`` puts EDM's preconditioning around it; ``start`` names weights that it begins from: in the folder of
    the training, shipped, or a file.
    """

    network: str
    configuration: dict[str, Any] = {}
    path: Annotated[str, check_name(PATHS)]
    head: Literal["x0", "eps", "v", "velocity", "score", "logits"]
    sigma_data: float | None = Field(default=None, gt=0)
    start: str = ""


class Objective(Strict):
    """The loss of a recipe, and the density of the times at which it is taken."""

    name: Annotated[str, check_name(OBJECTIVES)]
    options: dict[str, Any] = {}
    timesteps: Annotated[str, check_name(TIMESTEPS)] = "uniform"
    timestep_options: dict[str, Any] = {}
    stratified: bool = False  # whether the times of a batch are spread evenly over their density
    dropped: Share = 0.0  # share of the labels that are dropped, for guidance without a classifier


class Sampling(Strict):
    """How the pictures and the figures of a card are drawn: by which sampler, on which grid, and how many samples."""

    sampler: Annotated[str, check_name(SAMPLERS)]
    options: dict[str, Any] = {}
    schedule: Annotated[str, check_name(SCHEDULES)]
    schedule_options: dict[str, Any] = {}
    steps: int = Field(ge=1)
    n: int = Field(default=10_000, ge=100)  # of the card
    look: int = Field(default=1000, ge=100)  # of a point of the curve


class Recipe(Strict):
    """A training run: what is trained (``task``), with its data, seed, steps, batch size, averaging and optimiser.

    ``name`` also names the output files. ``ema`` has the relative lengths of averages of the weights: the standard
    deviation of the steps that an average weighs, as a share of all steps so far (2312.02696, sec. 3.1). Of several,
    the one of the least distance to the held-out images is kept; without any, the last weights are.
    """

    name: str = Field(pattern=Name)
    task: Annotated[str, check_name(JOBS)]  # or module:function of your own
    data: str = "fashion_mnist"  # or a folder: of images, or of a Hugging Face data set
    size: int | None = Field(default=None, ge=1)  # to which images of a folder are cropped and resized
    held_out: int = Field(default=0, ge=0)  # the last images, which are not trained on but compared with
    extractor: str = ""  # of the distance; for fashion_mnist its own
    source: str = ""  # what is learnt from: a teacher's weights, as start names them, or pairs that a recipe made
    seed: int = Field(default=0, ge=0, lt=2**32)
    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    ema: tuple[Length, ...] = ()
    threads: int = Field(default=1, ge=1)  # of the CPU; the bits of a run depend on their number
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the network's arithmetic; weights stay in float32
    channels_last: bool = False
    stored: Literal["float32", "bfloat16"] = "float32"  # of the weights in the file
    checkpoint_every: int = Field(default=500, ge=1)  # steps
    look_every: int = Field(default=0, ge=0)  # steps after which samples are drawn and measured; 0: never
    optimiser: Optimiser
    model: Model | None = None
    objective: Objective | None = None
    sampling: Sampling | None = None

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        if len(self.ema) > 1 and not (self.held_out and self.sampling):
            raise ValueError("ema has several lengths: held_out and sampling are needed, by which one is chosen")
        if self.look_every and self.sampling is None:
            raise ValueError("look_every needs the table sampling, which says how samples are drawn")
        return self

    @property
    def hash(self) -> str:
        """A hash of what the recipe sets; a checkpoint is resumed only by a recipe with the same one.

        Keys at their defaults do not count, so that a key that is new here changes no hash of earlier recipes.
        """
        return digest(self.model_dump(exclude_defaults=True))


def recipes() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load_recipe(recipe: str | Path) -> Recipe:
    """Read a shipped recipe by its name, or any recipe by the path of its ``.toml`` file.

    Raises UsageError (one line: file, line or key, what is accepted) on an unknown name or file, a syntax error, an
    unknown key or a wrong value.
    """
    file = Path(recipe) if str(recipe).endswith(".toml") else _find_shipped(str(recipe))
    try:
        return Recipe.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the recipe {file}: {getattr(error, 'strerror', None) or error}") from None
    except ValidationError as error:
        raise UsageError(f"{file}: {explain(error, Recipe)}") from None


def change(recipe: Recipe, **values: Any) -> Recipe:
    """The recipe with other values, checked like those of a file; None leaves a value as it is."""
    new = {key: value for key, value in values.items() if value is not None}
    try:
        return Recipe.model_validate(recipe.model_dump() | new)  # model_copy would not check them
    except ValidationError as error:
        raise UsageError(f"recipe {recipe.name}: {explain(error, Recipe)}") from None


def _find_shipped(name: str) -> Path:
    if name not in recipes():  # only listed names, so that a name is never a path
        near = difflib.get_close_matches(name, recipes(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(recipes())}"
        raise UsageError(f"no recipe named {name!r}; {hint} (a file of your own ends in .toml)")
    return FOLDER / f"{name}.toml"
