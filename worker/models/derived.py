"""Models that are made of another one's weights: their own entry, and what it wants of schedulers."""

from dataclasses import replace

from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.loading import LoadedModel, with_changes


def derived(base: LoadedModel, entry: ModelEntry) -> LoadedModel:
    """The model of this entry, over the modules of its base, which is loaded: no weight is there twice.

    Raises ModelIncompatible where the entry names kinds that the base does not do.
    """
    able = [kind for kind in entry.kinds if kind in base.entry.kinds]
    if "kinds" in entry.model_fields_set and len(able) < len(entry.kinds):
        others = ", ".join(kind for kind in entry.kinds if kind not in able)
        raise ModelIncompatible(
            f"model {entry.name}: {base.entry.name}, which it is made of, does not do {others}",
            hint="correct `kinds` in the catalogue entry, or leave it out",
        )
    template = base.components["scheduler"]
    scheduler = type(template).from_config(with_changes(dict(template.config), entry.scheduler_config))
    components = {**base.components, "scheduler": scheduler}
    return replace(base, entry=entry.model_copy(update={"kinds": able}), components=components)
