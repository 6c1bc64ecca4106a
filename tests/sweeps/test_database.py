"""Every value of OPTUNA_STORAGE that cannot be used ends in one line that names the variable and shows no password."""

import re
import socket
import struct
import threading
import time
import traceback

import pytest

from suite.errors import SuiteError
from sweeps import database, summary
from sweeps import study as studies
from sweeps import worker as workers

SECRET = "hunter2-and-more"
UNUSABLE = {  # value to what is said of it
    "": "is set but empty",
    " \t ": "is set but empty",
    "study": "is no URL",
    SECRET: "is no URL",
    f"me:{SECRET}@host/name": "is no URL",
    f"//me:{SECRET}@host/name": "is no URL",
    f"'postgresql://me:{SECRET}@host/name'": "is no URL",
    f"postgresql+psycopg://me:{SECRET}@ho\nst/name": "is no URL",
    "sqlite:///study.db": "of kind 'sqlite'",
    "sqlite:////none/study.db": "of kind 'sqlite'",
    f"redis://:{SECRET}@host:6379/0": "of kind 'redis'",
    f"mysql+pymysql://me:{SECRET}@host/name": "of kind 'mysql+pymysql'",
    f"postgres://me:{SECRET}@host/name": "of kind 'postgres'",
    f"postgresqlite://me:{SECRET}@host/name": "of kind 'postgresqlite'",
    f"postgresql+asyncpg://me:{SECRET}@host/name": "of kind 'postgresql+asyncpg'",
    f"postgresql://me:{SECRET}@host/name": "needs the Python module 'psycopg2'",
    f"postgresql+psycopg://me:{SECRET}@host:port/name": "its port must be a number",
    f"postgresql+psycopg://me:a@{SECRET}@host/name": "more than one '@'",
    f"postgresql+psycopg://me:a@b/{SECRET}@host/name": "more than one '@'",
    f"postgresql+psycopg://me:a:{SECRET}/x#y?z@host:port/name": "its port must be a number",
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:99999/name": "database 127.0.0.1:99999/name cannot be used",
    f"postgresql+psycopg://me:{SECRET}@none.invalid/name": "database none.invalid/name cannot be used",
    f"postgresql+psycopg://me:{SECRET}@{'x' * 80}.invalid/name": "cannot be used",
    f"postgresql+psycopg://me:{SECRET}@/name?host=/none": "database /none/name cannot be used",
    f"postgresql+psycopg://me@127.0.0.1:1/name?password={SECRET}&nonsense=1": "cannot be used",
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/name?connect_timeout=soon": "cannot be used",
    f"postgresql+psycopg://me:{SECRET}{{x}}@127.0.0.1:1/name": "cannot be used",
}


