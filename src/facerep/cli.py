"""The one command, `facerep`: what a user types besides `dvc`. Heavy imports wait for the command that needs them."""

import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from facerep.core.errors import FacerepError
from facerep.core.refusals import refusals_named

EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Does pretraining on unlabelled photographs help a labelled task, and how many labels does it save? "
    "The pipeline itself runs by `dvc repro` and `dvc exp run`.",
)
remote = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Push to and pull from DVC's bucket, with a plain sentence if it fails.",
)
app.add_typer(remote, name="remote")

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study's YAML file, such as studies/demo.yaml.")]
Results = Annotated[Path, typer.Option("--results", help="The folder above `<study>/`.")]
Drop = Annotated[bool, typer.Option("--drop", help="Drop results that the study no longer plans.")]
RemoteName = Annotated[str | None, typer.Option("--remote", "-r", help="Another remote than the default.")]


def _in_sentences(command: Callable[..., None]) -> Callable[..., None]:
    """A FacerepError, or what the file system refuses, becomes a sentence and exit code 1; Ctrl-C says how to go on."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        name = command.__name__
        try:
            with refusals_named():
                command(*arguments, **options)
        except FacerepError as error:
            sys.exit(f"{name}: {error}")
        except KeyboardInterrupt:
            sys.exit(f"{name}: stopped by Ctrl-C; run the same command again, it goes on.")

    return run


@app.command()
@_in_sentences
def preset(
    name: Annotated[str | None, typer.Argument(help="One of presets/*.yaml; none: list them.")] = None,
    flags: Annotated[bool, typer.Option("--set", help="Print `-S` flags for `dvc exp run`; write nothing.")] = False,
) -> None:
    """Write a preset's values into params.yaml and print what changes.

    Example: `facerep preset lfw`, or without an edit: `dvc exp run $(facerep preset lfw --set)`
    """
    from facerep import presets

    params = Path("params.yaml")
    if name is None and flags:
        raise FacerepError(f"--set wants the name of a preset; one of {', '.join(presets.preset_names())}.")
    if name is None:
        for each, what in presets.preset_names().items():
            print(f"{each:10} {what}")
        return
    if flags:
        words = [f"{key}={presets.override(value)}" for key, value in presets.changes(name, params).items()]
        # a terminal's line is pasted and read by the shell again; that of $(…) is only cut at its spaces
        if not sys.stdout.isatty() and (cut := [word for word in words if re.search(r"\s", word)]):
            raise FacerepError(
                f"{cut[0]}: a shell cuts this at its spaces; run `facerep preset {name}`, then `dvc exp run` without it."
            )
        print(" ".join(f"-S {shlex.quote(word) if sys.stdout.isatty() else word}" for word in words))
        return
    changed = presets.write_preset(name, params)
    for key, value in changed.items():
        print(f"{key}: {presets.override(value)}")
    values = f"{len(changed)} value{'s' * (len(changed) > 1)}"
    print(f"{params}: {values} of {name} written." if changed else f"{params}: is {name} already.")


@app.command()
@_in_sentences
def study(
    file: StudyFile,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time: one; in a first look two where there are two cores.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Only these seeds, as 0,1,2: another machine runs the others.")
    ] = None,
    variants: Annotated[str | None, typer.Option(help="Only these variants, as a,b.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the dvc lines of the missing runs; run nothing.")] = False,
    first_look: Annotated[
        bool, typer.Option("--first-look", help="Only the baseline, one seed: are the photographs understood?")
    ] = False,
    apply: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="Run nothing; bring this variant's best model into models/.")
    ] = None,
    results: Results = Path("results"),
    drop: Drop = False,
) -> None:
    """Run what is missing of a study and write its results and its page.

    Example: `facerep study studies/lfw.yaml --jobs 2`
    """
    from facerep.study.command import apply_study, run_study

    if apply is not None:
        if jobs or seeds or variants or plan or first_look or drop:
            raise FacerepError("--apply: runs nothing, and goes with no other option than --results.")
        apply_study(file, apply, results)
        return
    run_study(file, jobs, _numbers(seeds), variants.split(",") if variants else None, plan, results, drop, first_look)


@app.command()
@_in_sentences
def report(
    file: StudyFile,
    results: Results = Path("results"),
    drop: Drop = False,
    insert: Annotated[
        list[Path] | None,
        typer.Option(help="A Markdown file to put the results into, between `<!-- results/<study> -->` comments."),
    ] = None,
) -> None:
    """Write a study's results and its page again, from the runs that are there.

    Example: `facerep report studies/lfw.yaml`
    """
    from facerep.study.command import report_study

    report_study(file, results, drop, insert or [])


@app.command()
@_in_sentences
def summary() -> None:
    """Show the results of the last `dvc repro` as one table.

    Example: `facerep summary`
    """
    from rich.console import Console

    from facerep.summary import summary as table

    Console().print(table(Path("metrics")))


@remote.command("use")
@_in_sentences
def use(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="gs://my-bucket/facerep, another URL of DVC's, or a folder.")
    ],
    local: Annotated[bool, typer.Option("--local", help="In this clone alone: git does not see it.")] = False,
) -> None:
    """Name your bucket: the remote that push, pull, fetch and check mean from then on.

    Example: `facerep remote use gs://my-bucket/facerep`
    """
    from facerep.remote.use import use as use_remote

    file = os.path.relpath(use_remote(url, local))
    print(f"{file}: {url} is this repository's remote now.")
    print(f"Next: {'' if local else f'`git commit {file}`, and '}`facerep remote push`.")


@remote.command("push", context_settings=EXTRA)
@_in_sentences
def push(context: typer.Context, remote: RemoteName = None) -> None:
    """As `dvc push`; then mend what the bucket holds wrongly or lacks.

    Further options are DVC's own. Example: `facerep remote push --run-cache`
    """
    _transfer("push", remote, context.args)


@remote.command("pull", context_settings=EXTRA)
@_in_sentences
def pull(context: typer.Context, remote: RemoteName = None) -> None:
    """As `dvc pull`; names what is damaged in the bucket.

    Further options are DVC's own. Example: `facerep remote pull models/pretrained`
    """
    _transfer("pull", remote, context.args)


@remote.command("fetch", context_settings=EXTRA)
@_in_sentences
def fetch(context: typer.Context, remote: RemoteName = None) -> None:
    """As `dvc fetch`; names what is damaged in the bucket.

    Further options are DVC's own. Example: `facerep remote fetch --run-cache`
    """
    _transfer("fetch", remote, context.args)


@remote.command("check")
@_in_sentences
def check(remote: RemoteName = None) -> None:
    """Ask whether the bucket answers and whether what it holds is whole.

    Example: `facerep remote check`
    """
    _transfer("check", remote, [])


def _transfer(command: str, name: str | None, more: list[str]) -> None:
    from facerep.core.buckets import quiet_gcsfs
    from facerep.remote.transfer import look_at, transfer

    quiet_gcsfs()  # in DVC too, which is started from here
    if sys.stderr.isatty():
        os.environ["DVC_IGNORE_ISATTY"] = "1"  # its progress, which comes through a pipe
    warnings.simplefilter("ignore")  # gcsfs's, that no project is named: none is needed
    if command == "check":
        look_at(name)
        print("The remote answers.")
    else:
        transfer(command, name, more)


def _numbers(text: str | None) -> list[int] | None:
    try:
        return [int(seed) for seed in text.split(",")] if text else None
    except ValueError:
        raise FacerepError(f"--seeds {text}: give whole numbers and commas, as 0,1,2.") from None
