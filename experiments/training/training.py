"""One training, step by step: identity, resumption, start, epochs, result.

The run's folder holds, undeclared to Snakemake, metrics.jsonl and the last two epochs' states; a killed training
continues from them, and ends with the weights that the uninterrupted one would have. When it is done they give way
to checkpoint.pth (weights), history.csv (curves) and run.json (where it all comes from). They are kept twice: a
Snakemake that did not see the training end deletes them (`suite.kept`).
"""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from experiments.config import (
    default_setting,
    fit_schedule,
    resolve_config,
    self_contained,
    set_classes,
    training_hash,
    training_pixels,
)
from experiments.data.datasets import (
    build_split,
    dataset_classes,
    dataset_fingerprint,
    learnt_fingerprint,
    seen_splits,
)
from experiments.data.weights import backbone_weights
from experiments.evaluation.inference import detect
from experiments.evaluation.metrics import DetectionColumns, evaluate_detections
from experiments.history import MetricsLog, read_metrics, validations, write_history
from experiments.runtime import hardware
from experiments.tracking.live import Live
from experiments.training.distributed import World, average_buffers, parallel, share_of
from experiments.training.precision import ScaledOptimizerHook, read_precision, use_precision
from experiments.training.runner import (
    AverageBuffersHook,
    FiniteLossHook,
    MetricsHook,
    ReseedHook,
    Runner,
    SaveStateHook,
    ValidatedHook,
    ValidationHook,
    save,
)
from experiments.training.start import build_training_loader, start
from suite import provenance
from suite.errors import SuiteError
from suite.files import atomic, read_json, sha256, write_json, write_text
from suite.kept import forget, publish
from suite.layout import DataFolder, RunFolder
from suite.manifest import LEARNT
from suite.suite import PRETRAINING, Suite

OnValidation = Callable[[int, dict[str, float]], None]


