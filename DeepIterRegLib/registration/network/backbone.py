"""ResNet18 (He et al. 2016) for two-dimensional images, its parts named as in MONAI.

MONAI has the same network; importing that package takes 4.6 s and 200 MB for these few lines, before the first pose is asked.
Weights go from one to the other as they are, and a test holds the two to the same answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEATURES = 512
# Features that go into and come out of each of the four layers; all but the first halve the image.
_LAYERS = ((64, 64), (64, 128), (128, 256), (256, FEATURES))


class Block(nn.Module):
    """Two convolutions and a way around them, which is a convolution of one pixel where the size changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        around = (nn.Conv2d(before, after, 1, stride), nn.BatchNorm2d(after)) if stride > 1 else ()
        self.downsample = nn.Sequential(*around)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, after, rows / stride, columns / stride)."""
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(images)))))
        return torch.relu(inner + self.downsample(images))


class ResNet18(nn.Sequential):
    """Features (B, 512) of images (B, `channels`, rows, columns); rows and columns at least 32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _LAYERS[0][0], 7, 2, 3, bias=False)
        self.bn1, self.act, self.maxpool = nn.BatchNorm2d(_LAYERS[0][0]), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        for number, (before, after) in enumerate(_LAYERS, start=1):
            first = Block(before, after, 1 if before == after else 2)
            self.add_module(f"layer{number}", nn.Sequential(first, Block(after, after, 1)))
        self.avgpool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
