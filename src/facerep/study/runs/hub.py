"""Variants that start from a model of the hub: left out, with a sentence, where the hub is not to be had."""

from pathlib import Path

from facerep.study.config import Study
from facerep.study.runs.records import read_tables

PATIENCE_S = 10.0  # for an answer of the hub


def with_what_can_be_had(study: Study, results: Path) -> tuple[Study, list[str]]:
    """The study without the variants of `needs_hub` whose model is not to be had, and a sentence for each of these.

    A variant that has runs among the results stays, wherever they were made.
    """
    made = set(read_tables(results)["runs"]["variant"].to_pylist())
    asked = {name: str(v.set["model.name"]) for name, v in study.variants.items() if v.needs_hub and name not in made}
    gone = {name: model for name, model in asked.items() if not to_be_had(model)}
    left = {name: variant for name, variant in study.variants.items() if name not in gone}
    told = [f"{name}: left out, since huggingface.co does not give {model} here." for name, model in gone.items()]
    return (study.model_copy(update={"variants": left}) if gone else study), told


def to_be_had(model: str) -> bool:
    """Whether a model's configuration is in the cache, or the hub gives it; gated ones want a token."""
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        return True
    try:
        get_hf_file_metadata(hf_hub_url(model, "config.json"), timeout=PATIENCE_S, token=get_token())
    except Exception:  # no network, no such model, no permission: of many libraries' kinds
        return False
    return True
