"""Training: a recipe (TOML) in, a checkpoint with its measured figures out; a budget is a number of steps."""

from bench.train.loop import train

__all__ = ["train"]
