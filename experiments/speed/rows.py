"""The rows of the speed table: which variant is timed under which inference setting.

To the published rows comes one of our own, the last of them with the IoU head's hidden layers in reduced precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.config import default_setting, resolve_config
from suite.blocks import Speed
from suite.errors import NotInSuite
from suite.roles import FASTER_RCNN, FIRST
from suite.settings import Setting
from suite.suite import Suite

BASELINE = FASTER_RCNN  # key of the row that ratios are to
REFINED = "refine"
# What a row adds to, or is exchanged for, in the published table.
COMPARED_WITH = {"branch_off": BASELINE, "nms": "branch_off", "regular_nms": "nms", REFINED: "nms"}


@dataclass(frozen=True)
class TimedSetting:
    """One row of the table: a variant under an inference setting.

    Attributes:
        key: of the row, in the published table's data and in the speed file.
        fc_dtype: what the IoU head's hidden layers are computed in; None = what the config says.
    """

    key: str
    variant: str
    setting: Setting
    fc_dtype: str | None = None

    @property
    def compared_with(self) -> str | None:
        """Key of the row that this one adds to, or is exchanged for."""
        return REFINED if self.fc_dtype else COMPARED_WITH.get(self.key)


def speed_of(suite: Suite) -> Speed:
    """How inference is timed. Raises `NotInSuite` for a suite that times nothing."""
    if suite.speed is None:
        raise NotInSuite(f"suite '{suite.name}' times nothing (`speed: null`)")
    return suite.speed


def timed_variants(suite: Suite) -> tuple[str, str]:
    """The baseline and the IoU-Net whose inference is timed: what stands for the published ones.

    Raises:
        NotInSuite: the suite lacks one of them, or times nothing.
    """
    speed_of(suite)
    suite.require(FASTER_RCNN, FIRST)
    return suite.standing_for(FASTER_RCNN), suite.standing_for(FIRST)


def timed_settings(suite: Suite) -> list[TimedSetting]:
    """The rows of the published table that the suite evaluates, and, if there is a `speed.fc_dtype`, `refine` in it.

    Raises:
        NotInSuite: as `timed_variants`.
    """
    baseline, iounet = timed_variants(suite)
    step_size = default_setting(resolve_config(suite, iounet)).step_size
    refined, fc_dtype = Setting("rank", step_size, suite.inference.num_steps), speed_of(suite).fc_dtype
    rows = [
        TimedSetting("faster_rcnn", baseline, Setting()),
        TimedSetting("branch_off", iounet, Setting()),
        TimedSetting("nms", iounet, Setting("rank")),
        TimedSetting("regular_nms", iounet, Setting("none")),
        TimedSetting(REFINED, iounet, refined),
        *([TimedSetting(f"{REFINED}_{fc_dtype}", iounet, refined, fc_dtype)] if fc_dtype else []),
    ]
    evaluated = {setting.name for setting in suite.settings(iounet)}
    return [row for row in rows if row.setting.name in evaluated]
