"""Runs at the start of each child process of ``python -m fastnn run``, whose PYTHONPATH begins with this folder.

scikit-learn is patched when its networks are imported; nothing is imported before. Another ``sitecustomize``, which
this one hides, runs as without it.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys

PATCHED = "sklearn.neural_network"
HERE = os.path.dirname(os.path.abspath(__file__))


class Finder:
    """Finds one package as all others are found, and patches scikit-learn when it has been imported."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != PATCHED:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not cls)
        spec = next(filter(None, found), None)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            sys.meta_path.remove(cls)
            patch()

        spec.loader.exec_module = exec_module
        return spec


def patch():
    """Patch this process, as its parent is."""
    try:
        try:
            importlib.import_module("fastnn")
        except ModuleNotFoundError:  # the parent has found it in its own folder
            sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(HERE))))
        importlib.import_module("fastnn.patch.methods").arrive(os.environ["FASTNN_PATCH"])
    except Exception as error:
        print(f"fastnn: this process runs scikit-learn's own networks: {error}", file=sys.stderr)


def run_the_hidden_one():
    """Run the ``sitecustomize`` that would have run without this one, if there is one."""
    folders = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", folders)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("FASTNN_PATCH"):
    sys.meta_path.insert(0, Finder)
run_the_hidden_one()
