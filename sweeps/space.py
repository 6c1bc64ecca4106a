"""What a suite's `sweep:` block says: the parameters of a trial, the points tried first, the inference grid.

Everything is in published units; the suite's `scale:` block maps a trial as it maps a variant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import resolve_config, training_hash
from suite.errors import SuiteError
from suite.settings import Setting
from suite.suite import Suite

LOSS_WEIGHT = "model.roi_head.iou_head.loss_iou.loss_weight"
ROIS = {"per_img": "model.roi_head.roi_generator.sample_num", "per_iou": "model.roi_head.roi_generator.per_iou"}


@dataclass(frozen=True)
class Step:
    """An inference setting of the grid: its published step size (0 = no refinement) and what is run."""

    published: float
    setting: Setting


class Sweep:
    """A suite's checked `sweep:` block.

    Attributes:
        suite: the suite.
        trial_suite: the same with the trials' shorter training, on no image of the split that decides.
        base: the variant that a trial changes.
        options: the block, with its defaults.
        study: name of the Optuna study.
        folder: where its files are, relative to the working directory.
        points: label to parameters of the points to try first; the base's own are the first.
        grid: the inference settings that every trial is evaluated in.
    """

    def __init__(self, suite: Suite) -> None:
        """Checks the block against the suite.

        Raises:
            SuiteError: there is no block, or it contradicts itself or the suite; the message names the key.
        """
        if "sweep" not in suite:
            raise SuiteError(f"suite '{suite['suite']}' has no `sweep:` block: see experiments/schema.yaml")
        self.suite, self.options = suite, suite.sweep
        self.base: str = self.options["base"]
        self.study = f"{suite['suite']}__{self.options['name']}"
        self.folder = suite.layout.root / "sweep"
        self._check_splits()
        self.trial_suite = self._trial_suite()
        for key, (low, high) in self.options["space"].items():
            if low >= high:
                raise SuiteError(f"sweep.space.{key} is [{low}, {high}]: the first must be the smaller")
        self.points = self._published_points()
        self.grid = self._grid()

    def _check_splits(self) -> None:
        split, splits = self.options["split"], self.suite.dataset.get("splits")
        if splits is not None and split not in splits:
            raise SuiteError(f"sweep.split is '{split}', but dataset.splits has no such split")
        if split == self.suite.report_split:
            raise SuiteError(
                f"sweep.split and report_split are both '{split}'; "
                "numbers are reported on images that nothing was chosen on: use two splits"
            )

    def _trial_suite(self) -> dict[str, Any]:
        trained = Path(resolve_config(self.suite, self.base).data.train.ann_file).stem
        unseen = unseen_split(self.suite.dataset, trained, self.options["split"])
        training = {**self.suite.training, "epochs": self.options["epochs"]}
        return {**self.suite, "training": training if unseen == trained else {**training, "split": unseen}}

    def _published_points(self) -> dict[str, dict[str, Any]]:
        points: dict[str, dict[str, Any]] = {}
        for label in (self.base, *self.options["published"]):
            if self.suite.variant(label)["family"] != "iounet":
                raise SuiteError(f"'{label}' of `sweep:` has no IoU branch to search the settings of")
            cfg = resolve_config(self.trial_suite, label)
            params = self._params_of(label, cfg)
            if training_hash(cfg) != training_hash(self.config(params)):
                raise SuiteError(
                    f"sweep.published: '{label}' differs from the base '{self.base}' in more than "
                    f"{', '.join(self.options['space'])}: no trial can stand for it"
                )
            if params not in points.values():
                points[label] = params
        return points

    def _params_of(self, label: str, cfg: Any) -> dict[str, Any]:
        """The parameters of a trial that trains what a config trains."""
        space = self.options["space"]
        mapped = {key: value["published"] for key, value in cfg.mapped.items()}
        rois = {key: mapped[name.split(".")[-1]] for key, name in ROIS.items() if name.split(".")[-1] in mapped}
        params: dict[str, Any] = {}
        if "loss_weight" in space:
            params["loss_weight"] = float(mapped["loss_weight"])
        if ROIS.keys() & space.keys():
            ((kind, amount),) = rois.items()
            if kind not in space:
                raise SuiteError(f"sweep.space has no {kind}, with which '{label}' samples its RoIs")
            params |= {"sampling": kind, kind: int(amount)} if ROIS.keys() <= space.keys() else {kind: int(amount)}
        for key, value in params.items():
            if key != "sampling" and not space[key][0] <= value <= space[key][1]:
                raise SuiteError(f"sweep.space.{key} is {space[key]}, which leaves out {value:g} of '{label}'")
        return params

    def _grid(self) -> list[Step]:
        factor, steps = self.suite.scale.step_size, self.suite.inference.num_steps
        return [
            Step(float(step), Setting(guide, float(step) * factor, steps) if step else Setting(guide))
            for guide in self.options["guides"]
            for step in self.options["step_sizes"]
        ]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The parameters of an Optuna trial, on logarithmic axes."""
        space, params = self.options["space"], {}
        if "loss_weight" in space:
            params["loss_weight"] = trial.suggest_float("loss_weight", *space["loss_weight"], log=True)
        kinds = [kind for kind in ROIS if kind in space]
        if len(kinds) > 1:
            params["sampling"] = trial.suggest_categorical("sampling", kinds)
            kinds = [params["sampling"]]
        for kind in kinds:
            params[kind] = trial.suggest_int(kind, *space[kind], log=True)
        return params

    def changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The keys that a trial's config has other values for than the base's; see `resolve_config`."""
        changed = {LOSS_WEIGHT: params["loss_weight"]} if "loss_weight" in params else {}
        if ROIS.keys() & params.keys():
            changed |= {name: params.get(key) for key, name in ROIS.items()}
        return changed

    def config(self, params: Mapping[str, Any]) -> Any:
        """The resolved config of a trial."""
        return resolve_config(self.trial_suite, self.base, self.changes(params))

    def trial_folder(self, params: Mapping[str, Any]) -> Path:
        """Where a trial trains: a function of what it trains, so that the same parameters go on with the same files."""
        return self.folder / "trials" / f"{training_hash(self.config(params))}_seed{self.options['seed']}"

    @property
    def worker_files(self) -> list[str]:
        """What each worker writes at its end."""
        return [(self.folder / "workers" / f"{worker}.json").as_posix() for worker in range(self.options["workers"])]

    def identity(self) -> dict[str, Any]:
        """What a study's trials have in common: they compare with each other, and with no others.

        Budget, workers, sampler, pruner and published points are none of it: a study may go on with others.
        """
        return {
            "base": training_hash(self.config({})),
            **{key: self.options[key] for key in ("space", "epochs", "seed", "split")},
            "settings": sorted(step.setting.name for step in self.grid),
            "num_steps": self.suite.inference.num_steps,
        }

    def fingerprint(self) -> str:
        """Of all that decides which trials a study has: what makes Snakemake run its workers again."""
        keys = ("name", "trials", "sampler", "pruner")
        content = {**self.identity(), "points": self.points, **{key: self.options[key] for key in keys}}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
