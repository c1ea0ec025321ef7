"""What workers say that they have."""

from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.worker.process.abilities import abilities_of


def test_a_model_without_loras_makes_no_samples_of_trainings() -> None:
    offers = [builtin_catalogue()["sdxl"].offer()]
    whole, without = abilities_of(offers)["sdxl"], abilities_of(offers, unadapted=["sdxl"])["sdxl"]
    assert whole - without == {"lora:own", "sample_prompts"}
