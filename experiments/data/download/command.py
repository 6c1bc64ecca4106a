"""`python -m experiments download --dataset coco2017`: fetches an entry of the catalogue, whole or not at all."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from experiments.data.download.archive import unpack
from experiments.data.download.catalogue import CATALOGUE, RemoteFile, catalogue, size_text, torch_cache
from experiments.data.download.transfer import DownloadError, copy_in, fetch
from suite.files import folder_lock

MANY = 20  # files from which on one bar counts them, in place of a bar for the bytes of each


def download(
    dataset: str, root: Path | None = None, *, keep: bool = False, pause: float = 1.0, source: Path | None = None
) -> Path:
    """Fetches and unpacks a data set of the catalogue; what is there already is left alone.

    Args:
        dataset: its name.
        root: its folder; default: the catalogue's.
        keep: keep the archives.
        pause: see `fetch`.
        source: a folder with the files, laid out as in `root` or all in one; they are copied from there in place of
            the server.

    Returns:
        The folder.

    Raises:
        DownloadError: a file cannot be had, or the disk is too small.
    """
    known = catalogue()
    if dataset not in known:
        raise DownloadError(f"no data set '{dataset}' in {CATALOGUE.name}; it has {', '.join(known)}")
    root = root or known[dataset].root or torch_cache()
    with folder_lock(root):
        files = known[dataset].files
        for file in tqdm(files, dataset, disable=len(files) < MANY, unit="file"):
            folder = torch_cache() if file.place == "torch" else root / file.below
            if file.unpack and all((folder / name).exists() for name in file.unpack):
                print(f"{file.name}: {', '.join(file.unpack)} already in {folder}", file=sys.stderr)
                continue
            _require_space(file, folder)
            if source is not None:
                places = (source / file.below, source)
                own = next((place for place in places if (place / file.name).is_file()), places[0])
                if not file.place or (own / file.name).is_file():  # weights are no part of a data set's copy
                    copy_in(file, own, folder)
            path = fetch(file, folder, pause=pause, show=len(files) < MANY)
            if file.unpack:
                unpack(path, file.unpack, folder)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments download", description="Fetch a data set, or weights.")
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(catalogue())}")
    parser.add_argument("--root", type=Path, help=f"its folder (default: the one in {CATALOGUE.name})")
    parser.add_argument("--from", type=Path, dest="source", help="copy the files from this folder, and check them")
    parser.add_argument("--keep", action="store_true", help="keep the archives after unpacking")
    options = parser.parse_args(arguments)
    try:
        print(f"{download(options.dataset, options.root, keep=options.keep, source=options.source)}: complete")
    except (DownloadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0
