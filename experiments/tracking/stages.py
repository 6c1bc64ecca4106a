"""Weights & Biases runs, written after the fact from the files that are the source of truth.

A stage first writes its own files and is then logged as one offline run below results/<suite>/wandb, so that a killed
and resumed training is one curve and no server is waited for. Online (WANDB_MODE=online, a key, or a login) the run is
then uploaded, within a bounded time; `experiments.tracking.sync` uploads what was not, and writes what could not be written. An
offline run cannot use artifacts: its inputs stand in its config as `uses` and become lineage with the upload.
"""

import json
import netrc
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.tracking import panels
from experiments.tracking.offline import wait_until_whole
from suite import provenance
from suite.files import read_json
from suite.suite import PRETRAINING, Suite

PROJECT = "iounet"
WRITE_SECONDS, UPLOAD_SECONDS = 60, 120
DIGEST = 16  # characters of a digest that serve as an artifact's alias
ORIGIN = ("checkpoint_sha256", "config_hash", "git_commit", "dataset_fingerprint")

Json = Mapping[str, Any]


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


def new_run_id() -> str:
    """An id that no other run has."""
    return secrets.token_hex(4)


def dataset_artifact(suite: Suite, fingerprint: str) -> str:
    """The reference, `name:alias`, of a data set."""
    return f"{suite.name}__data:{fingerprint[:DIGEST]}"


def checkpoint_artifact(suite: Suite, variant: str, seed: int, sha256: str) -> str:
    """The reference of a checkpoint."""
    return f"{suite.name}__{variant}__s{seed}:{sha256[:DIGEST]}"


def evaluation_artifact(suite: Suite, variant: str, seed: int, split: str, run_id: str) -> str:
    """The reference of what an evaluation found."""
    return f"{suite.name}__{variant}__s{seed}__{split}:{run_id}"


def log_dataset(suite: Suite, manifest: Path) -> str | None:
    """Logs a data set that was made; the artifact is its manifest, from which it can be made again."""
    contents = read_json(manifest)
    config = {"suite": suite.name, "dataset": suite.raw["dataset"], "dataset_fingerprint": contents["fingerprint"]}
    name, alias = dataset_artifact(suite, contents["fingerprint"]).split(":")

    def fill(run: Any) -> None:
        _log_artifact(run, suite, name, "dataset", [alias], files=[manifest], metadata=contents["splits"])

    return _log(suite, name, group="data", job_type="data", config=config, fill=fill)


def log_training(
    suite: Suite,
    variant: str,
    seed: int,
    *,
    run: Json,
    config: Json,
    history: Sequence[Mapping[str, float]],
    checkpoint: Path,
    run_id: str | None = None,
    upload: bool = True,
) -> str | None:
    """Logs a finished training: every row of its history, its checkpoint.

    Args:
        suite: a checked suite.
        variant: of the suite, or 'pretraining'.
        seed: of the training.
        run: the contents of run.json.
        config: the resolved mmdet config.
        history: the rows of metrics.jsonl.
        checkpoint: the final weights: one version of the artifact per run.
        run_id: of the run that was shown live; None for a new one.
        upload: False leaves an online run to `experiments.tracking.sync`.

    Returns:
        The run's id; None if nothing was logged.
    """
    kept = ("git_commit", "git_dirty", "versions", "hardware", "config_hash", "mapped", "uses")
    settings = {key: run.get(key) for key in kept} | run["inputs"]
    validation = [row for row in history if any(key.startswith("val/") for key in row)]
    metadata = {key: run[key] for key in ("config_hash", "epochs", "iterations")}
    metadata |= {key: value for key, value in (validation[-1] if validation else {}).items() if key.startswith("val/")}
    name, alias = checkpoint_artifact(suite, variant, seed, run["checkpoint"]["sha256"]).split(":")

    def fill(tracked: Any) -> None:
        log_rows(tracked, history)
        tracked.summary["wall_time_s"] = run["wall_time_s"]
        _log_artifact(tracked, suite, name, "checkpoint", ["best", alias], files=[checkpoint], metadata=metadata)

    return _log(
        suite,
        name,
        group=variant,
        job_type="train",
        config=training_config(suite, variant, seed, config) | settings,
        fill=fill,
        run_id=run_id,
        is_uploaded=upload,
    )


