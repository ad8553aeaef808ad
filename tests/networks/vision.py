"""Small networks for pictures with random weights, one of each kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VISION"]

Feeds = tuple[Tensor, ...]
Made = Callable[[], tuple[nn.Module, Feeds]]


def conv(
    a: int, b: int, k: int = 3, s: int = 1, g: int = 1, act: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """A convolution with its norm and activation."""
    return nn.Sequential(
        nn.Conv2d(a, b, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(b), act()
    )


class Add(nn.Module):
    """The input plus what a branch makes of it."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.branch(x))


class Join(nn.Module):
    """What several branches make of the input, one behind the other along the channels."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Excite(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, c: int, gate: Callable[[], nn.Module] = nn.Sigmoid) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def head(c: int, classes: int = 10) -> list[nn.Module]:
    """Pooling, flattening and the last layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes)]


def plain(*layers: nn.Module, size: int = 16, channels: int = 3) -> tuple[nn.Module, Feeds]:
    """Layers in a row, fed with a picture."""
    return nn.Sequential(*layers), (torch.randn(1, channels, size, size),)


def resnet() -> tuple[nn.Module, Feeds]:
    def block(a: int, b: int, s: int) -> nn.Module:
        branch = nn.Sequential(conv(a, b, 3, s), conv(b, b, act=nn.Identity))
        return Add(branch, None if a == b else conv(a, b, 1, s, act=nn.Identity))

    return plain(conv(3, 8), block(8, 8, 1), block(8, 16, 2), block(16, 16, 1), *head(16))


def bottleneck(groups: int, width: int, excite: bool = False) -> Made:
    def block(a: int, b: int, s: int) -> nn.Module:
        layers: list[nn.Module] = [conv(a, width, 1), conv(width, width, 3, s, groups)]
        layers += [Excite(width)] if excite else []
        branch = nn.Sequential(*layers, conv(width, b, 1, act=nn.Identity))
        return Add(branch, None if a == b else conv(a, b, 1, s, act=nn.Identity))

    return lambda: plain(conv(3, 16), block(16, 16, 1), block(16, 32, 2), *head(32))


class PreNorm(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c), nn.ReLU(),
            nn.Conv2d(c, c, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def densenet() -> tuple[nn.Module, Feeds]:
    def layer(c: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 16, 1), conv(16, 4))

    stem = [conv(3, 8)] + [Join([nn.Identity(), layer(8 + 4 * k)]) for k in range(3)]
    transition = [conv(20, 10, 1), nn.AvgPool2d(2)]
    rest = [Join([nn.Identity(), layer(10 + 4 * k)]) for k in range(2)]
    return plain(*stem, *transition, *rest, *head(18))


def mobilenet_v1() -> tuple[nn.Module, Feeds]:
    def separable(a: int, b: int, s: int) -> nn.Module:
        return nn.Sequential(conv(a, a, 3, s, a), conv(a, b, 1))

    return plain(conv(3, 8, 3, 2), separable(8, 16, 1), separable(16, 32, 2), *head(32))


class Inverted(nn.Module):
    def __init__(
        self,
        a: int,
        b: int,
        s: int,
        act: Callable[[], nn.Module],
        se: Callable[[], nn.Module] | None,
    ) -> None:
        super().__init__()
        wide = 3 * a
        layers = [conv(a, wide, 1, act=act), conv(wide, wide, 3, s, wide, act)]
        gate = [] if se is None else [Excite(wide, se)]
        self.branch = nn.Sequential(*layers, *gate, conv(wide, b, 1, act=nn.Identity))
        self.same = a == b and s == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.same else self.branch(x)


