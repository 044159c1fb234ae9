"""The API server's "no" in our words, whether it came as an HTTP answer, as an event in a watch, or as silence."""

from __future__ import annotations

import msgspec

from kuberouter_py.ports import EdgeError


class ApiError(EdgeError):
    """Whatever is none of the cases below. retry_after: seconds that the server asked us to wait, else 0.0."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unreachable(ApiError):
    """No answer: refused, reset, timed out, or cut in the middle. What was known stays true."""


class Untrusted(Unreachable):
    """The server's certificate is not one that we were told to trust."""


class Gone(ApiError):
    """410: the resource version or the continue token is too old."""


class TooNew(ApiError):
    """This server has not seen the asked-for resource version yet (M1.02)."""


class Throttled(ApiError):
    """429: too many requests."""


class Unauthorized(ApiError):
    """401: the credentials are not (or no longer) good."""


class Forbidden(ApiError):
    """403."""


class NotFound(ApiError):
    """404: no such object, or no such kind on this server."""


class Conflict(ApiError):
    """409: it exists already, or it changed in between."""


class Invalid(ApiError):
    """400 or 422: the server does not take a request like this."""


class ServerError(ApiError):
    """5xx: the server could not do it, now."""


_BY_CODE: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Throttled,
}


class _Cause(msgspec.Struct, gc=False):
    reason: str | None = None
    message: str | None = None


class _Details(msgspec.Struct, gc=False):
    causes: list[_Cause] | None = None
    retryAfterSeconds: float | None = None


class _Status(msgspec.Struct, gc=False):
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status)
LONGEST_RETRY_AFTER = 300.0  # seconds; a server that asks for more is asked again after this


def error_of(code: int, body: bytes | msgspec.Raw, asked: str, retry_after: str | None = None) -> ApiError:
    """The error for an HTTP status (0: only the body knows) with a v1 Status, or anything else, as its body.

    asked: method and path, for the message. retry_after: the header of that name.
    """
    try:
        status = _STATUS.decode(body)
    except (ValueError, RecursionError):
        status = _Status(message=bytes(body[:200]).decode("utf-8", "replace").strip())
    code = code or status.code or 0
    details = status.details or _Details()
    message = f"{asked}: {code} {status.message or status.reason or 'no reason given'}"
    wait = _seconds(retry_after) or min(max(details.retryAfterSeconds or 0.0, 0.0), LONGEST_RETRY_AFTER)
    causes = {cause.reason for cause in details.causes or ()}
    if "ResourceVersionTooLarge" in causes or "Too large resource version" in (status.message or ""):
        return TooNew(message, wait)
    if status.reason in ("Expired", "Gone"):
        return Gone(message, wait)
    return _BY_CODE.get(code, ServerError if code >= 500 else ApiError)(message, wait)


def _seconds(header: str | None) -> float:
    """Retry-After in seconds; the form with a date is not used by API servers and counts as none."""
    return min(float(header), LONGEST_RETRY_AFTER) if header and header.isascii() and header.isdecimal() else 0.0
