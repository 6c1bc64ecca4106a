"""The database that OPTUNA_STORAGE names, checked before anything connects; no message shows its password."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import optuna

from suite.errors import SuiteError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

P = ParamSpec("P")
T = TypeVar("T")

VARIABLE = "OPTUNA_STORAGE"
REMEDY = "use postgresql+psycopg://user@host/name, or unset it for the journal file"
KINDS = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")
LIMITS = {  # of the PostgreSQL client: who does not answer for so long is given up
    "connect_timeout": 10,  # seconds, per address of the host
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}


def database() -> URL | None:
    """The database of the studies; None for the journal file. Nothing is connected to.

    Raises:
        SuiteError: OPTUNA_STORAGE names none that can be used here.
    """
    value = os.environ.get(VARIABLE)
    if value is None:
        return None
    value = value.strip()
    if not value:
        raise SuiteError(f"{VARIABLE} is set but empty; {REMEDY}")
    kind = re.match(r"[\w.+-]+(?=://)", value, re.ASCII)
    if kind is None or not value.isprintable():
        raise SuiteError(f"{VARIABLE} is no URL of a database (it is not shown, for it may hold a password); {REMEDY}")
    if kind[0] not in KINDS:
        raise SuiteError(f"{VARIABLE} names a database of kind '{kind[0]}'; {REMEDY}")
    if value.count("@") > 1:
        raise SuiteError(
            f"{VARIABLE} has more than one '@': write those of the user and the password as %40, and other special "
            "characters alike (python -c 'from urllib.parse import quote; print(quote(input(), safe=\"\"))')"
        )
    return _parsed(value)


def _parsed(value: str) -> URL:
    import sqlalchemy

    reason = "its port must be a number, and special characters of user and password percent-encoded"
    try:
        url = sqlalchemy.make_url(value)
        url.get_dialect().import_dbapi()
        return url
    except ImportError as error:
        reason = f"it needs the Python module '{error.name or url.get_driver_name()}', which does not work here"
    except Exception:  # of several kinds, which quote what they cannot read
        pass
    raise SuiteError(f"{VARIABLE} cannot be used: {reason}; {REMEDY}")


def reports_failures(function: Callable[P, T]) -> Callable[P, T]:
    """A function that raises a `SuiteError` where the study's storage fails it, without a password and without a cause.

    `Study.optimize` of Optuna 5 loses such an error in an `UnboundLocalError` of its own.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        from sqlalchemy.exc import SQLAlchemyError

        failures = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
        try:
            return function(*args, **kwargs)
        except (*failures, UnboundLocalError) as error:
            reason: BaseException | None = error
            while isinstance(reason, UnboundLocalError):
                reason = reason.__context__
            if isinstance(reason, SuiteError):
                message = str(reason)
            elif isinstance(reason, failures) and (url := database()) is not None:
                message = _failure(url, reason)
            else:
                raise
        raise SuiteError(message)

    return wrapper


def connect(url: URL) -> Connection:
    """A connection of its own. Raises `SuiteError` where there is none to be had."""
    import sqlalchemy

    try:
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, **_options(url)).connect()
    except Exception as error:  # of many kinds: the driver's, SQLAlchemy's, those of the host's name
        message = _failure(url, error)
    raise SuiteError(message)


def open_database(url: URL, heartbeat: int, grace: int) -> optuna.storages.RDBStorage:
    """Optuna's storage in a database, whose tables are made if they are not there. To be called by who holds the study.

    Args:
        url: from `database`.
        heartbeat: seconds between signs of life of a trial.
        grace: seconds without one after which the trial is dead.

    Raises:
        SuiteError: the database cannot be reached, or it is not Optuna's or of another version of it.
    """
    try:
        return optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False),  # encoded anew: Optuna takes braces for a template
            engine_kwargs=_options(url),
            heartbeat_interval=heartbeat,
            grace_period=grace,
        )
    except Exception as error:  # of many kinds: the driver's, SQLAlchemy's, Alembic's, Optuna's own
        message = _failure(url, error)
    raise SuiteError(message)


def _options(url: URL) -> dict[str, Any]:
    """Keywords of SQLAlchemy's engine; what the URL itself sets stands."""
    return {"connect_args": {key: value for key, value in LIMITS.items() if key not in url.query}}


def _failure(url: URL, error: BaseException) -> str:
    """A failure in one line: where, why, what to do."""
    from sqlalchemy.exc import ProgrammingError

    if isinstance(error, optuna.exceptions.StorageInternalError):
        error = error.__cause__ or error
    reason = " ".join(str(getattr(error, "orig", None) or error).split()).removesuffix(".")
    reason = reason.replace("$STORAGE_URL", f'"${VARIABLE}"')
    host = url.host or url.query.get("host") or "localhost"
    place = f"{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"
    remedy = "see that its server runs, and that address, name, user and password are right; nothing is lost"
    if isinstance(error, ProgrammingError | RuntimeError):  # it answers, but its tables are not this Optuna's
        remedy = "or name another database for the studies"
    place, reason = without_secrets(place, url), without_secrets(reason, url)
    return f"{VARIABLE}: the database {place} cannot be used ({reason}); {remedy}"


def without_secrets(text: str, url: URL) -> str:
    """A text in which the passwords of a URL are starred out, as they are written there and as they are meant."""
    from urllib.parse import quote, quote_plus

    for secret in (url.password, url.query.get("password"), url.query.get("sslpassword"), os.environ.get("PGPASSWORD")):
        if secret:
            for written in (str(secret), quote(str(secret), safe=""), quote(str(secret)), quote_plus(str(secret))):
                text = text.replace(written, "***")
    return text
