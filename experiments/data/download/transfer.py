"""Fetches a file over HTTP.

An interrupted transfer goes on where it stopped, in the same process or in the next; a file takes its name only when
size and sha256 are right. What is already there is left alone.
"""

from __future__ import annotations

import http.client
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from experiments.data.download.catalogue import RemoteFile, size_text
from suite.files import atomic, sha256

ATTEMPTS = 5  # in a row without a new byte
BLOCK = 1 << 20


class DownloadError(RuntimeError):
    """A file that could not be had; the message says what to do."""


def copy_in(file: RemoteFile, source: Path, folder: Path) -> None:
    """Copies a file from a local folder, unless it is there; `fetch` then finds it whole.

    Raises:
        DownloadError: it is not in the folder, or another one.
    """
    path, origin = folder / file.name, source / file.name
    if path.is_file():
        return
    if not origin.is_file():
        raise DownloadError(f"{origin}: no such file; expected {file.url}")
    if origin.stat().st_size != file.bytes or sha256(origin) != file.sha256:
        raise DownloadError(f"{origin} is not the file that {file.url} is (sha256 {file.sha256}): fetch it anew")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        shutil.copyfile(origin, part)


def fetch(file: RemoteFile, folder: Path, *, pause: float = 1.0, show: bool = True) -> Path:
    """Downloads a file into a folder unless it is there, whole.

    Args:
        file: what to fetch.
        folder: where to; the transfer is in `<name>.part` there until it is complete.
        show: whether a bar shows the bytes.
        pause: seconds before the first new attempt after an interruption, doubled for each further one.

    Returns:
        Its path.

    Raises:
        DownloadError: the server has another file or cannot be reached; or what came has the wrong checksum.
    """
    path = folder / file.name
    if path.is_file():
        if path.stat().st_size == file.bytes and sha256(path) == file.sha256:
            return path
        raise DownloadError(
            f"{path} is there, but it is not the file that {file.url} should be ({path.stat().st_size} bytes, expected "
            f"{file.bytes}, sha256 {file.sha256}): move it away, then run again"
        )
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{file.name}.part")
    failures = 0
    while (have := part.stat().st_size if part.exists() else 0) != file.bytes:
        if have > file.bytes:
            part.unlink()
            continue
        try:
            _transfer(file, part, have, show)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 416, 429):
                raise DownloadError(f"{file.url}: the server says {error.code} {error.reason}") from None
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                part.unlink(missing_ok=True)
            now = part.stat().st_size if part.exists() else 0
            failures = 0 if now > have else failures + 1
            if failures >= ATTEMPTS and not now and not isinstance(error, urllib.error.HTTPError):
                raise DownloadError(
                    f"{file.url} cannot be reached ({_reason(error)}). Without internet here, fetch it elsewhere "
                    f"({size_text(file.bytes)}, sha256 {file.sha256}) and put it to {path}; {file.otherwise}"
                ) from None
            if failures >= ATTEMPTS:
                raise DownloadError(
                    f"{file.url}: interrupted at {size_text(now)} of {size_text(file.bytes)} ({error}); "
                    "the same command goes on there"
                ) from None
            time.sleep(pause * 2 ** max(0, failures - 1))
    found = sha256(part)
    if found != file.sha256:
        part.unlink()
        raise DownloadError(
            f"{file.url}: what came has sha256 {found}, expected {file.sha256}. It is deleted: run again; "
            "if it happens twice, a proxy on the way or the server changes the file"
        )
    part.replace(path)
    return path


def _reason(error: Exception) -> str:
    """Why a connection failed, without urllib's wrapping."""
    return str(getattr(error, "reason", error))


def _transfer(file: RemoteFile, part: Path, have: int, show: bool) -> None:
    """Appends to `part` what comes from byte `have` on; returns early or raises when the connection ends early."""
    from tqdm import tqdm

    request = urllib.request.Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        resumed = response.status == 206
        if have and not resumed:
            print(f"{file.name}: the server cannot resume, starting over", file=sys.stderr)
            have = 0
        total = _total(response, have if resumed else 0)
        if total is not None and total != file.bytes:
            raise DownloadError(
                f"{file.url}: the server offers {total} bytes, expected {file.bytes}: it has another file"
            )
        with (
            part.open("ab" if resumed else "wb") as out,
            tqdm(total=file.bytes, initial=have, unit="B", unit_scale=True, desc=file.name, disable=not show) as bar,
        ):
            while block := response.read1(BLOCK):
                if have + len(block) > file.bytes:
                    raise DownloadError(
                        f"{file.url}: the server sends more than {file.bytes} bytes: it has another file"
                    )
                out.write(block)
                have += len(block)
                bar.update(len(block))
    if have < file.bytes:
        raise http.client.IncompleteRead(b"", file.bytes - have)


def _total(response: Any, start: int) -> int | None:
    """The whole file's size, as far as the server says it."""
    content_range = response.headers.get("Content-Range", "")
    if response.status == 206 and "/" in content_range:
        first = content_range.removeprefix("bytes").strip().split("-")[0]
        if first != str(start):
            raise DownloadError(f"{response.url}: asked for bytes from {start}, the server sends '{content_range}'")
        size = content_range.rsplit("/", 1)[1]
        return int(size) if size.isdigit() else None
    length = response.headers.get("Content-Length")
    return start + int(length) if length else None
