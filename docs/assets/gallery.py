"""Draws the figures of the page "Gallery" by its own code: `python docs/assets/gallery.py`."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

from ddln import plots

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "gallery.md"
# A block of code, or a picture of the figure that was drawn last.
PART = re.compile(
    r"^```python\n(.*?)^```$|^!\[[^\]]*\]\(assets/(gallery-\w+\.png)\)$", re.DOTALL | re.MULTILINE
)


def main() -> None:
    names = {}
    with plots.style():
        for code, picture in PART.findall(PAGE.read_text(encoding="utf-8")):
            if picture:
                plt.gcf().savefig(FOLDER / picture, dpi=200)
            else:
                exec(code, names)


if __name__ == "__main__":
    main()
