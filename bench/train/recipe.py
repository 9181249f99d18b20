"""A recipe: what is trained, with which seed, for how many steps; a TOML file that is checked before anything runs."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bench.errors import UsageError
from bench.files import digest
from bench.task import check_name
from bench.toml import Strict, explain
from bench.train.jobs import JOBS

FOLDER = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(ge=0, lt=1)]


class Optimiser(Strict):
    """The optimiser of a recipe, with its learning rate ``rate``.

    Its rate rises linearly over the first ``warmup`` of the steps, then falls linearly to 0.
    """

    name: Literal["sgd", "adamw"]
    rate: float = Field(gt=0)
    momentum: Share = 0.9  # Nesterov momentum for sgd, beta_1 for adamw
    weight_decay: float = Field(default=0.0, ge=0)  # for tensors with two or more dimensions
    warmup: Share = 0.0


class Recipe(Strict):
    """A training run: what is trained (``task``), with its seed, steps, batch size, averaging and optimiser.

    ``name`` also names the output files and is restricted to lower-case letters, digits and underscores.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    task: Annotated[str, check_name(JOBS)]  # or module:function of your own
    seed: int = Field(default=0, ge=0, lt=2**32)
    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    ema: Share = 0.0  # decay of an average of the weights, which is then what is saved; 0: no average
    threads: int = Field(default=1, ge=1)  # of the CPU; the bits of a run depend on their number
    checkpoint_every: int = Field(default=500, ge=1)  # steps
    optimiser: Optimiser

    @property
    def hash(self) -> str:
        """A hash of the whole recipe; a checkpoint is resumed only by a recipe with the same one."""
        return digest(self.model_dump())


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
