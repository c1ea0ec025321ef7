"""Models with a base, and the LoRAs of a catalogue."""

import json
from pathlib import Path
from typing import Any

import pytest

from darkroom.tasks.catalogue import CatalogueError, builtin_contents, load_contents
from darkroom.tasks.entries import ModelEntry
from darkroom.tasks.sources import FolderSource, WeightsFileSource

DEFAULTS = {"width": 512, "height": 512, "num_inference_steps": 25, "guidance_scale": 7.5, "scheduler": "euler"}
OWN: dict[str, Any] = {
    "name": "mine",
    "family": "sd",
    "source": {"type": "folder", "path": "weights"},
    "defaults": DEFAULTS,
    "schedulers": ["euler"],
}
QUICK: dict[str, Any] = {
    "name": "mine-quick",
    "base": "mine",
    "own_loras": [{"name": "quick", "scale": 0.8}],
    "scheduler_config": {"timestep_spacing": "trailing"},
    "defaults": {**DEFAULTS, "num_inference_steps": 4, "guidance_scale": 0},
    "schedulers": ["euler"],
}
LORA: dict[str, Any] = {"name": "quick", "family": "sd", "source": {"type": "file", "path": "quick.safetensors"}}


def written(folder: Path, models: list[Any], loras: list[Any]) -> Path:
    file = folder / "catalogue.json"
    file.write_text(json.dumps({"models": models, "loras": loras}))
    return file


def refusal(folder: Path, models: list[Any], loras: list[Any]) -> str:
    with pytest.raises(CatalogueError) as caught:
        load_contents(written(folder, models, loras))
    return caught.value.message


def test_what_a_model_takes_of_its_base(tmp_path: Path) -> None:
    found = load_contents(written(tmp_path, [QUICK, OWN], [LORA]))
    quick = found.models["mine-quick"]
    assert (quick.family, quick.source) == ("sd", FolderSource(path=tmp_path / "weights"))
    assert (quick.weights, found.models["mine"].weights) == ("mine", "mine")
    assert [(use.name, use.scale) for use in quick.own_loras] == [("quick", 0.8)]
    assert quick.scheduler_config == {"timestep_spacing": "trailing"}
    assert quick.defaults.num_inference_steps == 4
    assert found.loras["quick"].source == WeightsFileSource(path=tmp_path / "quick.safetensors")
    assert found.loras["quick"].families == ["sd"]


def test_a_base_may_be_built_in(tmp_path: Path) -> None:
    quick = {**QUICK, "base": "sd-1.5"}
    found = load_contents(written(tmp_path, [quick], [LORA])).models
    assert found["mine-quick"].source == found["sd-1.5"].source


def test_what_is_written_out_is_read_again(tmp_path: Path) -> None:
    first = load_contents(written(tmp_path, [OWN, QUICK], [LORA]))
    models = [first.models[name].model_dump(mode="json") for name in ("mine", "mine-quick")]
    again = load_contents(written(tmp_path, models, [first.loras["quick"].model_dump(mode="json")]))
    assert again == first


def test_loras_alone_are_a_catalogue(tmp_path: Path) -> None:
    (tmp_path / "loras.json").write_text(json.dumps({"loras": [LORA]}))
    found = load_contents(tmp_path / "loras.json")
    assert found.models == builtin_contents().models
    assert "quick" in found.loras


def test_built_in_models_follow_a_base_that_is_put_over_ours(tmp_path: Path) -> None:
    found = load_contents(written(tmp_path, [{**OWN, "name": "sd-1.5"}, {**OWN, "name": "sdxl"}], [])).models
    assert found["lcm-sd-1.5"].source == found["sd-1.5"].source == FolderSource(path=tmp_path / "weights")
    assert not found.keys() & {"lcm-sdxl", "sdxl-lightning-4step"}  # their LoRAs do not fit a model of the family sd


