"""The `lightwell` command: which commands there are, and what becomes of an error.

Commands are given as "module:function", so that each is imported only when it is called and `lightwell --help` is
fast. Exit codes: 0 done, 1 failed with one sentence, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM, 75
(EX_TEMPFAIL) to be started again by torchrun. A failure that nobody foresaw keeps its traceback.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from cyclopts import App, Group
from cyclopts.exceptions import CycloptsError

from lightwell.cli import invocation
from lightwell.cli.commands import COMMANDS
from lightwell.cli.help import ALL, PlainHelp
from lightwell.cli.invocation import DONE, FAILED, INTERRUPTED, TERMINATED, TRY_AGAIN, WRONG_USAGE
from lightwell.cli.streams import prepare_streams
from lightwell.errors import LeftAloneError, LightwellError, SettingError, TryAgainError, system_sentence

ABOUT = """Builds, trains and runs language models: from a folder of text to a GPT of its own.

Begin with `lightwell train`, or `lightwell train my_notes/`."""

NO_MEMORY = "There is not enough memory; end other programs, or take a smaller model, batch or context length."


def build_app() -> App:
    """Return the parser of the command line, with no command imported yet."""
    app = App(
        name="lightwell",
        usage="Usage: lightwell COMMAND",
        help=ABOUT,
        version=_version,
        help_format="plaintext",
        help_formatter=PlainHelp(),
        group_parameters=Group("Flags", sort_key=1),
        suppress_keyboard_interrupt=False,
    )
    for position, (name, (where, usage, sentence)) in enumerate(COMMANDS.items()):
        usage = f"Usage: lightwell {name} {usage}".rstrip()
        app.command(where, name=name, usage=usage, help=inspect.cleandoc(sentence), sort_key=position)
    app["--help"].help = "Show this, or all about one command."
    app["--version"].help = "Show the version."
    return app


def run(tokens: Sequence[str]) -> int:
    """Carry out one command line; what the user should know is printed, and the exit code returned."""
    invocation.started, invocation.command_line = time.monotonic(), tokens
    invocation.every_flag = ALL in tokens
    words = ["--help" if token == ALL else token for token in tokens]
    try:
        build_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        from lightwell.cli.mistakes import sentence

        return _fail(sentence(error, tokens), WRONG_USAGE)
    except SettingError as error:
        return _fail(str(error), WRONG_USAGE)
    except LeftAloneError:
        from lightwell.cli.processes import wait_to_be_ended

        wait_to_be_ended()
        return FAILED
    except TryAgainError as error:
        return _fail(str(error), TRY_AGAIN)
    except LightwellError as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt as stop:
        from lightwell.training.events.interrupt import Terminated

        code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
        from lightwell.cli.processes import FAILED as LAUNCHED
        from lightwell.cli.processes import last_words

        with last_words(code):
            _fail(str(stop) or "Stopped.", code)
        # To our launcher's torchrun, a process that was stopped and has saved has done its work. To one that was
        # started by hand it has not: what stopped on another machine must not be taken for finished there.
        return DONE if LAUNCHED in os.environ else code
    except BrokenPipeError:
        # The reader, e.g. `head`, has enough. What is still buffered must not fail again when Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (MemoryError, RuntimeError) as error:
        from lightwell.training.update.out_of_memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail(NO_MEMORY, FAILED)
    except OSError as error:
        if not (said := system_sentence(error)):
            raise
        return _fail(said, FAILED)
    return DONE


def main() -> None:
    """The entry point of the `lightwell` command."""
    prepare_streams()
    if "WORLD_SIZE" not in os.environ:
        signal.signal(signal.SIGTERM, _terminated)
        sys.exit(run(sys.argv[1:]))
    from lightwell.cli.processes import is_over, leave

    if is_over():
        leave(DONE)
    from lightwell.training.processes import process_group

    process_group.leaves_at_once = True
    leave(run(sys.argv[1:]))


def _terminated(number: int, frame: FrameType | None) -> None:
    """Let a SIGTERM do what Ctrl-C does, so that what was begun is kept and no process is left behind."""
    from lightwell.training.events.interrupt import Terminated

    raise Terminated


def _fail(message: str, code: int) -> int:
    rank = os.environ.get("RANK", "0")
    speaks = rank == "0"  # of several processes, one speaks
    if "WORLD_SIZE" in os.environ and code in (FAILED, WRONG_USAGE, TRY_AGAIN):
        from lightwell.cli.processes import note_failure

        # What fails in all of them is said once; what fails in another than the first must not go unsaid.
        speaks = note_failure(code)
    if speaks:
        from lightwell.cli.printer import show

        show(f"lightwell{'' if rank == '0' else f', process {rank}'}: {message}", file=sys.stderr)
    return code


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lightwell")
    except PackageNotFoundError:  # run from its sources
        return "not installed"
