"""The recipes run as they stand, without a warning, and come to what they say."""

import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import config_context

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def rare_class_is_found(found):
    return found["recalls"]["balanced"] > found["recalls"][None] and found["outputs"].shape == (2, 3)


RECIPES = {
    "recipe_tables": lambda found: found["accuracy"] > 0.93 and rare_class_is_found(found),
    "recipe_text": lambda found: found["accuracy"] > found["most_frequent"] + 0.2,
    "recipe_long_training": lambda found: found["exact"] and found["same"] and found["accuracy"] > 0.85,
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_do_what_they_say(name, capsys):
    if name == "recipe_long_training":
        pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")
    before = np.random.get_state()[1].copy()
    with config_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = runpy.run_path(str(SCRIPTS / f"{name}.py"))
    assert RECIPES[name](found), capsys.readouterr().out
    assert np.array_equal(np.random.get_state()[1], before)


def test_every_recipe_is_run():
    assert {path.stem for path in SCRIPTS.glob("recipe_*.py")} == {*RECIPES}
