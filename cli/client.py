"""HTTP to the hive: typed answers, and every error as a Failure."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec
from typing_extensions import TypeForm

from cli.failure import Exit, Failure
from cli.problem import from_answer

T = TypeVar("T")

ANSWER_WITHIN_S = 45.0  # longer than the longest `?wait=` that the API grants
CONNECT_WITHIN_S = 5.0


class Client:
    """One hive, one key."""

    def __init__(self, url: str, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}", "User-Agent": "hive-cli"},
            timeout=httpx.Timeout(ANSWER_WITHIN_S, connect=CONNECT_WITHIN_S),
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: object) -> httpx.Response:
        """Ask."""
        return self._send("GET", path, params=_given(params))

    def post(
        self,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **params: object,
    ) -> httpx.Response:
        """Ask for something to happen; `body` goes as JSON, `content` as it is."""
        own = dict(headers or {})
        if body is not None:
            content = msgspec.json.encode(body)
            own["Content-Type"] = "application/json"
        return self._send("POST", path, content=content, headers=own, params=_given(params))

    def put(self, path: str, body: object) -> httpx.Response:
        """Ask for it to be like this."""
        own = {"Content-Type": "application/json"}
        return self._send("PUT", path, content=msgspec.json.encode(body), headers=own)

    def delete(self, path: str, **params: object) -> httpx.Response:
        """Ask for it to be gone."""
        return self._send("DELETE", path, params=_given(params))

    @contextmanager
    def stream(self, path: str, *, last_id: str | None = None) -> Iterator[httpx.Response]:
        """An event stream; it may be silent for long, so only the connection has a time limit."""
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        timeout = httpx.Timeout(None, connect=CONNECT_WITHIN_S)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                    raise from_answer(answer)
                yield answer
        except httpx.ConnectError as error:
            raise self._away(error) from error

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **request)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Failure(
                f"{self.url} is not an address.",
                exit_code=Exit.USAGE,
                code="bad_url",
                why=str(error),
                todo="set HIVE_URL to something like http://127.0.0.1:8470",
            ) from error
        except httpx.ConnectError as error:
            raise self._away(error) from error
        except httpx.TransportError as error:
            raise Failure(
                f"{self.url} did not answer.",
                exit_code=Exit.UNAVAILABLE,
                code="no_answer",
                why=f"{type(error).__name__}: {error}. Whether it was done is unknown.",
                todo="`hive status`; a submit with --key can be repeated without doing it twice.",
            ) from error
        if answer.is_error:
            raise from_answer(answer)
        return answer

    def _away(self, error: httpx.ConnectError) -> Failure:
        return Failure(
            f"No hive answers at {self.url}.",
            exit_code=Exit.UNAVAILABLE,
            code="not_running",
            why=str(error),
            todo="`hive up` starts it; `hive doctor` says what is wrong.",
        )


def decode(answer: httpx.Response, form: TypeForm[T]) -> T:
    """The answer's document; a Failure if it is not what the API promises."""
    try:
        document: Any = msgspec.json.decode(answer.content, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure(
            f"{answer.request.url} answered something that is not understood.",
            exit_code=Exit.FAILED,
            code="not_understood",
            why=str(error),
            todo="is that address a hive of this version? `hive doctor` compares.",
        ) from error
    else:
        typed: T = document
        return typed


def _given(params: Mapping[str, object]) -> dict[str, str]:
    """Query parameters: those that have a value, `at_least`, `wait` and the like as text."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in params.items()
        if value is not None
    }
