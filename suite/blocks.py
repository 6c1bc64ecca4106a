"""The blocks of a suite's YAML, typed and frozen, under the names that `schema.yaml` describes them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from suite.settings import StepSize

BASELINE, IOUNET = "baseline", "iounet"  # families
FROM_SCRATCH = "none"  # as a backbone's weights: it starts from random ones


@dataclass(frozen=True)
class GeneratedSplit:
    """A split of generated images: how many, and how crowded (`normal` or `hard`)."""

    images: int
    difficulty: str


@dataclass(frozen=True)
class GeneratedData:
    """A `dataset` whose images are made here.

    Attributes:
        image_size: side of the square images in pixels.
        objects: smallest and largest number of objects in an image.
        sizes: smallest and largest object size in pixels.
        classes: smallest and largest number of classes in an image.
        neighbours: share of the objects that are set beside one of their class.
    """

    splits: Mapping[str, GeneratedSplit]
    generator: str
    image_size: int
    seed: int
    objects: tuple[int, int]
    sizes: tuple[float, float]
    classes: tuple[int, int]
    neighbours: float


@dataclass(frozen=True)
class FolderSplit:
    """A split of a folder: with files of its own, joined from members that have them, or cut from another split.

    Attributes:
        annotations, images, list: paths below the data set's root; None = the format's default. The modules of
            `experiments/data/formats` say what each of them is.
        count: number of images there must be; None = whatever there is.
        join: name of each member to its files; empty for a split that is not joined.
        origin: the split that the images are cut from (YAML: `from`); None for a split that is not cut.
        take: images to cut: a number, or below 1 a share; 0 for a split that is not cut.
        held_out: `always` = no training sees the images, `sweep` = those of a sweep do not.
    """

    annotations: str | None = None
    images: str | None = None
    list: str | None = None
    count: int | None = None
    join: Mapping[str, FolderSplit] = field(default_factory=dict)
    origin: str | None = None
    take: float = 0
    held_out: str = "always"


@dataclass(frozen=True)
class FolderData:
    """A `dataset` whose images lie in a folder.

    Attributes:
        format: of the annotations; `experiments/data/formats/<format>.py` reads it.
        root: folder that the paths of the splits start from, as written (`~`, `$VARIABLES`).
        download: entry of `experiments/data/download/downloads.yaml` that fetches it.
        num_categories: classes that `train` must have; None = whatever it has.
        masks: whether segmentations are kept.
        on_damaged: 'stop' at a missing or damaged image, or 'skip' it.
    """

    splits: Mapping[str, FolderSplit]
    format: str
    root: str
    download: str | None = None
    num_categories: int | None = None
    masks: bool = False
    on_damaged: str = "stop"

    def without(self, trained: str, unseen: str) -> str:
        """The split to train on in place of `trained` so that no image of `unseen` is seen.

        It is `trained` itself unless `unseen` is cut from it with `held_out: sweep`.
        """
        split = self.splits.get(unseen, FolderSplit())
        return f"{trained}without{unseen}" if (split.origin, split.held_out) == (trained, "sweep") else trained


@dataclass(frozen=True)
class Training:
    """What the suite changes in the configs of all its variants; None = nothing.

    Attributes:
        epochs: length of a training.
        image_size: largest long and short side of the network's input in pixels.
        images_per_gpu: images of a batch on each GPU.
        backbone_weights: local file of the backbone's weights, or `FROM_SCRATCH`.
        split: to train on, in place of the one that each config names.
    """

    epochs: int | None = None
    image_size: tuple[int, int] | None = None
    images_per_gpu: int | None = None
    backbone_weights: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Variant:
    """What is trained: an mmdet config, and whether it has an IoU branch (`iounet`) or not (`baseline`).

    Attributes:
        seed: of the pretraining, which is trained once.
        role: key of `suite.roles.ROLES`; None = as its name says, or none.
    """

    config: str
    family: str
    seed: int = 0
    role: str | None = None

    @property
    def has_iou_branch(self) -> bool:
        """Whether it has an IoU branch."""
        return self.family == IOUNET


@dataclass(frozen=True)
class Detector:
    """A detector whose boxes a refiner is given: an mmdet config without an IoU branch, and its name in the report."""

    config: str
    label: str


@dataclass(frozen=True)
class Untrained:
    """A config that belongs to the suite but is not trained by it, its name in the report, and why."""

    config: str
    label: str
    reason: str


@dataclass(frozen=True)
class Scale:
    """Published value × factor = value used in the suite, for every variant.

    Attributes:
        rois_per_iou: of `per_iou`, a number per ground truth; `rois` is of the numbers per image.
    """

    loss_weight: float
    smooth_l1_beta: float
    rois: float
    rois_per_iou: float
    step_size: float

    def step(self, published: float) -> StepSize:
        """The λ with this published value."""
        return StepSize.of_published(published, self.step_size)


@dataclass(frozen=True)
class Validation:
    """What is evaluated after every epoch: the first `images` of a split that is never reported."""

    split: str
    images: int


@dataclass(frozen=True)
class Resources:
    """What one training asks of the machine or the cluster; `runtime` in minutes, `mem_mb` in MB."""

    gpus: int
    cpus: int
    mem_mb: int
    runtime: int


@dataclass(frozen=True)
class Inference:
    """Settings evaluated on every IoU-Net checkpoint.

    Attributes:
        step_sizes: NMS guide to the λ that its refinement is evaluated with, beside itself without refinement.
        parts: NMS guide to the λ whose refinement is also evaluated in its two parts.
        num_steps: largest number of refinement steps.
        batch_size: images per forward pass.
    """

    step_sizes: Mapping[str, tuple[StepSize, ...]]
    parts: Mapping[str, StepSize]
    num_steps: int
    batch_size: int


@dataclass(frozen=True)
class Speed:
    """How inference is timed; see schema.yaml."""

    device: str
    threads: int
    rounds: int
    images: int
    fc_dtype: str | None


@dataclass(frozen=True)
class Sampler:
    """Of Optuna's TPESampler."""

    startup_trials: int
    candidates: int


@dataclass(frozen=True)
class Pruner:
    """Of Optuna's MedianPruner."""

    startup_trials: int
    warmup_epochs: int


@dataclass(frozen=True)
class SweepSettings:
    """The hyper-parameter search.

    Attributes:
        base: the IoU-Net variant that a trial changes.
        published: variants whose settings are tried first, after the base's.
        space: name of a `suite.search.PARAMETERS` to its smallest and largest value, in published units.
        guides, step_sizes: every trial's checkpoint is evaluated with each pair; a λ of 0 = no refinement.
        trials: budget of complete trials.
        heartbeat: seconds between signs of life of a trial in a database.
    """

    name: str
    base: str
    published: tuple[str, ...]
    space: Mapping[str, tuple[float, float]]
    guides: tuple[str, ...]
    step_sizes: tuple[StepSize, ...]
    trials: int
    workers: int
    epochs: int
    seed: int
    split: str
    sampler: Sampler
    pruner: Pruner
    heartbeat: int
