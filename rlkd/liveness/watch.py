"""A thread of each rank that sees whether the run gets on, and ends it where it cannot.

The main thread may be stuck in C code, where neither an exception nor a signal handler reaches it:
all that ends a process from here is os._exit. It needs the folder of the run to be one for all
ranks, as checkpoints do.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from rlkd.liveness import failure as failures
from rlkd.liveness import heartbeat, stacks
from rlkd.liveness.failure import Failure
from rlkd.liveness.heartbeat import Heartbeat
from rlkd.training.phases import Phases
from rlkd.training.stopped import STUCK, PeerFailed, exit_code_of

BEAT_S = 2.0
"""Seconds between the writings of a heartbeat."""
GRACE_S = 8.0
"""Seconds in which a rank may end by itself after the first failure of another one."""
END_S = 20.0
"""Seconds in which a rank that failed must have ended; then it is ended."""
MARGIN_S = 30.0
"""Seconds past the limit after which a process is ended without Python's help: this thread cannot
run while C code holds Python's lock."""


class Watch:
    """`with Watch(…):` around the training of one rank.

    Args:
        folder: the run's.
        phases: of this rank's trainer: its progress.
        session: the same on all ranks of this launch, and of no other launch.
        stacks_after_s: seconds without progress of any rank after which all stacks are written
            down; 0: never.
        abort_after_s: seconds without progress of this rank after which it ends; 0: never.
        tick_s: seconds between two looks.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        world_size: int,
        phases: Phases,
        session: str,
        *,
        stacks_after_s: float,
        abort_after_s: float,
        tick_s: float = 1.0,
    ) -> None:
        self._folder, self._session = folder, session
        self._rank, self._world_size = rank, world_size
        self._phases = phases
        self._stacks_after_s = stacks_after_s or float("inf")
        self._abort_after_s = abort_after_s or float("inf")
        self._tick_s = tick_s
        self._stop, self._arming = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="rlkd-watch", daemon=True)
        self._written = 0.0
        self._peers: dict[int, Heartbeat] = {}
        self._incidents = stacks.Incidents(folder, session, rank, world_size, self._mine)
        self._told_beat: float | None = None  # the last progress before what was told of
        self._complained = False

    # -- the main thread ------------------------------------------------------------------------

    def __enter__(self) -> "Watch":
        if self._rank == 0:
            self._clear_old()
        self._write()
        self._phases.beat()
        self._arm()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None and self._world_size > 1:
                self._failed(error)
        finally:
            with self._arming:
                self._stop.set()
                faulthandler.cancel_dump_traceback_later()
            with contextlib.suppress(OSError):
                self._write(ended=True)

    def is_lost(self) -> bool:
        """Has another rank failed or vanished, so that this one cannot go on?"""
        return self._world_size > 1 and self._first_failure() is not None

    def _failed(self, error: BaseException) -> None:
        """Have the other ranks end too, or find out that one of them failed first."""
        if failures.may_be_anothers(error):
            first = self._wait_for_failure()
            if first is not None and first.rank != self._rank:
                self._end_within(END_S, first.exit_code)
                raise PeerFailed(self._why_ended(first), first.exit_code) from error
        foreseen = exit_code_of(error)
        code = 1 if foreseen is None else foreseen
        beat = self._mine(self._phases.where_raised(error))
        what = f"rank {self._rank} of {self._world_size} failed first ({beat.place}): "
        what += failures.of_exception(error)
        details = "".join(traceback.format_exception(error))
        failure = Failure(self._rank, self._rank, what, code, details)
        if failures.read(self._folder, self._session) is None and foreseen is None:
            _say(failure.what)
        failures.claim(self._folder, self._session, failure)
        if foreseen is None:
            self._end_within(END_S, code)

    def _wait_for_failure(self) -> Failure | None:
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            first = self._first_failure()
            if first is not None:
                return first
            time.sleep(0.1)
        return None

    def _end_within(self, seconds: float, code: int) -> None:
        timer = threading.Timer(seconds, os._exit, (code,))
        timer.daemon = True
        timer.start()

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(self._tick_s):
            try:
                self._look()
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    _say(f"rank {self._rank}: {self._folder}/{heartbeat.FOLDER}: {error}")
            if self._silent_s() > self._abort_after_s:
                self._abort()

    def _look(self) -> None:
        self._arm()
        if time.monotonic() - self._written > min(BEAT_S, self._stacks_after_s / 4):
            self._write()
        if self._world_size > 1:
            first = self._first_failure()
            if first is not None:
                self._give_up(first)
                return  # the main thread ends this rank
        if self._incidents.is_wanted():
            if self._incidents.answer().silent_s > self._stacks_after_s / 2:
                self._told_beat = self._phases.last_beat
        elif self._silent_s() > self._stacks_after_s and self._told_beat is None:
            self._tell_of_silence()
        if self._told_beat is not None and self._phases.last_beat != self._told_beat:
            self._told_beat = None
            _say(f"rank {self._rank} gets on again ({self._mine().place})")

    def _silent_s(self) -> float:
        return time.monotonic() - self._phases.last_beat

    def _mine(self, path: tuple[str, ...] | None = None) -> Heartbeat:
        phase = " > ".join(self._phases.path if path is None else path)
        return heartbeat.own(
            self._session, self._rank, step=self._phases.step, phase=phase,
            silent_s=self._silent_s(),
        )  # fmt: skip

    def _write(self, ended: bool = False) -> None:
        heartbeat.write(self._folder, replace(self._mine(), ended=ended))
        self._written = time.monotonic()

    def _arm(self) -> None:
        """Have the process ended where this thread cannot run any more."""
        left = self._abort_after_s - self._silent_s()
        with self._arming:
            if left < float("inf") and not self._stop.is_set():
                faulthandler.dump_traceback_later(
                    max(left, 0.0) + MARGIN_S, exit=True, file=sys.__stderr__ or 2
                )

    def _clear_old(self) -> None:
        for path in (self._folder / heartbeat.FOLDER).glob("*"):
            if self._session not in path.name and not path.name.startswith("rank-"):
                path.unlink(missing_ok=True)

    # -- other ranks' failures ------------------------------------------------------------------

    def _first_failure(self) -> Failure | None:
        return failures.read(self._folder, self._session) or self._find_vanished()

    def _find_vanished(self) -> Failure | None:
        for rank in range(self._world_size):
            if rank == self._rank:
                continue
            if rank not in self._peers:
                found = heartbeat.read(self._folder, rank, self._session)
                if found is None:
                    continue
                self._peers[rank] = found
            if not self._peers[rank].ended and heartbeat.is_gone(self._peers[rank]):
                last = heartbeat.read(self._folder, rank, self._session) or self._peers[rank]
                self._peers[rank] = last
                if not last.ended:
                    return failures.claim(self._folder, self._session, self._vanished(last))
        return None

    def _vanished(self, last: Heartbeat) -> Failure:
        what = (
            f"rank {last.rank} of {self._world_size} (pid {last.pid}) is gone without a word, last"
            f" seen {time.time() - last.at:.0f} s before in {last.place}: killed (kill -9, or the"
            " system ran out of memory?)"
        )
        return Failure(last.rank, self._rank, what, STUCK)

    def _why_ended(self, first: Failure) -> str:
        """The words of this rank; one of the ranks says all of it."""
        # A rank that raised shows its own exception.
        speaker = first.told_by if first.exit_code == STUCK else int(first.rank == 0)
        if self._rank != speaker:
            what = first.what.partition("\n")[0]
            return f"rank {self._rank} ends (exit code {first.exit_code}): {what}"
        text = f"rank {self._rank} ends (exit code {first.exit_code}): {first.what}"
        if first.exit_code == 2:  # what a person wrote is wrong: nothing was trained
            return text
        again = f"rlkd train {self._folder} --resume (launched as before) goes on from the last one"
        return f"{text}\n  do: checkpoints are as they were saved; {again}"

    def _give_up(self, first: Failure) -> None:
        """End this rank, unless it ends by itself soon: it may be in the same failure."""
        culprit = heartbeat.read(self._folder, first.rank, self._session)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            if self._stop.wait(0.2):
                return
            if culprit is not None and heartbeat.is_gone(culprit):
                until = min(until, time.monotonic() + GRACE_S / 4)
                culprit = None
        _say(self._why_ended(first))
        os._exit(first.exit_code)

    # -- no progress ----------------------------------------------------------------------------

    def _tell_of_silence(self) -> None:
        left = self._abort_after_s - self._silent_s()
        answers = self._incidents.collect(min(stacks.ANSWER_S, left / 2))
        if answers is None:
            return  # another rank does; this one will be asked
        self._told_beat = self._phases.last_beat
        path = stacks.write_report(self._folder, answers, self._rank)
        limit = self._abort_after_s
        end = f"; it ends after {limit:g} s (run.abort_after_s)" if limit < float("inf") else ""
        report = f"{stacks.describe_odd(answers)}\n  all stacks: {path}"
        self._incidents.tell(report)
        silent = f"{self._silent_s():.0f} s ({self._mine().place})"
        _say(f"rank {self._rank} has not got on for {silent}{end}\n  {report}")

    def _abort(self) -> None:
        what = (
            f"rank {self._rank} has not got on for {self._silent_s():.0f} s, more than"
            f" run.abort_after_s ({self._abort_after_s:g}): {self._mine().place}"
        )
        report = self._incidents.told()
        if report:
            what += f"\n  {report}"
        failure = Failure(self._rank, self._rank, what, STUCK)
        with contextlib.suppress(OSError):
            failure = failures.claim(self._folder, self._session, failure)
        _say(self._why_ended(failure))
        os._exit(STUCK)


def beat_on_forward(model: Any, phases: Phases) -> None:
    """Count every forward pass as progress: sampling and evaluation are many of them, inside one
    phase.

    Args:
        model: of transformers; its input embeddings are read once in every pass, by whomever
            `generate` is called (an adapter's wrapper calls the inner model).
    """
    model.get_input_embeddings().register_forward_pre_hook(lambda *_: phases.beat())


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # no terminal any more
        print(f"rlkd: {text}", file=sys.stderr, flush=True)
