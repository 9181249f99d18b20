"""``python -m bench`` and the command ``fidmap``: errors of use are one line on stderr and exit code 2."""

from __future__ import annotations

import os
import sys
from typing import Any


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    import typer

    from bench.cli import app
    from bench.errors import UsageError
    from implementations.entry import UnknownName

    # Typer carries its own copy of click in some versions: take the base class from what it exports.
    click_error: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    try:
        code = app(arguments, standalone_mode=False, prog_name="fidmap")
    except click_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        sys.exit(_say(error.format_message().replace("\n", " ")))
    except (UsageError, UnknownName) as error:
        sys.exit(_say(str(error)))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:  # the reader of stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        sys.exit(_say(f"{error.filename or 'stdout'}: {error.strerror or error}"))
    sys.exit(code or 0)


def _say(message: str) -> int:
    print(f"fidmap: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
