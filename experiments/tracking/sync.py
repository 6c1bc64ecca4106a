"""Uploads the offline W&B runs below results/: `python -m experiments sync`, or `make sync`.

First sets damaged runs aside (`experiments.tracking.damaged`) and writes those of finished stages that have none
(`experiments.tracking.track`), then uploads every run that is not yet there and adds the lineage that offline runs only
name: dataset, checkpoint, evaluation, report. What is done is marked beside each run (`*.wandb.synced`,
`lineage.json`): a second call uploads nothing, one after a broken upload goes on. Results that were copied here from
another machine are uploaded alike.
"""

import argparse
import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.tracking import runs as tracking
from experiments.tracking import server
from experiments.tracking.damaged import is_being_written, is_rewritten, set_aside_damaged
from experiments.tracking.offline import damage, is_uploaded, offline_runs, read_run, relocate, sound_runs
from experiments.tracking.track import track_all
from suite.files import write_json

LINEAGE = "lineage.json"
CURVES = ("train", "sweep")
API_SECONDS, INIT_SECONDS = 30, 60


class SyncError(RuntimeError):
    """Runs that are not uploaded; the message says why and what to do."""


def upload(runs: Sequence[Path], project: str, entity: str | None, seconds: float | None) -> list[Path]:
    """Uploads the runs that are not yet.

    Returns:
        Those that were.

    Raises:
        SyncError: some were not.
    """
    waiting = [run for run in runs if not is_uploaded(run)]
    if not waiting:
        return []
    for run in waiting:
        if lacking := damage(run):
            raise SyncError(f"{run}: {lacking}; `make sync` sets it aside and writes it again")
    for run in waiting:
        relocate(run)
    # `wandb sync` appends to a run that the server has; a curve that was streamed, or sent in part, is resumed instead
    curves = [run for run in waiting if read_run(run)["job_type"] in CURVES]
    others = [run for run in waiting if run not in curves]
    reason = "no reason given"
    if others:
        # a command and no function; it puts a marker beside every run that arrived
        command = [sys.executable, "-m", "wandb", "sync", "--project", project]
        command += [*(["--entity", entity] if entity else []), *map(str, others)]
        try:
            done = subprocess.run(
                command,
                env=_environment(others[0]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
            reason = ((done.stdout + done.stderr).strip().splitlines() or [reason])[-1]
        except subprocess.TimeoutExpired:
            reason = f"no answer within {seconds:g} s"
    for run in curves:
        try:
            _resume(run, project, entity, seconds)
        except Exception as error:  # of many kinds: W&B's own, of the network
            atexit.register(_exit_at_once)
            reason = f"{type(error).__name__}: {error}"
            break
    left = [run for run in waiting if not is_uploaded(run)]
    if left:
        raise SyncError(f"{len(left)} of {len(waiting)} runs are not uploaded, {left[0].name} the first: {reason}")
    for wandb in {run.parent for run in waiting}:
        server.forget(wandb)
    return waiting


def _environment(run: Path) -> dict[str, str]:
    """For W&B's command: an explicit call uploads whatever the mode; its own logs go beside the runs."""
    return tracking.environment("WANDB_MODE") | {
        "WANDB_DIR": str(run.parent / ".cache"),
        "WANDB_CACHE_DIR": str(run.parent / ".cache"),
    }


def _resume(folder: Path, project: str, entity: str | None, seconds: float | None) -> None:
    """Uploads what the server does not have of a run whose history is numbers, and marks it as uploaded."""
    import wandb

    record = read_run(folder)
    kept = ("id", "name", "group", "job_type", "tags")
    config = {key: value for key, value in record["config"].items() if key != "_wandb"}
    limits = {"init_timeout": seconds or INIT_SECONDS, "finish_timeout": seconds or 0, "finish_timeout_raises": True}
    with tempfile.TemporaryDirectory() as scratch:
        run = wandb.init(
            **{key: record[key] for key in kept},
            project=project,
            entity=entity,
            config=config,
            dir=scratch,
            mode="online",
            resume="allow",
            reinit="finish_previous",
            settings=tracking.wandb_settings(**limits),
        )
        for name, metric in record["metrics"].items():
            summary = "max" if metric["max"] else None
            run.define_metric(name, step_metric=metric["step_metric"] or None, summary=summary)
        logged: set[str] = set()
        for row in record["history"]:
            values = {key: value for key, value in row.items() if not key.startswith("_")}
            logged |= set(values)
            if row["_step"] >= run.starting_step:
                run.log(values, step=row["_step"])
        run.summary.update({k: v for k, v in record["summary"].items() if k not in logged and not k.startswith("_")})
        for entry in record["artifacts"]:
            artifact = wandb.Artifact(entry["name"], entry["type"], metadata=entry["metadata"])
            for inside, path in entry["files"].items():
                artifact.add_file(path, name=inside, policy="immutable")
            run.log_artifact(artifact, aliases=entry["aliases"])
        run.finish()
    (log,) = folder.glob("*.wandb")
    log.with_name(f"{log.name}.synced").touch()


def _exit_at_once() -> None:
    """Of a process that failed: W&B would wait at its exit for a server that does not answer."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def add_lineage(runs: Sequence[Path], api: Any, path: str) -> int:
    """Adds the edges that the runs' `uses` name; a run whose inputs are not all uploaded yet waits for the next call.

    Args:
        runs: uploaded runs.
        api: `wandb.Api()`.
        path: `entity/project`.

    Returns:
        Number of edges added.
    """
    added = 0
    for run in runs:
        if (run / LINEAGE).is_file():
            continue
        record = read_run(run)
        uses = record["config"].get("uses", [])
        try:
            artifacts = [api.artifact(f"{path}/{reference}") for reference in uses]
            for artifact in artifacts:
                api.run(f"{path}/{record['id']}").use_artifact(artifact)
        except Exception as error:  # of many kinds: W&B's own, those of its parsers, of the network
            reason = (str(error).strip().splitlines() or [""])[0]
            print(f"{record['name']}: no lineage yet ({type(error).__name__}: {reason})", file=sys.stderr)
            continue
        write_json(run / LINEAGE, {"uses": uses})
        added += len(artifacts)
    return added


def mark_best(runs: Sequence[Path], api: Any, path: str) -> None:
    """Gives the alias `best` to the version of each checkpoint with the highest validation AP."""
    names = {a["name"] for run in runs for a in read_run(run)["artifacts"] if a["type"] == "checkpoint"}
    for name in sorted(names):
        try:
            versions = list(api.artifacts("checkpoint", f"{path}/{name}"))
            best = max(versions, key=lambda version: version.metadata.get("val/AP", -1.0))
            if "best" not in best.aliases:
                best.aliases.append("best")
                best.save()
        except Exception as error:  # as above
            reason = (str(error).strip().splitlines() or [""])[0]
            print(f"{name}: which version is best is not marked ({type(error).__name__}: {reason})", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments sync", description="Upload the offline W&B runs.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="every suite's (default: %(default)s)")
    parser.add_argument("--run", type=Path, help="upload this run's folder only")
    parser.add_argument("--list", action="store_true", help="list the offline runs, upload nothing")
    parser.add_argument("--project", default=tracking.PROJECT, help="W&B project (default: %(default)s)")
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"), help="W&B user or team (default: yours)")
    parser.add_argument("--timeout", type=float, help="seconds for the upload (default: none)")
    options = parser.parse_args(arguments)
    if not options.run and not options.results.is_dir():
        parser.error(f"--results {options.results}: no such folder; it holds every suite's results")
    if options.list:
        print(listing(sound_runs(options.results)))
        for line in damaged_lines(options.results):
            print(line)
        return 0
    try:
        if options.run:
            runs = [options.run]
        else:
            aside = [run for wandb in sorted(options.results.glob("*/wandb")) for run in set_aside_damaged(wandb)]
            if written := track_all(options.results):
                print(f"{written} runs written of stages that finished untracked")
            for run in aside:
                if not is_rewritten(run):
                    print(
                        f"{run}: no finished stage below {options.results} is this run's, so it is not written again "
                        "(`python -m sweeps.summary` writes those of a sweep's winner and default)"
                    )
            runs = sound_runs(options.results)
        _require_server(runs)
        sent = upload(runs, options.project, options.entity, options.timeout)
        edges = 0
        if any(not (run / LINEAGE).is_file() for run in runs):
            import wandb

            api = wandb.Api(timeout=API_SECONDS)
            path = f"{options.entity or api.default_entity}/{options.project}"
            edges = add_lineage(runs, api, path)
            mark_best(sent, api, path)
    except (SyncError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(sent)} runs uploaded, {len(runs) - len(sent)} were there, {edges} lineage edges added")
    return 0


def _require_server(runs: Sequence[Path]) -> None:
    """Asks W&B's server whether it answers, if there is anything to send to it. Raises `SyncError`."""
    waiting = [run for run in runs if not (is_uploaded(run) and (run / LINEAGE).is_file())]
    if waiting and (reason := server.probe()):
        raise SyncError(
            f"{reason}. {len(waiting)} of {len(runs)} runs wait for their upload; nothing is lost: call it again when "
            "the server answers (WANDB_BASE_URL names another one)"
        )


def damaged_lines(results: Path) -> list[str]:
    """What there is to say of each run that cannot be uploaded."""
    lines = []
    for run in offline_runs(results):
        if not is_uploaded(run) and (lacking := damage(run)):
            remedy = "is being written" if is_being_written(run) else "`make sync` sets it aside and writes it again"
            lines.append(f"{run}: {lacking}; {remedy}")
    return lines


def listing(runs: Sequence[Path]) -> str:
    """A table of runs as their files read: group, job type, name, steps, whether uploaded, folder."""
    rows = [("group", "job type", "name", "steps", "last step", "uploaded", "folder")]
    for folder in runs:
        run = read_run(folder)
        last = str(run["history"][-1]["_step"]) if run["history"] else "-"
        uploaded = "yes" if is_uploaded(folder) else "no"
        rows.append((run["group"], run["job_type"], run["name"], str(len(run["history"])), last, uploaded, str(folder)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
