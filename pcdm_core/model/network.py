"""The U-Net of one scale."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdm_core.model.config import NetworkConfig

__all__ = ["UNet"]


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that starts as zero, so that every residual block starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _groups(channels: int) -> int:
    """Groups of a normalisation: about eight channels each."""
    return next(g for g in range(max(1, channels // 8), 0, -1) if channels % g == 0)


class _ResidualBlock(nn.Module):
    """Two convolutions; the noise level scales and shifts what lies between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_groups(inputs), inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(_groups(outputs), outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return torch.as_tensor(self.skip(x) + self.conv2(self.dropout(functional.silu(h))))


class _Attention(nn.Module):
    """Self-attention between all places, one head for every 64 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // 64)
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.inputs(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        return x + torch.as_tensor(self.output(mixed.reshape(batch, channels, height, width)))


class UNet(nn.Module):
    """Residual U-Net, told the noise level by scaling and shifting; attention, if any, in the middle only.

    The first and the last convolution run in float32 even under autocast: at little noise the signal is in the last
    digits of the input.
    """

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        embedding = 4 * config.channels
        self.frequencies = config.channels // 2
        self.embed = nn.Sequential(
            nn.Linear(2 * self.frequencies, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

        def block(channels_in: int, channels_out: int) -> _ResidualBlock:
            return _ResidualBlock(channels_in, channels_out, embedding, config.dropout)

        self.first = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        skips = [widths[0]]
        width = widths[0]
        for level, target in enumerate(widths):
            if level:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(config.blocks):
                self.down.append(block(width, target))
                width = target
                skips.append(width)
        self.middle1 = block(width, width)
        self.attention = _Attention(width) if config.attention else nn.Identity()
        self.middle2 = block(width, width)
        self.up = nn.ModuleList()
        for level, target in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(block(width + skips.pop(), target))
                width = target
            if level:
                self.up.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.norm = nn.GroupNorm(_groups(width), width)
        self.last = _zero(nn.Conv2d(width, outputs, 3, padding=1))

    def _embedding(self, level: Tensor) -> Tensor:
        """Sinusoidal features of the noise level, ``[B]`` in about [0, 1], through a small network."""
        exponents = torch.arange(self.frequencies, device=level.device) / max(1, self.frequencies - 1)
        angles = 1000.0 * level[:, None] * torch.exp(-log(1000.0) * exponents)
        return functional.silu(torch.as_tensor(self.embed(torch.cat((angles.sin(), angles.cos()), dim=1))))

    def forward(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Map inputs ``[B, inputs, H, W]`` at noise levels ``[B]``.

        Returns:
            Outputs ``[B, outputs, H, W]``, float32; and what comes out of the middle, ``[B, channels, h, w]``.
        """
        embedding = self._embedding(level)
        with torch.autocast(x.device.type, enabled=False):
            h = self.first(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, _ResidualBlock) else layer(h)
            skips.append(h)
        middle = h = self.middle2(self.attention(self.middle1(h, embedding)), embedding)
        for layer in self.up:
            if isinstance(layer, _ResidualBlock):
                h = layer(torch.cat((h, skips.pop()), dim=1), embedding)
            else:
                h = layer(h)
        with torch.autocast(x.device.type, enabled=False):
            return self.last(functional.silu(self.norm(h.float()))), middle
