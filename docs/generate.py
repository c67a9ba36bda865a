"""Writes docs/meters.md from the register maps: `make docs`, which is `python docs/generate.py`."""

from collections import Counter
from itertools import groupby
from pathlib import Path

from meterd.drivers.map_library import MapHeader, head, load_map, shipped
from meterd.drivers.map_rows import COUNTED, WORDS
from meterd.drivers.sunspec.models import MODELS, rows

FILE = Path(__file__).with_name("meters.md")
# What people write: the text above the tables, and the one below.
PARTS = Path(__file__).with_name("parts")
_COLUMNS = """\
| map | model | confidence | quantities | source | remark |
| --- | --- | --- | ---: | --- | --- |
"""
_MODELS = """\
| model | what it is | quantities |
| ---: | --- | ---: |
"""


def text() -> str:
    """The whole page."""
    heads = [head(name) for name in shipped()]
    levels = Counter(one.confidence for one in heads)
    tables = []
    ordered = sorted(heads, key=lambda one: (one.maker.lower(), one.name))
    for maker, group in groupby(ordered, key=lambda one: one.maker):
        tables.append(f"\n## {maker}\n\n{_COLUMNS}")
        tables += [_line(one) for one in group]
    sunspec = [_model(number) for number in MODELS]
    own = _part(
        "meters-own.md",
        types=" ".join(f"`{kind}`" for kind in (*WORDS, *COUNTED)),
        counted=", ".join(f"`{kind}`" for kind in COUNTED),
        counts=", ".join(map(str, COUNTED.values())),
    )
    top = _part("meters-top.md", count=len(heads), models=len(MODELS), **levels)
    head_of_models = (_part("meters-sunspec.md"), _MODELS)
    return "".join((top, *tables, "\n", *head_of_models, *sunspec, "\n", own))


def _model(number: int) -> str:
    count = len(rows(number, 0, 3))
    return f"| {number} | {MODELS[number].title} | {count} |\n"


def _part(name: str, **words: object) -> str:
    text = (PARTS / name).read_text("utf-8")
    for key, word in words.items():
        text = text.replace(f"{{{key}}}", str(word))
    return text


def _line(one: MapHeader) -> str:
    also = load_map(one.name).aliases
    name = f"`{one.name}`" + (f", also {', '.join(f'`{alias}`' for alias in also)}" if also else "")
    level = f"**{one.confidence}**" if one.confidence == "low" else one.confidence
    cells = (name, one.model, level, str(one.rows), one.source, one.remark)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
