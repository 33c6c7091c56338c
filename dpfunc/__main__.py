"""The command line: ``dpfunc COMMAND``, or ``python -m dpfunc COMMAND``."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

# Only the chosen command is imported: the accountant's do not wait for torch.
_COMMANDS = {
    "demo": (
        "dpfunc.commands.demo.command",
        "train on real digits with differential privacy and see what it costs",
    ),
    "epsilon": ("dpfunc.commands.epsilon", "what a run of DP-SGD, or any event, costs"),
    "noise": ("dpfunc.commands.noise", "the least noise that keeps a run within a budget"),
    "steps": ("dpfunc.commands.steps", "how many steps a budget allows"),
    "audit": ("dpfunc.commands.audit", "check what one record does to the step of any library"),
    "plan": ("dpfunc.commands.plan", "noise, batch size and steps for a budget, compared"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code (2 for a wrong option, as argparse has it)."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="dpfunc",
        description="Differentially private training of PyTorch models out of pure functions.",
        epilog="Each command explains itself: dpfunc COMMAND --help",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (home, summary) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if words[:1] == [name]:
            module = import_module(home)
            command.description = module.DESCRIPTION
            module.add_options(command)
            command.set_defaults(run=module.run)
    if not words:
        parser.print_help()
        return 0
    options = parser.parse_args(words)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
