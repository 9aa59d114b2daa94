"""What a person types: `harpoon COMMAND`. A failure is one sentence and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from engine import __version__
from engine.errors import HarpoonError


@dataclass(frozen=True, slots=True)
class Command:
    """`module` has add_arguments(parser) and run(options) -> exit status. It is imported only when
    its command is given: a broken part of the installation must not stop `harpoon doctor`."""

    module: str
    words: str


Menu = Mapping[str, "Command | Menu"]

MENU: Menu = {
    "demo": Command("engine.demo", "node, exchange and engine on loopback, and what they did"),
    "scan": Command("engine.scan", "classify the transactions of raw block files"),
    "run": Command("engine.run", "run against a node and a venue; dry-run unless told otherwise"),
    "book": Command("engine.wallets", "build address books into one file that runs map"),
    "kill": Command("engine.kill", "stop every order of the engine, now and until `harpoon reset`"),
    "reset": Command("engine.reset", "let the next engine trade after a kill"),
    "doctor": Command("engine.doctor", "check this machine, with the cure for what is wrong"),
    "journal": {
        "show": Command("engine.journal_show", "what was recorded, as lines or JSON"),
        "verify": Command("engine.journal_verify", "read it to its end and say what is lost"),
        "export": Command("engine.journal_export", "to JSON lines or Parquet"),
    },
    "latency": Command("engine.latency", "percentiles of a journal's orders, stage by stage"),
    "bench": {
        "send": Command("harpoon_bench.send", "trigger to send returned, beside a bare send"),
        "hot": Command("harpoon_bench.hot", "the hot path beside its floors and its rivals"),
        "kernels": Command("harpoon_bench.kernels", "hashing, signing, the walk and the book"),
    },
    "sim": {
        "exchange": Command("engine.sim.exchange_command", "an exchange to try orders against"),
        "node": Command("engine.sim.node", "a node that publishes transactions"),
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. 0 success, 1 failure, 2 wrong usage or configuration, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser(words).parse_args(words)
        run: Callable[[argparse.Namespace], int] = options.run
        status = run(options)
        sys.stdout.flush()
        return status
    except HarpoonError as error:
        print(f"harpoon: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # the reader of our output has gone; nothing is left to say
        return _without_stdout()
    except OSError as error:
        print(
            f"harpoon: {error.strerror}: {error.filename or 'writing the output'}", file=sys.stderr
        )
        return _without_stdout()
    except KeyboardInterrupt:
        return 130


def _without_stdout() -> int:
    """1. Nothing more can be printed, and the interpreter must not try when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harpoon",
        description="From a Bitcoin mempool transaction to a signed order on an exchange's wire.",
    )
    parser.add_argument("--version", action="version", version=f"harpoon {__version__}")
    _add_menu(parser, MENU, words)
    return parser


def _add_menu(parser: argparse.ArgumentParser, menu: Menu, words: Sequence[str]) -> None:
    """The menu's commands; the one that `words` begins with is filled in."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, entry in menu.items():
        chosen = list(words[:1]) == [name]
        if not isinstance(entry, Command):
            _add_menu(commands.add_parser(name, help=", ".join(entry)), entry, words[1:])
        elif not chosen:
            commands.add_parser(name, help=entry.words)
        else:
            module = import_module(entry.module)
            command = commands.add_parser(name, help=entry.words, description=module.__doc__)
            module.add_arguments(command)
            command.set_defaults(run=module.run)


if __name__ == "__main__":
    sys.exit(main())
