"""Trains one variant with one seed: `python -m experiments.training.train --suite S --variant V --seed K`.

The run's folder holds, undeclared to Snakemake, metrics.jsonl and the last two epochs' states; a killed training
continues from them, and ends with the weights that the uninterrupted one would have. When it is done they give way
to checkpoint.pth (weights), history.csv (curves) and run.json (where it all comes from).

On N devices: `torchrun --nproc-per-node N -m experiments.training.train ...`. The config's samples_per_gpu images go to each.
"""

import argparse
import contextlib
import copy
import csv
import logging
import math
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.config import default_setting, fit_schedule, resolve_config, set_classes, training_hash
from experiments.data.datasets import (
    build_split,
    build_training_set,
    checkpoint_or_error,
    dataset_classes,
    dataset_fingerprint,
    seen_splits,
)
from experiments.data.weights import backbone_weights, load_backbone
from experiments.history import METRICS, MetricsLog, read_metrics
from experiments.runtime import hardware, prepare_process
from experiments.tracking import stages as tracking
from experiments.tracking.live import Live
from experiments.training.distributed import World, average_buffers, join, parallel, share_of, world
from experiments.training.precision import ScaledOptimizerHook, read_precision, use_precision
from suite import provenance
from suite.errors import SuiteError
from suite.files import atomic, folder_lock, read_json, sha256, write_json
from suite.suite import Suite, load_suite

WANDB_RUN = "wandb_run.json"
PRETRAINED_PARTS = ("backbone.", "neck.", "rpn_head.")


def train(
    suite: Suite,
    variant: str,
    seed: int,
    *,
    work_dir: Path,
    data_dir: Path,
    pretraining: Path | None,
    threads: int = 1,
    changes: Mapping[str, Any] | None = None,
    on_validation: Callable[[int, dict[str, float]], None] | None = None,
    tracked: bool = True,
) -> None:
    """Trains to the end, or to the end of a training that was killed; under torchrun together with the other ranks.

    Args:
        suite: a checked suite.
        variant: one of its variants, or 'pretraining'.
        seed: of the weights that are not pretrained, of the order of images, of every draw.
        work_dir: the run's folder.
        data_dir: the suite's images.
        pretraining: checkpoint whose backbone, neck and RPN are the start; None = from scratch.
        threads: of torch.
        changes: see `experiments.suite.resolve_config`.
        on_validation: called as (epoch, metrics) after every epoch, those of a killed process included; what it raises
            ends the training, which a later call continues.
        tracked: log a finished training as a run of its own.

    Raises:
        SuiteError: the data or the pretraining is missing or damaged.
    """
    prepare_process(threads)
    ranks = world()
    with folder_lock(work_dir) if ranks.rank == 0 else contextlib.nullcontext(), join(ranks):
        _train(suite, variant, seed, work_dir, data_dir, pretraining, ranks, changes, on_validation, tracked)