def inverted(act: Callable[[], nn.Module], se: Callable[[], nn.Module] | None) -> Made:
    def make() -> tuple[nn.Module, Feeds]:
        blocks = [
            Inverted(8, 8, 1, act, se),
            Inverted(8, 16, 2, act, se),
            Inverted(16, 16, 1, act, se),
        ]
        return plain(
            conv(3, 8, 3, 2, act=act), *blocks, conv(16, 32, 1, act=act), *head(32), size=32
        )

    return make


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class ShuffleUnit(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        half = c // 2
        self.branch = nn.Sequential(
            conv(half, half, 1), conv(half, half, 3, 1, half, nn.Identity), conv(half, half, 1)
        )
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return self.shuffle(torch.cat([a, self.branch(b)], 1))


def shufflenet_v1() -> tuple[nn.Module, Feeds]:
    branch = nn.Sequential(
        conv(24, 12, 1, 1, 3), Shuffle(3), conv(12, 12, 3, 1, 12, nn.Identity),
        conv(12, 24, 1, 1, 3, nn.Identity),
    )  # fmt: skip
    return plain(conv(3, 24), Add(branch), conv(24, 16, 1), *head(16))


def squeezenet() -> tuple[nn.Module, Feeds]:
    def fire(a: int, s: int, e: int) -> nn.Module:
        squeeze = nn.Sequential(nn.Conv2d(a, s, 1), nn.ReLU())
        parts = Join([nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1)])
        return nn.Sequential(squeeze, parts, nn.ReLU())

    tail = [nn.Conv2d(24, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return plain(
        nn.Conv2d(3, 12, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        fire(12, 4, 8),
        fire(16, 6, 12),
        *tail,
        size=32,
    )


def inception() -> tuple[nn.Module, Feeds]:
    def block(a: int) -> nn.Module:
        pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(a, 4, 1))
        return Join([conv(a, 6, 1), nn.Sequential(conv(a, 4, 1), conv(4, 8)),
                     nn.Sequential(conv(a, 4, 1), conv(4, 6, 5)), pool])  # fmt: skip

    return plain(conv(3, 12, 3, 2), block(12), block(24), *head(24))


def vgg() -> tuple[nn.Module, Feeds]:
    features = [conv(3, 8), conv(8, 8), nn.MaxPool2d(2), conv(8, 16), nn.MaxPool2d(2)]
    return plain(*features, nn.Flatten(), nn.Linear(16 * 4 * 4, 32), nn.ReLU(), nn.Dropout(),
                 nn.Linear(32, 10))  # fmt: skip


def alexnet() -> tuple[nn.Module, Feeds]:
    features = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.LocalResponseNorm(3)]
    features += [nn.Conv2d(8, 16, 3, 1, 1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    features += [nn.Conv2d(16, 16, 3, 1, 1, groups=2), nn.ReLU()]
    return plain(*features, nn.Flatten(), nn.Linear(16 * 9, 24), nn.ReLU(), nn.Linear(24, 10))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv(3, 8), conv(8, 16)])
        self.middle = conv(16, 32)
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.join = nn.ModuleList([conv(32, 16), conv(16, 8)])
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), kept.pop()], 1))
        return self.last(x)