def live_run(suite: Suite, variant: str, seed: int, config: Json, run_id: str) -> dict[str, Any]:
    """What `experiments.tracking.live.Live` needs to show a training as the run that `log_training` will log."""
    name = checkpoint_artifact(suite, variant, seed, "").rstrip(":")
    settings = training_config(suite, variant, seed, config)
    return {"suite": suite, "name": name, "group": variant, "job_type": "train", "config": settings, "run_id": run_id}


def training_config(suite: Suite, variant: str, seed: int, config: Json) -> dict[str, Any]:
    """What the config of a run says of its variant; the folder of the results, a machine's own affair, is left out."""
    settings = {key: value for key, value in suite.raw.items() if key != "results"}
    entry = (
        {"family": "baseline", **suite.raw["pretraining"]} if variant == PRETRAINING else suite.raw["variants"][variant]
    )
    named = {"suite": suite.name, "variant": variant, "seed": seed, "entry": entry}
    return {**named, "suite_settings": settings, "mmdet": config}


def log_rows(run: Any, rows: Iterable[Mapping[str, float]], defined: set[str] | None = None) -> None:
    """Logs rows of metrics.jsonl at their own steps.

    Everything goes by iteration, which survives a resume; of a validation metric the largest value is its summary.

    Args:
        run: of W&B.
        rows: steps ascending.
        defined: metrics that earlier calls defined; this one adds its own. (Of two globs that match, W&B takes any.)
    """
    defined = set() if defined is None else defined
    for row in rows:
        values = {key: value for key, value in row.items() if key != "step"}
        for key in values.keys() - defined:
            run.define_metric(key, step_metric="iteration", summary="max" if key.startswith("val/") else None)
        defined.update(values)
        run.log({"iteration": row["step"], **values}, step=int(row["step"]))


def log_evaluation(
    suite: Suite,
    variant: str,
    seed: int,
    split: str,
    *,
    config: Json,
    origin: Json,
    machine: Json,
    results: Mapping[str, Json],
    diagnostics: Json | None,
    detections: Path,
    annotations: Path,
    images: Path,
    own: str,
    name: str | None = None,
    run_id: str | None = None,
    upload: bool = True,
) -> str | None:
    """Logs an evaluation: tables of AP, AP per class, curves, calibration, sample images, its files as an artifact.

    Args:
        suite: a checked suite.
        variant: of the suite.
        seed: of the checkpoint.
        split: that was evaluated.
        config: the resolved mmdet config.
        origin: what `ORIGIN` lists.
        machine: `versions` and `hardware`; empty where they are not known.
        results: setting's name to the contents of its JSON file.
        diagnostics: the contents of diagnostics.json; None for a detector without an IoU branch.
        detections: detections.json.gz.
        annotations: COCO annotations of the split.
        images: folder of its images.
        own: the setting of the config itself; the sample images show it beside `off`.
        name: what the files call the variant, if not by its own name: its checkpoint is no artifact.
        run_id: of the run; None for a new one.
        upload: False leaves an online run to `experiments.tracking.sync`.

    Returns:
        The run's id; None if nothing was logged.
    """
    run_id, group = run_id or new_run_id(), name or variant
    name, alias = evaluation_artifact(suite, group, seed, split, run_id).split(":")
    uses = [dataset_artifact(suite, origin["dataset_fingerprint"])]
    if group == variant:
        uses.insert(0, checkpoint_artifact(suite, variant, seed, origin["checkpoint_sha256"]))
    names = list(results)  # `off` is the first, where all settings were evaluated
    first, shown = results[names[0]], list(dict.fromkeys([names[0], own if own in results else names[-1]]))
    settings = {"split": split, "images": first["images"], "uses": uses, **origin, **machine}

    def fill(run: Any) -> None:
        import wandb

        charts: dict[str, Any] = {
            table: wandb.Table(["setting", *first[key]], [[name, *r[key].values()] for name, r in results.items()])
            for table, key in (("average_precision", "metrics"), ("average_precision_by_class", "per_class"))
        }
        charts |= {
            "ap_by_threshold": _lines(panels.threshold_curves(results), "AP by IoU threshold", "IoU threshold"),
        }
        if curves := panels.lambda_curves(results):
            charts["ap_by_lambda"] = _lines(curves, "AP by λ (0: no refinement)", "λ")
        if diagnostics is not None:
            points = panels.calibration_curve(diagnostics["confidence"])
            ends = [(0.5, 0.5), (1.0, 1.0)]
            title = "mean true IoU by predicted IoU, boxes with a true IoU of 0.5 or more"
            charts["calibration"] = _lines({"IoU-Net": points, "ideal": ends}, title, "predicted IoU")
        samples = panels.sample_images(
            read_json(annotations), images, read_json(detections), [results[setting]["setting"] for setting in shown]
        )
        charts["samples"] = _sample_table(samples, shown)
        run.log(charts)
        for setting, result in results.items():
            run.summary.update({f"{setting}/{key}": v for key, v in result["metrics"].items() if v is not None})
        contents: dict[str, Any] = {
            f"{setting}.json": {**result, "wandb_run_id": run.id} for setting, result in results.items()
        }
        if diagnostics is not None:
            contents["diagnostics.json"] = diagnostics
        files = [detections]
        _log_artifact(run, suite, name, "evaluation", [alias], files=files, contents=contents, metadata=origin)

    return _log(
        suite,
        name,
        group=group,
        job_type="eval",
        config=training_config(suite, variant, seed, config) | settings,
        fill=fill,
        run_id=run_id,
        is_uploaded=upload,
    )