def refusal(monkeypatch, value, function, *arguments):
    """What a value is refused with; it shows the secret nowhere, causes and all."""
    monkeypatch.setenv("OPTUNA_STORAGE", value)
    with pytest.raises(SuiteError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert message.startswith("OPTUNA_STORAGE") and "\n" not in message
    for shown in (message, "".join(traceback.format_exception(caught.value))):
        assert SECRET not in shown
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return message


def hold(sweep):
    with studies.exclusive(sweep):
        pass


@pytest.mark.parametrize(("value", "reason"), UNUSABLE.items(), ids=map(repr, UNUSABLE))
def test_a_value_that_cannot_be_used_is_refused(sweep, monkeypatch, value, reason, capfd):
    assert reason in refusal(monkeypatch, value, hold, sweep)
    assert reason in refusal(monkeypatch, value, studies.open_storage, sweep)
    assert SECRET not in "".join(capfd.readouterr())


def test_the_commands_end_in_one_line(sweep, suite, monkeypatch, capfd):
    monkeypatch.setenv("OPTUNA_STORAGE", f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/name")
    suite.layout.suite_file.write_text(suite.text)
    for main in (workers.main, summary.main):
        with pytest.raises(SystemExit) as caught:
            main(["--suite", str(suite.layout.suite_file)])
        assert re.fullmatch("error: OPTUNA_STORAGE: the database 127.0.0.1:1/name cannot be .*", str(caught.value))
        assert "Connection refused" in str(caught.value) and SECRET not in str(caught.value)
    assert SECRET not in "".join(capfd.readouterr())


def test_what_is_around_a_value_does_not_matter(monkeypatch):
    monkeypatch.setenv("OPTUNA_STORAGE", " postgresql+psycopg://me@host/name\n")
    assert database.database().host == "host"
    monkeypatch.delenv("OPTUNA_STORAGE")
    assert database.database() is None


def test_a_server_that_never_answers_is_given_up(sweep, monkeypatch):
    monkeypatch.setitem(database.LIMITS, "connect_timeout", 2)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(8)
        url = f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{hole.getsockname()[1]}/name"
        started = time.monotonic()
        assert "timeout" in refusal(monkeypatch, url, hold, sweep)
    assert time.monotonic() - started < 30  # and what a busy machine adds


class Refusing(threading.Thread):
    """A PostgreSQL server that asks for the password, and repeats it in its refusal."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb", buffering=0) as stream:
                while self._message(stream)[:4] != struct.pack("!i", 196608):  # of encryption
                    stream.write(b"N")
                stream.write(b"R" + struct.pack("!ii", 8, 3))
                stream.read(1)
                password = self._message(stream).rstrip(b"\0").decode()
                fields = {"S": "FATAL", "C": "28P01", "M": f'password "{password}" of user "me" is wrong'}
                body = b"".join(key.encode() + text.encode() + b"\0" for key, text in fields.items()) + b"\0"
                stream.write(b"E" + struct.pack("!i", len(body) + 4) + body)

    def _message(self, stream):
        (length,) = struct.unpack("!i", stream.read(4))
        return stream.read(length - 4)


@pytest.mark.parametrize("written", [SECRET, f"{SECRET}%40%2F%7Bx%7D", f"{SECRET}/{{x}}#"])
@pytest.mark.parametrize("place", ["me:{}@127.0.0.1:{}/name", "me@127.0.0.1:{1}/name?password={0}"])
def test_a_wrong_password_is_not_shown(sweep, monkeypatch, written, place):
    server = Refusing()
    server.start()
    url = "postgresql+psycopg://" + place.format(written, server.port)
    message = refusal(monkeypatch, url, hold, sweep)
    assert f"127.0.0.1:{server.port}/name" in message and "***" in message
    assert "***" in refusal(monkeypatch, url, studies.open_storage, sweep)
    server.socket.close()


def test_a_database_that_is_missing_is_named(sweep, monkeypatch, postgres):
    message = refusal(monkeypatch, postgres.replace("/postgres?", "/none?"), hold, sweep)
    assert 'database "none" does not exist' in message


@pytest.fixture
def own(postgres):
    """A function that makes a database of a name and returns its URL."""
    import sqlalchemy

    def make(name, *statements):
        server = sqlalchemy.create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
        with server.connect() as connection:
            connection.execute(sqlalchemy.text(f"create database {name}"))
        url = postgres.replace("/postgres?", f"/{name}?")
        change(url, *statements)
        return url

    return make


def change(url, *statements):
    import sqlalchemy

    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).begin() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))


def test_tables_of_something_else_are_told(sweep, monkeypatch, own):
    url = own("others", "create table studies (id int)", "create table version_info (id int)")
    assert "or name another database" in refusal(monkeypatch, url, studies.open_storage, sweep)


@pytest.mark.parametrize("version", ["v0.9.0.a", "v99.0.0.a"], ids=["older", "newer"])
def test_tables_of_another_optuna_are_told(sweep, monkeypatch, own, version):
    url = own(f"of_{version[1:3].strip('.')}")
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    studies.open_storage(sweep)
    change(url, f"update alembic_version set version_num = '{version}'")
    message = refusal(monkeypatch, url, studies.open_storage, sweep)
    assert "no longer compatible with the table schema" in message
    assert ('optuna storage upgrade --storage "$OPTUNA_STORAGE"' in message) == (version == "v0.9.0.a")


def test_a_database_that_fails_amid_a_sweep_is_told(sweep, monkeypatch, own):
    url = own("failing")

    def fail(*_, **__):
        change(url, "drop table trial_values cascade")
        return 0.5

    monkeypatch.setattr(workers, "run_trial", fail)
    assert "trial_values" in refusal(monkeypatch, url, workers.work, sweep, 0)
