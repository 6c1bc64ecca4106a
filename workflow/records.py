"""Snakemake's records of what each result was made with, kept with the results and not in the working directory.

Snakemake makes a result anew when the parameters or the set of inputs of its rule are not those that it recorded. It
records them below the working directory, `.snakemake/`: results that are copied elsewhere, or reached from another
working directory, would have no records, and a changed suite would go unnoticed.
"""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import snakemake.workflow
from snakemake.persistence.file import FilePersistence

KINDS = ("metadata", "incomplete")  # folders of records: of finished files, and of those that are being made


def keep_records_in(folder: Path, root: Path) -> None:
    """Has Snakemake keep its records in a folder; to be called while it reads the Snakefile.

    Args:
        folder: of the records. It is made with the first record.
        root: of the results. What the working directory has on files below it is taken over, if the folder is new.
    """

    class Records(FilePersistence):
        _metadata_path: str
        _incomplete_path: str

        def __init__(self, *args: Any, path: Path | None = None, **kwargs: Any) -> None:
            super().__init__(*args, path=path, **kwargs)
            if path is not None:  # a cluster's job without a common file system is told where
                return
            self._fetch_max_len(self.path)  # of names; Snakemake would ask a folder that may not be there yet
            own = [Path(self._metadata_path), Path(self._incomplete_path)]
            if not folder.exists():
                _take_over(own, folder, root)
            self._metadata_path, self._incomplete_path = (str(folder / kind) for kind in KINDS)

    snakemake.workflow.FilePersistence = Records


def _take_over(sources: list[Path], folder: Path, root: Path) -> None:
    """Copies the records on files below `root`. A record's path is the name of its file in base 64, cut into pieces."""
    for source, kind in zip(sources, KINDS, strict=True):
        for record in filter(Path.is_file, source.rglob("*")):
            below = record.relative_to(source)
            file = base64.urlsafe_b64decode("".join(part.removeprefix("@") for part in below.parts)).decode()
            if Path(file).is_relative_to(root):
                (folder / kind / below).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(record, folder / kind / below)
