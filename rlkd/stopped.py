"""The end of a run that a signal, or what is no number, stopped; exit codes."""

REQUEUE = 75
"""Exit code (EX_TEMPFAIL) of a run that SIGTERM or SIGUSR1 stopped: saved; start it again."""
BY_HAND = 130
"""Exit code of a run that Ctrl-C stopped: saved; a person decides."""


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
