"""The command line: ``python -m inference inspect | export | bench | check``.

One file a command; adding one is its file and a line in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from inference.commands import bench, check, export, inspect
from inference.commands.output import Output

COMMANDS = {"inspect": inspect, "export": export, "bench": bench, "check": check}

OK, FAILED, MISUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Of the command line; those of this process by default.

    Returns:
        The exit code: 0, 1 where a check failed, 2 for input that cannot be used.
    """
    options = _parser().parse_args(arguments)
    try:
        output: Output = options.run(options)
        output.show(as_json=options.json)
    except BrokenPipeError:  # `| head` has read enough
        sys.stderr.close()
        return OK
    # What users can put right: their files, options and installs. Anything else is a bug of ours,
    # and shows its trace.
    except (OSError, ValueError, TypeError, ImportError) as error:
        if options.debug:
            traceback.print_exc()
        text = f"{error}" or type(error).__name__
        sys.stderr.write(f"python -m inference {options.command}: {text}\n")
        return MISUSED
    return OK if output.passed else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference",
        description="Look at, convert, time and verify networks whose weights hold zeros.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS))
    for name, module in COMMANDS.items():
        text = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print JSON, for machines")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(run=module.run)
    return parser
