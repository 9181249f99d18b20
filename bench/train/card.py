"""The card of a finished training: how the weights were made, and what was measured, as JSON and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench import environment


def make_card(
    *, recipe: Any, weights_hash: str, seconds: float, history: list[dict[str, Any]], figures: dict[str, Any]
) -> dict[str, Any]:
    """The facts of a card: the recipe and its command, the machine, the curve over the steps, and the figures."""
    import torch

    return {
        "name": recipe.name,
        "command": f"fidmap train {recipe.name}",
        "recipe": recipe.model_dump(exclude_defaults=True),
        "recipe_hash": recipe.hash,
        "weights_hash": weights_hash,
        "seed": recipe.seed,
        "steps": recipe.steps,
        "seconds": round(seconds, 1),
        "machine": {"cpu": environment.processor(), "threads": recipe.threads, "python": environment.python()},
        "torch": torch.__version__,
        "curve": history,
        **figures,
    }


PICTURES = {  # by the end of a file's name
    ".png": "One class per column.",
    "-neighbours.png": "Samples, and below each the training image nearest to it by pixels.",
}


def render(card: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """The card as Markdown, with the pictures of these files beside it."""
    machine, recipe = card["machine"], card["recipe"]
    rows = {
        "command": f"`{card['command']}`",
        "recipe": f"hash `{card['recipe_hash']}`, seed {card['seed']}, {card['steps']:,} steps of {recipe['batch']}",
        "weights": f"hash `{card['weights_hash']}`",
        "time": f"{card['seconds'] / 60:.0f} minutes, {machine['threads']} threads of {machine['cpu']}",
        "torch": card["torch"],
    }
    if "parameters" in card:
        rows["parameters"] = f"{card['parameters']:,}"
    if data := card.get("data"):
        rows["data"] = f"{data['name']}, {data['n']:,} images, hash `{data['hash']}`"
    if "sampled" in card:
        rows["samples"] = card["sampled"]
    lines = [f"# {card['name']}", "", "| | |", "|---|---|"]
    lines += [*(f"| {name} | {value} |" for name, value in rows.items()), ""]
    if figures := card.get("figures"):
        lines += ["| figure | value | 95 % interval | n | real images |", "|---|---|---|---|---|"]
        lines += [_figure(name, figure) for name, figure in figures.items()]
        lines += ["", "The figures are those of the stored weights."]
    lines += ["", *_curve(card["curve"])]
    for file in pictures:
        says = PICTURES["-neighbours.png" if file.endswith("-neighbours.png") else ".png"]
        lines += ["", says, "", f"![{says}]({file})"]
    return "\n".join(lines) + "\n"


def _figure(name: str, figure: dict[str, Any]) -> str:
    interval = " to ".join(f"{bound:.4g}" for bound in figure.get("interval", ()))
    n = figure.get("n", "")
    n = " against ".join(f"{part:,}" for part in n) if isinstance(n, list) else f"{n:,}" if n else ""
    real = figure.get("floor", figure.get("of real images"))
    return f"| {name} | {figure['value']:.4g} | {interval} | {n} | {'' if real is None else f'{real:.4g}'} |"


def _curve(history: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for entry in history for name in entry))
    rows = [" | ".join(f"{entry[name]:.5g}" if name in entry else "" for name in names) for entry in history]
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names), *(f"| {row} |" for row in rows)]