def test_few_step_models_are_as_their_authors_publish_them() -> None:
    found = builtin_contents()

    def facts(model: ModelEntry) -> tuple[Any, ...]:
        asked = model.defaults
        return model.base, asked.num_inference_steps, asked.guidance_scale, asked.scheduler, model.scheduler_config

    assert {name: facts(model) for name, model in found.models.items() if model.own_loras} == {
        "starter-4step": ("starter", 4, 1.0, "lcm", {}),
        "sdxl-lightning-4step": ("sdxl", 4, 0.0, "euler", {"timestep_spacing": "trailing"}),
        "lcm-sdxl": ("sdxl", 4, 1.0, "lcm", {}),
        "lcm-sd-1.5": ("sd-1.5", 4, 1.0, "lcm", {}),
    }
    assert facts(found.models["sdxl-turbo"])[:4] == (None, 4, 0.0, "euler_a")
    own = {use.name for model in found.models.values() for use in model.own_loras}
    assert own == {name for name, lora in found.loras.items() if not lora.models or name == "few-steps"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"base": "nine"}, "models.mine-quick.base: no model 'nine' is in the catalogue (did you mean mine?)"),
        ({"base": "mine-quick"}, "models.mine-quick.base: is the model itself"),
        ({"base": "lcm-sdxl"}, "models.mine-quick.base: lcm-sdxl has a base itself, sdxl"),
        ({"base": "../mine"}, "models.mine-quick.base"),
        ({"base": 7}, "models.mine-quick.base"),
        ({"family": "sdxl"}, "models.mine-quick.family: is another one than that of the base, mine"),
        ({"source": {"type": "folder", "path": "other"}}, "models.mine-quick.source: is another one"),
        (
            {"own_loras": [{"name": "quik"}]},
            "own_loras.0.name: no LoRA 'quik' is in the catalogue (did you mean quick?)",
        ),
        ({"own_loras": [{"name": "quick"}, {"name": "quick"}]}, "own_loras.1.name: quick is there twice"),
        ({"own_loras": [{"name": "lcm-sdxl"}]}, "lcm-sdxl is for the family sdxl, and mine-quick is of sd"),
        ({"own_loras": [{"name": "quick", "scale": 1e9}]}, "own_loras.0.scale"),
        ({"own_loras": [{"name": "quick", "scale": float("nan")}]}, "own_loras.0.scale"),
        ({"own_loras": [{"name": f"lora-{n}"} for n in range(9)]}, "own_loras"),
        ({"own_loras": [{"name": "a/b.safetensors"}]}, "own_loras.0.name"),
        ({"loras": [{"name": "quick"}]}, "a model's own are its `own_loras`"),
        ({"scheduler_config": {"timestep_spacing": "backwards"}}, "scheduler_config.timestep_spacing"),
        ({"scheduler_config": {"use_karras_sigmas": True}}, "scheduler_config.use_karras_sigmas"),
        ({"scheduler_config": {"beta_end": float("nan")}}, "scheduler_config.beta_end"),
        ({"scheduler_config": []}, "scheduler_config"),
    ],
)
def test_faults_of_a_model_are_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    assert named in refusal(tmp_path, [OWN, {**QUICK, **change}], [LORA])


def test_bases_in_a_circle(tmp_path: Path) -> None:
    circle = [{**QUICK, "name": "one", "base": "two"}, {**QUICK, "name": "two", "base": "one"}]
    told = refusal(tmp_path, circle, [LORA])
    assert "models.one.base: two has a base itself, one" in told
    assert "models.two.base: one has a base itself, two" in told
    assert "family" not in told


def test_a_fault_of_the_base_is_told_there_alone(tmp_path: Path) -> None:
    told = refusal(tmp_path, [{**OWN, "family": "flux"}, QUICK], [LORA])
    assert told.count("family") == 1
    assert "models.mine.family" in told


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "loras/quick"}, "name"),
        ({"family": "flux"}, "families.0"),
        ({"families": ["sd"]}, "`family` and `families` at once"),
        ({"source": {"type": "file", "path": "quick.ckpt"}}, "is no .safetensors file: other formats can run code"),
        ({"source": {"type": "hub", "repo": "a/b", "file": "../x.safetensors"}}, "leads out of the repository"),
        ({"source": {"type": "hub", "repo": "a/b", "file": "/x.safetensors"}}, "leads out of the repository"),
        ({"source": {"type": "hub", "repo": "a/b", "file": "x.bin"}}, "is no .safetensors file"),
        ({"source": {"type": "hub", "repo": "a/b"}}, "source.hub.file"),
        ({"source": {"type": "bundled", "name": "../x"}}, "source.bundled.name"),
        ({"source": {"type": "bundled", "name": "x"}}, "`sha256` is missing"),
        ({"source": {"type": "folder", "path": "x"}}, "source"),
        ({"models": ["mein"]}, "loras.quick.models: no model 'mein' is in the catalogue (did you mean mine?)"),
        ({"models": ["sdxl"]}, "loras.quick.models: sdxl is of the family sdxl, and the LoRA for sd"),
        ({"models": ["sd-1.5"]}, "own_loras.0.name: quick is for sd-1.5, not for mine-quick"),
        ({"sha256": "abc"}, "sha256"),
        ({"scale": float("inf")}, "scale"),
        ({"weight": 1}, "weight"),
    ],
)
def test_faults_of_a_lora_are_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    assert named in refusal(tmp_path, [OWN, QUICK], [{**LORA, **change}])


def test_a_lora_for_a_base_is_for_what_is_made_of_it(tmp_path: Path) -> None:
    assert load_contents(written(tmp_path, [OWN, QUICK], [{**LORA, "models": ["mine"]}])).models["mine-quick"]


def test_a_lora_is_named_once(tmp_path: Path) -> None:
    assert "loras: named twice: quick" in refusal(tmp_path, [OWN], [LORA, LORA])
