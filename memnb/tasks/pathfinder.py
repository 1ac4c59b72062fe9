"""Pathfinder: are two marked points the ends of one dashed contour? (Long Range Arena's 'hard' set)

Two target contours of 14 dashes wind through a small grey image among shorter distractors. A disc
marks the start of one contour and the end of the same contour (label 1) or of the other (label 0).

This is a clean generator that follows the rules of J. Kim's and D. Linsley's program
(github.com/drewlinsley/pathfinder, with the parameters in LRA's source), so that its images have
the same distribution; the images themselves cannot be the same, since the original seeds are
unknown. The rules, in coordinates (y, x) with whole numbers:

* A dash is a 2-pixel line of one of few directions, drawn at double resolution and shrunk by a
  Lanczos filter; its *footprint* is the same line fattened by a disc of radius 2.
* The *mask* (0..1) is the largest footprint at each pixel, and 1 on the image's border.
* The first dash of the first contour starts at a free pixel of the centre, whose free part shrinks
  by the dash's own footprint; the second contour starts ``seed_distance`` away, anywhere.
* A contour goes on from a *pivot*: the pivot jumps by 4 along the last direction, and a pixel on
  the circle of radius 3 around it becomes the head of the next dash, with a chance in proportion to
  cos^2 of the turn (none beyond 90 degrees) and to 1 - mask. A dash whose footprint meets the mask
  at 1.8 or more is drawn anew, up to 3 times; then the attempt fails.
* Both contours grow in turns; if either fails, the image is begun again. The mask gains a dash
  when its successor is placed, and the very last dash of the first contour never.
* Each distractor has 5 tries to find a place anywhere, and may be missing at the end.
* Targets have contrast 1.5, distractors 2, discs 1; overlaps keep the largest value; each image is
  stretched to 0..255.

One quirk decides how full the images are. The original finds free starting pixels by a dilation
that pads with minus infinity, and gives up when that padding shows in the result. It shows for all
footprints that lie on one side of their anchor, which leaves 30 of 360 directions for a first dash.

Nearly all of the time goes to attempts that fail, so thousands of attempts are made side by side.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memnb import config
from memnb.errors import DataError
from memnb.tasks import cache, prepared
from memnb.tasks.base import Bytes, Dataset, Ints, images_of, sizes_of, split_of
from memnb.tasks.draws import Draws

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

LENGTH = 2  # of a dash
MARGIN = 1  # kept free around a dash
SCALE = 2  # how much finer dashes and discs are drawn than they are shown
RADIUS = 4  # of a stamp, which is 9 x 9
DISC = 1.5  # radius of a marker
TRIALS = 3
DISTRACTOR_TRIES = 5
TARGET, DISTRACTOR = 1.5, 2.0  # contrasts; that of the markers is 1
CROWDED = 459  # 1.8 in units of 1 / 255
OCCUPIED = 77  # more than 0.3 in units of 1 / 255
_RIM = 14  # pixels around the window, so that nothing near its border needs a special case
_ATTEMPTS = 4096
# A definition that yields no image in so many chunks is taken to be impossible.
_FRUITLESS_CHUNKS = 16
log = logging.getLogger(__name__)


# --- dashes ----------------------------------------------------------------------------------


def lanczos(source: int, target: int) -> Ints:
    """The matrix (target, source) that shrinks a row of pixels as Pillow does, in 2^-22."""
    scale = source / target
    centre = (np.arange(target)[:, None] + 0.5) * scale
    distance = (np.arange(source) + 0.5 - centre) / scale
    weight = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.floor(weight * 2**22 + 0.5).astype(np.int64)


def shrink(images: Bytes, size: int) -> Bytes:
    """Images (..., n, n) of 0..255 resized to (..., size, size), to the bit as Pillow does it."""
    matrix = lanczos(images.shape[-1], size)
    for _ in range(2):  # along the rows, then along the columns
        sums = images.astype(np.int64) @ matrix.T
        images = np.clip((sums + 2**21) >> 22, 0, 255).astype(np.uint8).swapaxes(-1, -2)
    return images


def step(origin: int, away: float) -> int:
    """A coordinate's whole step when it goes from ``origin`` some way ``away``: rounded up.

    The sum is made in floating point, as in the original: near the top and the left of an image a
    step straight down (cosine 6e-17) leads one pixel to the right, elsewhere it does not.
    """
    return math.ceil(origin + away) - origin


def steps(directions: Sequence[float], distance: float, origins: range) -> Ints:
    """:func:`step` for each direction and origin, along y and along x: (directions, origins, 2)."""
    # Not numpy.sin, which rounds differently from one processor to the next.
    turns = [(math.sin(direction), math.cos(direction)) for direction in directions]
    return np.array(
        [[[step(origin, distance * turn) for turn in both] for origin in origins] for both in turns]
    )


def opposite(direction: float) -> float:
    return direction + math.pi if direction < 0 else direction - math.pi


def line(size: int, end: tuple[int, ...]) -> Bytes:
    """A 1-pixel line (Bresenham's) from the centre of a square to ``end`` away from it."""
    image = np.zeros((size, size), np.uint8)
    point = np.array([size // 2, size // 2])
    distance, sign = np.abs(end), np.sign(end)
    along = int(distance[1] > distance[0])  # the axis on which every step is a whole pixel
    across = 1 - along
    error = 2 * distance[across] - distance[along]
    for _ in range(distance[along] + 1):
        image[tuple(point)] = 255
        if error >= 0:
            point[across] += sign[across]
            error -= 2 * distance[along]
        point[along] += sign[along]
        error += 2 * distance[across]
    return image


def dash(direction: float) -> tuple[Bytes, Bytes]:
    """Ink and footprint (9, 9) of the dash that leads from the centre into ``direction``."""
    large = 2 * RADIUS * SCALE + 1
    middle = RADIUS * SCALE
    (end,) = steps([direction], LENGTH * SCALE, range(middle, middle + 1))
    ink = line(large, tuple(end[0]))
    reach = MARGIN * SCALE
    padded = np.pad(ink, reach)
    places = itertools.product(range(2 * reach + 1), repeat=2)
    disc = [(y, x) for y, x in places if (y - reach) ** 2 + (x - reach) ** 2 <= reach**2]
    footprint = np.max([padded[y : y + large, x : x + large] for y, x in disc], axis=0)
    small = 2 * RADIUS + 1
    return shrink(ink, small), shrink(footprint, small)


# --- everything that can be known before the first draw ----------------------------------------


@dataclass(frozen=True)
class _Tables:
    """Stamps, steps and chances; directions 0..359 are -180..179 degrees, the rest are the
    directions from a pivot to the K pixels of its circle.

    Attributes:
        move: (360 + K, origins, 2) from one pivot to the next, from an origin of -14 or more.
        turn: (360 + K, K) chance of the K pixels after each direction, up to a factor.
        circle: (K, 2) the pixels of the circle around a pivot.
        ink, footprint: (360 + K, 81) stamps of dashes; those of the circle lead back to the pivot.
        head, back: (360, origins, 2) from the start of a first dash to its head, from there to
            its pivot.
        anchored: (360, n, 2) where a dash's footprint must be free around its start.
        starts: the directions that may start a contour, by the quirk above.
        centre_starts, centre: those of them that find a free pixel in the middle, and where the
            first contour may start then, (n, size * size).
        marker: (size * size, size * size) the disc at each pixel.
        size, stride: side of the window, and of the mask around it.
        inside: 1 in the window, 0 around it. window, stamp, cross: places of the window's pixels,
            of a stamp's pixels and of a pixel's neighbours within a mask.
    """

    size: int
    stride: int
    move: Ints
    turn: Floats
    circle: Ints
    ink: Bytes
    footprint: Bytes
    head: Ints
    back: Ints
    anchored: Ints
    starts: Ints
    centre_starts: Ints
    centre: Bools
    marker: Bytes
    inside: Bytes
    window: Ints
    stamp: Ints
    cross: Ints


@functools.lru_cache(maxsize=2)
def _tables(size: int, seed_distance: int) -> _Tables:
    first = [degrees * math.pi / 180 for degrees in range(-180, 180)]
    circle = _circle(LENGTH + MARGIN)
    around = [math.atan2(y, x) for y, x in circle.tolist()]
    directions = np.array(first + around)
    turn = np.abs(np.array(around) - directions[:, None])
    turn = np.minimum(np.minimum(turn, 2 * np.pi - turn), np.pi / 2)
    stamps = [dash(direction) for direction in first + [opposite(one) for one in around]]
    origins = range(-_RIM, size + _RIM)
    anchored = _anchored([footprint for _, footprint in stamps[:360]])
    everywhere = np.ones((size, size), bool)
    # The padding shows at a pixel around which every place of the footprint is outside.
    starts = np.flatnonzero([np.all(_dilated(everywhere, places)) for places in anchored])
    border = 2 * seed_distance
    blocked = np.pad(np.zeros((size - 2 * border,) * 2, bool), border, constant_values=True)
    centre = np.array([~_dilated(blocked, anchored[start]).ravel() for start in starts])
    centre = centre.reshape(len(starts), -1)
    roomy = np.any(centre, axis=1)
    stride = size + 2 * _RIM
    row = np.arange(size) + _RIM
    stamp = np.arange(-RADIUS, RADIUS + 1)
    return _Tables(
        size=size,
        stride=stride,
        move=steps(first + around, LENGTH + 2 * MARGIN, origins),
        turn=np.cos(turn) ** 2,
        circle=circle,
        ink=np.array([ink.ravel() for ink, _ in stamps]),
        footprint=np.array([footprint.ravel() for _, footprint in stamps]),
        head=steps(first, LENGTH, origins),
        back=steps([opposite(one) for one in first], LENGTH + MARGIN, origins),
        anchored=anchored,
        starts=starts,
        centre_starts=starts[roomy],
        centre=centre[roomy],
        marker=_markers(size),
        inside=np.pad(np.ones((size, size), np.uint8), _RIM).ravel(),
        window=(row[:, None] * stride + row).ravel(),
        stamp=(stamp[:, None] * stride + stamp).ravel(),
        cross=np.array([0, 1, -1, stride, -stride]),
    )


def _circle(radius: int) -> Ints:
    """The different pixels of a circle that is sampled once per pixel of its length: (K, 2)."""
    angle = np.arange(0, 360, 360 / (2 * radius * np.pi)) * np.pi / 180
    points = np.floor(np.round(radius * np.stack([np.sin(angle), np.cos(angle)], axis=1), 9))
    return np.unique(points.astype(np.int64), axis=0)


def _anchored(footprints: list[Bytes]) -> Ints:
    """Where each footprint is whole, as the original anchors it: 360 lists of one length.

    There the stamp stands with its centre at (4, 4) of a 7 x 7 square that is anchored at (3, 3),
    and only full values survive a conversion to integers. Short lists repeat their first place.
    """
    places = [np.argwhere(footprint[:7, :7] == 255) - 3 for footprint in footprints]
    longest = max(len(place) for place in places)
    return np.array([np.resize(place, (longest, 2)) for place in places])


def _dilated(image: Bools, places: Ints) -> Bools:
    """Where any of the ``places`` (n, 2) around a pixel is set; nothing is outside."""
    padded = np.pad(image, 3)
    size = len(image)
    return np.any([padded[y : y + size, x : x + size] for y, x in places + 3], axis=0)


def _markers(size: int) -> Bytes:
    """The disc at each pixel of the window, cut off at its border: (size * size, size * size)."""
    fine = np.arange(size * SCALE)
    away = (fine - SCALE * np.arange(size)[:, None]) ** 2
    rows = []
    for y in range(size):  # all at once would take gigabytes for large images
        discs = away[y][None, :, None] + away[:, None, :] <= (DISC * SCALE) ** 2
        rows.append(shrink(np.where(discs, np.uint8(255), np.uint8(0)), size))
    return np.concatenate(rows).reshape(size * size, -1)


def _moved(table: Ints, direction: Ints, origin: Ints) -> Ints:
    """Where the steps of ``table`` lead from ``origin`` (n, 2) in each direction (n,)."""
    y, x = (table[direction, origin[:, axis] + _RIM, axis] for axis in (0, 1))
    return origin + np.stack([y, x], axis=1)


# --- growing many contours side by side -------------------------------------------------------


@dataclass
class _Tips:
    """Where n contours stand.

    Attributes:
        pivot: (n, 2). direction: (n,). place: (n, 2) where the last stamp stands.
        stamp: (n,) which stamp it is; the mask does not show it yet.
    """

    pivot: Ints
    direction: Ints
    place: Ints
    stamp: Ints

    def __getitem__(self, rows: Ints | Bools) -> _Tips:
        return _Tips(self.pivot[rows], self.direction[rows], self.place[rows], self.stamp[rows])


class _Masks:
    """n masks of (stride, stride) pixels, the window in the middle, in one flat array."""

    def __init__(self, tables: _Tables, count: int) -> None:
        self.tables = tables
        one = np.zeros((tables.stride, tables.stride), np.uint8)
        window = one[_RIM:-_RIM, _RIM:-_RIM]
        window[[0, -1]] = window[:, [0, -1]] = 255
        self.flat = np.tile(one.ravel(), count)

    def base(self, rows: Ints) -> Ints:
        """Where the masks of ``rows`` begin."""
        return rows * self.tables.stride**2

    def at(self, place: Ints) -> Ints:
        """Index of a pixel (.., 2) within its mask."""
        return (place[..., 0] + _RIM) * self.tables.stride + place[..., 1] + _RIM

    def add(self, rows: Ints, tips: _Tips) -> None:
        """Let the masks show the last stamp of each contour."""
        within = self.at(tips.place)[:, None] + self.tables.stamp
        index = self.base(rows)[:, None] + within
        footprint = self.tables.footprint[tips.stamp] * self.tables.inside[within]
        self.flat[index] = np.maximum(self.flat[index], footprint)

    def free(self, rows: Ints, place: Ints, stamp: Ints) -> Bools:
        """Whether a stamp meets nothing that is already there."""
        index = (self.base(rows) + self.at(place))[:, None] + self.tables.stamp
        both = self.flat[index].astype(np.int16) + self.tables.footprint[stamp]
        return both.max(axis=1) < CROWDED


def _extend(masks: _Masks, rows: Ints, tips: _Tips, draws: Draws) -> tuple[Bools, _Tips]:
    """Add one dash to contours, where that is possible; the masks gain the dash before it."""
    tables = masks.tables
    pivot = _moved(tables.move, tips.direction, tips.pivot)
    heads = pivot[:, None] + tables.circle
    inside = np.all((heads >= 0) & (heads < tables.size), axis=2)
    index = (masks.base(rows)[:, None] + masks.at(heads))[:, :, None] + tables.cross
    chance = tables.turn[tips.direction] * (255 - masks.flat[index].max(axis=2)) * inside
    growing = np.cumsum(chance, axis=1)
    draw = draws.uniform(len(rows), TRIALS) * growing[:, -1:]
    choices = (growing[:, None] > draw[:, :, None]).argmax(axis=2)
    possible = growing[:, -1] >= 1e-4 * 255
    found = np.zeros(len(rows), bool)
    choice = choices[:, 0]
    for trial in range(TRIALS):
        open_ = np.flatnonzero(possible & ~found)
        choice[open_] = choices[open_, trial]
        place = pivot[open_] + tables.circle[choice[open_]]
        found[open_] = masks.free(rows[open_], place, 360 + choice[open_])
    grown = _Tips(pivot, 360 + choice, pivot + tables.circle[choice], 360 + choice)[found]
    masks.add(rows[found], tips[found])
    return found, grown


def _first_dash(tables: _Tables, start: Ints, direction: Ints) -> tuple[Bools, _Tips]:
    """The dashes at ``start`` (n, 2), and whether head and pivot lie within the window."""
    head = _moved(tables.head, direction, start)
    pivot = _moved(tables.back, direction, head)
    ends = np.stack([head, pivot])
    inside = np.all((ends >= 0) & (ends < tables.size), axis=(0, 2))
    return inside, _Tips(pivot, direction, start, direction)


def _one_of(free: Bools, draws: Draws) -> Ints:
    """A place drawn from the free ones of each row: (n, pixels) -> (n,); every row has one."""
    rank: Ints = np.cumsum(free, axis=1, dtype=np.int64)
    return (rank > draws.below(rank[:, -1], len(free))[:, None]).argmax(axis=1)


def _targets(task: config.Pathfinder, tables: _Tables, draws: Draws) -> tuple[Ints, Ints, _Masks]:
    """Many attempts at the two target contours; of the n that came to an end the places (n, 2,
    dashes, 2), start of the first dash and heads of the others, the stamps (n, 2, dashes) and the
    masks."""
    masks = _Masks(tables, _ATTEMPTS)
    rows = np.arange(_ATTEMPTS)
    kind = draws.below(len(tables.centre_starts), _ATTEMPTS)
    pixel = _one_of(tables.centre[kind], draws)
    start = np.stack(np.divmod(pixel, tables.size), axis=1)
    fits, first = _first_dash(tables, start, tables.centre_starts[kind])
    rows, tips = _second(task, tables, rows[fits], first[fits], draws)
    place = np.zeros((_ATTEMPTS, 2, task.contour_length, 2), np.int64)
    stamp = np.zeros((_ATTEMPTS, 2, task.contour_length), np.int64)
    for dash_number in range(task.contour_length):
        for which in (0, 1):
            if dash_number:
                found, grown = _extend(masks, rows, tips[which], draws)
                rows, other = rows[found], tips[1 - which][found]
                tips = (grown, other) if which == 0 else (other, grown)
            place[rows, which, dash_number] = tips[which].place
            stamp[rows, which, dash_number] = tips[which].stamp
    masks.add(rows, tips[1])
    masks.flat = masks.flat.reshape(_ATTEMPTS, -1)[rows].ravel()
    return place[rows], stamp[rows], masks


def _second(
    task: config.Pathfinder, tables: _Tables, rows: Ints, first: _Tips, draws: Draws
) -> tuple[Ints, tuple[_Tips, _Tips]]:
    """The first dash of the second contour, where one of three trials stays within the window."""
    direction = draws.below(360, len(rows), TRIALS)
    angle = draws.below(360, len(rows), TRIALS) * np.pi / 180
    away = task.seed_distance * np.stack([np.sin(angle), np.cos(angle)], axis=2)
    start = np.rint(first.place[:, None] + np.round(away, 9)).astype(np.int64)
    inside, tips = _first_dash(tables, start.reshape(-1, 2), direction.ravel())
    fits = inside.reshape(len(rows), TRIALS)
    some: Bools = np.any(fits, axis=1)
    chosen = np.flatnonzero(some) * TRIALS + fits.argmax(axis=1)[some]
    return rows[some], (first[some], tips[chosen])


def _seed(masks: _Masks, rows: Ints, draws: Draws) -> tuple[Bools, _Tips]:
    """The first dash of a distractor, anywhere in the window where its footprint is free."""
    tables = masks.tables
    found = np.zeros(len(rows), bool)
    start = np.zeros((len(rows), 2), np.int64)
    direction = np.zeros(len(rows), np.int64)
    pending = np.arange(len(rows))
    may_start = np.isin(np.arange(360), tables.starts)
    for _ in range(TRIALS):
        direction[pending] = draws.below(360, len(pending))
        pending = pending[may_start[direction[pending]]]
        base = masks.base(rows[pending])[:, None] + tables.window
        roomy = np.count_nonzero(masks.flat[base] < OCCUPIED, axis=1) >= 0.01 * tables.size**2
        pending, base = pending[roomy], base[roomy]
        offset = tables.anchored[direction[pending]] @ np.array([tables.stride, 1])
        free = np.ones((len(pending), tables.size**2), bool)
        for number in range(offset.shape[1]):
            free &= masks.flat[base + offset[:, number, None]] < OCCUPIED
        some = free.any(axis=1)
        pending, free = pending[some], free[some]
        pixel = _one_of(free, draws)
        start[pending] = np.stack(np.divmod(pixel, tables.size), axis=1)
        fits, _ = _first_dash(tables, start[pending], direction[pending])
        found[pending[fits]] = True
        pending = pending[~fits]
    return found, _first_dash(tables, start[found], direction[found])[1]


def _distractors(
    task: config.Pathfinder, masks: _Masks, count: int, draws: Draws
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Distractors that found a place: rows (n,), places (n, dashes, 2), stamps (n, dashes)."""
    size = masks.tables.stride**2
    for _ in range(task.distractors):
        missing = np.arange(count)
        for _ in range(DISTRACTOR_TRIES):
            found, tips = _seed(masks, missing, draws)
            begun = rows = missing[found]
            kept = masks.flat.reshape(-1, size)[begun]
            path, stamps = tips.place[:, None], tips.stamp[:, None]
            for _ in range(task.distractor_length - 1):
                grew, tips = _extend(masks, rows, tips, draws)
                rows = rows[grew]
                path = np.concatenate([path[grew], tips.place[:, None]], axis=1)
                stamps = np.concatenate([stamps[grew], tips.stamp[:, None]], axis=1)
            masks.add(rows, tips)
            failed = ~np.isin(begun, rows)
            masks.flat.reshape(-1, size)[begun[failed]] = kept[failed]
            missing = np.setdiff1d(missing, rows, assume_unique=True)
            yield rows, path, stamps


# --- images ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """n images, and how they came about.

    Attributes:
        images: uint8 (n, size * size).
        labels: uint8 (n,), 1 if both discs mark one contour.
        contours: int16 (n, 2, dashes, 2), the two target contours from start to end, as (y, x).
        marked: uint8 (n, 2), the contour whose start and the contour whose end bear a disc.
    """

    images: Bytes
    labels: Bytes
    contours: NDArray[np.int16]
    marked: Bytes


def draw(task: config.Pathfinder, chunk: int) -> Drawn:
    """One chunk of images of ``task.seed``: as many as 4096 attempts gave."""
    size = task.side
    tables, draws = _tables(size, task.seed_distance), Draws(task.seed, chunk)
    places, stamps, masks = _targets(task, tables, draws)
    count = len(places)
    canvas = np.zeros((count, tables.stride**2))
    everyone = np.arange(count)
    for contour in (0, 1):
        _ink(canvas, masks, everyone, places[:, contour], stamps[:, contour], TARGET)
    for distractor in _distractors(task, masks, count, draws):
        _ink(canvas, masks, *distractor, DISTRACTOR)
    labels, start = draws.below(2, count), draws.below(2, count)
    end = np.where(labels == 1, start, 1 - start)
    image = canvas[:, tables.window]
    for contours, number in ((start, 0), (end, -1)):
        y, x = places[everyone, contours, number].T
        np.maximum(image, tables.marker[y * size + x] / 255, out=image)
    return Drawn(
        _stretched(image),
        labels.astype(np.uint8),
        places.astype(np.int16),
        np.stack([start, end], axis=1).astype(np.uint8),
    )


def _ink(
    canvas: Floats, masks: _Masks, rows: Ints, path: Ints, stamps: Ints, contrast: float
) -> None:
    """Draw the dashes of contours, path (n, dashes, 2) and stamps (n, dashes)."""
    for place, stamp in zip(path.swapaxes(0, 1), stamps.T, strict=True):
        index = rows[:, None], masks.at(place)[:, None] + masks.tables.stamp
        # Single precision, as in the original, decides which way halves are rounded below.
        ink = (masks.tables.ink[stamp] / 255 * contrast).astype(np.float32)
        canvas[index] = np.maximum(canvas[index], ink)


def _stretched(images: Floats) -> Bytes:
    """Each image (n, pixels) stretched to 0..255 and rounded."""
    low = images.min(axis=1, keepdims=True)
    stretched = (images - low) * (255 / (images.max(axis=1, keepdims=True) - low))
    return (np.clip(stretched, 0, 255) + 0.5).astype(np.uint8)


# --- data sets -------------------------------------------------------------------------------


def load(task: config.Pathfinder) -> Dataset:
    """The three splits: generated (and cached), or LRA's imported images.

    Raises:
        DataError: the images are not here or damaged, cannot be made, or the cache cannot be
            written.
    """
    if task.source == "lra":
        found = prepared.read("pathfinder")
        if task.side != 32:
            raise DataError(f"LRA's images have 32 x 32 pixels, not {task.max_length}.")
        return _dataset(task, found["images"].reshape(-1, 1024), found["label"], found["split"])
    return cache.cached(task, read, _arrays)


def _arrays(task: config.Pathfinder) -> cache.Arrays:
    drawn = generate(task, sum(sizes_of(task)))
    split = split_of(task)
    return {"images": drawn.images, "label": drawn.labels, "split": split}


def read(task: config.Pathfinder, path: Path) -> Dataset:
    found = cache.read(path, prepared.DRAWN)
    images, label, split = found["images"], found["label"], found["split"]
    if not (
        np.array_equal(split, split_of(task))
        and images.shape == (len(split), task.max_length)
        and label.shape == split.shape
        and label.max() < 2
    ):
        raise DataError(f"{path} does not hold what the task '{task.name}' asks for.")
    return _dataset(task, images, label, split)


def _dataset(task: config.Pathfinder, images: Bytes, label: Bytes, split: Bytes) -> Dataset:
    rows = [np.flatnonzero(split == number)[:most] for number, most in enumerate(sizes_of(task))]
    return Dataset(*(images_of(images, label, one) for one in rows))


def generate(task: config.Pathfinder, count: int) -> Drawn:
    """The first ``count`` images of ``task.seed``, with their contours.

    Raises:
        DataError: the definition leaves no room for the contours.
    """
    chunks: list[Drawn] = []
    made = 0
    if not len(_tables(task.side, task.seed_distance).centre_starts):
        raise DataError(
            f"Pathfinder found no room for a first dash in {task.side} x {task.side} pixels with "
            f"seed_distance={task.seed_distance}; make the images larger or the distance smaller."
        )
    while made < count:
        chunk = draw(task, len(chunks))
        chunks.append(chunk)
        made += len(chunk.labels)
        if len(chunks) == _FRUITLESS_CHUNKS and not made:
            raise DataError(
                f"Pathfinder found no room for two contours of {task.contour_length} dashes in "
                f"{task.side} x {task.side} pixels; make them shorter or the images larger."
            )
        if len(chunks) % 100 == 0:
            log.info("Pathfinder: %d of %d images", min(made, count), count)
    return Drawn(
        *(
            np.concatenate([getattr(chunk, field) for chunk in chunks])[:count]
            for field in ("images", "labels", "contours", "marked")
        )
    )
