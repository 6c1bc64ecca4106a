"""Replaces copies of the authors' module in a checkout by this project's op: ``python -m iounet.ops.compat PATH``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FILES = ("__init__.py", "functional.py", "prroi_pool.py")  # what is imported of a copy
BACKUP = ".vendored"  # added to the name of a file that is kept
REPOSITORY = "PreciseRoIPooling"  # its folder, where it is a git submodule; empty before it is fetched
MARK = "written by `python -m iounet.ops.compat`"
SHIM = f'''"""Precise RoI Pooling of the package iounet ({MARK}).

It takes the place of the authors' files, which are kept beside it as *{BACKUP}.
"""

try:
    from iounet.ops.compat import PrRoIPool2D, PrRoIPool2DFunction, prroi_pool2d
except ImportError as error:
    raise ImportError("this file needs the package iounet, installed for this Python") from error

__all__ = ["PrRoIPool2D", "PrRoIPool2DFunction", "prroi_pool2d"]
'''


def copies(root: Path) -> Iterator[Path]:
    """The folders below a checkout that hold a copy, replaced or not, or that an empty submodule would have it in."""
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(parent)
        if "functional.py" in files and _defines(folder / "functional.py", "prroi_pool2d"):
            yield folder
        elif folder.name == REPOSITORY and not folders and set(files) <= {".git"}:
            yield folder / "pytorch/prroi_pool"


def _defines(path: Path, name: str) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return MARK in text or re.search(rf"^(def {name}\b|{name}\s*=)", text, re.MULTILINE) is not None


def is_shim(path: Path) -> bool:
    """Whether a file is one of those written here."""
    return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")


def replace(folder: Path) -> list[Path]:
    """Writes the shims of a copy, and keeps what was there; returns what was written. A second time it does nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for path in (folder / name for name in FILES):
        if is_shim(path):
            continue
        if path.is_file():
            path.replace(path.with_name(path.name + BACKUP))
        part = path.with_name(f"{path.name}.part")
        part.write_text(SHIM, encoding="utf-8")
        part.replace(path)
        written.append(path)
    return written


def restore(folder: Path) -> list[Path]:
    """Takes `replace` back; returns what changed."""
    changed = []
    for path in (folder / name for name in FILES):
        backup = path.with_name(path.name + BACKUP)
        if backup.is_file():
            backup.replace(path)
        elif is_shim(path):
            path.unlink()
        else:
            continue
        changed.append(path)
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m iounet.ops.compat",
        description="Replace the copies of PreciseRoIPooling's PyTorch module in a checkout by iounet's op.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="the checkout")
    parser.add_argument("--dry-run", action="store_true", help="say what would be replaced")
    parser.add_argument("--restore", action="store_true", help="bring the replaced files back")
    options = parser.parse_args(arguments)
    if not options.path.is_dir():
        print(f"error: {options.path} is no folder", file=sys.stderr)
        return 1
    found = list(copies(options.path))
    if not found:
        print(
            f"error: no copy below {options.path}: neither a functional.py that defines prroi_pool2d, nor an empty "
            f"folder {REPOSITORY}",
            file=sys.stderr,
        )
        return 1
    for folder in found:
        if options.dry_run:
            state = "is replaced" if is_shim(folder / "functional.py") else "would be replaced"
            print(f"{folder}: {state}")
        elif options.restore:
            changed = restore(folder)
            print(f"{folder}: {'as it was' if changed else 'is no replacement'}")
        else:
            kept = ", ".join(path.name for path in replace(folder) if path.with_name(path.name + BACKUP).is_file())
            print(f"{folder}: replaced" + (f"; kept as *{BACKUP}: {kept}" if kept else ""))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
