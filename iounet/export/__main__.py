"""``python -m iounet.export``: the refinement of a trained IoU-Net as an ONNX or .pt2 file, checked against torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmdet.models import build_detector

from iounet.export.check import check, program_of, session_of
from iounet.export.graph import OPSET, require_packages, save_onnx, save_program
from iounet.export.refiner import refiner_of

_SUFFIXES = (".onnx", ".pt2")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with a message, and leaves no file, where something is missing or the export is not what torch computes."""
    options = _parser().parse_args(arguments)
    try:
        _export(options)
    except (FileNotFoundError, ModuleNotFoundError, RuntimeError, ValueError) as error:
        raise SystemExit(f"python -m iounet.export: {error}") from error


def open_detector(config: Path, checkpoint: Path) -> Any:
    """An IoU-Net with trained weights, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the config has no IoU head, or the checkpoint does not fit it.
    """
    for path in (config, checkpoint):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    cfg = Config.fromfile(str(config))
    head = cfg.get("model", {}).get("roi_head") or {}
    if "iou_head" not in head:
        raise ValueError(f"{config}: model.roi_head has no iou_head, so there is nothing to refine with")
    detector = build_detector(cfg.model)
    try:
        detector.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # whatever a file may hold
        raise ValueError(f"{checkpoint} does not fit {config}: {error}") from error
    return detector.eval()


def _export(options: argparse.Namespace) -> None:
    out: Path = options.out
    if out.suffix not in _SUFFIXES:
        raise ValueError(f"--out {out}: its name must end in {' or '.join(_SUFFIXES)}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: no such folder: {out.parent}")
    if out.suffix == ".onnx":
        require_packages("onnx", "onnxscript", "onnxruntime")
    roi_head = open_detector(options.config, options.checkpoint).roi_head
    refiner = refiner_of(roi_head, step_size=options.step_size, num_steps=options.steps)
    unchecked = out.with_name(f".{out.stem}.unchecked{out.suffix}")
    try:
        if out.suffix == ".onnx":
            save_onnx(refiner, unchecked, options.opset)
            run, what = session_of(unchecked, refiner), f"ONNX, opset {options.opset}"
        else:
            save_program(refiner, unchecked)
            run, what = program_of(unchecked), f"torch.export, torch {torch.__version__}"
        found = check(run, roi_head, refiner)
        unchecked.replace(out)
    finally:
        unchecked.unlink(missing_ok=True)
    print(
        f"{out}  {what}, {out.stat().st_size / 1e6:.1f} MB: {refiner.num_steps} steps, step size {refiner.step_size:g}"
    )
    print(
        f"greatest difference to torch: {found.boxes:.2g} pixels, {found.ious:.2g} IoU "
        f"({found.compared} random boxes; {found.ties} left out, where rounding decides)"
    )


def _steps(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _step_size(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _opset(text: str) -> int:
    value = int(text)
    if value < 18:
        raise argparse.ArgumentTypeError(f"{value} is too old: 18 or later")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m iounet.export", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="mmdet config of the detector")
    parser.add_argument("--checkpoint", type=Path, required=True, help="its trained weights")
    parser.add_argument("--out", type=Path, required=True, help="FILE.onnx or FILE.pt2, in a folder that is there")
    parser.add_argument("--steps", type=_steps, help="number of steps (default: that of the config, or 5)")
    parser.add_argument("--step-size", type=_step_size, help="λ (default: that of the config, or 0.5)")
    parser.add_argument("--opset", type=_opset, default=OPSET, help="of ONNX (default: %(default)s)")
    return parser


if __name__ == "__main__":
    main()
