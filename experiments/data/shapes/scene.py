"""Draws one image of the ``shapes`` set: coloured paper shapes on a soft background, and the visible box of each.

The form of an object tells its class, and nothing else does. Objects of one class crowd: an image has few classes, and
many an object lies beside one of its own.

Coordinates are continuous image pixels: x in [0, W], and pixel (i, j) covers [i, i+1] x [j, j+1].
Masks are ``SUPERSAMPLE`` times finer than the image, so a box is a multiple of 1/SUPERSAMPLE pixel: a mask whose
columns 8…19 are set gives x = 2.0 and w = 3.0.

    image   uint8  [H, W, 3]    RGB
    mask    uint8  [S*H, S*W]   S = SUPERSAMPLE; 1 where the object is what one sees
    owner   int16  [S*H, S*W]   index of the uppermost object, -1 on the background
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SUPERSAMPLE = 4
MIN_VISIBLE = 0.5  # of the whole shape, the part cut by the image border included
MIN_SIDE = 8.0  # pixels, of the visible box
MIN_PIECE = 4.0  # square pixels: a smaller piece of an occluded object is no part of its box
SHADOW_MARGIN = 14  # pixels around an object that its soft edge and shadow may reach
MAX_OVERHANG = 0.12  # part of a shape's width or height that may lie off the image
PLACEMENT_TRIES = 30
SCENE_TRIES = 100

# Of a neighbour set beside an object of its class:
NEIGHBOUR_DISTANCE = (0.4, 0.9)  # of the two centres, times the object's size
NEIGHBOUR_SIZE = (0.8, 1.25)  # times the object's size
SAME_COLOUR = 0.6  # how often it has the object's colour

ROUNDNESS = (0.0, 0.1)  # how far a shape is on its way to a disc
DISCS = 0.38  # share of the objects that are worn to a disc instead, or nearly, whatever their class:
DISC_ROUNDNESS = (0.9, 1.0)
FADING = 0.3  # share of the objects that fade towards one end: their class is clear, where they end is not
FADE = 0.4  # part of the object's length over which it fades,
FADE_TO = 0.08  # and how much of its colour is left at the end

# Hue in degrees, saturation and value. Every class has every colour: only its form tells it.
PALETTE: tuple[tuple[float, float, float], ...] = (
    (3, 0.74, 0.88),
    (216, 0.76, 0.80),
    (40, 0.88, 0.95),
    (278, 0.58, 0.72),
    (136, 0.68, 0.62),
    (182, 0.82, 0.68),
)


class Difficulty(NamedTuple):
    """Ranges an image's look is drawn from, uniformly; lengths and sigmas in pixels, colours in [0, 1]."""

    extra_objects: tuple[int, int]  # added to the (fewest, most) objects asked for
    size_factors: tuple[float, float]  # times the (smallest, largest) size asked for
    stretch: float  # largest ratio of the two axes of a shape before it is rotated
    alpha: tuple[float, float]  # an object's colour over the background's; an occluder hides what is below at any alpha
    edge_blur: tuple[float, float]
    image_blur: tuple[float, float]
    noise: tuple[float, float]
    strokes_behind: tuple[int, int]
    strokes_before: tuple[int, int]
    clutter_saturation: float


DIFFICULTIES = {
    "normal": Difficulty(
        extra_objects=(0, 0),
        size_factors=(1.0, 1.0),
        stretch=1.5,
        alpha=(0.85, 1.0),
        edge_blur=(0.0, 0.8),
        image_blur=(0.0, 0.5),
        noise=(0.01, 0.03),
        strokes_behind=(2, 6),
        strokes_before=(0, 1),
        clutter_saturation=0.35,
    ),
    "hard": Difficulty(
        extra_objects=(1, 2),
        size_factors=(0.8, 1.2),
        stretch=1.8,
        alpha=(0.45, 1.0),
        edge_blur=(0.0, 2.0),
        image_blur=(0.0, 1.2),
        noise=(0.01, 0.07),
        strokes_behind=(3, 10),
        strokes_before=(1, 4),
        clutter_saturation=0.5,
    ),
}


class Annotation(NamedTuple):
    """One object as COCO wants it, and the mask its box and area were read from."""

    category: str
    bbox: tuple[float, float, float, float]  # x, y, w, h of the visible extent, pixels
    area: float  # visible, square pixels
    visible: float  # visible area over the whole shape's, in (0, 1]
    mask: Array


