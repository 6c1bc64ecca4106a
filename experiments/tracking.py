"""Weights & Biases runs, written after the fact from the files that are the source of truth.

A stage first writes its own files and is then logged as one run, so that a killed and resumed training is one curve,
and a tracker that is down, missing or misconfigured costs nothing but the run. Offline unless WANDB_MODE or a login
says otherwise.
"""

import netrc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.suite import results_dir

PROJECT = "iounet"


def log_training(
    suite: dict[str, Any],
    variant: str,
    seed: int,
    *,
    run: dict[str, Any],
    config: dict[str, Any],
    history: list[dict[str, float]],
) -> str | None:
    """Logs a finished training: config, provenance, every row of its history. Returns the run's id, if there is one."""
    settings = {"suite": suite, "variant": variant, "seed": seed, "mmdet": config, "provenance": run}
    run_id = None
    with _run(suite, variant, f"{suite['suite']}__{variant}__s{seed}", "train", settings) as tracked:
        if tracked is not None:
            tracked.define_metric("val/*", summary="max")
            for row in history:
                tracked.log({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
            tracked.summary["wall_time_s"] = run["wall_time_s"]
            run_id = tracked.id
    return run_id


def log_evaluation(
    suite: dict[str, Any],
    variant: str,
    seed: int,
    split: str,
    *,
    results: dict[str, dict[str, Any]],
    provenance: dict[str, Any],
) -> str | None:
    """Logs an evaluation: one table row per inference setting. Returns the run's id, None without one."""
    config = {"suite": suite["suite"], "variant": variant, "seed": seed, "split": split, "provenance": provenance}
    run_id = None
    with _run(suite, variant, f"{suite['suite']}__{variant}__s{seed}__{split}", "eval", config) as tracked:
        if tracked is not None:
            import wandb

            names = list(next(iter(results.values()))["metrics"])
            rows: list[Any] = [[setting, *(r["metrics"][n] for n in names)] for setting, r in results.items()]
            tracked.log({"average_precision": wandb.Table(columns=["setting", *names], data=rows)})
            for setting, result in results.items():
                tracked.summary.update({f"{setting}/{n}": v for n, v in result["metrics"].items() if v is not None})
            run_id = tracked.id
    return run_id


def log_trial(suite: dict[str, Any], trial: dict[str, Any], curve: dict[int, float]) -> None:
    """Logs a trial of a sweep: `study`, `number`, `params` and results, and validation AP by epoch."""
    study = trial["study"]
    config = {"suite": suite["suite"], "study": study, "trial": trial["number"], **trial["params"]}
    with _run(suite, study, f"{study}__t{trial['number']}", "sweep", config) as tracked:
        if tracked is not None:
            tracked.define_metric("val/AP", summary="max")
            for epoch, ap in sorted(curve.items()):
                tracked.log({"epoch": epoch, "val/AP": ap}, step=epoch)
            tracked.summary.update({key: value for key, value in trial.items() if value is not None})


@contextmanager
def _run(suite: dict[str, Any], group: str, name: str, job_type: str, config: dict[str, Any]) -> Iterator[Any]:
    """A W&B run, or None; no failure of the tracker leaves this block."""
    folder = results_dir(suite).resolve()
    for variable, below in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ.setdefault(variable, str(folder / "wandb" / f".{below}"))
    tracked = None
    try:
        import wandb

        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        tracked = wandb.init(
            project=PROJECT,
            name=name,
            group=group,
            job_type=job_type,
            config=config,
            tags=[suite["suite"], job_type],
            dir=os.environ.get("WANDB_DIR", str(folder)),
            mode=_mode(),
            reinit="finish_previous",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, init_timeout=60),
        )
    except Exception as error:
        _tell(error)
    try:
        yield tracked
    except Exception as error:
        if tracked is None:
            raise
        _tell(error)
    finally:
        if tracked is not None:
            try:
                tracked.finish()
            except Exception as error:
                _tell(error)


def _mode() -> Any:
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return (
            "online"
            if netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser()).authenticators(host)
            else "offline"
        )
    except (OSError, netrc.NetrcParseError):
        return "offline"


def _tell(error: Exception) -> None:
    text = f"{type(error).__name__}: {error}".replace(os.environ.get("WANDB_API_KEY") or "\0", "***")
    print(f"Weights & Biases is not available, this stage goes untracked ({text})", file=sys.stderr)
