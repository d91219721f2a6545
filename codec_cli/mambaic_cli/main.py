"""The ``mambaic`` command: lazy subcommands, and errors as one line and an exit code."""

from __future__ import annotations

import contextlib
import gc
import importlib
import signal
import sys
import warnings
from typing import NoReturn

import click

from mambaic_cli.signals import end_on_signals, exit_code
from mambaic_cli.streams import flush_all, prepare_streams, warn

# subcommand -> one-line help, here so that `mambaic --help` imports nothing heavy
COMMANDS = {
    "compress": "Compress photographs to .mbic files.",
    "decompress": "Turn .mbic files back into images.",
    "bulk": "Compress or decompress many pictures on Ray, on one machine or a cluster.",
    "info": "Describe a file or a model preset.",
    "demo": "Compress one photograph beside JPEG, WebP and AVIF.",
    "eval": "Measure rate-distortion curves on real files.",
    "train": "Train or fine-tune a model on photographs.",
    "average": "Make one checkpoint of several that began at the same weights.",
}

# of objects made until the collector looks for cycles: imports make a million that stay
COLLECT_AFTER = 200_000


class LazyGroup(click.Group):
    """Imports the module of a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"mambaic_cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mambaic")
def cli() -> None:
    """mambaic: a learned image codec. One model, any rate, real files.

    Shell completion: eval "$(_MAMBAIC_COMPLETE=bash_source mambaic)" (or zsh_source, fish_source).
    """


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code of design: 0 ok, 1 bug, 2 usage, 3 image or
    file, 4 bitstream, 5 checkpoint or config, 6 device."""
    # of damaged metadata and the like, which people are told by notes; of how many workers Ray finds
    # room for
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_jxl|pillow_heif|ray)\b")
    try:
        code = cli.main(args=argv, prog_name="mambaic", standalone_mode=False)
    except click.ClickException as exc:
        with contextlib.suppress(OSError):
            exc.show()
        return exc.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except click.Abort as exc:
        if isinstance(exc.__cause__, EOFError):  # which click takes for Ctrl-D at a prompt
            raise exc.__cause__ from None
        return _interrupted()
    except BrokenPipeError:
        return 0
    except Exception as exc:
        from mambaic.errors import as_known

        if (known := as_known(exc)) is None:
            raise
        warn(f"mambaic: {known}")
        return known.exit_code
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    warn("mambaic: interrupted")
    return exit_code(signal.SIGINT)


def run() -> NoReturn:
    """``main`` as a program. What is left at its end is the system's to free: the collector would
    look through it for most of a second."""
    prepare_streams()
    end_on_signals()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
    code = main()
    gc.freeze()
    if not flush_all():
        from mambaic.errors import OutputError

        code = code or OutputError.exit_code
    sys.exit(code)
