"""Runs a worked example in this process and reads the table of figures that it ends with."""

import re
from typing import NamedTuple

import _example


class Outcome(NamedTuple):
    status: int
    out: str
    err: str
    figures: dict  # {what: (published, here, claim)}, texts


def run_example(module, capsys, *arguments):
    """``scripts/<module>.py`` with these command-line arguments, as an `Outcome`."""
    status = _example.run(module.main, module.__doc__, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return Outcome(status, printed.out, printed.err, read_table(printed.out))


def read_table(text):
    """Rows under the last line that names the columns; a cell begins where its column's name does."""
    lines = text.splitlines()
    heads = [re.fullmatch(r" +(published +|without +)(here +|with +)(claim)", line) for line in lines]
    found = [number for number, head in enumerate(heads) if head]
    if not found:
        return {}
    starts = [heads[found[-1]].start(group) for group in (1, 2, 3)]
    rows = {}
    for line in lines[found[-1] + 1 :]:
        cells = [line[a:b].strip() for a, b in zip([0, *starts], [*starts, None])]
        rows[cells[0]] = tuple(cells[1:])
    return rows


def assert_picture(path, columns=700, rows=350):
    """The file is a picture of at least this many pixels, and not a blank one; nothing where matplotlib is missing."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        assert not path.exists()
        return
    picture = plt.imread(path)
    assert picture.shape[0] >= rows and picture.shape[1] >= columns
    assert picture[..., :3].std() > 0.05
