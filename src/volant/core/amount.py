"""How many of a number: ``2``, or a share of it such as ``25%``."""

from __future__ import annotations

import re

from volant.core.errors import InvalidInput

Amount = int | str

_SHARE = re.compile(r"(\d{1,3})%")


def check_amount(amount: Amount, field: str) -> Amount:
    """Return ``amount`` when it is 0 or more, or 0% to 100%. Raises InvalidInput."""
    if isinstance(amount, bool) or (isinstance(amount, int) and amount < 0):
        raise InvalidInput(f"{amount} is not a number of VMs", field=field, hint="write 2 or 25%")
    if isinstance(amount, str) and (not (share := _SHARE.fullmatch(amount)) or int(share[1]) > 100):
        raise InvalidInput(f"{amount[:40]!r} is neither a number nor a share", field=field, hint="write 2 or 25%")
    return amount


def count_amount(amount: Amount, total: int, *, up: bool) -> int:
    """``amount`` of ``total``; a share is rounded up or down. A number may be more than ``total``."""
    if isinstance(amount, int):
        return amount
    share = int(amount.removesuffix("%")) * total
    return -(-share // 100) if up else share // 100
