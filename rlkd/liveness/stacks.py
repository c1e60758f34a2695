"""Where every thread of every rank stands, in one file, and which rank is the odd one."""

import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlkd.liveness import heartbeat
from rlkd.liveness.heartbeat import Heartbeat

ANSWER_S = 10.0
"""Most seconds that a rank is waited for."""


@dataclass(frozen=True)
class Answer:
    """What a rank gives when stacks are wanted."""

    beat: Heartbeat
    stacks: str


def own_stacks() -> str:
    """The Python frames of all threads of this process, the main thread first. That a thread is in
    C code, a collective say, is no hindrance: its frames are those that called it."""
    frames: dict[int, Any] = sys._current_frames()
    threads = {thread.ident: thread for thread in threading.enumerate()}
    main = threading.main_thread().ident
    parts = []
    for ident in sorted(frames, key=lambda ident: ident != main):
        thread = threads.get(ident)
        name = thread.name if thread is not None else f"thread {ident}"
        parts.append(f"{name}:\n" + "".join(traceback.format_stack(frames[ident])))
    return "\n".join(parts)


def odd_ranks(answers: Mapping[int, Answer | None]) -> tuple[list[int], str]:
    """The ranks for which the others wait, and why those are thought to be.

    Args:
        answers: of each rank; None: it gave none.
    """
    silent = [rank for rank, answer in answers.items() if answer is None]
    if silent:
        return silent, "it does not answer: its process is gone, stopped, or holds Python's lock"
    beats = {rank: answer.beat for rank, answer in answers.items() if answer is not None}
    if len(beats) == 1:
        return list(beats), "there is no other"
    # In the backward pass ranks may wait for one another too, but need not.
    for inner, where in (("sync", "in a collective"), ("backward", "in the backward pass")):
        working = [rank for rank, beat in beats.items() if _innermost(beat) != inner]
        if working and len(working) < len(beats):
            return working, f"the others are {where}"
    first = min(beat.step for beat in beats.values())
    behind = [rank for rank, beat in beats.items() if beat.step == first]
    if len(behind) < len(beats):
        return behind, "the others are in a later step"
    (phase, number), *_ = Counter(beat.phase for beat in beats.values()).most_common(1)
    if number == len(beats):
        return [], "all ranks are in the same phase: see where their stacks differ"
    return [rank for rank, beat in beats.items() if beat.phase != phase], f"the others: {phase}"


def _innermost(beat: Heartbeat) -> str:
    return beat.phase.rpartition(" > ")[2]


def write_report(folder: Path, answers: Mapping[int, Answer | None], of_rank: int) -> Path:
    """Write stuck-step-….txt into the run's folder; its first lines name the odd ranks."""
    asked = answers[of_rank]
    step, silent = (asked.beat.step, asked.beat.silent_s) if asked is not None else (0, 0.0)
    odd, _ = odd_ranks(answers)
    lines = [
        f"{time.strftime('%Y-%m-%d %H:%M:%S')}: rank {of_rank} has not got on for {silent:.0f} s",
        describe_odd(answers),
        "",
    ]
    for rank, answer in answers.items():
        mark = "->" if rank in odd else "  "
        if answer is None:
            lines.append(f"{mark} rank {rank}: no answer")
        else:
            beat = answer.beat
            lines.append(
                f"{mark} rank {rank} (pid {beat.pid} on {beat.host}): {beat.place}, silent for"
                f" {beat.silent_s:.0f} s"
            )
    for rank, answer in sorted(answers.items(), key=lambda item: item[0] not in odd):
        lines += [
            "",
            f"==== rank {rank} ====",
            answer.stacks if answer is not None else "no answer",
        ]
    path = folder / f"stuck-step-{step:06d}-{time.strftime('%H%M%S')}.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def describe_odd(answers: Mapping[int, Answer | None]) -> str:
    """The odd ranks and their phases, in one line."""
    odd, why = odd_ranks(answers)
    if not odd:
        return f"no rank is the odd one ({why})"
    places = []
    for rank in odd:
        answer = answers[rank]
        places.append(f"rank {rank}" + (f" ({answer.beat.place})" if answer is not None else ""))
    return f"the odd one: {', '.join(places)}; {why}"


class Incidents:
    """How ranks ask each other for their stacks: a file that wants them, and an answer of each.

    Args:
        folder: the run's.
        session: of this launch.
        mine: this rank's heartbeat, now.
    """

    def __init__(
        self,
        folder: Path,
        session: str,
        rank: int,
        world_size: int,
        mine: Callable[[], Heartbeat],
    ) -> None:
        self._run, self._folder = folder, folder / heartbeat.FOLDER
        self._session, self._rank, self._world_size = session, rank, world_size
        self._mine = mine
        self._number = 1

    def is_wanted(self) -> bool:
        """Does a rank want stacks that this one has not given yet?"""
        return self._wanted().exists()

    def answer(self) -> Heartbeat:
        """Give this rank's stacks, and the heartbeat beside them."""
        beat = self._mine()
        content = {"beat": asdict(beat), "stacks": own_stacks()}
        heartbeat.replace(self._answer_of(self._rank, self._number), content)
        self._number += 1
        return beat

    def collect(self, within_s: float = ANSWER_S) -> dict[int, Answer | None] | None:
        """Ask all ranks and wait so many seconds for them; a rank that has ended is left out. None:
        another rank was faster and will ask this one."""
        number = self._number
        try:
            self._wanted().touch(exist_ok=False)
        except FileExistsError:
            return None
        self.answer()
        answers: dict[int, Answer | None] = {}
        until = time.monotonic() + within_s
        for rank in range(self._world_size):
            last = heartbeat.read(self._run, rank, self._session)
            if last is not None and last.ended:
                continue
            path = self._answer_of(rank, number)
            while (found := heartbeat.load(path)) is None and time.monotonic() < until:
                time.sleep(0.1)
            answers[rank] = _read(found)
            path.unlink(missing_ok=True)
        return answers

    def tell(self, report: str) -> None:
        """Let all ranks know what was found."""
        heartbeat.replace(self._report(), {"text": report})

    def told(self) -> str:
        """What was found last; empty: nothing yet."""
        found = heartbeat.load(self._report())
        return found["text"] if found is not None else ""

    def _report(self) -> Path:
        return self._folder / f"stacks-report-{self._session}.json"

    def _wanted(self) -> Path:
        return self._folder / f"stacks-{self._number}-wanted-{self._session}"

    def _answer_of(self, rank: int, number: int) -> Path:
        return self._folder / f"stacks-{number}-rank-{rank}-{self._session}.json"


def _read(found: dict[str, Any] | None) -> Answer | None:
    return Answer(Heartbeat(**found["beat"]), found["stacks"]) if found is not None else None
