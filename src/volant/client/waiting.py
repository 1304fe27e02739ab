"""What the writes have in common that may be waited for."""

from __future__ import annotations


def wait_query(wait: str | None, timeout_s: float) -> dict[str, str | None]:
    return {"wait": wait, "timeout": f"{timeout_s:.3f}s" if wait else None}


def if_match(generation: int | None) -> dict[str, str]:
    return {} if generation is None else {"If-Match": f'"{generation}"'}
