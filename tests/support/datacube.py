"""What tests of datacubes share."""

import numpy as np

from darts_acquisition import Chunk

SHAPE, SIZE = (70, 90), 16
BLOCK = (5, 6)


def arrays_for(window, seed=0):
    rng = np.random.default_rng(seed)
    height = rng.normal(size=window.shape).astype("float32")
    height[rng.random(window.shape) < 0.1] = np.nan
    return {"height": height, "kind": rng.integers(0, 5, window.shape).astype("uint8")}


class Mosaic:
    """The obvious cube: whole arrays in memory, and a state for each chunk, kept pixel by pixel."""

    def __init__(self):
        self.height = np.full(SHAPE, np.nan, "float32")
        self.kind = np.zeros(SHAPE, "uint8")
        self.states = np.zeros(BLOCK, "uint8")

    def chunks(self, window):
        for row, col in np.ndindex(BLOCK):
            inside = np.zeros(SHAPE, bool)
            inside[row * SIZE : (row + 1) * SIZE, col * SIZE : (col + 1) * SIZE] = True
            area = np.zeros(SHAPE, bool)
            area[window] = True
            if (inside & area).any():
                yield (row, col), inside, area

    def write(self, window, arrays, complete):
        self.height[window], self.kind[window] = arrays["height"], arrays["kind"]
        new = []
        for place, inside, area in self.chunks(window):
            if complete or area[inside].all():
                if self.states[place] != 1:
                    new.append(Chunk(*place))
                self.states[place] = 1
            elif self.states[place] == 2:
                self.states[place] = 0
        return new

    def missing(self, window):
        return [Chunk(*place) for place, _, _ in self.chunks(window) if self.states[place] == 0]

    def read(self, window):
        height, kind = self.height.copy(), self.kind.copy()
        for place, inside, _ in self.chunks(window):
            if self.states[place] == 2:
                height[inside], kind[inside] = np.nan, 0
        return {"height": height[window], "kind": kind[window]}
