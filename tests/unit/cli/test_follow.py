"""Events as people see them, and pictures on their way to files."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from darkroom.cli.errors import UsageFault
from darkroom.cli.follow import Bar, Lines, Teller, sparkline, told
from darkroom.cli.pictures import Target, format_of, is_local
from darkroom.tasks import EVENT_TYPES, Event, StoredFile, StoredImage


def event(kind: str, **data: Any) -> Event:
    return Event("1-0", f"job.{kind}", 0.0, "id", "default", data)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_has_words_even_without_data(kind: str) -> None:
    assert told(event(kind.removeprefix("job.")))


def test_words() -> None:
    assert told(event("progress", image=1, step=3, of=20)) == "image 1: step 3 of 20"
    made = event("progress", image=0, step=0, of=500, class_images=12, class_images_of=100)
    assert told(made) == "class pictures: 12 of 100"
    assert told(event("failed", error={"message": "no room", "hint": "make some"})) == "failed: no room (make some)"
    assert told(event("queued", reason="submitted", model="sdxl")) == "queued"
    assert told(event("queued", reason="lease_expired")) == "queued again: its worker was lost"
    assert told(event("queued", reason="drained")) == "queued again: its worker stops"
    assert told(event("queued", reason="storage_away")) == "queued again: its worker's store cannot be used"
    assert told(event("waiting", reason="storage_away", code="storage_full")) == "waits for the store: storage_full"
    again = event("queued", reason="retry", code="out_of_memory", delay_s=1.7, failures=1)
    assert told(again) == "queued again, tried in 2 s: out_of_memory"
    image = event("image", index=0, key="k/0.png", width=64, height=32, seed=7)
    assert told(image) == "image 0 is stored: k/0.png, 64x32, seed 7"
    sample = event("image", index=4, key="k/4.png", width=64, height=32, seed=7, step=50, prompt=" a\ndotty " * 20)
    assert told(sample, seeded=False).startswith("sample of step 50, 'a dotty a dotty ")
    assert told(sample, seeded=False).endswith("...' is stored: k/4.png, 64x32")
    assert told(event("progress", image=0, step=50, of=500, sample=2, samples=3)) == "step 50 of 500, sample 2 of 3"
    latents = event("file", role="latents", index=2, key="k/l.safetensors", bytes=9)
    assert told(latents) == "latents of image 2: stored as k/l.safetensors, 9 bytes"
    assert told(event("file", role="sheet", index=None, key="k/s.png", bytes=9)) == "sheet: stored as k/s.png, 9 bytes"


def lines_of(kind: str, *events: Event) -> list[str]:
    teller, queued = Teller(), Event("1-0", "job.queued", 0.0, "id", "default", {"reason": "submitted", "kind": kind})
    return [teller.line(one) for one in (queued, *events)][1:]


def test_a_seed_that_frames_share_is_told_once() -> None:
    frames = [
        event("image", index=i, key=f"k/{i}.png", width=8, height=8, seed=seed) for i, seed in enumerate([7, 7, 9])
    ]
    assert lines_of("interpolate", *frames) == [
        "image 0 is stored: k/0.png, 8x8, seed 7",
        "image 1 is stored: k/1.png, 8x8",
        "image 2 is stored: k/2.png, 8x8, seed 9",
    ]


def test_one_thing_that_nothing_is_drawn_for_has_no_number_and_no_seed() -> None:
    progress, file = (
        event("progress", image=0, step=1, of=2),
        event("file", role="embeddings", index=0, key="k", bytes=9),
    )
    assert lines_of("embed", progress, file) == ["step 1 of 2", "embeddings: stored as k, 9 bytes"]
    picture = event("image", index=0, key="k/0.png", width=8, height=8, seed=0)
    assert lines_of("decode", picture) == ["image is stored: k/0.png, 8x8"]


def test_lines_are_few_but_have_the_last_step() -> None:
    said: list[str] = []
    with Lines(said.append) as lines:
        for step in range(1, 51):
            lines.tell(event("progress", image=0, step=step, of=50))
        lines.tell(event("succeeded"))
    assert said[0] == "image 0: step 1 of 50"
    assert said[-2:] == ["image 0: step 50 of 50", "succeeded"]
    assert len(said) < 10


@pytest.mark.parametrize("ending", ["succeeded", "failed", "canceled"])
def test_the_bar_counts_over_all_images(ending: str) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with Bar(console, 2, "sdxl") as bar:
        bar.tell(event("queued"))
        bar.tell(event("started"))
        bar.tell(event("progress", image=1, step=5, of=10))
        bar.tell(event("image", index=1))
        task = bar._progress.tasks[0]
        assert (task.completed, task.total) == (15, 20)
        bar.tell(event(ending))
        assert task.finished is (ending == "succeeded")
    assert f"sdxl: {ending}" in screen.getvalue()
    assert "step 5/10 of image 2/2" in screen.getvalue()


def test_the_bar_shows_what_a_job_waits_for() -> None:
    with Bar(Console(file=io.StringIO(), force_terminal=True, width=100), 1, "sdxl") as bar:
        for kind, words in (("waiting", "waiting for the store"), ("file", "running"), ("queued", "queued")):
            bar.tell(event(kind))
            assert bar._progress.tasks[0].description == f"sdxl: {words}"


@pytest.mark.parametrize(
    ("reference", "local"),
    [
        ("photo.png", True),
        ("/tmp/photo.png", True),
        ("~/photo.png", True),
        ("https://example.org/a.png", False),
        ("data:image/png;base64,AA", False),
        ("inputs/default/aa.png", False),
        ("01980c3e-7b1f-7d6e-8a45-2f4d3c6b7a89/0-0123456789abcdef.png", False),
    ],
)
def test_what_an_image_reference_means(reference: str, *, local: bool) -> None:
    assert is_local(reference) is local


@pytest.mark.parametrize(("save", "form"), [("a.PNG", "png"), ("a.jpg", "jpeg"), ("a.b.webp", "webp"), ("a/", None)])
def test_a_files_ending_names_the_format(save: str, form: str | None) -> None:
    assert format_of(save, {}) == form


LATENTS = {"output": ["latents"]}
BOTH = {"output": ["image", "latents"]}


@pytest.mark.parametrize(
    ("save", "fields", "said"),
    [
        ("a.safetensors", {}, "the job makes pictures"),
        ("a.SAFETENSORS", {"kind": "inpaint", "output_format": "webp"}, "the job makes pictures"),
        ("a.safetensors", {"kind": "decode"}, "the job makes pictures"),
        ("a.safetensors", BOTH, "the job makes pictures"),
        ("a.png", LATENTS, "the job makes no pictures"),
        ("a.webp", {"kind": "encode"}, "the job makes no pictures"),
        ("a.png", {"kind": "embed"}, "the job makes no pictures"),
    ],
)
def test_an_ending_of_another_sort_of_result_is_refused(save: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageFault, match=said):
        format_of(save, fields)


def test_what_to_do_where_latents_are_made_beside_pictures() -> None:
    with pytest.raises(UsageFault) as caught:
        format_of("a.safetensors", BOTH)
    assert "latents go beside it, or alone with --output latents" in caught.value.hint


@pytest.mark.parametrize("fields", [LATENTS, {"kind": "encode"}, {"kind": "embed"}, {"kind": "unheard-of"}])
def test_an_ending_of_files_alone_names_no_format(fields: dict[str, Any]) -> None:
    assert format_of("a.safetensors", fields) is None


class Memory:
    """A store that has one picture under every key."""

    def get(self, key: str) -> bytes:
        return key.encode()


def images(count: int) -> list[StoredImage]:
    found = []
    for index in range(count):
        facts: dict[str, Any] = {"index": index, "key": f"job/{index}-aa.png", "seed": 1, "width": 8, "height": 8}
        image = StoredImage(**facts, sha256="0" * 64, bytes=1, content_type="image/png")
        image.within(Memory)  # type: ignore[arg-type]
        found.append(image)
    return found


@pytest.mark.parametrize(
    ("save", "count", "names"),
    [
        ("out.png", 1, ["out.png"]),
        ("out.png", 2, ["out-0.png", "out-1.png"]),
        ("out", 2, ["out-0", "out-1"]),
        ("new/", 2, ["new/0-aa.png", "new/1-aa.png"]),
        ("a/b/out.png", 1, ["a/b/out.png"]),
        ("", 1, ["0-aa.png"]),
    ],
)
def test_names_of_saved_pictures(tmp_path: Path, save: str, count: int, names: list[str]) -> None:
    paths = Target(f"{tmp_path}/{save}").save(images(count))
    assert [str(path.relative_to(tmp_path)) for path in paths] == names
    assert paths[-1].read_bytes().decode() == f"job/{count - 1}-aa.png"


def files() -> list[StoredFile]:
    found = []
    for role, index, name in (("latents", 1, "latents-1-aa.safetensors"), ("sheet", None, "sheet-aa.png")):
        facts: dict[str, Any] = {"role": role, "index": index, "key": f"job/{name}", "content_type": "image/png"}
        file = StoredFile(**facts, sha256="0" * 64, bytes=1)
        file.within(Memory)  # type: ignore[arg-type]
        found.append(file)
    return found


@pytest.mark.parametrize(
    ("save", "names"),
    [
        ("out.png", ["out-0.png", "out-1.png", "out-latents-1.safetensors", "out-sheet.png"]),
        ("new/", ["new/0-aa.png", "new/1-aa.png", "new/latents-1-aa.safetensors", "new/sheet-aa.png"]),
    ],
)
def test_names_of_saved_files(tmp_path: Path, save: str, names: list[str]) -> None:
    paths = Target(f"{tmp_path}/{save}").save(images(2), files())
    assert [str(path.relative_to(tmp_path)) for path in paths] == names
    assert [path.read_bytes().decode() for path in paths[2:]] == [file.key for file in files()]


def test_a_place_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Target(f"{tmp_path}/file/out.png")


def test_a_training_shows_its_loss_as_a_small_curve() -> None:
    output = io.StringIO()
    with Bar(Console(file=output, force_terminal=True, width=120), 1, "sdxl") as bar:
        for step, loss in enumerate((0.8, 0.4, 0.2, 0.1), 1):
            bar.tell(event("progress", image=0, step=step, of=4, loss=loss, loss_smoothed=loss))
    assert "step 4/4, loss 0.1000 █▅▃▂" in output.getvalue()


@pytest.mark.parametrize(
    ("values", "curve"),
    [([], ""), ([0.0], "▁"), ([1.0] * 3, "███"), ([0.0, 1.0] * 50, "████"), ([2.0, 1.0, 0.0], "█▅▁")],
)
def test_a_curve_is_as_wide_as_it_may_be(values: list[float], curve: str) -> None:
    assert sparkline(values, 4) == curve


def test_a_training_says_when_it_is_done() -> None:
    step = {"image": 0, "step": 3, "of": 9, "loss": 0.5, "loss_smoothed": 0.5, "steps_per_second": 0.0333}
    words = "step 3 of 9, loss 0.5000, 0.0333 steps/s"
    assert told(event("progress", **step, seconds_left=180.2)) == f"{words}, 3 min left"
    assert told(event("progress", **step, seconds_left=0.0)) == words
    output = io.StringIO()
    with Bar(Console(file=output, force_terminal=True, width=120), 1, "sdxl") as bar:
        bar.tell(event("progress", **step, seconds_left=5400.0))
    assert "step 3/9, loss 0.5000, 1 h 30 min left █" in output.getvalue()
