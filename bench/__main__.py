"""``python -m bench`` and the command ``fidmap``.

The exit code is 0 where all is well, 1 where something is worse or failed, and 2 with one line on stderr where the
command could not do what was asked. An unforeseen exception gives 2 as well, since 1 is a verdict.
"""

from __future__ import annotations

import sys
from typing import Any


def main(arguments: list[str] | None = None) -> None:
    """Run the command ``fidmap`` with ``arguments`` (None: those of the process), and exit with its exit code."""
    if arguments is None:
        from bench import output

        output.prepare()
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _say(f"stdout: {error.strerror}")
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    import typer

    from bench.cli import app
    from bench.cli.shared import refuse_empty
    from bench.errors import UsageError, printable

    # Typer carries its own copy of click in some versions: take the base class from what it exports.
    click_error: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    try:
        refuse_empty(sys.argv[1:] if arguments is None else arguments)
        return app(arguments, standalone_mode=False, prog_name="fidmap") or 0
    except click_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 2
        return _say(error.format_message().replace("\n", " "))
    except UsageError as error:
        return _say(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except OSError as error:
        return _say(f"{error.filename or type(error).__name__}: {error.strerror or error}")
    except BaseException as error:
        import traceback  # late, as the catalogue: help needs neither

        from implementations.catalogue.entry import UnknownName

        if isinstance(error, UnknownName):
            return _say(str(error))
        if not isinstance(error, Exception):  # fidmap raises none: code of the user's did, and it is no verdict
            what = printable(f"{type(error).__name__} {error}")
            return _say(f"code that the command names ended Python ({what}) and gave no result")
        traceback.print_exc()
        return _say("this is an error of fidmap itself and no verdict; please report it with the lines above")


def _say(message: str) -> int:
    print(f"fidmap: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
