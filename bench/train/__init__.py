"""Training: a recipe (TOML) in, a checkpoint with its measured figures out; a budget is a number of steps."""

from bench.train.probe import probe_speed
from bench.train.run import train

__all__ = ["probe_speed", "train"]
