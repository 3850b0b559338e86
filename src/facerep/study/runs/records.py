"""What the runs of a study measured, read from the commits of their experiments into tables."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from ruamel.yaml.error import YAMLError

from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.faces.measure import balanced_accuracy
from facerep.params import parse_yaml
from facerep.study.config import Value
from facerep.study.runs.plan import Run
from facerep.study.runs.queue import Experiment, files_of

STAGES = ("pretrain", "finetune")
GALLERIES = ("reconstructions", "turns", "views", "neighbours", "hardest_pairs", "nearest")
RUNS = pa.schema(
    [("variant", pa.string()), ("labels", pa.int64()), ("seed", pa.int64()), ("pretraining_seed", pa.int64())]
    + [(name, pa.float64()) for name in ("accuracy", "top5", "probe", "knn", "auc", "eer", "val_accuracy")]
    + [(name, pa.float64()) for name in ("balanced_accuracy", "probe_balanced", "knn_balanced", "chance", "majority")]
    + [("measure", pa.string()), ("val_score", pa.float64())]  # what chose the epoch, and its value on val
    + [("precision", pa.string())]  # of fine-tuning: bf16 or fp32
    + [("labels_used", pa.float64())]  # per identity in the mean: fewer than `labels` where some have fewer
    + [(name, pa.float64()) for name in ("pretext_accuracy", "pretext_psnr", "pretext_psnr_grey")]
    + [("experiment", pa.string()), ("commit", pa.string()), ("code", pa.string()), ("seconds", pa.float64())]
)
_OF_RUN = [("variant", pa.string()), ("labels", pa.int64()), ("seed", pa.int64())]
PHOTOGRAPHS = pa.schema(
    [*_OF_RUN, ("key", pa.string()), ("identity", pa.string())]
    + [(name, pa.bool_()) for name in ("finetuned", "probe", "knn")]
)
VERIFICATION = pa.schema([*_OF_RUN, ("replicate", pa.int64()), ("auc", pa.float64()), ("eer", pa.float64())])
CURVES = pa.schema(
    [*_OF_RUN, ("stage", pa.string()), ("epoch", pa.int64()), ("measure", pa.string()), ("value", pa.float64())]
)
TUNING = pa.schema(
    [
        ("variant", pa.string()),
        ("key", pa.string()),
        ("value", pa.string()),  # as `written` says it
        ("labels", pa.int64()),
        ("seed", pa.int64()),
        ("val_score", pa.float64()),  # of the measure that chose the epoch
        ("seconds", pa.float64()),
        ("chosen", pa.bool_()),
        ("experiment", pa.string()),
    ]
)
LATER = (
    "pretraining_seed",
    "labels_used",
    "balanced_accuracy",
    "probe_balanced",
    "knn_balanced",
    "chance",
    "majority",
    "measure",
    "val_score",
    "precision",
)
SCHEMAS = {"runs": RUNS, "photographs": PHOTOGRAPHS, "verification": VERIFICATION, "curves": CURVES}
Tables = dict[str, pa.Table]


class Record(NamedTuple):
    """One run's files, by their names in the repository."""

    run: Run
    baseline: str  # the commit of the code
    files: dict[str, bytes]

    def json(self, path: str) -> dict[str, Any]:
        """One of its JSON files. Raises FacerepError when the experiment lacks it."""
        if path not in self.files:
            raise FacerepError(
                f"experiment {self.run.name}: has no {path}; `dvc exp remove {self.run.name}` and run again."
            )
        value: dict[str, Any] = json.loads(self.files[path])
        return value


def read_record(run: Run, experiment: Experiment) -> Record:
    """The metrics, curves and pictures of an experiment."""
    return Record(run, experiment.baseline, files_of(experiment.commit, "metrics", "params.yaml", "dvc.lock"))