class Training:
    """One variant trained with one seed, on one rank or several.

    Attributes:
        identity: what the weights depend on; a state or a result of another identity is not this training's.
        inputs: hashes of what it starts from.
    """

    def __init__(
        self,
        suite: Suite,
        variant: str,
        seed: int,
        *,
        folder: RunFolder,
        data: DataFolder,
        pretraining: Path | None,
        ranks: World,
        changes: Mapping[str, Any] | None = None,
        on_validation: OnValidation | None = None,
    ) -> None:
        """Takes the arguments of `experiments.training.train.train`, resolves the config and hashes the inputs.

        Raises:
            SuiteError: the data or the backbone's weights are missing, or the config cannot be trained.
        """
        self.suite, self.variant, self.seed, self.ranks = suite, variant, seed, ranks
        self.folder, self.data, self.pretraining = folder, data, pretraining
        self.on_validation = on_validation
        self.started = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.logger = _logger(folder.log) if self.is_first else logging.getLogger("iounet")
        self.cfg = resolve_config(suite, variant, changes)
        self.inputs = {"dataset_fingerprint": dataset_fingerprint(data)}
        if learnt := learnt_fingerprint(data, self.trained_on, suite.validation.split):
            self.inputs[LEARNT] = learnt
        if pretraining is not None:
            self.inputs["pretraining_sha256"] = sha256(pretraining) if pretraining.is_file() else ""
        self.backbone = backbone_weights(self.cfg, suite)
        if self.backbone is not None:
            self.inputs["backbone_sha256"] = sha256(self.backbone)
        hashed = training_hash(self.cfg)
        set_classes(self.cfg, dataset_classes(data))
        self.detector = copy.deepcopy(self.cfg)  # as it is before the training fits its schedule
        self.identity = {"training_hash": hashed, "seed": seed, "ranks": ranks.size, **self.inputs}

    @property
    def trained_on(self) -> str:
        """The split that it trains on."""
        return Path(self.cfg.data.train.ann_file).stem

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and decides."""
        return self.ranks.rank == 0

    def run(self, show_live: bool = True) -> bool:
        """Trains to the end, unless that is done already.

        Returns:
            Whether W&B's server could be reached, as far as it was needed.
        """
        if self.ranks.from_first(self.is_done):
            self.logger.info(f"{self.folder.path} is already trained: nothing to do")
            if self.is_first:
                self.write_config()
            self.replay_validations()
            return True
        state = self.ranks.from_first(self.last_state)
        if state:
            self.started = state["meta"]["started"]
        log = MetricsLog(self.folder.metrics, state["meta"]["iter"] if state else 0) if self.is_first else None
        self.replay_validations()
        model, dataset = self.start()
        fitted = self.fit_schedule(dataset)
        config = self.cfg._cfg_dict.to_dict()  # as it is before mmcv makes its hooks of it
        runner = self.make_runner(model, log)
        if state:
            runner.resume_state(state)
            self.logger.info(f"continuing after epoch {runner.epoch}")
        with Live(
            self.suite, self.variant, self.seed, self.folder, self.identity, config, is_on=show_live and self.is_first
        ) as live:
            runner.run([build_training_loader(dataset, self.cfg, self.seed, self.ranks)], [("train", 1)])
        if self.is_first:
            self.write_result(model, dataset, runner, fitted)
        return not live.failed

    def start(self) -> tuple[torch.nn.Module, Any]:
        """The model with its first weights, and its training set."""
        return start(
            self.cfg,
            self.seed,
            self.data,
            pretraining=self.pretraining,
            backbone=self.backbone,
            check=self.require_boxes,
        )

    def require_boxes(self, model: Any) -> None:
        """Refuses one of the suite's `detectors` whose boxes before NMS there is no way to (`experiments.treatments`).

        Raises:
            SuiteError: naming config and type.
        """
        if self.variant not in self.suite.detectors:
            return
        where = f"detector '{self.variant}', {self.suite.variant(self.variant).config}: a {type(model).__name__}"
        head = getattr(model, "roi_head", None)
        if head is None and not hasattr(model, "candidates"):
            raise SuiteError(f"{where} has neither a roi_head nor a method `candidates`, as experiments/detectors have")
        if head is not None and head.with_shared_head:
            raise SuiteError(f"{where} with a shared head (model.roi_head.shared_head) cannot be asked for boxes again")

    def is_done(self) -> bool:
        """Whether the whole result of this very training is there, or was kept; its outputs are there then."""
        if self.is_result(self.folder.kept):
            self.publish()
            return True
        return self.is_result(self.folder)

    def is_result(self, folder: RunFolder) -> bool:
        """Whether a folder holds the whole result of this very training."""
        try:
            run = read_json(folder.run)
            found = {"training_hash": run["config_hash"], "seed": run["seed"], "ranks": run["ranks"], **run["inputs"]}
            is_whole = folder.history.is_file() and sha256(folder.checkpoint) == run["checkpoint"]["sha256"]
            return is_same(found, self.identity) and is_whole
        except (OSError, ValueError, KeyError):
            return False

    def publish(self) -> None:
        """Puts the kept result where the workflow declares it; what says that it is whole comes last."""
        publish(self.folder.checkpoint, self.folder.history, self.folder.run)

    def write_config(self) -> None:
        """Writes the config that opens the weights."""
        heading = f"Suite {self.suite.name}: the detector of checkpoint.pth, {self.variant}."
        write_text(self.folder.config, self_contained(self.detector, heading))

    def last_state(self) -> dict[str, Any] | None:
        """The newest whole state of this very training; states of another one are dropped."""
        for path in self.folder.states():
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                self.logger.warning(f"{path} is damaged ({error}): going back one epoch")
                path.unlink()
                continue
            if is_same({key: own for key, own in state["meta"].items() if key in self.identity}, self.identity):
                return state
            self.logger.info(f"{path} belongs to another config, seed or dataset: starting over")
            path.unlink()
        self.folder.metrics.unlink(missing_ok=True)
        return None

    def replay_validations(self) -> None:
        """Hands `on_validation` those that are logged already."""
        if self.on_validation is not None:
            for epoch, metrics in validations(self.folder.metrics):
                self.on_validation(epoch, metrics)

    def fit_schedule(self, dataset: Any) -> dict[str, Any]:
        """Fits the learning rate to the batch and the warm-up to the length; returns what was changed."""
        size, images = self.ranks.size, self.cfg.data.samples_per_gpu
        if size > 1:
            device = self.ranks.device.type
            self.logger.info(f"{size} ranks on {device}, {images} images each per iteration")
        fitted, notes = fit_schedule(self.cfg, size, math.ceil(len(dataset) / (size * images)))
        for note in notes:
            self.logger.info(note)
        return fitted

    def make_runner(self, model: torch.nn.Module, log: MetricsLog | None) -> Runner:
        """mmcv's runner with this training's hooks."""
        from mmcv.runner import DistSamplerSeedHook, build_optimizer

        cfg, ranks = self.cfg, self.ranks
        precision = read_precision(cfg, self.variant)
        use_precision(model, precision)
        wrapped = parallel(model, ranks)
        runner = Runner(
            wrapped,
            optimizer=build_optimizer(model, cfg.optimizer),
            work_dir=str(self.folder.path),
            logger=self.logger,
            meta={**self.identity, "started": self.started},
            max_epochs=cfg.runner.max_epochs,
        )
        optimizer_config = cfg.optimizer_config
        if precision == "fp16":
            runner.scaler = torch.amp.GradScaler(ranks.device.type)
            optimizer_config = ScaledOptimizerHook(runner.scaler, grad_clip=cfg.optimizer_config.get("grad_clip"))
        runner.register_training_hooks(cfg.lr_config, optimizer_config=optimizer_config)
        runner.register_hook(ReseedHook(self.seed, ranks.rank), priority="VERY_HIGH")
        if ranks.size > 1:
            runner.register_hook(DistSamplerSeedHook(), priority="VERY_HIGH")
            runner.register_hook(AverageBuffersHook(average_buffers), priority="LOW")
        runner.register_hook(FiniteLossHook(), priority="HIGH")
        runner.register_hook(MetricsHook(log, cfg.log_interval), priority="VERY_LOW")
        runner.register_hook(ValidationHook(self.make_validation(), log), priority="VERY_LOW")
        if log is not None:
            runner.register_hook(SaveStateHook(), priority="LOWEST")
            if self.on_validation is not None:  # last of all: the epoch is saved by then
                runner.register_hook(ValidatedHook(log, self.on_validation), priority="LOWEST")
        return runner

    def make_validation(self) -> Callable[[torch.nn.Module], dict[str, float | None] | None]:
        """What evaluates a model after an epoch: its metrics on the first rank, None on the others."""
        validation, batch_size = self.suite.validation, self.suite.inference.batch_size
        tune = build_split(self.cfg, self.data, validation.split, validation.images)
        setting, share = default_setting(self.cfg), share_of(tune, self.ranks, batch_size)

        def evaluate(model: torch.nn.Module) -> dict[str, float | None] | None:
            workers = self.cfg.data.workers_per_gpu
            found = detect(model, share, [setting], batch_size=batch_size, workers=workers)
            shares = self.ranks.gather(found[setting.name])
            if shares is None:
                return None
            return evaluate_detections(tune.coco, DetectionColumns.concatenate(shares), tune.img_ids).metrics

        return evaluate

    @property
    def place(self) -> dict[str, Any]:
        """Which training of which suite it is."""
        return {"suite": self.suite.name, "variant": self.variant, "seed": self.seed}

    def contents(self, model: Any) -> dict[str, Any]:
        """What the file of weights holds."""
        weights = {key: value.cpu() for key, value in model.state_dict().items()}
        return {"meta": {"CLASSES": list(model.CLASSES), **self.place, **self.identity}, "state_dict": weights}

    def write_result(self, model: torch.nn.Module, dataset: Any, runner: Runner, fitted: Mapping[str, Any]) -> None:
        """Writes weights, curves and, last, where they come from; then drops the states."""
        trained, place = self.trained_on, self.place
        kept = self.folder.kept
        forget(*self.folder.outputs)
        with atomic(kept.checkpoint) as part:
            save(self.contents(model), part)
        self.write_config()
        write_history(kept.history, read_metrics(self.folder.metrics))
        checkpoint = {"bytes": kept.checkpoint.stat().st_size, "sha256": sha256(kept.checkpoint)}
        run = {
            **place,
            "config_hash": self.identity["training_hash"],
            **provenance.git_state(),
            "versions": provenance.versions(),
            "hardware": hardware(),
            "inputs": self.inputs,
            "started": self.started,
            "wall_time_s": round(runner.elapsed(), 1),
            "ranks": self.ranks.size,
            "epochs": runner.epoch,
            "iterations": runner.iter,
            "optimizer": self.cfg.optimizer.type,
            "checkpoint": checkpoint,
            "mapped": {**self.cfg.mapped.to_dict(), **fitted},
            "trained_on": {
                "split": trained,
                "images": len(dataset),
                "pixels": training_pixels(self.cfg) or mean_pixels(dataset),
                "seen": seen_splits(self.data, trained),
            },
        }
        write_json(kept.run, run)
        self.publish()
        for state in self.folder.states():
            state.unlink(missing_ok=True)
        self.logger.info(f"done in {run['wall_time_s']:.0f} s: {self.folder.checkpoint}")


def is_same(found: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether a training's identity is another's.

    What it learnt from decides, not the other splits of the data; an earlier release knew them together only.
    """
    other = "dataset_fingerprint" if {LEARNT} <= found.keys() & identity.keys() else LEARNT
    kept = [{key: value for key, value in own.items() if key != other} for own in (found, identity)]
    return kept[0] == kept[1]


def mean_pixels(dataset: Any) -> int:
    """Pixels of an image of an mmdet dataset, on average."""
    return round(sum(info["width"] * info["height"] for info in dataset.data_infos) / len(dataset.data_infos))


def pretraining_of(suite: Suite, variant: str) -> Path | None:
    """The checkpoint that a variant starts from; None for one that starts from its config's weights."""
    return suite.layout.pretraining.checkpoint if suite.pretraining and variant != PRETRAINING else None


def _logger(path: Path) -> logging.Logger:
    logger = logging.getLogger("iounet")
    logger.setLevel(logging.INFO)
    logger.handlers = [logging.StreamHandler(sys.stderr), logging.FileHandler(path)]
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.propagate = False
    return logger
