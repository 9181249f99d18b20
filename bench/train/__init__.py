"""Training: recipes (TOML) in, checkpoints with their measured figures out; a budget is a number of steps."""

from bench.train.loop import train

__all__ = ["train"]
