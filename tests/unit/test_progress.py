"""What a person sees of a run: the panel, on a console that is a terminal, and lines."""

import io
import logging
import re
import sys

import pytest
from rich.console import Console

from rlkd.tracking import progress
from rlkd.tracking.progress import Eta, Lines, LivePanel, draw, duration

LOGS = {
    "loss": 0.1, "reward": 0.5, "accuracy": 0.25, "completions/mean_length": 12.0, "entropy": 0.75,
    "teacher/gap": 0.125, "kl": None, "groups/no_signal": None, "time/step": 2.0,
    "time/generate": 1.5, "time/backward": 0.49, "time/log": 0.01, "memory/resident": 1.5,
}  # fmt: skip


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 100 columns; sys.stderr is the same one."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    return Console(force_terminal=True, file=file, width=100, color_system=None)


def plain(screen: Console) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())  # type: ignore[attr-defined]


def test_the_panel_says_what_a_step_was(screen):
    screen.print(draw(3, 10, LOGS, "truncated (step 3): 97 % were cut off", 100.0))
    text = plain(screen)
    for said in ("step 3/10", "eta 1m40s", "memory 1.50 GiB", "reward 0.500", "accuracy 0.250",
                 "length 12.000", "entropy 0.750", "gap 0.125",
                 "last alarm: truncated (step 3): 97 % were cut off"):  # fmt: skip
        assert said in text
    assert re.search(r"generate +1\.500 s █{15}\s", text)
    assert re.search(r"backward +0\.490 s █{5}\s", text)
    assert re.search(r"the rest +0\.010 s █\s", text)
    assert "no signal" not in text


def test_prints_and_log_lines_run_above_the_panel_and_nothing_stays_redirected(screen):
    real, logger = sys.stderr, logging.getLogger("rlkd.test_progress")
    handler = logging.StreamHandler(real)
    logger.addHandler(handler)
    panel = LivePanel(screen)
    panel.show(1, 10, LOGS, None)
    before = len(plain(screen))
    print("ALARM one", file=sys.stderr, flush=True)
    logger.warning("warned two")
    panel.show(2, 10, LOGS, None)
    panel.close()
    said = plain(screen)[before:]
    # Each text begins a line of its own, and the whole panel is drawn anew below it.
    for text in ("ALARM one", "warned two"):
        line = next(line for line in re.split(r"[\r\n]+", said) if text in line)
        assert line.strip() == text
        assert "╭─ rlkd" in said.split(text)[1]
    assert sys.stderr is real
    assert handler.stream is real
    logger.removeHandler(handler)
    # The cursor is back, and the last panel stays.
    assert screen.file.getvalue().rindex("\x1b[?25h") > screen.file.getvalue().rindex("\x1b[?25l")  # type: ignore[attr-defined]
    assert "step 2/10" in said
    panel.close()


def test_lines(capsys):
    lines = Lines()
    lines.show(1, 3, LOGS, None)
    lines.show(2, 3, LOGS, "an alarm")
    lines.show(3, 3, {"loss": 0.1}, None)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == (
        "step 1/3  reward 0.500  accuracy 0.250  length 12.000  entropy 0.750  gap 0.125"
        "  generate 75% of 2 s"
    )
    assert second == first.replace("1/3", "2/3") + "  eta 0s"
    assert third == "step 3/3"


def test_the_time_left_is_that_of_the_last_steps():
    eta = Eta()
    assert eta.left(1, 100, 0.0) is None
    assert eta.left(2, 100, 60.0) == 98 * 60
    for step in range(3, 40):
        left = eta.left(step, 100, 60.0 + step)
    assert left == 61  # the slow one is forgotten


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.7, "1m00s"), (187, "3m07s"), (7500, "2h05m"),
                          (3 * 86400 + 4 * 3600, "3d04h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_auto_is_a_panel_where_stderr_is_a_terminal(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert isinstance(progress.choose("auto"), Lines)
    assert isinstance(progress.choose("panel"), LivePanel)
    assert progress.choose("none") is None
    terminal.isatty = lambda: True
    assert isinstance(progress.choose("auto"), LivePanel)
    assert isinstance(progress.choose("lines"), Lines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.choose("auto"), Lines)


def test_the_panel_costs_little(screen):
    import time

    panel = LivePanel(screen)
    panel.show(1, 100, LOGS, None)
    start = time.process_time()
    for step in range(2, 22):
        panel.show(step, 100, LOGS, None)
    each = (time.process_time() - start) / 20
    panel.close()
    assert each < 0.01


def drawings(every: float, *shows: tuple[int, str | None]) -> list[str]:
    """What each call adds to the screen."""
    written = io.StringIO()
    panel = LivePanel(Console(force_terminal=True, file=written, width=80), every=every)
    found = []
    for step, alarm in shows:
        before = written.tell()
        panel.show(step, 9, {"reward": 0.5}, alarm)
        found.append(written.getvalue()[before:])
    panel.close()
    return found


def test_fast_steps_are_not_all_drawn_but_alarms_and_the_last_step_are():
    fast = drawings(
        60.0, (1, None), (2, None), (3, "truncated"), (4, "truncated"), (9, "truncated")
    )
    assert [bool(text) for text in fast] == [True, False, True, False, True]
    assert "step 9/9" in fast[-1]
    assert all(drawings(0.0, (1, None), (2, None), (3, None)))
