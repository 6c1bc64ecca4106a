"""Outputs that outlive Snakemake's deletions.

Snakemake deletes the declared outputs of a job that it did not see end, before it runs the job again. So a stage whose
work is worth it writes them into an undeclared folder (`kept`, in `suite.layout`), and publishes them from there. Run
again, it finds them there, sees that they are what it would make, and publishes them again.
"""

import os
import shutil
from pathlib import Path

from suite.files import atomic
from suite.layout import kept


def publish(*outputs: Path) -> None:
    """Links outputs that are kept to where they are declared, in this order; as new as if they had just been made.

    What is there already stays as it is.
    """
    for output in outputs:
        if output.exists() and output.samefile(kept(output)):
            continue
        os.utime(kept(output))
        with atomic(output) as part:
            try:
                os.link(kept(output), part)
            except OSError:  # a file system without links
                shutil.copyfile(kept(output), part)


def forget(*outputs: Path) -> None:
    """Deletes outputs where they are declared and where they are kept, before others take their place."""
    for output in outputs:
        output.unlink(missing_ok=True)
        kept(output).unlink(missing_ok=True)
