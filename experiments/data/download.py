"""Fetches a data set that people ask for: `python -m experiments.data.download --dataset coco2017`.

An interrupted transfer goes on where it stopped, in the same process or in the next; a file takes its name only when
size and sha256 are right, an unpacked folder only when it is complete. What is already there is left alone.
"""

from __future__ import annotations

import argparse
import http.client
import shlex
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from suite.errors import SuiteError
from suite.files import folder_lock, sha256

CATALOGUE = Path(__file__).with_name("downloads.yaml")
ATTEMPTS = 5  # in a row without a new byte
BLOCK = 1 << 20


class DownloadError(RuntimeError):
    """A file that could not be had; the message says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of the catalogue.

    Attributes:
        url: where it is.
        bytes: its size.
        sha256: of the whole file.
        unpack: names in the zip archive that are kept, files or top-level folders; empty for a plain file.
        place: 'torch' for torch's cache of weights, '' for the data set's folder.
    """

    url: str
    bytes: int
    sha256: str
    unpack: tuple[str, ...] = ()
    place: str = ""

    @property
    def name(self) -> str:
        """Last part of the url."""
        return PurePosixPath(self.url).name


def catalogue(path: Path = CATALOGUE) -> dict[str, tuple[Path | None, list[RemoteFile]]]:
    """Data set name to its default folder, None for one of weights only, and its files."""
    entries = yaml.safe_load(path.read_text())
    return {
        name: (
            Path(entry["root"]) if "root" in entry else None,
            [RemoteFile(**{**file, "unpack": tuple(file.get("unpack", ()))}) for file in entry["files"]],
        )
        for name, entry in entries.items()
    }


def remedy(dataset: str, wanted: str, root: Path | None = None) -> str:
    """Where a missing file of a data set comes from, as a sentence.

    Args:
        dataset: its name in the catalogue.
        wanted: the file's path below the set's folder.
        root: that folder, if it is not the catalogue's.
    """
    known = catalogue()
    if dataset not in known:
        raise SuiteError(f"dataset.download: no '{dataset}' in {CATALOGUE.name}; it has {', '.join(known)}")
    default, files = known[dataset]
    usual = root is None or (default is not None and root.resolve() == default.resolve())
    elsewhere = "" if usual else f" --root {shlex.quote(str(root))}"
    command = f"`python -m experiments.data.download --dataset {dataset}{elsewhere}`"
    for file in files:
        if any(wanted == name or wanted.startswith(f"{name}/") for name in file.unpack):
            return f"It comes with {file.url} ({size_text(file.bytes)}): {command} fetches it"
    return f"{command} fetches the whole set"


def weights_remedy(name: str) -> str:
    """What fetches a file into torch's cache of weights, as half a sentence; empty if nothing here does."""
    for dataset, (root, files) in catalogue().items():
        if root is None and files[0].name == name:
            return (
                f"`python -m experiments.data.download --dataset {dataset}` fetches them ({size_text(files[0].bytes)})"
            )
    return ""


def size_text(size: float) -> str:
    """Bytes as a person would say them."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def fetch(file: RemoteFile, folder: Path, *, pause: float = 1.0) -> Path:
    """Downloads a file into a folder unless it is there, whole.

    Args:
        file: what to fetch.
        folder: where to; the transfer is in `<name>.part` there until it is complete.
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
            f"{file.bytes}, sha256 {file.sha256}): move or delete it, then run again"
        )
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{file.name}.part")
    failures = 0
    while (have := part.stat().st_size if part.exists() else 0) != file.bytes:
        if have > file.bytes:
            part.unlink()
            continue
        try:
            _transfer(file, part, have)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 416, 429):
                raise DownloadError(f"{file.url}: the server says {error.code} {error.reason}") from None
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                part.unlink(missing_ok=True)
            now = part.stat().st_size if part.exists() else 0
            failures = 0 if now > have else failures + 1
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


def _transfer(file: RemoteFile, part: Path, have: int) -> None:
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
            tqdm(total=file.bytes, initial=have, unit="B", unit_scale=True, desc=file.name) as bar,
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


def unpack(archive: Path, names: tuple[str, ...], folder: Path) -> None:
    """Unpacks files or top-level folders of a zip archive; each takes its name when it is complete.

    Raises:
        DownloadError: the archive is damaged or lacks one of the names.
    """
    from tqdm import tqdm

    try:
        with zipfile.ZipFile(archive) as opened:
            for name in names:
                if (folder / name).exists():
                    continue
                members = [m for m in opened.infolist() if m.filename == name or m.filename.startswith(f"{name}/")]
                members = [m for m in members if not m.is_dir()]
                if not members:
                    raise DownloadError(f"{archive}: the archive has no '{name}'")
                staging = folder / f".{name.replace('/', '_')}.part"
                for member in tqdm(members, desc=f"unpacking {name}", unit="file", disable=len(members) < 2):
                    target = staging / member.filename
                    if not (target.is_file() and target.stat().st_size == member.file_size):
                        opened.extract(member, staging)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (staging / name).rename(folder / name)
                shutil.rmtree(staging)
    except (zipfile.BadZipFile, zipfile.zlib.error, EOFError) as error:  # type: ignore[attr-defined]
        raise DownloadError(f"{archive}: damaged archive ({error}): delete it and run again") from None


def download(dataset: str, root: Path | None = None, *, keep: bool = False, pause: float = 1.0) -> Path:
    """Fetches and unpacks a data set of the catalogue; what is there already is left alone.

    Args:
        dataset: its name.
        root: its folder; default: the catalogue's.
        keep: keep the archives.
        pause: see `fetch`.

    Returns:
        The folder.

    Raises:
        DownloadError: a file cannot be had, or the disk is too small.
    """
    known = catalogue()
    if dataset not in known:
        raise DownloadError(f"no data set '{dataset}' in {CATALOGUE.name}; it has {', '.join(known)}")
    default, files = known[dataset]
    root = root or default or torch_cache()
    with folder_lock(root):
        for file in files:
            folder = torch_cache() if file.place == "torch" else root
            if file.unpack and all((root / name).exists() for name in file.unpack):
                print(f"{file.name}: {', '.join(file.unpack)} already in {root}", file=sys.stderr)
                continue
            _require_space(file, folder)
            path = fetch(file, folder, pause=pause)
            if file.unpack:
                unpack(path, file.unpack, root)
                if not keep:
                    path.unlink()
    return root


def _require_space(file: RemoteFile, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    have = sum(p.stat().st_size for p in (folder / file.name, folder / f"{file.name}.part") if p.exists())
    needed = file.bytes * (2 if file.unpack else 1) - have
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder}: {file.name} needs {size_text(needed)} more, {size_text(free)} are free: make room, or choose "
            "another folder with --root"
        )


def torch_cache() -> Path:
    """Where torch and torchvision keep the weights that they fetch."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.data.download", description="Fetch a data set.")
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(catalogue())}")
    parser.add_argument("--root", type=Path, help="its folder (default: the one in experiments/downloads.yaml)")
    parser.add_argument("--keep", action="store_true", help="keep the archives after unpacking")
    options = parser.parse_args(arguments)
    try:
        print(f"{download(options.dataset, options.root, keep=options.keep)}: complete")
    except (DownloadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