def _train(
    suite: Suite,
    variant: str,
    seed: int,
    work_dir: Path,
    data_dir: Path,
    pretraining: Path | None,
    ranks: World,
    changes: Mapping[str, Any] | None,
    on_validation: Callable[[int, dict[str, float]], None] | None,
    tracked: bool,
) -> None:
    from experiments.training.runner import saved_states

    started = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    cfg = resolve_config(suite, variant, changes)
    logger = _logger(work_dir) if ranks.rank == 0 else logging.getLogger("iounet")
    inputs = {"dataset_fingerprint": dataset_fingerprint(data_dir)}
    if pretraining is not None:
        inputs["pretraining_sha256"] = sha256(pretraining) if pretraining.is_file() else ""
    backbone = backbone_weights(cfg, suite)
    if backbone is not None:
        inputs["backbone_sha256"] = sha256(backbone)
    identity = {"training_hash": training_hash(cfg), "seed": seed, "ranks": ranks.size, **inputs}
    if ranks.from_first(lambda: _already_trained(work_dir, identity)):
        logger.info(f"{work_dir} is already trained: nothing to do")
        _replay_validations(work_dir / METRICS, on_validation)
        return
    state = ranks.from_first(lambda: _resumable(work_dir, identity, logger))
    if state:
        started = state["meta"]["started"]
    log = MetricsLog(work_dir / METRICS, state["meta"]["iter"] if state else 0) if ranks.rank == 0 else None
    run_id = _wandb_run_id(work_dir, identity) if ranks.rank == 0 else ""
    _replay_validations(work_dir / METRICS, on_validation)
    if ranks.size > 1:
        logger.info(f"{ranks.size} ranks on {ranks.device.type}, {cfg.data.samples_per_gpu} images each per iteration")

    set_classes(cfg, dataset_classes(data_dir))
    model, dataset = _build(cfg, seed, data_dir, pretraining, backbone)
    fitted, notes = fit_schedule(cfg, ranks.size, math.ceil(len(dataset) / (ranks.size * cfg.data.samples_per_gpu)))
    for note in notes:
        logger.info(note)
    trained = Path(cfg.data.train.ann_file).stem
    runner = _runner(cfg, suite, variant, seed, model, data_dir, work_dir, logger, log, ranks, on_validation)
    runner.meta = {**identity, "started": started}
    if state:
        runner.resume_state(state)
        logger.info(f"continuing after epoch {runner.epoch}")
    config = cfg._cfg_dict.to_dict()
    shown = tracking.live_run(suite, variant, seed, config, run_id)
    with Live(work_dir / METRICS, is_on=tracked and ranks.rank == 0, **shown) as live:
        runner.run([build_training_loader(dataset, cfg, seed, ranks)], [("train", 1)])
    if ranks.rank != 0:
        return

    meta = {"classes": list(dataset.CLASSES), "suite": suite.name, "variant": variant, "seed": seed, **identity}
    checkpoint = work_dir / "checkpoint.pth"
    with atomic(checkpoint) as part:
        torch.save({"meta": meta, "state_dict": {k: v.cpu() for k, v in model.state_dict().items()}}, part)
    history = read_metrics(work_dir / METRICS)
    write_history(work_dir / "history.csv", history)
    run = {
        "suite": suite.name,
        "variant": variant,
        "seed": seed,
        "config_hash": identity["training_hash"],
        **provenance.git_state(),
        "versions": provenance.versions(),
        "hardware": hardware(),
        "inputs": inputs,
        "uses": _uses(suite, inputs),
        "started": started,
        "wall_time_s": round(runner.elapsed(), 1),
        "ranks": ranks.size,
        "epochs": runner.epoch,
        "iterations": runner.iter,
        "checkpoint": {"bytes": checkpoint.stat().st_size, "sha256": sha256(checkpoint)},
        "mapped": {**cfg.mapped.to_dict(), **fitted},
        "trained_on": {"split": trained, "images": len(dataset), "seen": seen_splits(data_dir, trained)},
    }
    run["wandb_run_id"] = None
    if tracked:
        run["wandb_run_id"] = tracking.log_training(
            suite,
            variant,
            seed,
            run=run,
            config=config,
            history=history,
            checkpoint=checkpoint,
            run_id=run_id,
            upload=not live.failed,
        )
    write_json(work_dir / "run.json", run)
    for leftover in [*saved_states(work_dir), work_dir / WANDB_RUN]:
        leftover.unlink(missing_ok=True)
    logger.info(f"done in {run['wall_time_s']:.0f} s: {checkpoint}")


def _already_trained(work_dir: Path, identity: dict[str, Any]) -> bool:
    """Whether the folder holds the whole result of this very training (a waiting process finds it so)."""
    try:
        run = read_json(work_dir / "run.json")
        found = {"training_hash": run["config_hash"], "seed": run["seed"], "ranks": run["ranks"], **run["inputs"]}
        return found == identity and sha256(work_dir / "checkpoint.pth") == run["checkpoint"]["sha256"]
    except (OSError, ValueError, KeyError):
        return False


def _wandb_run_id(work_dir: Path, identity: dict[str, Any]) -> str:
    """The W&B run's id, the same through every kill of this very training."""
    path = work_dir / WANDB_RUN
    known = read_json(path) if path.is_file() else {}
    if known.get("identity") != identity:
        known = {"identity": identity, "run_id": tracking.new_run_id()}
        write_json(path, known)
    return known["run_id"]


def _uses(suite: Suite, inputs: dict[str, str]) -> list[str]:
    """References of the W&B artifacts that a training starts from."""
    uses = [tracking.dataset_artifact(suite, inputs["dataset_fingerprint"])]
    if pretraining := inputs.get("pretraining_sha256"):
        seed = suite.variant("pretraining").seed
        uses.append(tracking.checkpoint_artifact(suite, "pretraining", seed, pretraining))
    return uses


