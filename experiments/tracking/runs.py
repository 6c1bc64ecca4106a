"""How a finished stage becomes one Weights & Biases run, whatever is killed on the way.

The run is written offline below results/<suite>/wandb: no server is waited for. Online (WANDB_MODE=online, a key, or a
login) it is then uploaded, within a bounded time; `python -m experiments sync` does later what was not done. An offline
run cannot use artifacts: its inputs stand in its config as `uses` and become lineage with the upload.
"""

from __future__ import annotations

import functools
import json
import netrc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

from experiments.tracking import damaged, server
from experiments.tracking.offline import damage, is_uploaded, is_whole, named_runs, read_run, wait_until_whole
from experiments.tracking.telling import tell
from suite import provenance, records
from suite.files import folder_lock
from suite.suite import Suite

PROJECT = "iounet"
WRITE_SECONDS, UPLOAD_SECONDS = 60, 120

Json = Mapping[str, Any]
P = ParamSpec("P")


@dataclass(frozen=True)
class Contents:
    """What a run holds.

    Attributes:
        group, job_type, tags, config: as W&B has them.
        fill: logs everything else; called with the open run.
    """

    group: str
    job_type: str
    config: Json
    fill: Callable[[Any], None]
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Stage:
    """A finished stage, as its files say.

    Attributes:
        name: of its run.
        record: its W&B record.
        result: contents of its result file.
        identity: what tells these results from others; see `suite.records`.
        contents: reads the rest of the files; called with the run's id.
    """

    name: str
    record: Path
    result: Json
    identity: Json
    contents: Callable[[str], Contents]

    @property
    def run_id(self) -> str | None:
        """The id of the run that these results are logged as; None if they are not."""
        return records.run_id(self.record, {**self.result, **self.identity})


def mode() -> str:
    """'online', 'offline' or 'disabled': what WANDB_MODE says; without it, online if there is a key or a login."""
    if wanted := os.environ.get("WANDB_MODE"):
        return {"online": "online", "run": "online", "shared": "online", "disabled": "disabled"}.get(wanted, "offline")
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        logins = netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser())
        return "online" if logins.authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


def tracks(log: Callable[P, str | None]) -> Callable[P, str | None]:
    """Makes a function that logs do nothing where W&B is disabled, and lets no failure of W&B out of it."""

    @functools.wraps(log)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> str | None:
        if mode() == "disabled":
            return None
        try:
            return log(*args, **kwargs)
        except Exception as error:
            tell(f"this stage goes untracked ({type(error).__name__}: {error}); `make sync` writes its run later")
            return None

    return wrapper


def log(suite: Suite, stage: Stage, *, is_uploaded: bool = True) -> str:
    """Makes sure that a stage is logged as exactly one run, uploaded at once if W&B is online.

    Args:
        suite: whose stage it is.
        stage: what is logged.
        is_uploaded: False leaves an online run to `python -m experiments sync`.

    Returns:
        The run's id.
    """
    wandb = suite.layout.wandb
    with folder_lock(wandb / ".locks" / stage.name):
        if known := logged_as(suite, stage):
            return known
        before = records.read_record(stage.record)
        claimed = records.claim(stage.record, stage.identity)
        if before is not None and not before.is_logged and before.run_id != claimed.run_id:
            for torn in _left_behind(suite, before.run_id):
                if not is_whole(torn):
                    damaged.set_aside(torn, "torn, and its stage has other results now")
        with damaged.writing(wandb, claimed.run_id):
            folder = _whole_run(suite, claimed.run_id) if claimed == before else None
            if folder is None:
                for torn in _left_behind(suite, claimed.run_id):
                    damaged.set_aside(torn, damage(torn) or "it is not known to hold these results")
                folder = _write(suite, stage, claimed.run_id)
            records.mark_as_logged(stage.record)
            damaged.mark_as_rewritten(wandb, claimed.run_id)
    if mode() == "online" and is_uploaded:
        _upload(folder)
    return claimed.run_id


def logged_as(suite: Suite, stage: Stage) -> str | None:
    """The id of the run that a stage is logged as; None if it is not, or if that run was damaged and set aside."""
    known = stage.run_id
    return None if known is None or damaged.awaits_rewriting(suite.layout.wandb, known) else known


def run_of_first_release(suite: Suite, name: str, record: Path, **config: Any) -> str | None:
    """The id of the run that a stage was logged as when there were no records, and its files named no run.

    Args:
        suite: whose stage it is.
        name: of the run.
        record: the stage's W&B record; once it is there, it alone says what is logged.
        config: keys of the run's config that tell these results from others of this name.
    """
    runs = [] if record.is_file() else map(read_run, named_runs(suite.layout.wandb, name))
    same = (run["id"] for run in runs if {key: run["config"].get(key) for key in config} == config)
    return next(same, None)


