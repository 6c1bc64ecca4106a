"""Results of a sweep, for people and for the report: `python -m sweeps.summary --suite S`.

Writes below results/<suite>/sweep/: trials.csv, curves.csv (validation AP by epoch), profiles.csv (AP by inference
setting), importance.json, best.json; the winner as a standalone config (best.py) and as a variant for a suite
(best_variant.py, best.yaml); the winner's and the default's evaluation on the report split (val/); and last of all
sweep.json: when it is there, the rest is whole.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from experiments.config import default_setting, resolve_config
from experiments.evaluation.evaluate import evaluate
from suite import provenance
from suite.errors import SuiteError
from suite.files import atomic, write_json
from suite.settings import Setting
from suite.suite import ROOT, load_suite
from sweeps import study as studies
from sweeps.objective import data_dir, train_trial
from sweeps.space import Step, Sweep
from sweeps.worker import identity_of

INFERENCE = "model.test_cfg.rcnn.iou"
PARAMETERS = ("loss_weight", "sampling", "per_img", "per_iou")
QUANTILE, FEWEST = 0.25, 10  # PED-ANOVA asks what the best of the trials have in common


def summarise(sweep: Sweep, threads: int = 1) -> dict[str, Any]:
    """Writes the files of the module's docstring. Returns what sweep.json says.

    Raises:
        SuiteError: the study has no complete trial.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = identity_of(sweep)
    with studies.exclusive(sweep):
        study = studies.open_study(sweep, studies.open_storage(sweep), identity)
        studies.fail_dead(sweep, study)
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise SuiteError(f"study '{sweep.study}' has no complete trial: run sweeps.worker first (snakemake sweep)")
    winner = max(complete, key=lambda trial: (trial.value, -trial.number))
    step = step_of(sweep, winner)
    (sweep.folder / "sweep.json").unlink(missing_ok=True)

    write_csv(sweep.folder / "trials.csv", [trial_row(sweep, trial) for trial in trials])
    write_csv(sweep.folder / "curves.csv", _curves(trials))
    profiles = _profiles(sweep, complete)
    write_csv(sweep.folder / "profiles.csv", profiles)
    write_json(sweep.folder / "importance.json", {**importance(study), "variance": variance_shares(profiles)})
    best = _best(sweep, complete, winner, step)
    write_json(sweep.folder / "best.json", best)
    write_configs(sweep, winner.params, step)

    default = sweep.points[sweep.base]
    settings = list(dict.fromkeys([step.setting, default_of(sweep)]))
    for name, params in (("winner", winner.params), ("default", default)):
        _evaluate(sweep, name, params, settings, threads)
    options = sweep.options
    summary = {
        "suite": sweep.suite.name,
        "study": sweep.study,
        "base": sweep.base,
        **{key: options[key] for key in ("space", "guides", "step_sizes", "epochs", "seed", "split", "workers")},
        "report_split": sweep.suite.report_split,
        "budget": options["trials"],
        "states": {
            state.name.lower(): studies.count(study, state) for state in TrialState if studies.count(study, state)
        },
        "full_epochs": resolve_config(sweep.suite, sweep.base).runner.max_epochs,
        "sampler": {"name": "TPESampler", **options["sampler"]},
        "pruner": {"name": "MedianPruner", **options["pruner"]},
        "seconds": round(sum(trial.user_attrs.get("seconds", 0.0) for trial in trials), 1),
        "settings": {"winner": step.setting.name, "default": default_of(sweep).name},
        "dataset_fingerprint": identity["dataset_fingerprint"],
        **provenance.git_state(),
        "versions": provenance.versions(),
    }
    write_json(sweep.folder / "sweep.json", summary)
    return summary


def step_of(sweep: Sweep, trial: FrozenTrial) -> Step:
    """The inference setting that a complete trial is best in."""
    best = (trial.user_attrs["guide"], trial.user_attrs["step_size"])
    return next(step for step in sweep.grid if (step.setting.guide, step.published) == best)