def _build(
    cfg: Any, seed: int, data_dir: Path, pretraining: Path | None, backbone: Path | None
) -> tuple[torch.nn.Module, Any]:
    """The initialised detector and its training set."""
    from experiments.training.runner import seed_everything

    dataset = build_training_set(cfg, data_dir)
    seed_everything(seed, 0)
    if backbone is not None:
        cfg = copy.deepcopy(cfg)
        cfg.model.backbone.init_cfg = None  # else mmdet would fetch the weights
    model = build_model(cfg, initialize=True)
    if backbone is not None:
        load_backbone(model.backbone, backbone)
    if pretraining is not None:
        weights = checkpoint_or_error(pretraining)["state_dict"]
        parts = {k: v for k, v in weights.items() if k.startswith(PRETRAINED_PARTS)}
        expected = {k: v for k, v in model.state_dict().items() if k.startswith(PRETRAINED_PARTS)}
        wrong = sorted(expected.keys() ^ parts.keys()) + [
            k for k in expected.keys() & parts.keys() if expected[k].shape != parts[k].shape
        ]
        if wrong:
            raise SuiteError(
                f"{pretraining} does not fit the model: {wrong[0]} differs. Its config changed: delete it and run again"
            )
        model.load_state_dict(parts, strict=False)
    model.CLASSES = dataset.CLASSES
    return model, dataset


def load_model(cfg: Any, checkpoint: Path) -> torch.nn.Module:
    """The detector of a config with a run's weights, in evaluation mode. Raises `SuiteError`."""
    weights = checkpoint_or_error(checkpoint)
    model = build_model(cfg)
    try:
        model.load_state_dict(weights["state_dict"], strict=True)
        meta = weights["meta"]
        model.CLASSES = meta["CLASSES"] if "CLASSES" in meta else meta["classes"]  # mmdet's name, and this project's
    except (RuntimeError, KeyError, TypeError) as error:
        raise SuiteError(f"{checkpoint} does not fit its config: {error}. Delete it and run again") from error
    return model.eval()


def build_model(cfg: Any, initialize: bool = False) -> Any:
    """The detector of a config; works on a copy, as mmdet writes train_cfg and test_cfg into the one it gets.

    With `channels_last = True` in the config, weights and feature maps have the channels innermost.

    Args:
        cfg: mmdet config.
        initialize: draw the initial weights, the same ones for either layout.

    Raises:
        SuiteError: `channels_last` on a CPU with mmcv's own RoIAlign, which takes every map for a contiguous one.
    """
    from mmcv.utils import import_modules_from_strings
    from mmdet.models import build_detector

    if cfg.get("custom_imports"):
        import_modules_from_strings(**cfg.custom_imports)
    model = build_detector(copy.deepcopy(cfg.model))
    if initialize:
        model.init_weights()  # before the layout is changed: random numbers are written in the order of memory
    if cfg.get("channels_last"):
        _require_any_layout(model)
        model.to(memory_format=torch.channels_last)
    return model


def _require_any_layout(model: torch.nn.Module) -> None:
    from mmcv.ops import RoIAlign
    from mmdet.models import SingleRoIExtractor

    # Subclasses of the extractor, such as PrRoIExtractor, are taken to know better.
    extractors: list[Any] = [module for module in model.modules() if type(module) is SingleRoIExtractor]
    layers: list[Any] = [layer for extractor in extractors for layer in extractor.roi_layers.children()]
    on_cpu = not torch.cuda.is_available()
    if on_cpu and any(isinstance(layer, RoIAlign) and not layer.use_torchvision for layer in layers):
        raise SuiteError(
            "channels_last = True: on a CPU mmcv's RoIAlign silently computes nonsense from such maps. Set "
            "use_torchvision=True in bbox_roi_extractor.roi_layer, or remove channels_last"
        )


def build_training_loader(dataset: Any, cfg: Any, seed: int, ranks: World) -> Any:
    """Batches of this rank, in an order of their own every epoch.

    Several ranks shuffle by mmdet's sampler, from the seed and the epoch, and share the images out; one rank shuffles
    by numpy's global generator. Worker processes draw from torch's, which `ReseedHook` seeds for each epoch and rank.
    """
    from mmdet.datasets import build_dataloader

    loader = build_dataloader(
        dataset,
        cfg.data.samples_per_gpu,
        cfg.data.workers_per_gpu,
        num_gpus=1,
        dist=ranks.size > 1,
        seed=None,
        persistent_workers=False,
    )
    if ranks.size > 1:
        # it adds the epoch: seeds side by side would share their orders
        loader.sampler.seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return loader


