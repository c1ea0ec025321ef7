"""As many pictures in flight, half of them in the style of another picture, as without."""

from functools import partial
from pathlib import Path

from PIL import Image

from bench.loras.flight import IN_FLIGHT, flight, in_turn, job, ratio, starter, with_loras
from bench.loras.tiny import write_style
from bench.table import Row
from darkroom.worker.adapters.style import load_style
from darkroom.worker.adapters.styles import Styles
from darkroom.worker.images.pictures import encode


def styled(folder: Path, rounds: int, **fields: int) -> Row:
    """The adapter has random numbers: of the starter's own layers, four tokens a picture."""
    with starter() as (engine, load):
        model = load()
        path, encoder = write_style(folder / "style", model.components["unet"])
        adapter = load_style(path, encoder, model.entry.family, model.components["unet"], model.placement)
        styles = Styles("bench", {}, "local", adapter, engine)
        generator = with_loras(model, engine, lambda _: None, styles)
        png = encode(Image.radial_gradient("L").resize((128, 128)).convert("RGB"), "png", "")[0]
        place = "inputs/default/style.png"
        with_style = job(generator, {"styles.0.image": png}, kind="stylize", styles=[place], **fields)
        none = job(generator, **fields)
        half = [with_style, none] * (IN_FLIGHT // 2)
        flight(half)
        these, those = in_turn([partial(flight, half), partial(flight, [none] * IN_FLIGHT)], rounds)
    found = ratio(those, these)
    what = f"{IN_FLIGHT} in flight, half in the style of a picture: of the rate without"
    return Row(what, f"{found:.3f}", ">= 0.8", found >= 0.8)