def log_trial(suite: Suite, trial: Json, curve: Mapping[int, float]) -> str | None:
    """Logs a trial of a sweep.

    Args:
        suite: a checked suite.
        trial: `study`, `number`, `params` (what the importance panel reads) and `state` (complete, pruned or fail) go
            into the run's config; `value`, the objective, and whatever else was found become `trial/<key>`. What is
            None is left out.
        curve: validation AP, which pruning looks at, by epoch.

    Returns:
        The run's id; None if nothing was logged.
    """
    settings = {key: trial.get(key) for key in ("study", "params", "published", "state")}
    found = {key: value for key, value in trial.items() if key not in (*settings, "number") and value is not None}

    def fill(run: Any) -> None:
        for epoch, ap in sorted(curve.items()):
            run.log({"epoch": epoch, "trial/intermediate": ap}, step=epoch)
        run.summary.update({f"trial/{key}": value for key, value in found.items()})

    return _log(
        suite,
        f"{trial['study']}__t{trial['number']}",
        group=trial["study"],
        job_type="sweep",
        config={"suite": suite.name, "trial": trial["number"], **settings},
        fill=fill,
        tags=[trial["state"]],
    )


def log_speed(suite: Suite, result: Json) -> str | None:
    """Logs measurements of speed: the table `speed`, `speed/<row>_batch<n>/<measure>` for every number in it, and
    `speed/<row>/AP` of the row in reduced precision and of the one that it is compared with.

    Args:
        suite: a checked suite.
        result: what `experiments.speed.timing` writes to speed/<device>.json.

    Returns:
        The run's id; None if nothing was logged.
    """
    measures = ("latency_ms", "ratio", "ratio_without_pooling")
    rows = [
        {"row": key, "batch_size": block["batch_size"], "fps": row["fps"], **{m: row[m]["median"] for m in measures}}
        for block in result["blocks"]
        for key, row in block["rows"].items()
    ]

    def fill(run: Any) -> None:
        import wandb

        columns: list[Any] = list(rows[0])
        run.log({"speed": wandb.Table(columns, [list(row.values()) for row in rows])})
        for row in rows:
            place = f"speed/{row['row']}_batch{row['batch_size']}"
            run.summary.update({f"{place}/{measure}": row[measure] for measure in ("fps", *measures)})
        for key, metrics in (result["reduced_precision"] or {"metrics": {}})["metrics"].items():
            run.summary[f"speed/{key}/AP"] = metrics["AP"]

    uses = [dataset_artifact(suite, result["dataset_fingerprint"])]
    for variant, timed in result["checkpoints"].items():
        uses.append(checkpoint_artifact(suite, variant, result["seed"], timed["sha256"]))
    config = {key: value for key, value in result.items() if key not in ("blocks", "reduced_precision", "wandb_run_id")}
    name = f"{suite.name}__speed__{result['device']}"
    return _log(suite, name, group="speed", job_type="speed", config={**config, "uses": uses}, fill=fill)


