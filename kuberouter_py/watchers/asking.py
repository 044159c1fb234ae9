"""What following.py asks of whoever speaks with the API server (api.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol


class Stream(Protocol):
    """An open watch: its lines."""

    def __iter__(self) -> Iterator[bytes]: ...

    def expect(self, seconds: float) -> None:
        """From now on so much silence breaks it. For the thread that iterates."""

    def close(self) -> None: ...


class Api(Protocol):
    """Both raise ApiError; so does iterating a stream."""

    def get(self, path: str, query: Mapping[str, str]) -> bytes: ...

    def stream(self, path: str, query: Mapping[str, str], read_timeout: float) -> Stream:
        """read_timeout: seconds of silence that break it, until `expect` says otherwise."""
