"""The one strict reader of what annotations hold: numbers and flags, as the tools that write them do."""

from __future__ import annotations

import math
from typing import Any

FLAGS = {
    **dict.fromkeys(("", "0", "false", "no", "unspecified"), False),  # VOC's own files say Unspecified
    **dict.fromkeys(("1", "true", "yes"), True),
}


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and neither text nor a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def flag(value: Any) -> bool:
    """A flag such as `iscrowd` or `difficult`: a truth value, 0 or 1, or either as text; None and "" are no.

    Raises:
        ValueError: it is none of these.
    """
    text = "" if value is None else str(value).strip().lower().removesuffix(".0")
    if text not in FLAGS:
        raise ValueError(f"{value!r}, expected 0 or 1")
    return FLAGS[text]
