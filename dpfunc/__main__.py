"""The command line: ``python -m dpfunc COMMAND``."""

import argparse
import sys
from collections.abc import Sequence

from dpfunc.demo import command as demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code (2 for a wrong option, as argparse has it)."""
    parser = argparse.ArgumentParser(
        prog="python -m dpfunc",
        description="Differentially private training of PyTorch models out of pure functions.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo.add_parser(commands)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
