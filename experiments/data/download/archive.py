"""Unpacks zip and tar archives; a folder takes its name only when it is complete."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, cast

from experiments.data.download.transfer import DownloadError


class _Member(NamedTuple):
    """A file of an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, names: tuple[str, ...], folder: Path) -> None:
    """Unpacks files or folders of an archive; each takes its name when it is complete.

    Raises:
        DownloadError: the archive is damaged or lacks one of the names.
    """
    from tqdm import tqdm

    try:
        with _opened(archive) as files:
            for name in names:
                if (folder / name).exists():
                    continue
                members = [file for file in files if file.name == name or file.name.startswith(f"{name}/")]
                if not members:
                    raise DownloadError(f"{archive}: the archive has no '{name}'")
                staging = folder / f".{name.replace('/', '_')}.part"
                for member in tqdm(members, desc=f"unpacking {name}", unit="file", disable=len(members) < 2):
                    target = staging / member.name
                    if not (target.is_file() and target.stat().st_size == member.size):
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with member.open() as source, target.open("wb") as copy:
                            shutil.copyfileobj(source, copy)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (staging / name).rename(folder / name)
                shutil.rmtree(staging)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise DownloadError(f"{archive}: damaged archive ({error}): move it away and run again") from None


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    """The plain files of an archive that lie inside the folder it is unpacked to."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            extract = cast(Callable[[tarfile.TarInfo], IO[bytes]], tar.extractfile)  # None is for what is no file
            yield _inside(_Member(info.name, info.size, partial(extract, info)) for info in tar if info.isfile())
    else:
        with zipfile.ZipFile(archive) as packed:
            files = [info for info in packed.infolist() if not info.is_dir()]
            yield _inside(_Member(info.filename, info.file_size, partial(packed.open, info)) for info in files)


def _inside(members: Iterable[_Member]) -> list[_Member]:
    return [member for member in members if member.name[:1] != "/" and ".." not in Path(member.name).parts]