class _Placed(NamedTuple):
    category: str
    size: float  # longer side of the whole shape's box, pixels
    neighbour_of: int | None  # index of the object of its class that it was set beside
    contours: list[Array]
    mask: Array  # the whole shape on the image, occluded or not
    full_area: int  # in fine pixels, the part off the image included


# --- outlines -----------------------------------------------------------------------------------------


def _rounded(vertices: Array, radius: float) -> Array:
    """A polygon whose corners are quadratic Bezier curves that start at ``radius`` of each edge's length."""
    t = np.linspace(0.0, 1.0, 7)[:, None]
    arcs = []
    for before, corner, after in zip(np.roll(vertices, 1, 0), vertices, np.roll(vertices, -1, 0), strict=True):
        start, end = corner + radius * (before - corner), corner + radius * (after - corner)
        arcs.append((1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end)
    return np.concatenate(arcs)


def _regular(radius: float, count: int) -> Array:
    """A regular polygon."""
    angles = 2 * math.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _dense(contour: Array, count: int = 144) -> Array:
    """As many points at equal distances along a closed contour."""
    closed = np.concatenate([contour, contour[:1]])
    length = np.concatenate([[0.0], np.hypot(*np.diff(closed, axis=0).T).cumsum()])
    at = np.linspace(0.0, length[-1], count, endpoint=False)
    return np.stack([np.interp(at, length, closed[:, axis]) for axis in (0, 1)], 1)


def _cross_vertices(arm: float) -> Array:
    corner = np.array([[1, -arm], [1, arm], [arm, arm]])
    quarter_turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    return np.concatenate([corner @ np.linalg.matrix_power(quarter_turn, k).T for k in range(4)])


# Contours of each class about the origin, by the even-odd rule. The forms are far apart: where two were alike (square,
# star and cross), how well a training told them was its luck, and moved the AP by more than what is to be measured.
_OUTLINES: dict[str, list[Array]] = {
    "circle": [_regular(1.0, 72)],
    "triangle": [_dense(_rounded(_regular(1.0, 3), 0.10))],
    "cross": [_dense(_rounded(_cross_vertices(0.3), 0.14))],
    "bar": [_dense(_rounded(np.array([[1, -0.36], [1, 0.36], [-1, 0.36], [-1, -0.36]]), 0.12))],
    "ring": [_regular(1.0, 72), _regular(0.56, 72)],
}
CATEGORIES = tuple(_OUTLINES)


def _rounder(contours: list[Array], share: float) -> list[Array]:
    """The contours on their way to a disc: 0 leaves a shape as it is, 1 makes every class a disc without a hole."""
    radius = np.linalg.norm(contours[0], axis=1, keepdims=True)
    outer = contours[0] * (1 - share + share * radius.mean() / radius)
    return [outer, *(c * (1 - share) for c in contours[1:])]


def _random_contours(rng: np.random.Generator, category: str, size: float, stretch: float) -> list[Array]:
    """Contours of a stretched, rotated shape whose longer extent is ``size``, the corner of its box at the origin."""
    axis = math.sqrt(stretch ** rng.uniform(-1, 1))
    angle = rng.uniform(0, 2 * math.pi)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    roundness = DISC_ROUNDNESS if rng.random() < DISCS else ROUNDNESS
    contours = [(c * (axis, 1 / axis)) @ rotation.T for c in _rounder(_OUTLINES[category], rng.uniform(*roundness))]
    low, high = contours[0].min(0), contours[0].max(0)
    return [(c - low) * (size / (high - low).max()) for c in contours]


def _draw_mask(contours: list[Array], image_size: int) -> tuple[Array, int]:
    """The mask of the contours' inside on the image, and its area in fine pixels with the part off the image."""
    margin = math.ceil(MAX_OVERHANG * image_size) * SUPERSAMPLE
    canvas = np.zeros((image_size * SUPERSAMPLE + 2 * margin,) * 2, np.uint8)
    # cv2 puts integer coordinates at pixel centres: half a fine pixel less. Four fractional bits.
    points = [np.rint((c * SUPERSAMPLE + margin - 0.5) * 16).astype(np.int32) for c in contours]
    cv2.fillPoly(canvas, points, (1,), lineType=cv2.LINE_8, shift=4)
    return canvas[margin:-margin, margin:-margin].copy(), cv2.countNonZero(canvas)


# --- layout: where the objects are, and what is visible of them ------------------------------------------


def _corner(
    rng: np.random.Generator, extent: Array, image_size: int, placed: Sequence[_Placed], beside: int | None
) -> Array:
    """Where the corner of a shape's box goes: anywhere on the image, or near the object it is a neighbour of."""
    lowest, highest = -MAX_OVERHANG * extent, image_size - (1 - MAX_OVERHANG) * extent
    if beside is None:
        return rng.uniform(lowest, highest)
    contour = placed[beside].contours[0]
    center = (contour.min(0) + contour.max(0)) / 2
    distance, angle = placed[beside].size * rng.uniform(*NEIGHBOUR_DISTANCE), rng.uniform(0, 2 * math.pi)
    return np.clip(center + distance * np.array([math.cos(angle), math.sin(angle)]) - extent / 2, lowest, highest)


def _place_objects(
    rng: np.random.Generator,
    image_size: int,
    count: int,
    sizes: tuple[float, float],
    stretch: float,
    classes: tuple[int, int],
    neighbours: float,
) -> tuple[list[_Placed], Array]:
    """Up to ``count`` objects from back to front such that none hides too much of another, and the owner map."""
    owner = np.full((image_size * SUPERSAMPLE,) * 2, -1, np.int16)
    placed: list[_Placed] = []
    visible = np.zeros(0, np.int64)  # fine pixels of each placed object
    present = rng.permutation(CATEGORIES)[: rng.integers(*classes, endpoint=True)]
    for _ in range(count):
        beside = int(rng.integers(len(placed))) if placed and rng.random() < neighbours else None
        if beside is None:
            category, size = str(present[rng.integers(len(present))]), rng.uniform(*sizes)
        else:
            category = placed[beside].category
            size = float(np.clip(placed[beside].size * rng.uniform(*NEIGHBOUR_SIZE), *sizes))
        for _ in range(PLACEMENT_TRIES):
            contours = _random_contours(rng, category, size, stretch)
            corner = _corner(rng, contours[0].max(0), image_size, placed, beside)
            contours = [c + corner for c in contours]
            mask, full_area = _draw_mask(contours, image_size)
            candidate = _Placed(category, size, beside, contours, mask, full_area)
            x, y, w, h = cv2.boundingRect(mask)
            below, inside = owner[y : y + h, x : x + w], mask[y : y + h, x : x + w] > 0
            lost = np.bincount(below[inside] + 1, minlength=len(placed) + 1)[1:]
            counts = np.append(visible - lost, np.count_nonzero(inside))
            if all(n >= MIN_VISIBLE * p.full_area for n, p in zip(counts, [*placed, candidate], strict=True)):
                below[inside] = len(placed)
                placed.append(candidate)
                visible = counts
                break
    return placed, owner


def _annotate(placed: list[_Placed], owner: Array) -> list[Annotation] | None:
    """Visible boxes and masks, or None if an object shows too little of itself."""
    annotations = []
    for index, item in enumerate(placed):
        mask = (owner == index).astype(np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        area = cv2.countNonZero(mask)
        if area < cv2.countNonZero(item.mask):
            # A sliver that peeps out from behind an occluder must not decide the box.
            crop = mask[y : y + h, x : x + w]
            _, labels, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=4)
            small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < MIN_PIECE * SUPERSAMPLE**2)
            if small.size:
                crop[np.isin(labels, small)] = 0
                x, y, w, h = cv2.boundingRect(mask)
                area = cv2.countNonZero(mask)
        visible = area / item.full_area
        if visible < MIN_VISIBLE or min(w, h) < MIN_SIDE * SUPERSAMPLE:
            return None
        bbox = (x / SUPERSAMPLE, y / SUPERSAMPLE, w / SUPERSAMPLE, h / SUPERSAMPLE)
        annotations.append(Annotation(item.category, bbox, area / SUPERSAMPLE**2, round(visible, 4), mask))
    return annotations


