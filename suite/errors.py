"""What a suite, or a request to one, can be refused with; and how a command says so."""

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class SuiteError(ValueError):
    """A suite, its data or a config that cannot be used; the message says where and what to do."""


class NotInSuite(SuiteError):  # noqa: N818 (reads better than NotInSuiteError)
    """A variant or an inference setting that the suite does not contain."""


def exits_on_error(main: Callable[P, T]) -> Callable[P, T]:
    """A command's `main` that ends with `error: …` and status 1 where it would raise a `SuiteError`.

    Of several ranks of one command (torchrun) the first one speaks.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return main(*args, **kwargs)
        except SuiteError as error:
            sys.exit(f"error: {error}" if os.environ.get("RANK", "0") == "0" else 1)

    return wrapper
