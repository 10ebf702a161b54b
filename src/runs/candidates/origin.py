"""What a candidate's knowledge comes from before it sees a picture."""

from __future__ import annotations

from dataclasses import dataclass

from src.config.ensemble import EnsembleSettings
from src.config.features import EmbeddingSettings, HandcraftedSettings
from src.config.models import NetworkSettings, ZooSettings
from src.config.schema import RunSettings

__all__ = ["Origin", "origin_of"]

_PUBLISHED = (True, "hub", "package")


@dataclass(frozen=True)
class Origin:
    """What a candidate starts from.

    Attributes:
        start: "frozen", "fine-tuned", "from scratch", "hand-crafted" or "ensemble".
        weights: names of the weights with where they were had and their licence; None without.
    """

    start: str
    weights: str | None = None


def origin_of(settings: RunSettings) -> Origin:
    """Return what the candidate of these settings starts from."""
    model = settings.model
    if isinstance(model, HandcraftedSettings):
        return Origin("hand-crafted")
    if isinstance(model, EnsembleSettings):
        return Origin("ensemble")
    if isinstance(model, EmbeddingSettings):
        if model.run is not None:
            return Origin("frozen", f"those of {model.run}")
        return Origin("frozen", _weights("timm", model.networks, model.pretrained))
    if isinstance(model, NetworkSettings) and model.pretrained:
        library = "timm" if model._target_.endswith("TimmNet") else "torchvision"
        names = [model.name] if isinstance(model, ZooSettings) else []
        return Origin("fine-tuned", _weights(library, names, model.pretrained))
    return Origin("from scratch")


def _weights(library: str, names: list[str], pretrained: bool | str) -> str:
    if pretrained not in _PUBLISHED:
        return str(pretrained)
    # Listing what this machine has imports a library, which a network with such weights needs.
    from src.models.weights import loadable

    wanted = {name.partition(".")[0] for name in names}
    known = {(one.library, one.name.partition(".")[0]): one for one in loadable(wanted)}
    described = []
    for name in names:
        found = known.get((library, name.partition(".")[0]))
        about = (
            "hub" if found is None else f"{found.source}, {found.licence or 'no licence stated'}"
        )
        described.append(f"{name} ({about})")
    return " + ".join(described)