def tables_of(record: Record, seconds: float | None) -> Tables:
    """The record's rows of every table."""
    run, evaluate, probe = record.run, record.json("metrics/evaluate.json"), record.json("metrics/probe.json")
    own = {"variant": run.variant, "labels": run.labels, "seed": run.seed}
    pretext, finetune = record.json("metrics/pretrain.json").get("test", {}), record.json("metrics/finetune.json")
    row = own | {
        "pretraining_seed": None if _pretrains_alone(record) else run.settings.get("pretrain.seed"),
        "labels_used": finetune["labels"],
        "accuracy": evaluate["test"]["accuracy"],
        "top5": evaluate["test"]["top5"],
        "probe": probe["probe"]["by_labels"][str(run.labels)],
        "knn": probe["knn"]["by_labels"][str(run.labels)],
        "auc": probe["verification"]["auc"],
        "eer": probe["verification"]["eer"],
        "val_accuracy": finetune["val"]["accuracy"],
        "balanced_accuracy": evaluate["test"]["balanced_accuracy"],
        "chance": evaluate["test"]["chance"],
        "majority": evaluate["test"]["majority"],
        "measure": finetune["measure"],
        "val_score": val_score(finetune),
        "precision": finetune["precision"],
        "pretext_accuracy": pretext.get("accuracy"),
        "pretext_psnr": pretext.get("psnr"),
        "pretext_psnr_grey": pretext.get("psnr_grey"),
        "experiment": run.name,
        "commit": record.baseline,
        "code": _code(record),
        "seconds": seconds,
    }
    finetuned, frozen = (record.json(f"metrics/answers/{stage}.json") for stage in ("evaluate", "probe"))
    if finetuned["photographs"]["key"] != frozen["photographs"]["key"]:
        raise FacerepError(f"experiment {run.name}: probe and evaluate judge different photographs; run it again.")
    photographs = pa.table(
        finetuned["photographs"] | {way: frozen["photographs"][f"{way}_{run.labels}"] for way in ("probe", "knn")}
    )
    identities = photographs["identity"].to_pylist()
    for way in ("probe", "knn"):
        row[f"{way}_balanced"] = balanced_accuracy(photographs[way].to_numpy(), identities)
    verification = pa.table({name: pa.array(v, pa.float64()) for name, v in frozen["verification"].items()})
    verification = verification.append_column("replicate", pa.array(range(len(verification)), pa.int64()))
    curves = [
        own | {"stage": stage, "epoch": int(row["epoch"]), "measure": measure, "value": value}
        for stage in STAGES
        for row in json.loads(record.files.get(f"metrics/{stage}/curves.json", b"[]"))
        for measure, value in row.items()
        if measure not in ("epoch", "kept")
    ]
    return {
        "runs": pa.Table.from_pylist([row], RUNS),
        "photographs": _with(photographs, own, PHOTOGRAPHS),
        "verification": _with(verification, own, VERIFICATION),
        "curves": pa.Table.from_pylist(curves, CURVES),
    }


def _pretrains_alone(record: Record) -> bool:
    """Whether what was pretrained on depends on the seed of the labelled task, so that no two of these share a model."""
    pretrain = parse_yaml(record.files["params.yaml"].decode())["pretrain"]
    return bool(pretrain["include_labelled"] or pretrain["score_knn_every"])


def val_score(finetune: dict[str, Any]) -> float:
    """What chose the epoch of a run, of its metrics/finetune.json, as it was on val."""
    return float(finetune["val"][finetune["measure"]])


def _code(record: Record) -> str:
    """A digest of the stages' code as dvc.lock has it: the same for all commits that leave it alone."""
    stages = parse_yaml(record.files["dvc.lock"].decode()).get("stages", {})
    deps = {(dep["path"], dep.get("md5", "")) for stage in stages.values() for dep in stage.get("deps", [])}
    code = sorted(dep for dep in deps if dep[0].startswith(("src/", "stages/")))
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:12]


def _with(table: pa.Table, own: dict[str, Any], schema: pa.Schema) -> pa.Table:
    for name, value in own.items():
        table = table.append_column(name, pa.array([value] * len(table)))
    return table.select(schema.names).cast(schema)


