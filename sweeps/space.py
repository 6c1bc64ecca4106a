"""What a suite's `sweep:` block searches: the parameters of a trial, the points tried first, the inference grid.

Everything is in published units; the suite's `scale:` block maps a trial as it maps a variant. Which training
parameters there are says `suite.search.PARAMETERS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import resolve_config, training_hash
from suite.blocks import FolderData
from suite.errors import SuiteError
from suite.layout import RunFolder
from suite.search import PARAMETERS, SAMPLINGS, SearchParameter
from suite.settings import Setting
from suite.suite import Suite

SAMPLING = "sampling"  # the trial's parameter that chooses among SAMPLINGS


class Search:
    """A suite's checked `sweep:` block.

    Attributes:
        suite: the suite.
        options: the block.
        trial_suite: the suite with the trials' shorter training, on no image of the split that decides.
        base: the variant that a trial changes.
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
        if suite.sweep is None:
            raise SuiteError(f"suite '{suite.name}' has no `sweep:` block: see suite/schema.yaml")
        self.suite, self.options, self.base = suite, suite.sweep, suite.sweep.base
        self.study = f"{suite.name}__{self.options.name}"
        self.folder = suite.layout.sweep
        self._check_split()
        self.trial_suite = self._trial_suite()
        self.points = self._points()
        self.grid = [
            Setting(guide, step, suite.inference.num_steps) if step.published else Setting(guide)
            for guide in self.options.guides
            for step in self.options.step_sizes
        ]

    def _check_split(self) -> None:
        split = self.options.split
        if split not in self.suite.dataset.splits:
            raise SuiteError(f"sweep.split is '{split}', but dataset.splits has no such split")
        if split == self.suite.report_split:
            raise SuiteError(
                f"sweep.split and report_split are both '{split}'; "
                "numbers are reported on images that nothing was chosen on: use two splits"
            )

    def _trial_suite(self) -> Suite:
        training: dict[str, Any] = {**self.suite.raw["training"], "epochs": self.options.epochs}
        dataset = self.suite.dataset
        if isinstance(dataset, FolderData):
            trained = Path(resolve_config(self.suite, self.base).data.train.ann_file).stem
            if (unseen := dataset.without(trained, self.options.split)) != trained:
                training["split"] = unseen
        return self.suite.changed(training=training)

    def _points(self) -> dict[str, dict[str, Any]]:
        points: dict[str, dict[str, Any]] = {}
        for label in (self.base, *self.options.published):
            if not self.suite.variant(label).has_iou_branch:
                raise SuiteError(f"'{label}' of `sweep:` has no IoU branch to search the settings of")
            cfg = resolve_config(self.trial_suite, label)
            params = self._params_of(label, cfg)
            if training_hash(cfg) != training_hash(self.config(params)):
                raise SuiteError(
                    f"sweep.published: '{label}' differs from the base '{self.base}' in more than "
                    f"{', '.join(self.options.space)}: no trial can stand for it"
                )
            if params not in points.values():
                points[label] = params
        return points

    def _params_of(self, label: str, cfg: Any) -> dict[str, Any]:
        """The parameters of a trial that trains what a config trains."""
        params = {name: value_of(cfg, PARAMETERS[name]) for name in self._independent}
        if self._samplings:
            amounts = {name: value_of(cfg, PARAMETERS[name]) for name in SAMPLINGS}
            used = [name for name, amount in amounts.items() if amount is not None]
            if len(used) != 1:
                raise SuiteError(
                    f"'{label}' of `sweep:` samples its RoIs by {' and '.join(used) or 'none'} of {SAMPLINGS}"
                )
            (kind,) = used
            if kind not in self._samplings:
                raise SuiteError(f"sweep.space has no {kind}, with which '{label}' samples its RoIs")
            params |= {SAMPLING: kind} if len(self._samplings) > 1 else {}
            params[kind] = amounts[kind]
        for name, value in params.items():
            if name == SAMPLING:
                continue
            low, high = self.options.space[name]
            if value is None or not low <= value <= high:
                shown = "the missing value" if value is None else f"{value:g}"
                raise SuiteError(f"sweep.space.{name} is {[low, high]}, which leaves out {shown} of '{label}'")
            params[name] = int(value) if PARAMETERS[name].is_whole else float(value)
        return params

    @property
    def _independent(self) -> list[str]:
        """The parameters of the space that every trial has."""
        return [name for name in PARAMETERS if name in self.options.space and name not in SAMPLINGS]

    @property
    def _samplings(self) -> list[str]:
        """The parameters of the space of which a trial has one."""
        return [name for name in SAMPLINGS if name in self.options.space]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The parameters of an Optuna trial, on logarithmic axes."""
        params = {name: self._suggest(trial, name) for name in self._independent}
        kinds = self._samplings
        if len(kinds) > 1:
            params[SAMPLING] = trial.suggest_categorical(SAMPLING, kinds)
            kinds = [params[SAMPLING]]
        return params | {kind: self._suggest(trial, kind) for kind in kinds}

    def _suggest(self, trial: Any, name: str) -> Any:
        low, high = self.options.space[name]
        if PARAMETERS[name].is_whole:
            return trial.suggest_int(name, int(low), int(high), log=True)
        return trial.suggest_float(name, low, high, log=True)

    def changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The keys that a trial's config has other values for than the base's; see `resolve_config`.

        A trial with one way to sample RoIs takes the other ones out of the base.
        """
        samples = any(name in params for name in SAMPLINGS)
        return {
            parameter.config_key: params.get(name)
            for name, parameter in PARAMETERS.items()
            if name in params or (samples and name in SAMPLINGS)
        }

    def config(self, params: Mapping[str, Any]) -> Any:
        """The resolved config of a trial."""
        return resolve_config(self.trial_suite, self.base, self.changes(params))

    def trial_folder(self, params: Mapping[str, Any]) -> RunFolder:
        """Where a trial trains: a function of what it trains, so that the same parameters go on with the same files."""
        return self.folder.trial(training_hash(self.config(params)), self.options.seed)

    @property
    def worker_files(self) -> list[Path]:
        """What each worker writes at its end."""
        return [self.folder.worker(worker) for worker in range(self.options.workers)]

    def identity(self) -> dict[str, Any]:
        """What a study's trials have in common: they compare with each other, and with no others.

        Budget, workers, sampler, pruner and published points are none of it: a study may go on with others.
        """
        block = self.suite.raw["sweep"]
        return {
            "base": training_hash(self.config({})),
            **{key: block[key] for key in ("space", "epochs", "seed", "split")},
            "settings": sorted(setting.name for setting in self.grid),
            "num_steps": self.suite.inference.num_steps,
        }

    def fingerprint(self) -> str:
        """Of all that decides which trials a study has: what makes Snakemake run its workers again."""
        block = self.suite.raw["sweep"]
        chosen = {key: block[key] for key in ("name", "trials", "sampler", "pruner")}
        content = {**self.identity(), "points": self.points, **chosen}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def value_of(cfg: Any, parameter: SearchParameter, unit: str = "published") -> Any:
    """A training parameter's value in a resolved config; None if it has none.

    Args:
        cfg: from `resolve_config`.
        parameter: of `suite.search.PARAMETERS`.
        unit: 'published' or 'actual'; a key that `scale:` leaves alone has the same value in both.
    """
    if parameter.mapped_key in cfg.mapped:
        return cfg.mapped[parameter.mapped_key][unit]
    node = cfg
    for part in parameter.config_key.split("."):
        node = node.get(part) if node is not None else None
    return node


def published_step(setting: Setting) -> float:
    """The published λ of a setting of the grid; 0 = no refinement."""
    return 0.0 if setting.step_size is None else setting.step_size.published


def actual_step(setting: Setting) -> float:
    """The actual λ of a setting of the grid; 0 = no refinement."""
    return 0.0 if setting.step_size is None else setting.step_size.actual