class Boxes(nn.Module):
    """Heads as of SSD: boxes and scores of two maps, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 8, 3, 2), conv(8, 16, 3, 2)
        self.boxes = nn.ModuleList([nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(16, 8, 3, 1, 1)])
        self.scores = nn.ModuleList([nn.Conv2d(8, 6, 3, 1, 1), nn.Conv2d(16, 6, 3, 1, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.first(x)
        maps = (a, self.second(a))

        def read(layers: nn.ModuleList, size: int) -> Tensor:
            found = [layer(m).permute(0, 2, 3, 1) for layer, m in zip(layers, maps, strict=True)]
            return torch.cat([each.reshape(each.shape[0], -1, size) for each in found], 1)

        return read(self.boxes, 4), read(self.scores, 3).softmax(-1)


class Stage(nn.Module):
    """Cross-stage partial, as of YOLO."""

    def __init__(self, c: int) -> None:
        super().__init__()
        half = c // 2
        self.a, self.b = conv(c, half, 1, act=nn.SiLU), conv(c, half, 1, act=nn.SiLU)
        self.m = nn.Sequential(conv(half, half, 1, act=nn.SiLU), conv(half, half, act=nn.SiLU))
        self.out = conv(c, c, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        return self.out(torch.cat([a + self.m(a), self.b(x)], 1))


class Yolo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 8, 3, 2, act=nn.SiLU), Stage(8), conv(8, 16, 3, 2, act=nn.SiLU)
        )
        self.stage, self.side = Stage(16), conv(16, 8, 1, act=nn.SiLU)
        self.pools = nn.MaxPool2d(5, 1, 2)
        self.low = nn.Conv2d(16, 3 * 7, 1)
        self.high = nn.Conv2d(16, 3 * 7, 1)
        self.grid: Tensor
        self.register_buffer("grid", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.body[1](self.body[0](x))
        deep = self.stage(self.body[2](fine))
        side = self.side(deep)
        pooled = torch.cat([side, self.pools(side)], 1)
        joined = torch.cat([F.interpolate(side, scale_factor=2.0), fine], 1)
        found = []
        for layer, m in ((self.low, pooled), (self.high, joined)):
            b, _, h, w = (y := layer(m)).shape
            y = y.view(b, 3, 7, h, w).permute(0, 1, 3, 4, 2).sigmoid()
            xy, wh, rest = y.split((2, 2, 3), 4)
            found.append(torch.cat([xy * 2 - 0.5, (wh * 2) ** 2, rest], 4).view(b, -1, 7))
        return torch.cat(found, 1)


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 8, 3, 2), conv(8, 16, 3, 2), conv(16, 32, 3, 2)])
        self.side = nn.ModuleList([nn.Conv2d(c, 12, 1) for c in (8, 16, 32)])
        self.out = nn.Conv2d(12, 5, 3, 1, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage, side in zip(self.stages, self.side, strict=True):
            x = stage(x)
            maps.append(side(x))
        for k in (1, 0):
            maps[k] = maps[k] + F.interpolate(maps[k + 1], scale_factor=2.0, mode="nearest")
        return [self.out(m) for m in maps]


class NextBlock(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.norm = nn.LayerNorm(c)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))
        self.scale = nn.Parameter(torch.rand(c))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.mlp(y)).permute(0, 3, 1, 2)


class Atrous(nn.Module):
    """Atrous pyramid as of DeepLab."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.rates = nn.ModuleList([nn.Conv2d(16, 8, 3, 1, r, r) for r in (1, 2, 4)])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU())
        self.project, self.last = conv(32, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        pooled = F.interpolate(
            self.pool(y), size=y.shape[-2:], mode="bilinear", align_corners=False
        )
        y = torch.cat([*(rate(y) for rate in self.rates), pooled], 1)
        return F.interpolate(
            self.last(self.project(y)), scale_factor=2.0, mode="bilinear", align_corners=False
        )


class Ghost(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.primary, self.cheap = conv(a, b // 2, 1), conv(b // 2, b // 2, 3, 1, b // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)


class Attend(nn.Module):
    """Channel attention by mean and maximum, as of CBAM."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        gate = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        return x * torch.sigmoid(gate)


class Res2(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.wide, self.out = conv(c, 16, 1), conv(16, c, 1, act=nn.Identity)
        self.parts = nn.ModuleList([conv(4, 4) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = self.wide(x).chunk(4, 1)
        made, last = [first], None
        for part, layer in zip(rest, self.parts, strict=True):
            last = layer(part if last is None else part + last)
            made.append(last)
        return torch.relu(x + self.out(torch.cat(made, 1)))


class Rep(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(c, c, 3, 1, 1), nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x) + self.b(x) + self.c(x))


class Hourglass(nn.Module):
    def __init__(self, c: int, depth: int) -> None:
        super().__init__()
        self.skip, self.low = conv(c, c), conv(c, c)
        self.inner = Hourglass(c, depth - 1) if depth > 1 else conv(c, c)

    def forward(self, x: Tensor) -> Tensor:
        low = self.inner(self.low(F.max_pool2d(x, 2)))
        return self.skip(x) + F.interpolate(low, scale_factor=2.0)


def super_resolution() -> tuple[nn.Module, Feeds]:
    up = [nn.Conv2d(8, 3 * 4, 3, 1, 1), nn.PixelShuffle(2)]
    return plain(nn.Conv2d(3, 16, 5, 1, 2), nn.Tanh(), nn.Conv2d(16, 8, 3, 1, 1), nn.Tanh(), *up)


def wide_super_resolution() -> tuple[nn.Module, Feeds]:
    up = [nn.Conv2d(8, 8 * 4, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(8)]
    return plain(nn.Conv2d(3, 8, 3, 1, 1), PreNorm(8), *up, nn.Conv2d(8, 3, 3, 1, 1))


def generator() -> tuple[nn.Module, Feeds]:
    def up(a: int, b: int, s: int = 2, p: int = 1) -> list[nn.Module]:
        return [nn.ConvTranspose2d(a, b, 4, s, p, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    layers = [*up(16, 32, 1, 0), *up(32, 16), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh()]
    return nn.Sequential(*layers), (torch.randn(1, 16, 1, 1),)


def style_generator() -> tuple[nn.Module, Feeds]:
    dense = [nn.Linear(8, 16 * 4 * 4), nn.Unflatten(1, (16, 4, 4)), nn.LeakyReLU(0.2)]
    up = [nn.Upsample(scale_factor=2), nn.Conv2d(16, 8, 3, 1, 1), nn.InstanceNorm2d(8, affine=True)]
    return nn.Sequential(*dense, *up, nn.ReLU(), nn.Conv2d(8, 3, 1)), (torch.randn(1, 8),)


def discriminator() -> tuple[nn.Module, Feeds]:
    def down(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 4, 2, 1), nn.InstanceNorm2d(b, affine=True), nn.LeakyReLU(0.2)]

    return plain(*down(3, 8), *down(8, 16), nn.Conv2d(16, 1, 4), nn.Flatten())


def video() -> tuple[nn.Module, Feeds]:
    layers = [nn.Conv3d(3, 8, 3, 1, 1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2)]
    layers += [nn.Conv3d(8, 16, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 5)), (torch.randn(1, 3, 4, 8, 8),)


def autoencoder() -> tuple[nn.Module, Feeds]:
    widths = (64, 32, 8, 32, 64)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid()), (torch.randn(1, 64),)


VISION: dict[str, Made] = {
    "ResNet": resnet,
    "ResNet with bottlenecks": bottleneck(1, 8),
    "ResNet of another order": lambda: plain(conv(3, 8), PreNorm(8), PreNorm(8), *head(8)),
    "SE-ResNet": bottleneck(1, 8, excite=True),
    "ResNeXt": bottleneck(8, 16),
    "RegNet": bottleneck(2, 16, excite=True),
    "Res2Net": lambda: plain(conv(3, 8), Res2(8), Res2(8), *head(8)),
    "RepVGG": lambda: plain(conv(3, 8), Rep(8), Rep(8), *head(8)),
    "DenseNet": densenet,
    "VGG": vgg,
    "AlexNet": alexnet,
    "SqueezeNet": squeezenet,
    "Inception": inception,
    "MobileNetV1": mobilenet_v1,
    "MobileNetV2": inverted(nn.ReLU6, None),
    "MobileNetV3": inverted(nn.Hardswish, nn.Hardsigmoid),
    "EfficientNet": inverted(nn.SiLU, nn.Sigmoid),
    "GhostNet": lambda: plain(conv(3, 8), Ghost(8, 16), Ghost(16, 16), *head(16)),
    "ShuffleNetV1": shufflenet_v1,
    "ShuffleNetV2": lambda: plain(
        conv(3, 16), ShuffleUnit(16), ShuffleUnit(16), conv(16, 32, 1), *head(32)
    ),
    "CBAM": lambda: plain(conv(3, 16), Attend(16), conv(16, 16), *head(16)),
    "ConvNeXt": lambda: plain(nn.Conv2d(3, 8, 4, 4), NextBlock(8), NextBlock(8), *head(8)),
    "U-Net": lambda: (UNet(), (torch.randn(1, 3, 16, 16),)),
    "DeepLab": lambda: (Atrous(), (torch.randn(1, 3, 16, 16),)),
    "Hourglass": lambda: plain(conv(3, 8), Hourglass(8, 2), nn.Conv2d(8, 4, 1)),
    "Feature pyramid": lambda: (Pyramid(), (torch.randn(1, 3, 32, 32),)),
    "SSD": lambda: (Boxes(), (torch.randn(1, 3, 16, 16),)),
    "YOLO": lambda: (Yolo(), (torch.randn(1, 3, 16, 16),)),
    "ESPCN": super_resolution,
    "Super-resolution with PReLU": wide_super_resolution,
    "DCGAN, generator": generator,
    "GAN of dense start": style_generator,
    "GAN, discriminator": discriminator,
    "Video": video,
    "Autoencoder": autoencoder,
}
