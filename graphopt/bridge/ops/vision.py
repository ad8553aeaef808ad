"""Sampling of pictures at places that are computed, and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.arguments import dims, scalar
from graphopt.bridge.ops.table import op

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@op("GridSample", 16, 20, 22)
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    """GridSample-22, over two or three spatial axes."""
    return functional.grid_sample(
        x, grid, _MODES.get(mode, mode), padding_mode, bool(align_corners)
    )


@op("AffineGrid", 20, host=(1,))
def affine_grid(theta: Tensor, size: Tensor, *, align_corners: int = 0) -> Tensor:
    """AffineGrid-20."""
    return functional.affine_grid(theta, dims(size), bool(align_corners))


@op("RoiAlign", 10, 16, 22)
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    version: int,
    coordinate_transformation_mode: str | None = None,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """RoiAlign-22: mean or maximum of bilinear samples in each bin of each region."""
    default = "half_pixel" if version >= 16 else "output_half_pixel"
    half_pixel = (coordinate_transformation_mode or default) == "half_pixel"
    pooled = []
    for box, batch in zip(rois, dims(batch_indices), strict=True):
        left, top, right, bottom = (box * spatial_scale - (0.5 if half_pixel else 0.0)).unbind()
        height, width = bottom - top, right - left
        if not half_pixel:
            height, width = height.clamp(min=1.0), width.clamp(min=1.0)
        rows = _samples(top, height, output_height, sampling_ratio)
        columns = _samples(left, width, output_width, sampling_ratio)
        taps = _bilinear_taps(x[batch], rows.reshape(-1), columns.reshape(-1))
        shape = (*rows.shape, *columns.shape)
        if mode == "avg":
            pooled.append(sum(taps, torch.zeros((), device=x.device)).reshape(-1, *shape))
            pooled[-1] = pooled[-1].mean((2, 4))
        else:  # the maximum is taken over the weighted corners, not over their sum
            pooled.append(torch.stack(taps).amax(0).reshape(-1, *shape).amax((2, 4)))
    return (
        torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], output_height, output_width)
    )


def _samples(start: Tensor, length: Tensor, bins: int, ratio: int) -> Tensor:
    """Coordinates ``(bins, samples)`` along one side of a region."""
    count = ratio if ratio > 0 else max(1, int(torch.ceil(length / bins)))
    each = (torch.arange(count, device=start.device) + 0.5) / count
    return start + (torch.arange(bins, device=start.device)[:, None] + each) * length / bins


def _bilinear_taps(picture: Tensor, rows: Tensor, columns: Tensor) -> list[Tensor]:
    """The four weighted corners ``(channels, rows, columns)`` of each sample, zero far outside."""
    height, width = picture.shape[1:]
    y_places, y_weights = _corners(rows, height)
    x_places, x_weights = _corners(columns, width)
    return [
        picture[:, y][:, :, x] * (wy[:, None] * wx)
        for y, wy in zip(y_places, y_weights, strict=True)
        for x, wx in zip(x_places, x_weights, strict=True)
    ]


def _corners(at: Tensor, size: int) -> tuple[list[Tensor], list[Tensor]]:
    inside = ((at >= -1) & (at <= size)).to(at.dtype)
    at = at.clamp(0, size - 1)
    low = at.floor()
    high = (low + 1).clamp(max=size - 1)
    share = at - low
    return [low.long(), high.long()], [(1 - share) * inside, share * inside]


@op("MaxRoiPool", 1, 22)
def max_roi_pool(
    x: Tensor, rois: Tensor, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """MaxRoiPool-22: regions of whole pixels, their bins may overlap."""
    pooled = []
    for batch, *corners in rois.tolist():
        left, top, right, bottom = (round(c * spatial_scale) for c in corners)
        region = x[int(batch), :, top : bottom + 1, left : right + 1]
        pooled.append(functional.adaptive_max_pool2d(region, list(pooled_shape)))
    return torch.stack(pooled)


@op("NonMaxSuppression", 10, 11, host=(2, 3, 4), by_data=True)
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: Tensor | None = None,
    iou_threshold: Tensor | None = None,
    score_threshold: Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """NonMaxSuppression-11: rows of batch, class and box, the best box of a class first."""
    most, overlap = int(scalar(max_output_boxes_per_class, 0)), scalar(iou_threshold, 0)
    least = None if score_threshold is None else scalar(score_threshold, 0)
    picked: list[list[int]] = []
    for batch in range(scores.shape[0]):
        common = _overlaps(boxes[batch], bool(center_point_box))
        for kind in range(scores.shape[1]):
            each = scores[batch, kind]
            kept: list[int] = []
            for box in torch.sort(each, descending=True, stable=True)[1].tolist():
                if len(kept) >= most or (least is not None and each[box] <= least):
                    break
                if not kept or float(common[box, kept].max()) <= overlap:
                    kept.append(box)
            picked.extend([batch, kind, box] for box in kept)
    return torch.tensor(picked, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _overlaps(boxes: Tensor, centred: bool) -> Tensor:
    """Intersection over union of every pair of ``(n, 4)`` boxes."""
    if centred:
        x, y, width, height = boxes.unbind(-1)
        low = torch.stack([x - width / 2, y - height / 2], -1)
        high = torch.stack([x + width / 2, y + height / 2], -1)
    else:
        low = torch.minimum(boxes[:, :2], boxes[:, 2:])
        high = torch.maximum(boxes[:, :2], boxes[:, 2:])
    area = (high - low).prod(-1)
    common = torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)
    shared = common.clamp(min=0).prod(-1)
    union = area[:, None] + area - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))
