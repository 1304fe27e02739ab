"""The one error tree.

    VolantError
    ├── InvalidInput            422  what was asked cannot be right
    │   ├── KeyReused           422  an Idempotency-Key that was given for something else
    │   └── Malformed           400  what was sent cannot be read
    │       ├── WrongMethod     405
    │       ├── NotAcceptable   406
    │       └── WrongMediaType  415
    ├── Unauthorized            401  nobody vouches for who asks
    ├── Forbidden               403
    │   └── Untrusted           403  no trusted key vouches for it
    ├── NotFound                404
    ├── Conflict                409
    │   ├── AlreadyExists       409
    │   ├── StaleRevision       409  somebody else wrote first
    │   │   └── PreconditionFailed 412  as the caller's If-Match foresaw
    │   ├── InUse               409
    │   ├── WrongState          409  not while it is as it is
    │   ├── Exhausted           409  a pool has nothing left to give
    │   ├── QuotaExceeded       409  a project would have more than it may
    │   ├── OverBudget          409  too many replicas of a deployment would be down
    │   ├── FieldConflict       409  somebody else decides a field that is applied
    │   ├── InProgress          409  the request of this Idempotency-Key is not answered yet
    │   └── AnswerLost          409  it was done, and its answer is no longer known
    ├── Compacted               410  the change log no longer reaches back that far
    ├── TooLarge                413
    │   └── HeadersTooLarge     431
    ├── Unavailable             503  a part that this needs is not there now
    │   └── GuestUnreachable    503
    ├── BadAnswer               502  what answers in the guest cannot be understood
    ├── TimedOut                504
    └── HostError               500  the host did not do what it was told
        ├── CommandFailed       500
        ├── ChecksumMismatch    422  what was sent, fetched or read has another digest
        └── DiskFull            507

Each layer adds what it was doing (``raise … from``); only the edge logs. ``code`` is stable and
documented in docs/reference/errors.md; ``hint`` says what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class VolantError(Exception):
    """The base of everything that Volant raises on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InvalidInput(VolantError):
    """A value is outside what it may be; ``field`` names it (``spec.memory_mb``)."""

    code = "invalid_input"
    status = 422
    title = "The request cannot be right"

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class Malformed(InvalidInput):
    code = "malformed"
    status = 400
    title = "The request cannot be read"


class WrongMethod(Malformed):
    code = "wrong_method"
    status = 405
    title = "Not what can be done here"


class NotAcceptable(Malformed):
    code = "not_acceptable"
    status = 406
    title = "Not in a form that is wanted"


class KeyReused(InvalidInput):
    """An Idempotency-Key stands for one request, and this is another."""

    code = "key_reused"
    title = "That key was given for another request"


class WrongMediaType(Malformed):
    code = "wrong_media_type"
    status = 415
    title = "Not a kind of content that is read here"


class Unauthorized(VolantError):
    """Nobody vouches for who asks."""

    code = "unauthorized"
    status = 401
    title = "Who is asking?"


class Forbidden(VolantError):
    code = "forbidden"
    status = 403
    title = "Not allowed"


class Untrusted(Forbidden):
    """A signature is missing, is not over this content, or is not by a key that is trusted here."""

    code = "untrusted"
    title = "Not trusted"


class NotFound(VolantError):
    code = "not_found"
    status = 404
    title = "No such thing"


class Conflict(VolantError):
    code = "conflict"
    status = 409
    title = "In conflict with what is"


class AlreadyExists(Conflict):
    code = "already_exists"
    title = "The name is taken"


class StaleRevision(Conflict):
    code = "stale_revision"
    title = "Somebody else wrote first"


class PreconditionFailed(StaleRevision):
    """The resource is not at the generation that If-Match named (RFC 9110, section 13.1.1)."""

    code = "precondition_failed"
    status = 412
    title = "Changed since it was read"


class InUse(Conflict):
    code = "in_use"
    title = "Still in use"


class WrongState(Conflict):
    code = "wrong_state"
    title = "Not in this state"


class Exhausted(Conflict):
    code = "exhausted"
    title = "Nothing left to give"


class QuotaExceeded(Conflict):
    code = "quota_exceeded"
    title = "Over the project's quota"


class OverBudget(Conflict):
    code = "over_budget"
    title = "Over the disruption budget"


class FieldConflict(Conflict):
    """``fields`` are the paths that others decide, each with who does."""

    code = "field_conflict"
    title = "Somebody else decides this"

    def __init__(self, message: str, *, fields: tuple[tuple[str, str], ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.fields = fields


class InProgress(Conflict):
    code = "in_progress"
    title = "Being done"


class AnswerLost(Conflict):
    """What an Idempotency-Key was given for was done once and is not done again."""

    code = "answer_lost"
    title = "Done, and what was answered is not known"


class Compacted(VolantError):
    code = "compacted"
    status = 410
    title = "That far back is no longer kept"


class TooLarge(VolantError):
    code = "too_large"
    status = 413
    title = "Too large"


class HeadersTooLarge(TooLarge):
    code = "headers_too_large"
    status = 431


class Unavailable(VolantError):
    code = "unavailable"
    status = 503
    title = "Not available now"


class GuestUnreachable(Unavailable):
    code = "guest_unreachable"
    title = "The guest's agent does not answer"


class BadAnswer(VolantError):
    """Somebody in the guest answered, and not as its protocol says."""

    code = "bad_answer"
    status = 502
    title = "The answer cannot be understood"


class TimedOut(VolantError):
    code = "timed_out"
    status = 504
    title = "It took too long"


class HostError(VolantError):
    code = "host_error"
    status = 500
    title = "The host did not do what it was told"


class CommandFailed(HostError):
    """A program failed; carries the command, its exit status and the end of its stderr."""

    code = "command_failed"
    title = "A program failed"

    def __init__(self, command: tuple[str, ...], exit_status: int | None, stderr_tail: str, *, hint: str | None = None) -> None:
        if exit_status is None:
            how = "did not end in time"
        elif exit_status < 0:
            how = f"was ended by signal {-exit_status}"
        elif exit_status == 127:
            how = "is not installed"
        else:
            how = f"failed with status {exit_status}"
        tail = stderr_tail.strip()
        super().__init__(f"{command[0]} {how}" + (f": {tail.splitlines()[-1]}" if tail else ""), hint=hint)
        self.command = command
        self.exit_status = exit_status
        self.stderr_tail = tail


class ChecksumMismatch(HostError):
    code = "checksum_mismatch"
    status = 422
    title = "The content is not what its checksum says"


class DiskFull(HostError):
    code = "disk_full"
    status = 507
    title = "The disk is full"


def error_classes() -> list[type[VolantError]]:
    """Every class with a code of its own, depth first. Others (a module's private kinds) answer as the class above them."""
    found: list[type[VolantError]] = []
    waiting: list[type[VolantError]] = [VolantError]
    while waiting:
        cls = waiting.pop()
        if "code" in vars(cls):
            found.append(cls)
        waiting.extend(sorted(cls.__subclasses__(), key=lambda c: c.__name__, reverse=True))
    return found
