"""The catalogue: what ships, the operator's own file, and what is wrong with it."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from darkroom.tasks.catalogue import (
    SCHEDULERS,
    CatalogueError,
    Family,
    FileSource,
    FolderSource,
    builtin_catalogue,
    load_catalogue,
    scheduler_id,
)

OWN: dict[str, Any] = {
    "name": "mine",
    "family": "sd",
    "source": {"type": "folder", "path": "weights"},
    "defaults": {"width": 512, "height": 512, "num_inference_steps": 25, "guidance_scale": 7.5, "scheduler": "euler"},
    "schedulers": ["euler", "ddim"],
}


def written(folder: Path, content: object) -> Path:
    file = folder / "catalogue.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_each_family_is_built_in() -> None:
    entries = builtin_catalogue()
    assert {entry.family for entry in entries.values()} == set(get_args(Family))
    playground = entries["playground-v2.5"].defaults
    assert (playground.guidance_scale, playground.num_inference_steps) == (3.0, 50)


def test_built_in_defaults_keep_their_own_limits() -> None:
    for entry in builtin_catalogue().values():
        sides = (entry.defaults.width, entry.defaults.height)
        assert all(entry.limits.min_side <= side <= entry.limits.max_side for side in sides)
        assert all(side % entry.limits.grid == 0 for side in sides)
        assert entry.defaults.num_inference_steps <= entry.limits.max_steps


def test_own_entries_lie_over_the_built_in_ones(tmp_path: Path) -> None:
    found = load_catalogue(written(tmp_path, {"models": [OWN, {**OWN, "name": "playground-v2.5"}]}))
    assert found.keys() == {*builtin_catalogue(), "mine"}
    assert found["playground-v2.5"].family == "sd"
    assert load_catalogue(None) == builtin_catalogue()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    single = {"type": "file", "path": "a.safetensors", "config": "/elsewhere"}
    found = load_catalogue(written(tmp_path, {"models": [OWN, {**OWN, "name": "one", "source": single}]}))
    assert found["mine"].source == FolderSource(path=tmp_path / "weights")
    assert found["one"].source == FileSource(path=tmp_path / "a.safetensors", config=Path("/elsewhere"))


def test_an_offer_keeps_the_paths_to_itself(tmp_path: Path) -> None:
    entry = load_catalogue(written(tmp_path, {"models": [OWN]}))["mine"]
    published = entry.offer().model_dump()
    assert published == entry.model_dump(exclude={"source", "scheduler_config"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "No Name"}, "name"),
        ({"family": "flux"}, "family"),
        ({"source": {"type": "url", "path": "https://x"}}, "source"),
        ({"source": {"type": "folder"}}, "source.folder.path"),
        ({"schedulers": ["magic"]}, "magic"),
        ({"schedulers": ["ddim"]}, "default scheduler 'euler'"),
        ({"limitz": {}}, "limitz"),
        ({"defaults": {"width": 512}}, "defaults.height"),
        ({"defaults": {**OWN["defaults"], "width": 500}}, "off the grid"),
        ({"defaults": {**OWN["defaults"], "num_inference_steps": 500}}, "default steps"),
        (
            {
                "defaults": {**OWN["defaults"], "num_inference_steps": 60, "scheduler": "lcm"},
                "schedulers": ["euler", "lcm"],
            },
            "default steps",
        ),
        ({"defaults": {**OWN["defaults"], "guidance_scale": -1}}, "guidance_scale"),
        ({"limits": {"grid": 0}}, "limits.grid"),
        ({"limits": {"min_side": 600}}, "outside the limits"),
        ({"limits": {"max_images": 0}}, "limits.max_images"),
        ({"kinds": []}, "kinds"),
    ],
)
def test_faults_are_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    file = written(tmp_path, {"models": [{**OWN, **change}]})
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(file)
    assert named in caught.value.message
    assert str(file) in caught.value.message


def test_all_faults_of_an_entry_are_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(written(tmp_path, {"models": [{**OWN, "family": "flux", "limitz": {}}]}))
    assert "family" in caught.value.message
    assert "limitz" in caught.value.message


def test_faults_of_several_entries_are_named_by_entry(tmp_path: Path) -> None:
    wrong = [{**OWN, "name": "one", "family": "flux"}, OWN, {**OWN, "name": "two", "kinds": []}, {"family": "sd"}]
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(written(tmp_path, {"models": wrong}))
    for named in ("models.one.family", "models.two.kinds", "models.3.name"):
        assert named in caught.value.message


def test_a_name_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=f"named twice: {OWN['name']}"):
        load_catalogue(written(tmp_path, {"models": [OWN, OWN]}))


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.json"
    file.write_text(json.dumps({"models": [OWN]}), "utf-8-sig")
    assert OWN["name"] in load_catalogue(file)


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "{}", '{"models": 5}', '{"models": [5]}', "null"])
def test_what_is_no_catalogue(tmp_path: Path, content: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(file)
    assert str(file) in caught.value.message
    assert caught.value.exit_code == 4


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.json"
    file.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(CatalogueError):
        load_catalogue(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="No such file") as caught:
        load_catalogue(tmp_path / "none.json")
    assert "DARKROOM_CATALOGUE" in caught.value.hint


def test_schedulers_go_by_id_and_by_the_name_of_the_field() -> None:
    for name, (label, _) in SCHEDULERS.items():
        assert scheduler_id(name) == scheduler_id(label) == name
