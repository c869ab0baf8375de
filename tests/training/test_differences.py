"""Recipes, field by field."""

import dataclasses

from robustpolicy.training import get_recipe
from robustpolicy.training.differences import differences, flatten


def test_nested_objects_become_dotted_keys():
    nested = {"a": 1, "b": {"c": {"d": [2, 3]}, "e": None}, "f": {}}
    assert flatten(nested) == {"a": 1, "b.c.d": [2, 3], "b.e": None}


def test_differences_of_recipes():
    first = get_recipe("digits-ce")
    second = dataclasses.replace(get_recipe("digits-policy"), seed=5)
    found = differences([first.to_json(), second.to_json(), first.to_json()])
    assert found["loss.name"] == ["cross-entropy", "two-stage", "cross-entropy"]
    assert found["loss.penalty"] == [None, 1.5, None]
    assert found["seed"] == [0, 5, 0]
    assert {key.partition(".")[0] for key in found} == {"loss", "seed"}
    assert list(found)[-1] == "seed"  # fields of one part stand together
    assert differences([first.to_json(), first.to_json()]) == {}