def _runner(
    cfg: Any,
    suite: Suite,
    variant: str,
    seed: int,
    model: torch.nn.Module,
    data_dir: Path,
    work_dir: Path,
    logger: Any,
    log: Any,
    ranks: World,
    on_validation: Callable[[int, dict[str, float]], None] | None,
) -> Any:
    from mmcv.runner import DistSamplerSeedHook, build_optimizer

    from experiments.evaluation.inference import detect
    from experiments.evaluation.metrics import Detections, evaluate_detections
    from experiments.training.runner import (
        AverageBuffersHook,
        MetricsHook,
        ReseedHook,
        Runner,
        SaveStateHook,
        ValidatedHook,
        ValidationHook,
    )

    precision = read_precision(cfg, variant)
    use_precision(model, precision)
    wrapped = parallel(model, ranks)
    validation, batch_size = suite.validation, suite.inference.batch_size
    tune, setting = build_split(cfg, data_dir, validation.split, validation.images), default_setting(cfg)

    share = share_of(tune, ranks, batch_size)

    def evaluate(module: torch.nn.Module) -> dict[str, float | None] | None:
        found = detect(module, share, [setting], batch_size=batch_size, workers=cfg.data.workers_per_gpu)
        shares = ranks.gather(found[setting.name])
        if shares is None:
            return None
        return evaluate_detections(tune.coco, Detections.concatenate(shares), tune.img_ids).metrics

    runner = Runner(
        wrapped,
        optimizer=build_optimizer(model, cfg.optimizer),
        work_dir=str(work_dir),
        logger=logger,
        meta={},
        max_epochs=cfg.runner.max_epochs,
    )
    optimizer_config = cfg.optimizer_config
    if precision == "fp16":
        runner.scaler = torch.amp.GradScaler(ranks.device.type)
        optimizer_config = ScaledOptimizerHook(runner.scaler, grad_clip=cfg.optimizer_config.get("grad_clip"))
    runner.register_training_hooks(cfg.lr_config, optimizer_config=optimizer_config)
    runner.register_hook(ReseedHook(seed, ranks.rank), priority="VERY_HIGH")
    if ranks.size > 1:
        runner.register_hook(DistSamplerSeedHook(), priority="VERY_HIGH")
        runner.register_hook(AverageBuffersHook(average_buffers), priority="LOW")
    runner.register_hook(MetricsHook(log, cfg.log_interval), priority="VERY_LOW")
    runner.register_hook(ValidationHook(evaluate, log), priority="VERY_LOW")
    if ranks.rank == 0:
        runner.register_hook(SaveStateHook(), priority="LOWEST")
    if on_validation is not None and ranks.rank == 0:  # last of all: the epoch is saved by then
        runner.register_hook(ValidatedHook(log, on_validation), priority="LOWEST")
    return runner


def _resumable(work_dir: Path, identity: dict[str, Any], logger: Any) -> dict[str, Any] | None:
    """The newest whole state of this very training; states of another one are dropped."""
    from experiments.training.runner import saved_states

    for path in saved_states(work_dir):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            logger.warning(f"{path} is damaged ({error}): going back one epoch")
            path.unlink()
            continue
        if {key: state["meta"].get(key) for key in identity} == identity:
            return state
        logger.info(f"{path} belongs to another config, seed or dataset: starting over")
        path.unlink()
    (work_dir / METRICS).unlink(missing_ok=True)
    return None


def _replay_validations(path: Path, on_validation: Callable[[int, dict[str, float]], None] | None) -> None:
    from experiments.training.runner import validation_of

    if on_validation is not None:
        for row in read_metrics(path):
            if validation := validation_of(row):
                on_validation(int(row["epoch"]), validation)


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Curves as a wide CSV: one row per logged step, blank where a row has no value."""
    columns = list(dict.fromkeys(["step", "epoch", *(key for row in rows for key in row)]))
    with atomic(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _logger(work_dir: Path) -> logging.Logger:
    logger = logging.getLogger("iounet")
    logger.setLevel(logging.INFO)
    logger.handlers = [logging.StreamHandler(sys.stderr), logging.FileHandler(work_dir / "train.log")]
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.propagate = False
    return logger


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train one variant of a suite with one seed.")
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--variant", required=True, help="a variant of the suite, or 'pretraining'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, help="default: where the workflow puts it")
    parser.add_argument("--data-dir", type=Path, help="default: the suite's data folder")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        suite = load_suite(options.suite)
        suite.variant(options.variant)
        root = suite.layout.root
        own = root / "pretraining"
        pretraining = (
            own / "checkpoint.pth" if options.variant != "pretraining" and suite.pretraining is not None else None
        )
        work_dir = own if options.variant == "pretraining" else root / "runs" / options.variant / f"seed{options.seed}"
        train(
            suite,
            options.variant,
            options.seed,
            work_dir=options.work_dir or work_dir,
            data_dir=options.data_dir or root / "data",
            pretraining=pretraining,
            threads=options.threads,
        )
    except SuiteError as error:
        sys.exit(f"error: {error}" if world().rank == 0 else 1)


if __name__ == "__main__":
    main()
