"""ResNets of any width, of torchvision's blocks and with its names of parameters."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

BLOCKS: dict[int, tuple[Any, tuple[int, int, int, int]]] = {  # depth to the kind of block, and how many in each stage
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
STEM_STRIDE = 4


class ResNet(nn.Module):
    """The convolutions of a ResNet: an image in, the map of every stage out.

    With 64 base channels and four stages it takes torchvision's weights.

    Args:
        depth: 18, 34, 50, 101 or 152.
        base_channels: width of the stem and, inside its blocks, of the first stage; each stage doubles it.
        num_stages: 1 to 4; the last map has a stride of 2 ** (num_stages + 1).
        frozen_stages: the stem and so many stages are not trained; 0 is the stem alone, -1 nothing.
        norm_eval: batch norms use their running statistics in training, too: for weights that were trained before.

    Attributes:
        out_channels: of each map.
        strides: image pixels per cell of each map.

    Raises:
        ValueError: for a depth or a number of stages that there is not.
    """

    def __init__(
        self,
        depth: int = 50,
        base_channels: int = 64,
        num_stages: int = 4,
        frozen_stages: int = -1,
        norm_eval: bool = True,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth={depth} is unknown: choose one of {', '.join(map(str, BLOCKS))}")
        if not 1 <= num_stages <= 4:
            raise ValueError(f"num_stages={num_stages} must be from 1 to 4")
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(f"frozen_stages={frozen_stages} must be from -1 to num_stages={num_stages}")
        block, counts = BLOCKS[depth]
        self.num_stages, self.frozen_stages, self.norm_eval = num_stages, frozen_stages, norm_eval
        self.conv1 = nn.Conv2d(3, base_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        channels = base_channels
        self.out_channels: list[int] = []
        for stage in range(num_stages):
            width = base_channels * 2**stage
            self.add_module(f"layer{stage + 1}", _stage(block, channels, width, counts[stage], 1 if stage == 0 else 2))
            channels = width * block.expansion
            self.out_channels.append(channels)
        self.strides = [STEM_STRIDE * 2**stage for stage in range(num_stages)]
        for part in self._frozen():
            part.requires_grad_(False)

    def reset_parameters(self) -> None:
        """Draws the first weights, as torchvision does; a block begins as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``Tensor[N, 3, H, W]`` to a map ``Tensor[N, Cl, Hl, Wl]`` of each stage, finest first."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        maps = []
        for stage in range(self.num_stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            maps.append(x)
        return maps

    def train(self, mode: bool = True) -> ResNet:
        """As any module, but for what ``frozen_stages`` and ``norm_eval`` keep in evaluation mode."""
        super().train(mode)
        if mode:
            for part in self._frozen():
                part.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stages = [self.get_submodule(f"layer{stage + 1}") for stage in range(self.frozen_stages)]
        return [self.conv1, self.bn1, *stages]


def _stage(block: Any, channels: int, width: int, count: int, stride: int) -> nn.Sequential:
    out = width * block.expansion
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
    return nn.Sequential(
        block(channels, width, stride=stride, downsample=shortcut), *(block(out, width) for _ in range(count - 1))
    )
