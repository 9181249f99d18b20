"""Several processes that train together: each takes a part of every batch, and their gradients are averaged.

Hugging Face Accelerate connects them: those that ``--processes`` starts on this machine, or those of ``torchrun -m
bench train RECIPE`` or ``accelerate launch -m bench train RECIPE``, on one machine or more (on CPUs the latter starts
several by MPI alone; torchrun needs nothing). Every process draws the random numbers of the whole batch and uses those
of its part, so that the step does not depend on their number.
"""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import UsageError


class Team:
    """The processes of one training: this one's ``rank`` among ``world``; ``accelerator`` is None where it is alone."""

    def __init__(self, device: str = "cpu"):
        self.accelerator: Any = None
        self.rank, self.world, self.device = 0, 1, torch.device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self.accelerator = _require_accelerate().Accelerator(cpu=self.device.type == "cpu")
            self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
            self.device = self.accelerator.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, whose gradients are averaged over the processes after each backward pass."""
        if self.accelerator is None:
            return model
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
            raise UsageError("a model with batch norm depends on how a batch is split; it trains in one process")
        return self.accelerator.prepare_model(model)

    def part(self, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """This process's part of the rows of a batch."""
        return tuple(tensor.to(self.device).chunk(self.world)[self.rank] for tensor in rows)

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the processes."""
        return float(value if self.accelerator is None else self.accelerator.reduce(value, "mean"))

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


def run_together(function: Callable[..., Any], processes: int, *arguments: Any, **options: Any) -> Any:
    """What ``function(*arguments, **options)``, importable by name, returns in the first of several new processes.

    They are joined as ``Team`` reads it. Raises what it raises in any of them, and UsageError without Accelerate.
    """
    _require_accelerate()
    context = torch.multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    work = (processes, port, answers, function, arguments, options)
    team = torch.multiprocessing.start_processes(_work, work, processes, join=False, start_method="spawn")
    assert team is not None
    answer, error = None, None
    done = False
    while not done:  # one that fails ends the others
        try:
            done = team.join(timeout=0.5)
        except Exception as caught:
            done, error = True, caught
        while True:
            try:
                answer, failure = answers.get(timeout=0.1 if done else 0)
            except queue.Empty:
                break
            if failure is not None:
                raise failure
    if error is not None:
        raise error
    return answer


def _work(
    rank: int, world: int, port: int, answers: Any, function: Callable[..., Any], arguments: Any, options: Any
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        answer = function(*arguments, **options)
    except Exception as error:
        answers.put((None, error))
        raise
    if rank == 0:
        answers.put((answer, None))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _require_accelerate() -> Any:
    try:
        import accelerate
    except ModuleNotFoundError:
        raise UsageError("several processes need the package accelerate: pip install 'fidmap[train]'") from None
    return accelerate
