"""What was spent on each variant, beside the verdict: so that nobody takes ten epochs for a judgement on pretraining."""

from markupsafe import Markup

from facerep.study.page.read import Row
from facerep.study.page.tables import Cell, Table
from facerep.study.page.words import data, fixed, grouped, listed

SPACE = "\N{NO-BREAK SPACE}"


def spent(about: Row) -> str:
    """In a sentence what pretraining saw: epochs, views, pixels and pool; nothing where older results do not tell."""
    pools: dict[tuple[str, int], dict[tuple[int, int], list[str]]] = {}
    for name, row in about.get("effort", {}).items():
        if row.get("views") and row.get("photographs"):
            alike = pools.setdefault((_pool(about, row), row["image_size"]), {})
            alike.setdefault((row["epochs"], row["views"]), []).append(name)
    return " ".join(
        f"Pretraining on {pool} at {size}{SPACE}px: "
        + "; ".join(_alike(names, *of) for of, names in alike.items())
        + "."
        for (pool, size), alike in pools.items()
    )


def _pool(about: Row, row: Row) -> str:
    """The photographs, and of how many identities they are, as far as they have names."""
    photographs, named, identities = row["photographs"], row.get("named", row["photographs"]), row["identities"]
    text = f"{grouped(photographs)} photographs"
    if named is None or identities is None:
        return text
    if named == photographs:
        return f"{text} of {grouped(identities)} {_nouns(about)}"
    return f"{text}, {grouped(named)} of them of {grouped(identities)} named {_nouns(about)},"


def _alike(names: list[str], epochs: int, views: int) -> str:
    """Variants with as many epochs and views."""
    each = " each" * (len(names) > 1)
    return f"{listed(names)} {epochs} epoch{'s' * (epochs != 1)}, {grouped(views)} views{each}"


def effort_table(about: Row) -> Table | None:
    """What each variant learned from, and what its runs cost."""
    rows: list[list[Cell]] = [[name, *_cells(about, row)] for name, row in about.get("effort", {}).items()]
    columns = ["variant", "pretrained on", _nouns(about), "pixels", "epochs", "views", "pretrainings"]
    columns += ["fine-tuned on", "core hours"]
    caption = "What each variant was given: photographs, views of them, and time"
    return Table(caption, columns, rows, frozenset(range(1, len(columns))), sortable=True) if rows else None


def markdown(about: Row) -> str:
    """The table for a README; nothing where older results do not tell."""
    table = effort_table(about)
    if table is None:
        return ""
    lines = [table.columns, ["---"] * len(table.columns)]
    lines += [[Markup(cell).striptags() if isinstance(cell, Markup) else cell for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def notes_of(about: Row, runs: list[Row], variant: str) -> list[str]:
    """What a variant's pretraining and fine-tuning say of themselves; of older results what its scores say."""
    row = about.get("effort", {}).get(variant, {})
    if "notes" in row:
        return list(row["notes"])
    scores = {
        key: [run[key] for run in runs if run["variant"] == variant and run.get(key) is not None]
        for key in ("pretext_psnr", "pretext_psnr_grey")
    }
    if not all(scores.values()):
        return []
    back, grey = (sum(values) / len(values) for values in scores.values())
    if back > grey:
        return []
    return [
        f"What it gives back of held-out photographs has {fixed(back, 1)} dB, no more than the grey input as it is "
        f"({fixed(grey, 1)} dB): it has not learned the colours."
    ]


def _cells(about: Row, row: Row) -> list[Cell]:
    photographs, identities, *others = (
        data(n, "" if n is None else grouped(n))
        for n in map(row.get, ("photographs", "identities", "image_size", "epochs", "views", "pretrainings"))
    )
    named = row.get("named")
    if named is not None and named != row["photographs"]:
        identities += f" (of {grouped(named)} photographs)"
    finetuned = sorted(set(row.get("finetuning", {}).values()))
    ends = [data(n, grouped(n)) for n in (finetuned[:1] + finetuned[-1:] if len(finetuned) > 1 else finetuned)]
    hours = row["seconds"] * about["time"]["threads"] / 3600 if row.get("runs_timed") else None
    of = "" if row.get("runs_timed") == row.get("runs") else f" ({row['runs_timed']} of {row['runs']} runs)"
    return [
        photographs,
        identities,
        *others,
        Markup(" to ").join(ends) if ends else data(None, ""),
        data(None, "") if hours is None else data(hours, fixed(hours, 1)) + of,
    ]


def _nouns(about: Row) -> str:
    return "classes" if about["study"].get("noun") == "class" else "identities"