def joined(parts: Iterable[Tables], variants: list[str]) -> Tables:
    """The tables of all runs, one after the other: in the order of the variants, by labels, by seed."""
    place = {variant: n for n, variant in enumerate(variants)}

    def key(tables: Tables) -> tuple[int, int, int]:
        row = tables["runs"].select(["variant", "labels", "seed"]).to_pylist()[0]
        return place[row["variant"]], row["labels"], row["seed"]

    ordered = sorted(parts, key=key)
    seen: set[Any] = set()
    for tables in ordered:  # what a pretrained model says stands once: for all budgets, and its curves for all seeds
        variant, _, seed = key(tables)
        if (variant, seed) in seen:
            tables["verification"] = VERIFICATION.empty_table()
        curves = tables["curves"]
        of_pretraining = curves.filter(pc.equal(curves["stage"], "pretrain")).select(["epoch", "measure", "value"])
        told = (variant, *of_pretraining.to_pydict().values()) if len(of_pretraining) else None
        if repr(told) in seen:
            tables["curves"] = curves.filter(pc.equal(curves["stage"], "finetune"))
        seen |= {(variant, seed), repr(told)}
    return {
        name: pa.concat_tables([schema.empty_table(), *(tables[name] for tables in ordered)]).combine_chunks()
        for name, schema in SCHEMAS.items()
    }


def split(tables: Tables) -> dict[str, Tables]:
    """The tables of all runs, taken apart: by the experiment's name."""
    parts = {}
    for row in tables["runs"].to_pylist():
        own = {
            name: table.filter(
                pc.and_(
                    pc.and_(pc.equal(table["variant"], row["variant"]), pc.equal(table["labels"], row["labels"])),
                    pc.equal(table["seed"], row["seed"]),
                )
            )
            for name, table in tables.items()
        }
        parts[row["experiment"]] = own
    return parts


def read_tables(folder: Path) -> Tables:
    """The tables that `write_tables` left; empty ones where there are none. Raises FacerepError for damaged ones."""
    tables = {}
    for name, schema in SCHEMAS.items():
        path = folder / f"{name}.parquet"
        try:
            tables[name] = _whole(pq.read_table(path), name).cast(schema) if path.is_file() else schema.empty_table()
        except (pa.ArrowInvalid, ValueError, KeyError):
            raise FacerepError(f"{path}: damaged, or of another version of facerep; delete it and run again.") from None
    return tables


def _whole(table: pa.Table, name: str) -> pa.Table:
    """A table as SCHEMAS has it; columns that an older version did not write yet are null."""
    for column in LATER if name == "runs" else ():
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(len(table), RUNS.field(column).type))
    return table.select(SCHEMAS[name].names)


def read_tuning(folder: Path) -> pa.Table:
    """The rows of tuning.csv, every value as `written` says it; none where it is not there.

    Accuracy alone chose when `val_score` had its name, and values were numbers alone.
    """
    path = folder / "tuning.csv"
    if not path.is_file():
        return TUNING.empty_table()
    table = pcsv.read_csv(path, convert_options=pcsv.ConvertOptions(column_types={"value": pa.string()}))
    return table.rename_columns(["val_score" if name == "val_accuracy" else name for name in table.column_names])


def written(value: Value) -> str:
    """A tuned value as YAML has it: `0.001`, `true`, `random`; text that YAML would take for something else in quotes."""
    return value if isinstance(value, str) and _plain_text(value) else json.dumps(value, ensure_ascii=False)


def meant(text: str) -> Value:
    """The value that `written` made this of."""
    value: Value = parse_yaml(text)
    return value


def _plain_text(text: str) -> bool:
    try:
        return bool(parse_yaml(text) == text)
    except (YAMLError, ValueError):  # a date that is none
        return False


def write_tables(tables: Tables, folder: Path) -> None:
    """Write <folder>/<table>.parquet, and runs.csv for people."""
    for name, table in tables.items():
        with atomic(folder / f"{name}.parquet") as part:
            pq.write_table(table, part, compression="zstd")
    with atomic(folder / "runs.csv") as part:
        pcsv.write_csv(tables["runs"], part)
