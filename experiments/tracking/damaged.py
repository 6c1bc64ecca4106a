"""Offline runs that a kill, a power cut or a full disk left damaged: set aside, never deleted, and written again.

A stage's run is made of the stage's files alone. So a run that was set aside is one that is still to be written, under
the same id, whatever the stage's W&B record says (`awaits_rewriting`), until it is (`mark_as_rewritten`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from experiments.tracking.offline import damage, is_uploaded
from experiments.tracking.telling import tell
from suite.files import folder_lock, unused

FOLDER, REWRITTEN = "damaged", "rewritten"  # below results/<suite>/wandb; in the folder of a run that was set aside


def writing(wandb: Path, run_id: str, *, wait: bool = True) -> AbstractContextManager[None]:
    """Held by who writes or moves a run, so that what is not yet whole is not taken for damaged.

    Raises:
        BlockingIOError: another process holds it and `wait` is False.
    """
    return folder_lock(wandb / ".locks" / run_id, wait)


def is_being_written(run: Path) -> bool:
    """Whether a process is at work on a run."""
    try:
        with writing(run.parent, _id(run), wait=False):
            return False
    except BlockingIOError:
        return True


def set_aside(run: Path, reason: str) -> Path:
    """Moves what is left of a run to the folder of damaged ones. Returns where it lies now."""
    place = unused(run.parent / FOLDER / run.name)
    place.parent.mkdir(exist_ok=True)
    run.rename(place)
    tell(f"the run {run.name} is set aside ({reason}): what is left of it lies in {place}")
    return place


def set_aside_damaged(wandb: Path) -> list[Path]:
    """Sets aside the damaged runs below a suite's folder of offline runs.

    Those that are uploaded stay, as do those that a process is writing. What cannot be moved is told and stays, too.

    Returns:
        Where they lie now.
    """
    moved = []
    for run in sorted(wandb.glob("offline-run-*")):
        if is_uploaded(run) or damage(run) is None:
            continue
        try:
            with writing(wandb, _id(run), wait=False):
                if reason := damage(run):
                    moved.append(set_aside(run, reason))
        except BlockingIOError:
            continue
        except OSError as error:
            tell(f"{run} is damaged and cannot be moved ({error.strerror or error}): passed over")
    return moved


def is_rewritten(run: Path) -> bool:
    """Whether a run that was set aside is there again, whole."""
    return (run / REWRITTEN).exists()


def awaits_rewriting(wandb: Path, run_id: str) -> bool:
    """Whether a run was set aside, and is not yet written again."""
    return not all(map(is_rewritten, _set_aside(wandb, run_id)))


def mark_as_rewritten(wandb: Path, run_id: str) -> None:
    """Says of what was set aside of a run that it is there again, whole."""
    for run in _set_aside(wandb, run_id):
        (run / REWRITTEN).touch()


def _set_aside(wandb: Path, run_id: str) -> list[Path]:
    """What was set aside of a run; a second one of the same name has a number behind it."""
    return [run for run in (wandb / FOLDER).glob(f"offline-run-*-{run_id}*") if _id(run) == run_id]


def _id(run: Path) -> str:
    """The id in `offline-run-<date>_<time>-<id>`."""
    return (run.name.split("-", 3) + [""] * 3)[3].split("-")[0]
