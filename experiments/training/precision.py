"""Mixed precision: which parts of a detector compute in half precision while it trains."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from mmcv.runner import OptimizerHook

from suite.errors import SuiteError

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def read_precision(cfg: Any, variant: str) -> str:
    """A config's `precision`, 'fp32' if it names none. Raises `SuiteError` for an unknown one."""
    precision = cfg.get("precision", "fp32")
    if precision not in DTYPES:
        raise SuiteError(f"the config of '{variant}': precision={precision!r} must be one of {', '.join(DTYPES)}")
    return precision


def use_precision(model: torch.nn.Module, precision: str) -> None:
    """Makes the weighted parts of an mmdet detector train under `torch.autocast`.

    Those are the backbone, the neck, and the forward of each head (those that mmdet itself marks for half precision).
    Each hands on float32: anchors, boxes, NMS, RoI pooling and losses keep full precision, as coordinates need
    (bfloat16 knows 1000 and 1004, nothing between). Weights stay float32. In evaluation mode nothing changes.
    """
    from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor

    dtype = DTYPES[precision]
    if dtype is None:
        return
    for name, module in model.named_modules():
        marked = hasattr(module, "fp16_enabled") and not isinstance(module, BaseRoIExtractor)
        if name == "backbone" or (marked and module is not model):
            module.forward = _autocast(module, module.forward, dtype)


def _autocast(module: torch.nn.Module, forward: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    @functools.wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not module.training:
            return forward(*args, **kwargs)
        with torch.autocast(next(module.parameters()).device.type, dtype=dtype):
            return _to_float32(forward(*args, **kwargs))

    return wrapper


def _to_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, (list, tuple)):
        return type(value)(map(_to_float32, value))
    if isinstance(value, dict):
        return type(value)((key, _to_float32(own)) for key, own in value.items())
    return value


class ScaledOptimizerHook(OptimizerHook):
    """mmcv's optimizer hook with the loss scaled, for float16: small gradients would otherwise round to zero.

    Args:
        scaler: skips a step whose gradients overflow and lowers the scale; its state belongs to the run's.
        grad_clip: arguments of `torch.nn.utils.clip_grad_norm_`, on the unscaled gradients.
    """

    def __init__(self, scaler: torch.amp.GradScaler, grad_clip: Any = None) -> None:
        super().__init__(grad_clip=grad_clip)
        self.scaler = scaler

    def after_train_iter(self, runner: Any) -> None:
        """Called by mmcv."""
        runner.optimizer.zero_grad()
        self.scaler.scale(runner.outputs["loss"]).backward()
        self.scaler.unscale_(runner.optimizer)
        if self.grad_clip is not None:
            norm = self.clip_grads(runner.model.parameters())
            if norm is not None and norm.isfinite():
                runner.log_buffer.update({"grad_norm": float(norm)}, runner.outputs["num_samples"])
        self.scaler.step(runner.optimizer)
        self.scaler.update()
