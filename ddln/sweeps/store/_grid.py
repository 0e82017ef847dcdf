"""Layout of lanes along labelled dimensions, in chunks."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Lanes in C order along dimensions of given sizes, in chunks of one shape.

    From the innermost dimension outwards a chunk spans whole dimensions, then a part of one, and has size
    1 in the others, so that it is a run of consecutive lanes.

    Attributes:
        sizes: sizes of the dimensions.
        chunk: shape of a chunk; the last chunk along a dimension may be smaller.
    """

    sizes: tuple[int, ...]
    chunk: tuple[int, ...]

    @classmethod
    def of(cls, sizes: tuple[int, ...], chunk_size: int) -> "Grid":
        """Grid of the largest chunks of at most `chunk_size` lanes."""
        chunk, room = [], chunk_size
        for size in reversed(sizes):
            chunk.append(max(1, min(size, room)))
            room = room // size if chunk[-1] == size else 1
        return cls(sizes, tuple(reversed(chunk)))

    @property
    def lanes(self) -> int:
        return math.prod(self.sizes)

    @property
    def chunk_lanes(self) -> int:
        """Number of lanes of a full chunk."""
        return math.prod(self.chunk)

    @property
    def is_consecutive(self) -> bool:
        """True if each chunk is a run of consecutive lanes."""
        fits = all(0 < step <= size for size, step in zip(self.sizes, self.chunk, strict=True))
        outer = [i for i, step in enumerate(self.chunk) if step > 1]
        first = outer[0] if outer else len(self.chunk)
        return fits and self.chunk[first + 1 :] == self.sizes[first + 1 :]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return tuple(-(-size // step) for size, step in zip(self.sizes, self.chunk, strict=True))

    @property
    def chunks(self) -> int:
        return math.prod(self.counts)

    def index(self, chunk: int) -> tuple[int, ...]:
        """Position of a chunk along each dimension."""
        return tuple(int(i) for i in np.unravel_index(chunk, self.counts))

    def region(self, chunk: int) -> tuple[slice, ...]:
        """Entries of a chunk along each dimension."""
        return tuple(
            slice(i * step, min((i + 1) * step, size))
            for i, step, size in zip(self.index(chunk), self.chunk, self.sizes, strict=True)
        )

    def span(self, chunk: int) -> tuple[int, int]:
        """Lanes of a chunk: the first one, and one past the last."""
        region = self.region(chunk)
        start = 0
        for piece, size in zip(region, self.sizes, strict=True):
            start = start * size + piece.start
        return start, start + math.prod(piece.stop - piece.start for piece in region)

    def chunk_of(self, lane: int) -> int:
        """Number of the chunk that holds a lane."""
        where = np.unravel_index(lane, self.sizes)
        index = [i // step for i, step in zip(where, self.chunk, strict=True)]
        return int(np.ravel_multi_index(index, self.counts))