# --- look: float32 RGB in [0, 1] ---------------------------------------------------------------------------


def _rgb(hue: float, saturation: float, value: float) -> Array:
    """Colour from a hue in degrees, saturation and value clipped to [0, 1]."""
    s, v = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return np.array(colorsys.hsv_to_rgb(hue % 360 / 360, s, v), np.float32)


def _ramp(angle: float, center: tuple[float, float], size: tuple[int, int]) -> Array:
    """Float32 [height, width] for ``size`` = (width, height): distance in pixels from ``center`` along a direction."""
    xs, ys = (np.arange(n, dtype=np.float32) + np.float32(0.5 - c) for n, c in zip(size, center, strict=True))
    return xs[None, :] * np.float32(math.cos(angle)) + ys[:, None] * np.float32(math.sin(angle))


def _smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Array:
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


def _background(rng: np.random.Generator, size: int) -> Array:
    """A muted gradient with cloudy texture and, in some images, a faint weave."""
    dark = rng.random() < 0.3
    value = rng.uniform(0.2, 0.42) if dark else rng.uniform(0.7, 0.94)
    hue = rng.uniform(0, 360)
    ends = [_rgb(hue + rng.uniform(-40, 40), rng.uniform(0.03, 0.2), value + rng.uniform(-0.1, 0.1)) for _ in range(2)]
    middle, full = (size / 2, size / 2), (size, size)
    mix = np.clip(_ramp(rng.uniform(0, 2 * math.pi), middle, full) / size + 0.5, 0, 1)[..., None]
    image = ends[0] + mix * (ends[1] - ends[0])
    texture = np.zeros(full, np.float32)
    for cells, strength in ((3, 0.035), (9, 0.022), (size // 3, 0.014)):
        texture += np.float32(strength * rng.uniform(0.3, 1.2)) * _smooth_noise(rng, full, cells)
    if rng.random() < 0.4:
        angle, period, strength = rng.uniform(0, math.pi), rng.uniform(4, 11), rng.uniform(0.008, 0.022)
        for turn in (0.0, math.pi / 2):
            wave = _ramp(angle + turn, middle, full) * np.float32(2 * math.pi / period)
            texture += np.float32(strength) * np.sin(wave)
    return image * (1 + texture[..., None])


def _add_clutter(rng: np.random.Generator, image: Array, count: int, saturation: float) -> None:
    """Draws thin curved strokes and small dots in muted colours on ``image``."""
    size = image.shape[0]
    t = np.linspace(0, 1, 14)[:, None]
    for _ in range(count):
        start, direction, length = rng.uniform(0, size, 2), rng.uniform(0, 2 * math.pi), rng.uniform(0.15, 0.7) * size
        chord = length * np.array([math.cos(direction), math.sin(direction)])
        bend = rng.uniform(-0.45, 0.45) * chord[::-1] * (1, -1)
        color = _rgb(rng.uniform(0, 360), rng.uniform(0, saturation), rng.uniform(0.25, 0.95))
        opacity, thickness, radius = rng.uniform(0.3, 0.8), int(rng.integers(1, 4)), rng.uniform(1.0, 2.8)
        cover = np.zeros((size, size), np.uint8)
        if rng.random() < 0.25:
            x, y = (int(v) for v in np.rint(start * 16))
            cv2.circle(cover, (x, y), round(16 * radius), (255,), -1, cv2.LINE_AA, 4)
        else:
            curve = start + 2 * t * (1 - t) * (chord / 2 + bend) + t**2 * chord
            cv2.polylines(cover, [np.rint(curve * 16).astype(np.int32)], False, (255,), thickness, cv2.LINE_AA, 4)
        x, y, w, h = cv2.boundingRect(cover)
        region = image[y : y + h, x : x + w]
        region += cover[y : y + h, x : x + w, None] * np.float32(opacity / 255) * (color - region)


def _soften(image: Array, sigma: float) -> Array:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) if sigma > 0.15 else image


def _paint(
    rng: np.random.Generator,
    image: Array,
    background: Array,
    item: _Placed,
    look: Difficulty,
    light: float,
    colour: tuple[float, float, float],
) -> None:
    """Draws one object and its shadow on ``image``; ``light`` is the direction the light goes to, in radians."""
    low, high = item.contours[0].min(0), item.contours[0].max(0)
    left, top = (int(v) for v in np.maximum(np.floor(low) - SHADOW_MARGIN, 0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(high) + SHADOW_MARGIN, image.shape[0]))
    region, behind = image[top:bottom, left:right], background[top:bottom, left:right]
    size = (right - left, bottom - top)
    center, extent = ((low + high) / 2 - (left, top)).tolist(), float((high - low).max())

    fine = item.mask[top * SUPERSAMPLE : bottom * SUPERSAMPLE, left * SUPERSAMPLE : right * SUPERSAMPLE]
    cover = cv2.resize(fine.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    cover = _soften(cover, rng.uniform(*look.edge_blur))
    distance, depth = rng.uniform(1.0, 2.5), rng.uniform(0.1, 0.38)
    shift = np.array([[1, 0, distance * math.cos(light)], [0, 1, distance * math.sin(light)]], np.float32)
    shadow = cv2.warpAffine(_soften(cover, 1.4), shift, size, borderMode=cv2.BORDER_REPLICATE)
    region *= 1 - np.float32(depth) * shadow[..., None]

    hue, saturation, value = colour
    color = _rgb(hue + rng.uniform(-7, 7), saturation * rng.uniform(0.85, 1.1), value * rng.uniform(0.88, 1.08))
    shade = 1 - np.float32(rng.uniform(0.1, 0.35) / extent) * _ramp(light, center, size)
    kind = rng.random()
    if kind < 0.3:  # stripes
        wave = _ramp(rng.uniform(0, math.pi), center, size) * np.float32(2 * math.pi / rng.uniform(3.5, 8))
        shade += np.float32(rng.uniform(0.05, 0.13)) * np.clip(2 * np.sin(wave), -1, 1)
    elif kind < 0.6:  # mottled paper
        shade += np.float32(rng.uniform(0.03, 0.07)) * _smooth_noise(rng, size, max(size) // 4)
    alpha: Array = np.full((1, 1, 1), rng.uniform(*look.alpha), np.float32)
    if rng.random() < FADING:
        along = _ramp(rng.uniform(0, 2 * math.pi), center, size) / np.float32(extent) + np.float32(0.5)
        alpha = alpha * np.clip(along / np.float32(FADE), FADE_TO, 1)[..., None]
    paper = alpha * color * shade[..., None] + (1 - alpha) * behind
    region += cover[..., None] * (paper - region)


def _draw(rng: np.random.Generator, size: int, placed: list[_Placed], look: Difficulty) -> Array:
    light = rng.uniform(0.15, 0.35) * math.pi
    image = _background(rng, size)
    _add_clutter(rng, image, int(rng.integers(*look.strokes_behind, endpoint=True)), look.clutter_saturation)
    background = image.copy()
    colours: list[tuple[float, float, float]] = []
    for item in placed:
        if item.neighbour_of is not None and rng.random() < SAME_COLOUR:
            colours.append(colours[item.neighbour_of])
        else:
            colours.append(PALETTE[rng.integers(len(PALETTE))])
        _paint(rng, image, background, item, look, light, colours[-1])
    _add_clutter(rng, image, int(rng.integers(*look.strokes_before, endpoint=True)), look.clutter_saturation)
    image = _soften(image, rng.uniform(*look.image_blur))
    # Grain: as much in the brightness as in the colours.
    grain = rng.standard_normal((size, size, 4), dtype=np.float32)
    image = image + np.float32(rng.uniform(*look.noise) / math.sqrt(2)) * (grain[..., :3] + grain[..., 3:])
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def render_scene(
    rng: np.random.Generator,
    *,
    image_size: int = 96,
    objects: tuple[int, int] = (3, 6),
    sizes: tuple[float, float] = (16, 44),
    classes: tuple[int, int] = (2, 4),
    neighbours: float = 0.2,
    difficulty: str = "normal",
) -> tuple[Array, list[Annotation]]:
    """Draws one image and the boxes of what is visible in it.

    Layout and look have random streams of their own: a change of colours moves no box.

    Args:
        rng: made from a ``SeedSequence``; two children are spawned from it, so a second call gives another scene.
        image_size: height and width, pixels.
        objects: fewest and most objects.
        sizes: smallest and largest longer side of a whole shape's box, pixels.
        classes: fewest and most classes that the objects of an image are of.
        neighbours: share of the objects after the first that are set beside one of their class, and are of its size.
        difficulty: a key of ``DIFFICULTIES``, which widens ``objects`` and ``sizes``.

    Returns:
        The image, uint8 [image_size, image_size, 3] RGB, and its annotations from back to front.

    Raises:
        RuntimeError: no layout was found in which enough of every object is visible.
    """
    layout, look_rng = rng.spawn(2)
    look = DIFFICULTIES[difficulty]
    fewest, most = objects[0] + look.extra_objects[0], objects[1] + look.extra_objects[1]
    smallest, largest = (min(s * f, image_size) for s, f in zip(sizes, look.size_factors, strict=True))
    for _ in range(SCENE_TRIES):
        count = int(layout.integers(fewest, most, endpoint=True))
        placed, owner = _place_objects(
            layout, image_size, count, (smallest, largest), look.stretch, classes, neighbours
        )
        annotations = _annotate(placed, owner) if len(placed) >= fewest else None
        if annotations is not None:
            return _draw(look_rng, image_size, placed, look), annotations
    raise RuntimeError(
        f"no room for {fewest} objects of {smallest:g} to {largest:g} pixels on {image_size} x {image_size} "
        f"in {SCENE_TRIES} tries: ask for fewer or smaller objects, or a larger image"
    )
