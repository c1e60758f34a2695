"""A server over HTTP that is asked again while it is not there."""

import logging
import threading
from typing import Any

import httpx
import tenacity

from rlkd.teacher.address import shown
from rlkd.teacher.base import TeacherError
from rlkd.teacher.reply import SHOWN

logger = logging.getLogger(__name__)

_BACK_OFF = tenacity.wait_random_exponential(multiplier=0.5, max=15.0)
_OF_ONE_REQUEST = (400, 413, 422)
"""Statuses that refuse what one request holds; any other refuses whoever asks."""


def is_busy(status: int) -> bool:
    """Does this status of HTTP say that it cannot now, and that asking again may help?"""
    return status in (408, 425, 429) or status >= 500


class Unreachable(Exception):
    """The server did not answer, or said that it cannot now."""


class Refused(TeacherError):
    """The server refuses what one request holds; it may take another."""


class Patient:
    """Asks; may be used from several threads.

    Args:
        url: what paths are put behind.
        key: of the API; empty: none.
        timeout: seconds to wait for one answer.
        patience: seconds to go on asking a server that does not answer.
    """

    def __init__(self, url: str, key: str, timeout: float, patience: float) -> None:
        self.url, self.name = url, f"teacher at {shown(url)}"
        self._patience = patience
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(headers=headers, timeout=httpx.Timeout(timeout, connect=10.0))
        self._warned, self._given_up = threading.Lock(), threading.Event()
        self._met = False
        self.retries = 0
        """Requests that were sent again so far."""

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of one request, asked again with longer and longer pauses while the server is
        not there.

        Raises:
            Refused: it refuses this request.
            TeacherError: it is not there for `patience` seconds, or refuses any; or `give_up`.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unreachable),
            wait=self._pause,
            stop=tenacity.stop_any(
                tenacity.stop_after_delay(self._patience),
                tenacity.stop_when_event_set(self._given_up),
            ),
            sleep=tenacity.sleep_using_event(self._given_up),
            before_sleep=self._say_that_it_waits,
            reraise=True,
        )
        try:
            reply = retrying(self._ask_once, method, path, body)
        except Unreachable as error:
            if self._given_up.is_set():
                raise TeacherError(f"{self.name} is not asked any longer: {error}") from error
            then = " again and resume" if self._met else ", then start"
            raise TeacherError(
                f"{self.name} did not answer for {self._patience:g} seconds: {error}. Start it"
                f"{then} the run; `patience` is how long it is waited for."
            ) from error
        self._met = True
        return reply

    def begin(self) -> None:
        """Ask from now on, also after `give_up`."""
        self._given_up.clear()

    def give_up(self) -> None:
        """End soon what threads are asking at the moment; may be called from any."""
        self._given_up.set()

    @property
    def has_given_up(self) -> bool:
        """Since `begin`?"""
        return self._given_up.is_set()

    def close(self) -> None:
        """Give up, and let go of the connections. May be called twice."""
        self.give_up()
        self._http.close()

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds until it is asked again: at most what is left of the patience."""
        left = self._patience - (state.seconds_since_start or 0.0)
        return max(0.0, min(_BACK_OFF(state), left))

    def _ask_once(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            reply = self._http.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise Unreachable(f"{type(error).__name__} {error}".strip()) from error
        if is_busy(reply.status_code):
            raise Unreachable(f"HTTP {reply.status_code} {reply.text[:200]!r}")
        if reply.status_code != 200:
            kind = Refused if reply.status_code in _OF_ONE_REQUEST else TeacherError
            raise kind(
                f"{self.name} refuses {path} with HTTP {reply.status_code}: {reply.text[:SHOWN]}"
            )
        try:
            return reply.json()
        except ValueError as error:
            raise Unreachable(f"no JSON but {reply.text[:200]!r}") from error

    def _say_that_it_waits(self, state: tenacity.RetryCallState) -> None:
        self.retries += 1
        error = state.outcome.exception() if state.outcome is not None else None
        if self._warned.acquire(blocking=False):  # once: sixteen threads find out together
            logger.warning(
                "%s does not answer (%s); asking again for %g seconds",
                self.name, error, self._patience,
            )  # fmt: skip
