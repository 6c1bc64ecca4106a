"""Roles: which of a suite's variants stands for which published one, whatever the suite calls them.

Claims, tables and figures name published variants; `Suite.standing_for` says which of the suite's own that is. A
variant of a published name has its role by the name, any other says it (`role: main`) or has it inferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from suite.blocks import BASELINE, IOUNET, Variant
from suite.errors import SuiteError

FASTER_RCNN, FIRST, BCE = "faster_rcnn", "samp1000_lw5.0", "samp1000_lw5.0_bce"  # published names
ROLES = {  # role to the published variant
    "baseline": FASTER_RCNN,
    "main": FIRST,
    "bce": BCE,
    "per_iou_30": "max1000_lw5.0_periou30",
    "per_iou_50": "max1000_lw5.0_periou50",
    "loss_weight_10": "max1000_lw10.0_periou50",
}
_PUBLISHED = {name: role for role, name in ROLES.items()}
_INFERRED = {"baseline": BASELINE, "main": IOUNET}  # role to the family whose only candidate has it


def cast(variants: Mapping[str, Variant], source: str) -> dict[str, str]:
    """Published variant to the one of these that stands for it.

    Args:
        variants: of a suite.
        source: what messages call it.

    Raises:
        SuiteError: a role is there twice, or goes with another name or family; or it cannot be told which variant is
            the baseline, or the IoU-Net that stands for the paper's.
    """
    found: dict[str, str] = {}
    for name, variant in variants.items():
        role, own = variant.role or _PUBLISHED.get(name), _PUBLISHED.get(name, variant.role)
        where = f"{source}: variants.{name}"
        if role is None:
            continue
        if role != own:
            raise SuiteError(f"{where}.role is {role}, but this name is the published one of `{own}`: rename it")
        family = BASELINE if role == "baseline" else IOUNET
        if variant.family != family:
            raise SuiteError(f"{where}.family is {variant.family}, but a variant in the role `{role}` is {family}")
        if role in found:
            raise SuiteError(f"{where} and variants.{found[role]} both have the role `{role}`: a role has one variant")
        found[role] = name
    for role, family in _INFERRED.items():
        rest = [name for name, variant in variants.items() if variant.family == family and name not in found.values()]
        if role not in found and rest:
            found[role] = _only(rest, role, source)
    return {ROLES[role]: name for role, name in found.items()}


def _only(names: Sequence[str], role: str, source: str) -> str:
    if len(names) == 1:
        return names[0]
    what = {"baseline": "is the baseline", "main": "is the IoU-Net that the report compares with the baseline"}[role]
    raise SuiteError(
        f"{source}: variants: which of {', '.join(names)} {what}? Their names do not say it: give one `role: {role}`"
    )


def with_role(name: str) -> str:
    """A variant's name; of a published one with the role that another variant can have instead."""
    return f"{name} (role `{_PUBLISHED[name]}`)" if name in _PUBLISHED else name
