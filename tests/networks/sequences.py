"""Small transformers and recurrent networks with random weights, one of each kind."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SEQUENCES"]

Feeds = tuple[Tensor, ...]
Made = Callable[[], tuple[nn.Module, Feeds]]
WIDTH, HEADS, TOKENS, WORDS = 16, 4, 6, 20


def tokens() -> Feeds:
    return (torch.randint(0, WORDS, (2, TOKENS)),)


def split_heads(x: Tensor, heads: int = HEADS) -> Tensor:
    """``(batch, heads, tokens, width)``."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


class Mixing(nn.Module):
    """Attention with separate projections, as of BERT; ``fused`` leaves the sums to torch."""

    def __init__(self, fused: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.fused, self.causal = fused, causal

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        other = x if other is None else other
        q, k, v = split_heads(self.q(x)), split_heads(self.k(other)), split_heads(self.v(other))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            y = scores.softmax(-1) @ v
        y = y.transpose(1, 2).contiguous()
        return self.o(y.view(*y.shape[:2], WIDTH))


def neurons(act: type[nn.Module] = nn.GELU) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), act(), nn.Linear(4 * WIDTH, WIDTH))


class Bert(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.mixing = nn.ModuleList([Mixing(fused) for _ in range(2)])
        self.neurons = nn.ModuleList([neurons() for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(4)])
        self.pooler, self.last = nn.Linear(WIDTH, 12), nn.Linear(12, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for k, (mix, mlp) in enumerate(zip(self.mixing, self.neurons, strict=True)):
            x = self.norms[2 * k](x + mix(x))
            x = self.norms[2 * k + 1](x + mlp(x))
        return self.last(torch.tanh(self.pooler(x[:, 0])))


class GptBlock(nn.Module):
    """Packed projections as a matrix product with the weight as it is, and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.packed = nn.Parameter(torch.randn(WIDTH, 3 * WIDTH) / 4)
        self.bias = nn.Parameter(torch.randn(3 * WIDTH))
        self.out, self.mlp = nn.Linear(WIDTH, WIDTH), neurons()
        self.mask: Tensor
        self.register_buffer("mask", torch.tril(torch.ones(TOKENS, TOKENS))[None, None])

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        packed = torch.addmm(self.bias, self.first(x).view(-1, c), self.packed).view(b, t, 3 * c)
        q, k, v = (split_heads(each) for each in packed.split(c, dim=2))
        scores = q @ k.transpose(-1, -2) / math.sqrt(k.shape[-1])
        scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).contiguous().view(b, t, c)
        x = x + self.out(y)
        return x + self.mlp(self.second(x))


class Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.Sequential(GptBlock(), GptBlock())
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.norm(self.blocks(x)) @ self.words.weight.T


class Root(nn.Module):
    """Norm by the root of the mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions."""
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return x * cos + torch.cat([-b, a], -1) * sin


class LlamaBlock(nn.Module):
    """Two heads of keys and values for four of queries; gated neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(WIDTH, WIDTH, False), nn.Linear(WIDTH, WIDTH, False)
        self.k, self.v = nn.Linear(WIDTH, WIDTH // 2, False), nn.Linear(WIDTH, WIDTH // 2, False)
        self.gate, self.up = nn.Linear(WIDTH, 40, False), nn.Linear(WIDTH, 40, False)
        self.down = nn.Linear(40, WIDTH, False)
        self.first, self.second = Root(), Root()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        b, t, c = x.shape
        y = self.first(x)
        q = turned(split_heads(self.q(y)), cos, sin)
        k, v = turned(split_heads(self.k(y), 2), cos, sin), split_heads(self.v(y), 2)
        width = k.shape[-1]
        k = k[:, :, None].expand(b, 2, 2, t, width).reshape(b, HEADS, t, width)
        v = v[:, :, None].expand(b, 2, 2, t, width).reshape(b, HEADS, t, width)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, c))
        y = self.second(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS, False)
        self.blocks, self.norm = nn.ModuleList([LlamaBlock(), LlamaBlock()]), Root()
        self.rates: Tensor
        self.register_buffer("rates", 1 / 100 ** (torch.arange(0, 4, 2) / 4))

    def forward(self, ids: Tensor) -> Tensor:
        angles = torch.arange(ids.shape[1]).float()[:, None] * self.rates[None]
        angles = torch.cat([angles, angles], -1)
        x = self.words(ids)
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin())
        return self.last(self.norm(x))


