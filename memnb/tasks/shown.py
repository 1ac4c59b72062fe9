"""What a trained model is shown with, where its data set may not be passed on.

Attention maps and views travel with rows and weights, and hold the input that they were made of.
ListOps, Pathfinder and Recall are generated, so theirs is an example of the validation set.
Reviews, papers and photographs belong to others; in their place stand inputs made for this package.
"""

from __future__ import annotations

import numpy as np

from memnb import config
from memnb.tasks import text
from memnb.tasks.base import Bytes, Split

# Labels as in the data set: 0 negative, 1 positive.
REVIEWS = (
    (
        "I came for the actors and stayed for the story. It is a small film about two "
        "brothers and a boat, beautifully shot and very funny in places, and the last ten "
        "minutes are the best I have seen this year. The music is wonderful too. Nothing "
        "explodes and nobody wins, and still I could not look away. Highly recommended.",
        1,
    ),
    (
        "Two hours of men shouting in cars. The plot makes no sense, the dialogue is awful, "
        "and the jokes are older than the cinema. Not even the dog seems to know why it is "
        "there. A waste of a good cast, and of my evening. The worst film I have seen in "
        "years, and the most boring one. Avoid.",
        0,
    ),
)

# Two documents; 1 if one of them cites the other, or if both cite a third.
PAPERS = (
    (
        "We translate between languages without a dictionary: two sets of word vectors are turned "
        "until their neighbourhoods agree.",
        "Turning one space of word vectors into another one gives a dictionary. We measure how "
        "many of its entries are right.",
        1,
    ),
    (
        "A parser for spoken sentences has to live with words that were begun and not ended.",
        "We count how often the names of places are spelled in more than one way in old maps.",
        0,
    ),
)

SHIP, PLANE = 8, 0  # CIFAR-10's labels


def own(task: config.Task) -> Split | None:
    """Inputs made for this package, cut to the task's length; None for a generated task."""
    if isinstance(task, config.Text):
        return _split(task, [[text.ids(words)] for words, _ in REVIEWS], [r[1] for r in REVIEWS])
    if isinstance(task, config.Retrieval | config.RetrievalACL):
        pairs = [[text.ids(one), text.ids(other)] for one, other, _ in PAPERS]
        return _split(task, pairs, [paper[2] for paper in PAPERS])
    if isinstance(task, config.Image):
        return _split(task, [[_ship()], [_plane()]], [SHIP, PLANE])
    return None


def _split(task: config.Task, examples: list[list[Bytes]], labels: list[int]) -> Split:
    length = task.max_length
    inputs = np.zeros((len(examples), len(examples[0]), length), np.uint8)
    lengths = np.zeros(inputs.shape[:2], np.int32)
    for row, parts in enumerate(examples):
        for part, values in enumerate(parts):
            kept = values[:length]
            inputs[row, part, : len(kept)] = kept
            lengths[row, part] = len(kept)
    if task.layout != "pair":
        inputs, lengths = inputs[:, 0], lengths[:, 0]
    return Split(inputs, lengths, np.array(labels))


def _ship() -> Bytes:
    """A dark hull with a bright sail on grey water, 32 x 32 pixels, row by row."""
    y, x = np.mgrid[:32, :32]
    picture = np.where(y < 20, 200 - 2 * y, 90 + (x + 3 * y) % 7 * 4)
    picture[(y >= 18) & (y < 23) & (abs(x - 16) < 28 - y)] = 30
    picture[(y >= 5) & (y < 17) & (x > 16) & (x < 12 + y / 1.2)] = 240
    picture[(y >= 4) & (y < 18) & (x == 15)] = 40
    return picture.astype(np.uint8).ravel()


def _plane() -> Bytes:
    """A dark fuselage with swept wings before a bright sky, 32 x 32 pixels, row by row."""
    y, x = np.mgrid[:32, :32]
    picture = 170 + 2 * y
    picture[(abs(y - 16) < 2) & (x > 3) & (x < 29)] = 50
    picture[(x > 10) & (x < 22) & (abs(y - 16) < 22 - x)] = 70
    picture[(x > 3) & (x < 8) & (y > 10) & (y < 17)] = 60
    return picture.astype(np.uint8).ravel()
