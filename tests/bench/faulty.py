"""Tasks that behave badly, installed as an outside package by the tests of the harness; imports no torch."""

import os
import signal
import time

from bench.task import Context, Measure, TaskParameters, Value, task


class Parameters(TaskParameters):
    behaviour: str = "well"
    index: int = 0
    seconds: float = 0.0


@task(entry="behaviour", measures=[Measure("square", direction="target"), Measure("seed", direction="target")])
def faulty(parameters: Parameters, context: Context):
    """Behaves as it is told to."""
    time.sleep(parameters.seconds)
    match parameters.behaviour:
        case "raises":
            raise RuntimeError("as asked")
        case "diverges":
            raise FloatingPointError("3 of 4 values are not finite")
        case "nan":
            return {"square": float("nan")}
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(3)
        case "hungry":
            held = [bytearray(b"x" * 2**28) for _ in range(16)]  # 4 GiB, touched
            time.sleep(30 + len(held))
        case "undeclared":
            return {"cube": 1.0}
        case "unsound":
            return {"square": Value(1.0, n="many")}
        case "unspeakable":
            raise RuntimeError("two\nlines \udcff")
        case "edits":
            with open(__file__, "a") as file:
                file.write("EDITED = True\n")
    return {"square": parameters.index**2, "seed": context.seed}