def log_report(suite: Suite, report: Path, uses: Sequence[str]) -> str | None:
    """Logs a report's folder: tables/*.csv as tables, figures/*.png as images, both and README.md as an artifact."""

    def fill(run: Any) -> None:
        import pandas as pd
        import wandb

        tables, figures = sorted(report.glob("tables/*.csv")), sorted(report.glob("figures/*.png"))
        values: dict[str, Any] = {}
        for path in tables:
            frame = pd.read_csv(path)
            frame = frame.astype(object).where(frame.notna(), None)
            values[f"tables/{path.stem}"] = wandb.Table(dataframe=frame)
        values |= {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        run.log(values)
        files = [report / "README.md", *tables, *figures]
        _log_artifact(run, suite, name, "report", [], files=files, base=report)

    name = f"{suite.name}__report"
    config = {"suite": suite.name, "title": suite.title, "uses": list(uses), "versions": provenance.versions()}
    return _log(suite, name, group="report", job_type="report", config=config, fill=fill)


def _lines(curves: panels.Curves, title: str, x: str) -> Any:
    import wandb

    xs, ys = ([[point[axis] for point in points] for points in curves.values()] for axis in (0, 1))
    return wandb.plot.line_series(xs, ys, keys=list(curves), title=title, xname=x)


def _sample_table(samples: Sequence[Json], settings: Sequence[str]) -> Any:
    import wandb

    table = wandb.Table(["image", "ground truth", *settings])
    for sample in samples:
        shown = {"ground_truth": sample["ground_truth"], **sample["predictions"]}
        images = [
            wandb.Image(str(sample["path"]), boxes={kind: {"box_data": boxes, "class_labels": sample["labels"]}})
            for kind, boxes in shown.items()
        ]
        table.add_data(sample["id"], *images)
    return table


def _log_artifact(
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
    """Logs an artifact; its files are staged below the results by hard links, as a rerun replaces the originals."""
    import wandb

    artifact = wandb.Artifact(name, kind, metadata=dict(metadata or {}))
    staging = _folder(suite) / ".data" / "staged" / run.id
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
        (staging / inside).write_text(json.dumps(value))
        artifact.add_file(str(staging / inside), name=inside, policy="immutable")
    run.log_artifact(artifact, aliases=["latest", *aliases])


def _log(
    suite: Suite,
    name: str,
    *,
    group: str,
    job_type: str,
    config: Json,
    fill: Callable[[Any], None],
    tags: Sequence[str] = (),
    run_id: str | None = None,
    is_uploaded: bool = True,
) -> str | None:
    """Writes an offline run, whole or not at all, and uploads it if W&B is online; no failure of W&B leaves this."""
    if mode() == "disabled":
        return None
    root, run = None, None
    try:
        settings = run_settings(suite, name, group, job_type, config, run_id or new_run_id(), tags)
        import wandb

        run = wandb.init(**settings, mode="offline", reinit="finish_previous", settings=wandb_settings())
        root = Path(run.dir).parent
        fill(run)
        run.finish()
        wait_until_whole(root, WRITE_SECONDS)  # offline, W&B goes on writing when `finish` has returned
    except Exception as error:
        if run is not None and root is not None:
            run.finish()
            shutil.rmtree(root, ignore_errors=True)
        tell(f"this stage goes untracked ({type(error).__name__}: {error}); `make sync` writes its run later")
        return None
    if mode() == "online" and is_uploaded:
        _upload(root)
    return settings["id"]


def run_settings(
    suite: Suite, name: str, group: str, job_type: str, config: Json, run_id: str, tags: Sequence[str] = ()
) -> dict[str, Any]:
    """Keywords of `wandb.init`, all but mode and settings; plain data. Points W&B's folders below the results."""
    folder = _folder(suite)
    folder.mkdir(parents=True, exist_ok=True)
    for variable, below in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ[variable] = str(folder / f".{below}")
    commit = provenance.git_state()["git_commit"]
    family = config["entry"]["family"] if "entry" in config else None
    labels = [suite.name, family, commit and commit[:12], *tags]
    return {
        "project": PROJECT,
        "id": run_id,
        "name": name,
        "group": group,
        "job_type": job_type,
        "tags": [label for label in labels if label],
        "config": dict(config),
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


def _folder(suite: Suite) -> Path:
    return suite.layout.root.resolve() / "wandb"


def _upload(run: Path) -> None:
    """Uploads one run in a process of its own, which is ended when its time is up."""
    command = [sys.executable, "-m", "experiments.tracking.sync", "--run", str(run)]
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
        tell(f"this run is not uploaded ({reason}); nothing is lost, `make sync` does it later")


def environment(*without: str) -> dict[str, str]:
    """For a process with a W&B service of its own: in this process's, a server that hangs would hold this one up."""
    return {key: value for key, value in os.environ.items() if key not in ("WANDB_SERVICE", *without)}


def tell(text: str) -> None:
    """Says on stderr, without the key, what W&B did not do."""
    print(
        "Weights & Biases: " + text.replace(os.environ.get("WANDB_API_KEY") or "\0", "***"), file=sys.stderr, flush=True
    )
