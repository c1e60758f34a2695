"""The end of a run that a signal, what is no number, or another rank stopped; exit codes."""

from rlkd.errors import ConfigError
from rlkd.rewarding.watch import TooManyFaults

REQUEUE = 75
"""Exit code (EX_TEMPFAIL) of a run that SIGTERM or SIGUSR1 stopped: saved; start it again."""
BY_HAND = 130
"""Exit code of a run that Ctrl-C stopped: saved; a person decides."""

STUCK = 76
"""Exit code of a run that got stuck past `run.abort_after_s`, or one of whose ranks vanished (was
killed): what was saved stays; start it again with --resume."""


class Broken(RuntimeError):
    """The run stopped itself: a loss, a gradient or a teacher's score is NaN or infinite."""


class Stopped(RuntimeError):
    """A signal stopped the run; its state is in a checkpoint.

    Attributes:
        exit_code: for the process, REQUEUE or BY_HAND.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PeerFailed(RuntimeError):
    """Another rank failed first, so that this one cannot go on.

    Attributes:
        exit_code: for the process: that of the other rank, or STUCK where it vanished.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> int | None:
    """With what code `rlkd train` ends after this error; None: nobody foresaw it."""
    if isinstance(error, ConfigError):
        return 2
    if isinstance(error, TooManyFaults | Broken):
        return 3
    if isinstance(error, Stopped | PeerFailed):
        return error.exit_code
    return BY_HAND if isinstance(error, KeyboardInterrupt) else None
