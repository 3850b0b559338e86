"""How many photographs a study will have, by their names alone, before `crop` and `select` have counted them."""

from collections import Counter
from typing import Any

from facerep.core.errors import FacerepError
from facerep.faces.shards import UNLABELLED
from facerep.params import Params
from facerep.select.classes import held_out
from facerep.study.runs.amounts import needs_names
from facerep.study.runs.preflight import folders_of
from facerep.synthetic.archive import parse_url


def counted(params: Params) -> dict[str, Any]:
    """`labelled_identities` and `roles`, as metrics/select.json has them; empty where the photographs are not all here.

    Role pretrain has `named` beside `photographs`: those whose identity is a person or class.
    Copies and damaged photographs count, which `select` and `crop` leave out.
    """
    select = params.select
    found = _found(params)
    sizes: Counter[str] = Counter()
    pool = unnamed = 0
    for (split, identity), photographs in found.items():
        if split == UNLABELLED:
            unnamed += photographs
        elif select.roles == "by_split" and split != "test":
            pool += min(photographs, select.per_identity)
        else:
            sizes[identity] += photographs
    labelled = [min(n, select.per_identity) for n in sizes.values() if n >= select.min_labelled]
    if select.roles == "by_count":
        pool += sum(min(n, select.per_identity) for n in sizes.values() if n < select.min_labelled)
    if not labelled:
        return {}
    test, val = (sum(parts) for parts in zip(*(held_out(n, select) for n in labelled), strict=True))
    roles = {"pretrain": pool + unnamed, "train": sum(labelled) - test - val, "val": val, "test": test}
    counts = {role: {"photographs": n} for role, n in roles.items()}
    counts["pretrain"]["named"] = pool
    return {"labelled_identities": len(labelled), "roles": counts}


def with_named(selected: dict[str, Any], params: list[Params], efforts: dict[str, Any]) -> dict[str, Any]:
    """metrics/select.json with the `named` photographs of role pretrain, where one of `params` leaves out the others.

    They are known from `efforts` (facerep.study.runs.effort), else from the archives if these are here.
    """
    pool = selected.get("roles", {}).get("pretrain")
    if not pool or not any(needs_names(each) for each in params):
        return selected
    named = next((row["named"] for row in efforts.values() if row.get("named") is not None), None)
    if named is None:
        named = counted(params[0]).get("roles", {}).get("pretrain", {}).get("named")
    if named is None:
        return selected
    return selected | {"roles": selected["roles"] | {"pretrain": pool | {"named": named}}}


def _found(params: Params) -> Counter[tuple[str, str]]:
    """Photographs by split and identity."""
    urls = [archive.url for archive in params.download.archives]
    if all(url.startswith("synthetic://") for url in urls):
        drawn: Counter[tuple[str, str]] = Counter()
        for number, url in enumerate(urls):
            asked = parse_url(url)
            for split in ("train", "test"):
                for person in range(asked[f"{split}_identities"]):
                    drawn[split, f"{number}-{person}"] = asked["photos"]
        return drawn
    try:
        folders = folders_of(params)
    except FacerepError:  # which is said elsewhere
        return Counter()
    return Counter() if folders is None else folders.found
