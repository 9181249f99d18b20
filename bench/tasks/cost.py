"""What a pass of a network costs, counted and not timed: floating-point operations, and the peak of its memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], Any]


def count_flops(call: Call) -> int:
    """Floating-point operations of the products and convolutions in a call, a multiply-add counted as two.

    What works on each element, such as norms and activations, is not counted.
    """
    # Attention as its two products: torch counts none of the fused kernel that it takes on CPUs.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def measure_peak(call: Call) -> int:
    """Bytes that one call has allocated on the CPU at its highest, beyond what was there before it.

    They are those of torch's allocator; what a library takes by itself is not seen. The first call is not counted.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes of itself to stderr
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest
