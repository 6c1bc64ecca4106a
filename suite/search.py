"""The training parameters that a sweep can search: to add one, add it here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchParameter:
    """One parameter of `sweep.space`, searched on a logarithmic axis between two limits in published units.

    Attributes:
        config_key: dotted key of the mmdet config that it sets; its last part is what `scale` records it under.
        label: what tables and axes call it.
        amount: for a way to sample RoIs, what a number of them is per; of several such ways a trial has one. Else ''.
        is_whole: whether it is a whole number.
    """

    config_key: str
    label: str
    amount: str = ""
    is_whole: bool = False

    @property
    def mapped_key(self) -> str:
        """Its key in a config's `mapped`, which has the published and the actual value."""
        return self.config_key.rsplit(".", 1)[-1]


_HEAD = "model.roi_head"
PARAMETERS: dict[str, SearchParameter] = {
    "loss_weight": SearchParameter(f"{_HEAD}.iou_head.loss_iou.loss_weight", "loss weight"),
    "per_img": SearchParameter(f"{_HEAD}.roi_generator.sample_num", "RoIs per image", "per image", True),
    "per_iou": SearchParameter(f"{_HEAD}.roi_generator.per_iou", "RoIs per IoU bin", "per IoU bin", True),
}
SAMPLINGS = tuple(name for name, parameter in PARAMETERS.items() if parameter.amount)