class T5(nn.Module):
    """Encoder and decoder with a table of relative positions; scores are not scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.table = nn.Embedding(WORDS, WIDTH), nn.Embedding(2 * TOKENS, HEADS)
        self.encoder, self.self_, self.cross = Mixing(), Mixing(), Mixing()
        self.norms = nn.ModuleList([Root() for _ in range(5)])
        self.one, self.two = neurons(nn.ReLU), neurons(nn.ReLU)
        self.last = nn.Linear(WIDTH, WORDS, False)

    def attend(self, mix: Mixing, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        bias = self.table(places[None] - places[:, None] + TOKENS).permute(2, 0, 1)[None]
        q, k, v = (split_heads(layer(x)) for layer in (mix.q, mix.k, mix.v))
        y = (q @ k.transpose(-1, -2) + bias).softmax(-1) @ v
        return mix.o(y.transpose(1, 2).reshape(x.shape[0], -1, WIDTH))

    def forward(self, ids: Tensor, made: Tensor) -> Tensor:
        x, y = self.words(ids), self.words(made)
        x = x + self.attend(self.encoder, self.norms[0](x))
        x = x + self.one(self.norms[1](x))
        y = y + self.attend(self.self_, self.norms[2](y))
        y = y + self.cross(self.norms[3](y), x)
        return self.last(y + self.two(self.norms[4](y)))


class VitBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.packed, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp, self.scale = neurons(), nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        packed = self.packed(self.first(x)).reshape(b, n, 3, HEADS, c // HEADS)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q * (c // HEADS) ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + self.scale * self.out(y.transpose(1, 2).reshape(b, n, c))
        return x + self.mlp(self.second(x))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.places = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks, self.last = nn.Sequential(VitBlock(), VitBlock()), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.places
        return self.last(self.blocks(y)[:, 0])


class SwinBlock(nn.Module):
    """Attention in windows of 4 x 4, shifted, with a table of relative positions."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.packed, self.out, self.mlp = (
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
            neurons(),
        )
        self.table = nn.Parameter(torch.randn(49, HEADS))
        at = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        away = (at[:, :, None] - at[:, None]).permute(1, 2, 0) + 3
        self.index: Tensor
        self.register_buffer("index", away[..., 0] * 7 + away[..., 1])

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        y = (
            torch.roll(self.first(x), (-self.shift, -self.shift), (1, 2))
            if self.shift
            else self.first(x)
        )
        y = y.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        packed = self.packed(y).reshape(-1, 16, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = packed[0], packed[1], packed[2]
        bias = self.table[self.index.view(-1)].view(16, 16, -1).permute(2, 0, 1)
        y = (q @ k.transpose(-2, -1) * 0.5 + bias[None]).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, 16, c))
        y = y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        y = torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y
        x = x + y
        return x + self.mlp(self.second(x))


class Swin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 2, 2)
        self.blocks = nn.Sequential(SwinBlock(0), SwinBlock(2))
        self.norm, self.merge = nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, 24, False)
        self.last = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(self.patches(x).permute(0, 2, 3, 1))
        parts = [y[:, a::2, b::2] for b in (0, 1) for a in (0, 1)]
        y = self.merge(self.norm(torch.cat(parts, -1)))
        return self.last(y.mean((1, 2)))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norms = (
            nn.Conv2d(3, WIDTH, 4, 4),
            nn.ModuleList([nn.LayerNorm(WIDTH)] * 2),
        )
        self.tokens = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.channels, self.last = neurons(), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = y + self.tokens(self.norms[0](y).transpose(1, 2)).transpose(1, 2)
        y = y + self.channels(self.norms[1](y))
        return self.last(y.mean(1))


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.words, self.layer, self.last = nn.Embedding(WORDS, 12), layer, nn.Linear(width, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(self.layer(self.words(ids))[0][:, -1])


class Reading(nn.Module):
    """Convolutions, then an LSTM along the width of the picture."""

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d((4, 2))]
        second = [nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU(), nn.MaxPool2d((4, 1))]
        self.body = nn.Sequential(*first, *second)
        self.layer = nn.LSTM(12, 10, bidirectional=True)
        self.last = nn.Linear(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).squeeze(2).permute(2, 0, 1)
        return self.last(self.layer(y)[0]).log_softmax(-1)