def default_of(sweep: Sweep) -> Setting:
    """The base's own inference setting, with the suite's number of steps, as `experiments.evaluation.evaluate` runs it."""
    own = default_setting(sweep.config({}))
    return own if own.step_size is None else dataclasses.replace(own, num_steps=sweep.suite.inference.num_steps)


def trial_row(sweep: Sweep, trial: FrozenTrial) -> dict[str, Any]:
    """A trial's row of trials.csv; a parameter's `actual` value is what `scale` makes of it."""
    row: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "published": trial.user_attrs.get("published"),
        "retry_of": studies.retry_of(trial),
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        **{key: trial.params.get(key) for key in PARAMETERS},
        **dict.fromkeys(("actual_loss_weight", "actual_rois")),
    }
    if trial.params:
        actual = actual_of(sweep, trial.params)
        row["actual_loss_weight"], row["actual_rois"] = (
            actual["loss_weight"],
            actual.get("per_iou", actual.get("per_img")),
        )
    attributes = {
        key: trial.user_attrs.get(key) for key in ("guide", "step_size", "seconds", "worker", "host", "folder")
    }
    return {**row, **attributes, "epochs": max(trial.intermediate_values, default=0)}


def actual_of(sweep: Sweep, params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as they are used, base values included."""
    mapped = {key: value["actual"] for key, value in sweep.config(params).mapped.items()}
    names = {"loss_weight": "loss_weight", "sample_num": "per_img", "per_iou": "per_iou"}
    return {shown: mapped[key] for key, shown in names.items() if key in mapped}


def _curves(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [
        {"number": trial.number, "epoch": epoch, "AP": ap}
        for trial in trials
        for epoch, ap in sorted(trial.intermediate_values.items())
    ]


def _profiles(sweep: Sweep, complete: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [
        {
            "number": trial.number,
            "guide": step.setting.guide,
            "step_size": step.published,
            "actual_step_size": step.setting.step_size or 0.0,
            "AP": trial.user_attrs["profile"][step.setting.name],
        }
        for trial in complete
        for step in sweep.grid
    ]


def importance(study: optuna.Study) -> dict[str, Any]:
    """Importance of the training parameters by PED-ANOVA, as shares; None where there are too few trials to tell."""
    with warnings.catch_warnings(action="ignore"):  # few trials: the number of them is reported
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUANTILE)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    trials = studies.count(study, TrialState.COMPLETE)
    known = trials >= FEWEST and all(np.isfinite(value) for value in shares.values()) and any(shares.values())
    return {
        "method": f"PED-ANOVA, best {100 * QUANTILE:g} % of at least {FEWEST} trials",
        "trials": trials,
        "parameters": dict(shares) if known else None,
    }


def variance_shares(profiles: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Shares of the variance of AP over trial x guide x step size: main effects, and what is left to interactions.

    The grid is complete and each cell has one value, so the sums of squares are exact. None if AP does not vary.
    """
    axes = ("number", "guide", "step_size")
    values = {axis: list(dict.fromkeys(row[axis] for row in profiles)) for axis in axes}
    table = np.full([len(values[axis]) for axis in axes], np.nan)
    for row in profiles:
        table[tuple(values[axis].index(row[axis]) for axis in axes)] = row["AP"]
    deviation = table - table.mean()
    total = float((deviation**2).sum())
    if total == 0:
        return None
    shares = {}
    for position, name in enumerate(("training", "guide", "step_size")):
        effect = deviation.mean(axis=tuple(other for other in range(3) if other != position))
        shares[name] = float((effect**2).sum()) * deviation.size / len(effect) / total
    return {**shares, "interactions": max(0.0, 1 - sum(shares.values()))}


def _best(sweep: Sweep, complete: Sequence[FrozenTrial], winner: FrozenTrial, step: Step) -> dict[str, Any]:
    own = default_of(sweep)
    base = next((t for t in complete if t.user_attrs.get("published") == sweep.base), None)
    return {
        "study": sweep.study,
        "trial": winner.number,
        "published": winner.user_attrs.get("published"),
        "value": winner.value,
        "split": sweep.options["split"],
        "trials": len(complete),
        "params": winner.params,
        "actual": actual_of(sweep, winner.params),
        "inference": {
            "guide": step.setting.guide,
            "step_size": {"published": step.published, "actual": step.setting.step_size or 0.0},
            "num_steps": step.setting.num_steps,
        },
        "default": {
            "label": sweep.base,
            "trial": None if base is None else base.number,
            "params": sweep.points[sweep.base],
            "setting": own.name,
            "value": None if base is None else base.user_attrs["profile"].get(own.name),
            "best_value": None if base is None else base.value,
        },
    }


def inference_changes(step: Step) -> dict[str, Any]:
    """The keys of a config that make an inference setting of the grid its own."""
    changes: dict[str, Any] = {f"{INFERENCE}.nms.guide": step.setting.guide}
    if step.setting.step_size is None:
        return {**changes, f"{INFERENCE}.refine": None}
    return {**changes, f"{INFERENCE}.refine.lamb": step.published, f"{INFERENCE}.refine.t": step.setting.num_steps}


def write_configs(sweep: Sweep, params: Mapping[str, Any], step: Step) -> None:
    """Writes best.py, best_variant.py and best.yaml: the full schedule with a trial's parameters and inference."""
    changes = {**sweep.changes(params), **inference_changes(step)}
    cfg = resolve_config(sweep.suite, sweep.base, changes)
    mapped = cfg._cfg_dict.pop("mapped")
    for part in ("train", "val", "test"):
        cfg.data[part].data_root = data_dir(sweep).as_posix()
    units = ", ".join(f"{key} {value['published']:g} -> {value['actual']:g}" for key, value in mapped.items())
    _write(
        sweep.folder / "best.py",
        f'"""Best trial of the study {sweep.study}, with the full schedule: a config that needs no other file.\n\n'
        f'Published units -> those used here: {units}.\n"""\n\n{cfg.pretty_text}',
    )
    base = os.path.relpath(ROOT / sweep.suite.variant(sweep.base)["config"], sweep.folder.resolve())
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        node = nested
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    _write(
        sweep.folder / "best_variant.py",
        f'"""Best trial of the study {sweep.study}, in published units, as a variant of a suite (see best.yaml)."""\n\n'
        f"_base_ = [{Path(base).as_posix()!r}]\n{type(cfg)(nested).pretty_text}",
    )
    name = f"sweep_{sweep.options['name']}"
    entry = {"variants": {name: {"family": "iounet", "config": (sweep.folder / "best_variant.py").as_posix()}}}
    _write(
        sweep.folder / "best.yaml",
        f"# For a suite with the `scale:` block of '{sweep.suite['suite']}'. Its own inference setting is "
        f"{step.setting.name} (published lambda {step.published:g}).\n{yaml.safe_dump(entry, sort_keys=False)}",
    )


def _evaluate(sweep: Sweep, name: str, params: Mapping[str, Any], settings: list[Setting], threads: int) -> None:
    folder = train_trial(sweep, params, threads=threads)  # finds it done, unless another machine has the files
    evaluate(
        sweep.trial_suite,
        sweep.base,
        sweep.options["seed"],
        sweep.suite.report_split,
        checkpoint=folder / "checkpoint.pth",
        data_dir=data_dir(sweep),
        out=sweep.folder / "val" / name,
        threads=threads,
        changes=sweep.changes(params),
        settings=settings,
        name=f"sweep_{name}",
    )


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV with a header; None is left blank."""
    with atomic(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["number"])
        writer.writeheader()
        writer.writerows(rows)


def _write(path: Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the results of a suite's sweep.")
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        summary = summarise(Sweep(load_suite(options.suite)), options.threads)
    except SuiteError as error:
        sys.exit(f"error: {error}")
    states = ", ".join(f"{number} {state}" for state, number in summary["states"].items())
    print(f"{summary['study']}: {states}", flush=True)


if __name__ == "__main__":
    main()