def run_settings(suite: Suite, name: str, run_id: str, contents: Contents) -> dict[str, Any]:
    """Keywords of `wandb.init`, all but mode and settings; plain data. Points W&B's folders below the results."""
    folder = suite.layout.wandb.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for variable, below in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ[variable] = str(folder / f".{below}")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B's telemetry, for which an exit would wait 10 s
    commit = provenance.git_state()["git_commit"]
    family = contents.config["entry"]["family"] if "entry" in contents.config else None
    labels = [suite.name, family, commit and commit[:12], *contents.tags]
    return {
        "project": PROJECT,
        "id": run_id,
        "name": name,
        "group": contents.group,
        "job_type": contents.job_type,
        "tags": [label for label in labels if label],
        "config": dict(contents.config),
        "dir": str(folder.parent),
    }


def wandb_settings(**more: Any) -> Any:
    """Nothing of the machine, its packages or its shell; the run's config says what matters."""
    import wandb

    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        **more,
    )


def log_artifact(
    run: Any,
    suite: Suite,
    name: str,
    kind: str,
    aliases: Sequence[str],
    *,
    files: Sequence[Path],
    contents: Mapping[str, Any] | None = None,
    metadata: Json | None = None,
    base: Path | None = None,
) -> None:
    """Logs an artifact; its files are staged below the results by hard links, as a rerun replaces the originals.

    Args:
        run: of W&B.
        suite: whose results they are.
        name: of the artifact.
        kind: its type.
        aliases: of this version, beside `latest`.
        files: each gets its own name, or below `base` its path from there.
        contents: further files, name to what is written as JSON.
        metadata: of the artifact.
        base: folder of the files.
    """
    import wandb

    artifact = wandb.Artifact(name, kind, metadata=dict(metadata or {}))
    staging = suite.layout.wandb.resolve() / ".data" / "staged" / run.id
    staging.mkdir(parents=True, exist_ok=True)
    for file in files:
        inside = str(file.relative_to(base)) if base else file.name
        staged = staging / inside.replace("/", "-")
        staged.unlink(missing_ok=True)
        try:
            os.link(file, staged)
        except OSError:  # a file system without links
            shutil.copyfile(file, staged)
        artifact.add_file(str(staged), name=inside, policy="immutable")
    for inside, value in (contents or {}).items():
        (staging / inside).write_text(json.dumps(value), encoding="utf-8")
        artifact.add_file(str(staging / inside), name=inside, policy="immutable")
    run.log_artifact(artifact, aliases=["latest", *aliases])


def environment(*without: str) -> dict[str, str]:
    """For a process with a W&B service of its own: in this process's, a server that hangs would hold this one up."""
    return {key: value for key, value in os.environ.items() if key not in ("WANDB_SERVICE", *without)}


def _write(suite: Suite, stage: Stage, run_id: str) -> Path:
    """Writes an offline run, whole or not at all. Returns its folder."""
    contents = stage.contents(run_id)
    settings = run_settings(suite, stage.name, run_id, contents)
    import wandb

    run = wandb.init(**settings, mode="offline", reinit="finish_previous", settings=wandb_settings())
    folder = Path(run.dir).parent
    try:
        contents.fill(run)
        run.finish()
        wait_until_whole(folder, WRITE_SECONDS)  # offline, W&B goes on writing when `finish` has returned
    except BaseException:  # of a user, too
        run.finish()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _left_behind(suite: Suite, run_id: str) -> list[Path]:
    return sorted(suite.layout.wandb.glob(f"offline-run-*-{run_id}"))


def _whole_run(suite: Suite, run_id: str) -> Path | None:
    found = _left_behind(suite, run_id)
    return next((folder for folder in found if is_uploaded(folder) or damage(folder) is None), None)


def _upload(run: Path) -> None:
    """Uploads one run in a process of its own, which is ended when its time is up; not if the server is of no use."""
    if reason := server.unusable(run.parent):
        _tell_not_uploaded(reason)
        return
    command = [sys.executable, "-m", "experiments", "sync", "--run", str(run)]
    process = subprocess.Popen(
        command,
        cwd=provenance.ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=UPLOAD_SECONDS)
        reason = (output.strip().splitlines() or ["no reason given"])[-1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        reason = f"no answer within {UPLOAD_SECONDS} s"
    if process.returncode:
        server.remember(run.parent, reason)
        _tell_not_uploaded(reason)


def _tell_not_uploaded(reason: str) -> None:
    tell(f"this run is not uploaded ({reason}); nothing is lost, `make sync` does it later")