class Wave(nn.Module):
    """Gated dilated convolutions with skips, as of WaveNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 1)
        self.filters = nn.ModuleList([nn.Conv1d(8, 16, 2, dilation=d) for d in (1, 2, 4)])
        self.back = nn.ModuleList([nn.Conv1d(8, 8, 1) for _ in range(3)])
        self.skips = nn.ModuleList([nn.Conv1d(8, 12, 1) for _ in range(3)])
        self.last = nn.Conv1d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, total = self.first(x), torch.zeros(())
        for k, layer in enumerate(self.filters):
            gated = layer(F.pad(y, (2**k, 0)))
            a, b = gated.chunk(2, 1)
            z = torch.tanh(a) * torch.sigmoid(b)
            y, total = y + self.back[k](z), total + self.skips[k](z)
        return self.last(torch.relu(total))


class Conformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(3)])
        self.mix, self.mlp = Mixing(fused=True), neurons(nn.SiLU)
        self.one, self.two = nn.Conv1d(WIDTH, 2 * WIDTH, 1), nn.Conv1d(WIDTH, WIDTH, 1)
        self.depthwise, self.bn = (
            nn.Conv1d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH),
            nn.BatchNorm1d(WIDTH),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mlp(self.norms[0](x)) / 2
        x = x + self.mix(self.norms[1](x))
        y = F.glu(self.one(self.norms[2](x).transpose(1, 2)), 1)
        return x + self.two(F.silu(self.bn(self.depthwise(y)))).transpose(1, 2)


class Listening(nn.Module):
    """Convolutions over time in front of torch's own transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(5, WIDTH, 3, 1, 1), nn.Conv1d(WIDTH, WIDTH, 3, 2, 1)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 24, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(WIDTH, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.two(F.gelu(self.one(x)))).transpose(1, 2)
        return self.last(self.layers(y))


class Points(nn.Module):
    """Layers shared by all points, then a maximum over them, as of PointNet."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 16, 1)
        )
        self.last = nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        near = self.body[:3](x)
        whole = self.body[3](near).max(2, keepdim=True)[0].expand(-1, -1, x.shape[2])
        return self.last(torch.cat([near, whole], 1).transpose(1, 2))


def picture(size: int = 16, channels: int = 3, high: int = 0) -> Feeds:
    return (torch.randn(1, channels, high or size, size),)


SEQUENCES: dict[str, Made] = {
    "BERT": lambda: (Bert(fused=False), tokens()),
    "BERT, fused attention": lambda: (Bert(fused=True), tokens()),
    "GPT-2": lambda: (Gpt(), tokens()),
    "Llama": lambda: (Llama(), tokens()),
    "T5": lambda: (T5(), (*tokens(), *tokens())),
    "ViT": lambda: (Vit(), picture()),
    "Swin": lambda: (Swin(), picture()),
    "MLP-Mixer": lambda: (Mixer(), picture()),
    "Conformer": lambda: (Conformer(), (torch.randn(2, TOKENS, WIDTH),)),
    "Speech encoder": lambda: (Listening(), (torch.randn(2, 5, 12),)),
    "WaveNet": lambda: (Wave(), (torch.randn(1, 1, 20),)),
    "PointNet": lambda: (Points(), (torch.randn(1, 3, 9),)),
    "LSTM": lambda: (Recurrent(nn.LSTM(12, 8, 2, batch_first=True), 8), tokens()),
    "LSTM, both ways": lambda: (
        Recurrent(nn.LSTM(12, 8, 2, batch_first=True, bidirectional=True), 16), tokens()),
    "GRU": lambda: (Recurrent(nn.GRU(12, 8, batch_first=True), 8), tokens()),
    "CRNN": lambda: (Reading(), picture(20, 1, 16)),
}  # fmt: skip
