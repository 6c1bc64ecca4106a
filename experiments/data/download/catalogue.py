"""What can be fetched: `downloads.yaml`, and the commands that messages about a missing file name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import yaml

from suite.errors import SuiteError

CATALOGUE = Path(__file__).with_name("downloads.yaml")


@dataclass(frozen=True)
class RemoteFile:
    """A file of the catalogue.

    Attributes:
        url: where it is.
        bytes: its size.
        sha256: of the whole file.
        unpack: names in the archive (zip or tar) that are kept, files or folders; empty for a plain file.
        place: 'torch' for torch's cache of weights, '' for the data set's folder.
        below: folder below the data set's that it, and what it is unpacked to, goes to.
    """

    url: str
    bytes: int
    sha256: str
    unpack: tuple[str, ...] = ()
    place: str = ""
    below: str = ""

    @property
    def name(self) -> str:
        """Last part of the url."""
        return unquote(PurePosixPath(self.url).name)

    @property
    def otherwise(self) -> str:
        """What else can be done without it."""
        if self.place == "torch":
            return "or start from random weights: `training: {backbone_weights: none}` in the suite"
        return "or name a copy of the data set by `root:` in the suite"


@dataclass(frozen=True)
class Download:
    """An entry of the catalogue.

    Attributes:
        root: the folder of the data set unless another one is asked for; None for weights alone.
        files: what is fetched.
    """

    root: Path | None
    files: tuple[RemoteFile, ...]


def catalogue() -> dict[str, Download]:
    """The entries of the catalogue by name."""
    entries = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    return {
        name: Download(
            Path(entry["root"]) if "root" in entry else None,
            tuple(_listed(entry)) if "listed" in entry else tuple(map(_file, entry["files"])),
        )
        for name, entry in entries.items()
    }


def _file(entry: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(**{**entry, "unpack": tuple(entry.get("unpack", ()))})


def _listed(entry: Mapping[str, Any]) -> Iterator[RemoteFile]:
    """The files of a list: sha256, bytes and path, a line each."""
    for line in CATALOGUE.with_name(entry["listed"]).read_text(encoding="utf-8").splitlines():
        sha256, size, path = line.split(" ", 2)
        below = PurePosixPath(path).parent.as_posix()
        yield RemoteFile(entry["base"] + quote(path), int(size), sha256, below=below)


def remedy(dataset: str, wanted: str, root: Path | None = None) -> str:
    """Where a missing file of a data set comes from, as a sentence.

    Args:
        dataset: its name in the catalogue.
        wanted: the file's path below the set's folder.
        root: that folder, if it is not the catalogue's.

    Raises:
        SuiteError: no such entry.
    """
    known = catalogue()
    if dataset not in known:
        raise SuiteError(f"dataset.download: no '{dataset}' in {CATALOGUE.name}; it has {', '.join(known)}")
    default = known[dataset].root
    usual = root is None or (default is not None and root.resolve() == default.resolve())
    elsewhere = "" if usual else f" --root {shlex.quote(str(root))}"
    command = f"`{_command(dataset)}{elsewhere}`"
    for file in known[dataset].files:
        kept = [(PurePosixPath(file.below) / name).as_posix() for name in file.unpack]
        if any(wanted == name or wanted.startswith(f"{name}/") for name in kept):
            return f"It comes with {file.url} ({size_text(file.bytes)}): {command} fetches it"
    return f"{command} fetches the whole set"


def weights_remedy(name: str) -> str:
    """What fetches a file into torch's cache of weights, as half a sentence; empty if nothing here does."""
    for dataset, download in catalogue().items():
        first = download.files[0]
        if download.root is None and first.name == name:
            return f"`{_command(dataset)}` fetches them ({size_text(first.bytes)})"
    return ""


def _command(dataset: str) -> str:
    return f"python -m experiments download --dataset {dataset}"


def size_text(size: float) -> str:
    """Bytes as a person would say them."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def torch_cache() -> Path:
    """Where torch and torchvision keep the weights that they fetch."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"
