"""What a source distribution holds beyond the package: tests, scripts and benchmarks, without data and caches.

setuptools calls this by ``[tool.setuptools.cmdclass]`` in pyproject.toml.
"""

import os

from setuptools.command.sdist import sdist as base

FOLDERS = ("tests", "scripts", "benchmarks", ".github")
SUFFIXES = (".cfg", ".json", ".md", ".png", ".py", ".sh", ".yaml", ".yml")
FILES = ("CHANGELOG.md", "setup.cfg", ".pre-commit-config.yaml", "fastnn/README.md")


def further_files():
    """Paths of these files below the current folder, in order."""
    found = [name for name in FILES if os.path.isfile(name)]
    for folder in FOLDERS:
        for place, inner, names in os.walk(folder):
            inner[:] = [name for name in inner if not name.startswith((".", "__pycache__"))]
            found += [os.path.join(place, name) for name in names if name.endswith(SUFFIXES)]
    return sorted(found)


class sdist(base):  # named as setuptools names its commands
    """setuptools' command, with `further_files`."""

    def make_distribution(self):
        self.filelist.extend(further_files())
        self.filelist.remove_duplicates()
        super().make_distribution()
