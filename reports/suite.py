"""The keys of a suite's YAML that a report reads, and the names of inference settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from reports.errors import NotInSuite, ReportError


def setting_name(guide: str | None, step_size: float | None = None) -> str:
    """Name of an inference setting: `off`, `<guide>` or `<guide>_refine<λ>` with the actual λ.

    Args:
        guide: 'rank', 'weight' or 'none'; None when the IoU branch is off.
        step_size: actual λ of the refinement, or None without refinement.

    Returns:
        The stem of the setting's evaluation file.
    """
    if guide is None:
        return "off"
    return guide if step_size is None else f"{guide}_refine{step_size:g}"


@dataclass(frozen=True)
class Suite:
    """What a report needs to know of a suite.

    Attributes:
        guides: NMS guide to the actual λ that its refinement is evaluated with.
    """

    name: str
    title: str
    description: str
    seeds: tuple[int, ...]
    split: str
    scale: Mapping[str, float]
    variants: Mapping[str, Mapping[str, Any]]
    guides: Mapping[str, tuple[float, ...]]
    validation: Mapping[str, Any] = field(default_factory=dict)
    untrained: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    path: Path = field(default=Path())

    def setting(self, guide: str | None, published_step_size: float | None = None) -> str:
        """Name of the setting that stands for a published one: published λ × `scale.step_size`.

        Raises:
            NotInSuite: the suite evaluates no such setting.
        """
        if guide is None:
            return setting_name(None)
        if guide not in self.guides:
            raise NotInSuite(f"NMS guide '{guide}' is not in inference.guides of suite '{self.name}'")
        if published_step_size is None:
            return setting_name(guide)
        step_size = published_step_size * self.scale["step_size"]
        if not any(abs(step_size - other) < 1e-9 for other in self.guides[guide]):
            wanted = f"λ = {published_step_size:g} (here {step_size:g})"
            raise NotInSuite(f"{wanted} is not in inference.guides.{guide} of suite '{self.name}'")
        return setting_name(guide, step_size)

    @property
    def settings(self) -> list[str]:
        """Every inference setting that the suite evaluates an IoU-Net with; a baseline has `off` only."""
        names = [setting_name(guide, step) for guide, steps in self.guides.items() for step in (None, *steps)]
        return [setting_name(None), *names]

    def require(self, *variants: str) -> None:
        """Check that the suite has these variants.

        Raises:
            NotInSuite: naming those that are missing.
        """
        missing = [variant for variant in variants if variant not in self.variants]
        if missing:
            raise NotInSuite(f"not in suite '{self.name}': {', '.join(missing)}")


def load_suite(path: Path, seeds: list[int] | None = None) -> Suite:
    """Read the suite's YAML.

    Args:
        path: the YAML file.
        seeds: report these seeds in place of the suite's.

    Raises:
        ReportError: no such file, not YAML, or a key is missing or of the wrong kind.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{path}: no such suite file") from None
    except yaml.YAMLError as error:
        raise ReportError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ReportError(f"{path}: expected a mapping of keys, found {type(raw).__name__}")

    def need(key: str, kind: type | tuple[type, ...]) -> Any:
        value: Any = raw
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ReportError(f"{path}: key '{key}' is missing")
            value = value[part]
        if not isinstance(value, kind):
            raise ReportError(f"{path}: key '{key}' has an unexpected value: {value!r}")
        return value

    own_seeds = need("seeds", list)
    if not own_seeds or not all(isinstance(seed, int) for seed in own_seeds):
        raise ReportError(f"{path}: key 'seeds' must be a non-empty list of integers, found {own_seeds!r}")
    scale = {"loss_weight": 1.0, "smooth_l1_beta": 1.0, "rois": 1.0, "step_size": 1.0}
    scale.update({key: float(value) for key, value in (raw.get("scale") or {}).items()})
    return Suite(
        name=need("suite", str),
        title=need("title", str),
        description=" ".join(need("description", str).split()),
        seeds=tuple(seeds or own_seeds),
        split=need("report_split", str),
        scale=scale,
        variants=need("variants", dict),
        guides={guide: tuple(map(float, steps)) for guide, steps in need("inference.guides", dict).items()},
        validation=raw.get("validation") or {},
        untrained=raw.get("untrained") or {},
        path=path,
    )
