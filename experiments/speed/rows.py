"""The rows of the speed table: which variant is timed under which inference setting.

To the published rows comes one of our own, the last of them with the IoU head's hidden layers in reduced precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.config import default_setting, resolve_config
from suite.settings import Setting
from suite.suite import Suite

BASELINE, IOUNET = "faster_rcnn", "samp1000_lw5.0"
VARIANTS = (BASELINE, IOUNET)
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


def timed_settings(suite: Suite) -> list[TimedSetting]:
    """The rows of the published table that the suite trains and evaluates, and `refine` again in `speed.fc_dtype`.

    None without the two variants.
    """
    if not set(VARIANTS) <= set(suite.variants):
        return []
    step_size = default_setting(resolve_config(suite, IOUNET)).step_size
    refined, fc_dtype = Setting("rank", step_size, suite.inference.num_steps), suite.speed.fc_dtype
    rows = [
        TimedSetting("faster_rcnn", BASELINE, Setting()),
        TimedSetting("branch_off", IOUNET, Setting()),
        TimedSetting("nms", IOUNET, Setting("rank")),
        TimedSetting("regular_nms", IOUNET, Setting("none")),
        TimedSetting(REFINED, IOUNET, refined),
        TimedSetting(f"{REFINED}_{fc_dtype}", IOUNET, refined, fc_dtype),
    ]
    evaluated = {setting.name for setting in suite.settings(IOUNET)}
    return [row for row in rows if row.setting.name in evaluated]
