"""LoRAs: put on the parts, trained, written as diffusers reads them; and the files that come with the model."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from darkroom.worker.models.tiny_tokenizer import write_tokenizer
from ops.starter.captions import words
from ops.starter.card import write_lora_section
from ops.starter.few_steps import GUIDANCE, TIMES, end_loss, walk
from ops.starter.lessons import lesson_picture
from ops.starter.lora import LINEARS, add_lora, described, save_lora
from ops.starter.models import FIRST, SECOND, make_scheduler, make_unet
from ops.starter.reader import Reader
from ops.starter.teaching import COURSES, Course, teach

STARTER = Path(__file__).parents[3] / "worker/starter"
SHIPPED = {path.stem: path for path in (STARTER / "loras").glob("*.safetensors")}
PICTURE = torch.linspace(-1, 1, 2 * 4 * 16 * 16).reshape(2, 4, 16, 16)
HEARD = torch.ones(2, 77, FIRST + SECOND), torch.ones(2, SECOND)


class Oracle(torch.nn.Module):
    """Knows the pictures, and nothing without words."""

    def __init__(self, pictures: torch.Tensor) -> None:
        super().__init__()
        self.pictures, self.left = pictures, make_scheduler().alphas_cumprod

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, states: torch.Tensor, added_cond_kwargs: Any) -> Any:
        signal = self.left[times].sqrt().view(-1, 1, 1, 1)
        known = self.pictures.repeat(len(noisy) // 2, 1, 1, 1) * states[:, :1, :1, None]
        return SimpleNamespace(sample=(signal * noisy - known) / (1 - signal.square()).sqrt())


def test_a_path_goes_from_noise_to_the_guided_picture() -> None:
    torch.manual_seed(0)
    path = walk(Oracle(PICTURE), HEARD)  # type: ignore[arg-type]
    assert path.shape == (2, len(TIMES) + 1, 4, 16, 16)
    assert torch.allclose(path[:, -1], GUIDANCE * PICTURE, atol=1e-4)
    assert abs(path[:, 0].std() - 1) < 0.1
    for point, time in enumerate(TIMES):  # all of one noise
        signal = make_scheduler().alphas_cumprod[time].sqrt()
        noise = (path[:, point] - signal * path[:, -1]) / (1 - signal.square()).sqrt()
        assert torch.allclose(noise, path[:, 0], atol=0.03)


def test_a_student_who_knows_the_end_of_a_path_has_nothing_to_learn() -> None:
    torch.manual_seed(0)
    path, times = walk(Oracle(PICTURE), HEARD), torch.tensor([TIMES[0], TIMES[5]])  # type: ignore[arg-type]
    noisy, end = path[range(2), [0, 5]], path[:, -1]
    right, plain = (Oracle(scale * PICTURE) for scale in (GUIDANCE, 1.0))
    assert end_loss(right, noisy, times, end, HEARD) < 1e-5  # type: ignore[arg-type]
    assert end_loss(plain, noisy, times, end, HEARD) > 0.1  # type: ignore[arg-type]


def test_a_lora_changes_nothing_at_first_and_comes_back_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = make_unet().eval()
    plain = unet.state_dict()
    before = _said(unet)
    add_lora(unet, 2, LINEARS, seed=0)
    assert torch.equal(_said(unet), before)
    with torch.no_grad():
        for name, value in unet.named_parameters():
            assert value.requires_grad == ("lora" in name)
            if "lora_B" in name:
                value.copy_((0.1 * torch.randn_like(value)).half())
            elif "lora_A" in name:
                value.copy_(value.half())
    save_lora({"unet": unet}, tmp_path / "one.safetensors")
    assert described(tmp_path / "one.safetensors") == (2, ["unet"])
    again = make_unet().eval()
    again.load_state_dict(plain)
    again.load_lora_adapter(load_file(tmp_path / "one.safetensors"), prefix="unet")
    assert torch.equal(_said(again), _said(unet))
    assert not torch.equal(_said(unet), before)


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.stage.name)
def test_a_lesson_leaves_the_model_as_it_was_and_gives_layers_of_its_parts(course: Course, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, words())
    torch.manual_seed(0)
    unet, reader = make_unet(), Reader(CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True))
    before = unet.conv_in.weight.clone(), unet.mid_block.attentions[0].proj_in.weight.clone()
    scenes = [lesson_picture(course.lesson, 1, row)[0] for row in range(4)]
    short = replace(course, stage=replace(course.stage, steps=1))
    parts = teach(short, unet, reader, scenes, torch.randn(4, 4, 16, 16), tmp_path)
    save_lora(parts, tmp_path / "short.safetensors")
    encoders = ["text_encoder", "text_encoder_2"] if course.encoders else []
    assert described(tmp_path / "short.safetensors") == (course.rank, [*encoders, "unet"])
    after = unet.conv_in.weight, unet.mid_block.attentions[0].proj_in.base_layer.weight
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    found = load_file(tmp_path / "short.safetensors")
    assert any(value.abs().max() > 0 for name, value in found.items() if "lora_B" in name)


@pytest.mark.parametrize("path", SHIPPED.values(), ids=SHIPPED)
def test_a_file_that_comes_along_is_small_and_whole(path: Path) -> None:
    assert path.stat().st_size <= 1_000_000
    for name, value in load_file(path).items():
        assert value.dtype == torch.float16
        assert torch.isfinite(value).all(), name


def test_the_card_says_the_newest_of_the_loras_once(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A card\n\n## How it was made\n\nby hand\n")
    for words_table in ("| old |", "| new |"):
        write_lora_section(tmp_path, "| a.safetensors |", words_table, "| 2 |", "| one | 9 |")
    card = (tmp_path / "README.md").read_text()
    assert card.count("## LoRAs") == card.count("## How it was made") == 1
    assert "| new |" in card and "| old |" not in card
    assert card.endswith("## How it was made\n\nby hand\n")


def _said(unet: Any) -> torch.Tensor:
    torch.manual_seed(1)
    added = {"text_embeds": torch.randn(1, SECOND), "time_ids": torch.zeros(1, 6)}
    with torch.no_grad():
        found: torch.Tensor = unet(
            torch.randn(1, 4, 16, 16), 500, torch.randn(1, 77, FIRST + SECOND), added_cond_kwargs=added
        ).sample
    return found
