"""Unpacks zip archives; a folder takes its name only when it is complete."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from experiments.data.download.transfer import DownloadError


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
        raise DownloadError(f"{archive}: damaged archive ({error}): move it away and run again") from None
