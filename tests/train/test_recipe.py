"""Recipes: every option once, told when it does not fit, and the same after TOML."""

from __future__ import annotations

import tomllib
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikescope.errors import UnknownNameError
from spikescope.train import Recipe, convert, options, read_recipe, train

GIVEN = {"model": "sew_resnet18", "data": "digits"}


def test_toml_gives_every_option_back(tmp_path):
    recipe = Recipe(**GIVEN, model_args={"cnf": "IAND", 'odd "key"': [1, 2.5, True]}, lr=3e-5, clip_grad_norm=1.0)
    (tmp_path / "recipe.toml").write_text(recipe.toml())
    assert Recipe.of(read_recipe(tmp_path / "recipe.toml")) == recipe


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(held=PLAIN)
def test_whatever_a_recipe_holds_is_read_again_from_the_folder_of_its_run(held, tmp_path_factory):
    recipe = Recipe(**GIVEN, model_args={"v_reset": None, "\x7f": held}, data_args={"k": [held, None]}, root="\x7f")
    path = tmp_path_factory.mktemp("run") / "recipe.toml"
    path.write_bytes(recipe.toml().encode())
    assert repr(Recipe.of(read_recipe(path))) == repr(recipe)


@pytest.mark.parametrize("held", [{"none": True}, {"a": [{"none": True}]}, {1: 2}, "\udce4", {"\udce4": 1}], ids=ascii)
def test_what_would_be_read_as_something_else_is_refused(held):
    with pytest.raises(ValueError, match=r"model_args\.k"):
        Recipe(**GIVEN, model_args={"k": held})
    with pytest.raises(ValueError, match="root must be a text that can be written as UTF-8"):
        Recipe(**GIVEN, root="\udce4")


def test_toml_of_numbers_without_end_is_read_again():
    recipe = Recipe(**GIVEN, clip_grad_norm=float("inf"))
    assert tomllib.loads(recipe.toml())["clip_grad_norm"] == float("inf")


@pytest.mark.parametrize("option", list(options()), ids=lambda option: option.name)
def test_every_option_refuses_another_type_and_names_itself(option):
    wrong = 3 if option.kind in (str, bool, dict) else "three"
    with pytest.raises(TypeError, match=f"^{option.name} must be"):
        Recipe(**{**GIVEN, option.name: wrong})


@pytest.mark.parametrize("option", [held for held in options() if held.choices], ids=lambda option: option.name)
def test_every_choice_is_checked(option):
    with pytest.raises(ValueError, match=option.name):
        Recipe(**{**GIVEN, option.name: "anything"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1, but got 0"),
        ({"workers": 9999999}, "workers must be at most 512, but got 9999999"),
        ({"momentum": 7.0}, "momentum must be at most 1, but got 7.0"),
        ({"epochs": True}, "epochs must be a whole number, but got True"),
        ({"lr": float("nan")}, "lr must be at least 0, but got nan"),
        ({"label_smoothing": 1.0}, "label_smoothing must be below 1"),
        ({"loss": "tet", "step_mode": "s"}, "take step_mode='m'"),
    ],
)
def test_values_that_make_no_sense_are_told(given, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Recipe(**{**GIVEN, **given})


@pytest.mark.parametrize("name", ["model", "data"])
@pytest.mark.parametrize("work", [train, partial(convert, weights=None)], ids=["train", "convert"])
def test_names_are_needed_where_something_is_made_by_them_alone(work, name, tmp_path):
    recipe = Recipe(**{**GIVEN, name: ""})
    with pytest.raises(ValueError, match=f"A recipe needs {name}='...' here: a name of"):
        work(recipe, path=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_option_that_is_none_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"it\.toml has no option 'epoch'\. Did you mean epochs"):
        Recipe.of({**GIVEN, "epoch": 3}, "it.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    (tmp_path / "recipe.toml").write_text("model = ")
    with pytest.raises(ValueError, match=r"recipe\.toml is not TOML"):
        read_recipe(tmp_path / "recipe.toml")
