"""probe: how good the frozen features of the pretrained model are, by themselves. In fp32."""

from pathlib import Path
from typing import Any

from facerep.core.files import atomic_folder, write_json_line
from facerep.evaluate.frozen import frozen_stages
from facerep.evaluate.pictures import draw_frozen
from facerep.evaluate.pretext_pictures import draw_pretext
from facerep.evaluate.scores import answers_of, score_frozen, score_verification
from facerep.faces.measure import measure_of
from facerep.nets.convnext import load_backbone
from facerep.params import Params
from facerep.pretrain.model import load_pretext_model
from facerep.resume.unfinished import discard_finished
from facerep.training.runtime import Runtime, accelerator_for


def probe(params: Params, data: Path, pretrained: Path, metrics: Path) -> dict[str, Any]:
    """Score the pretrained backbone, draw `metrics`/probe/, return metrics/probe.json.

    Linear probe, nearest neighbours and verification, on photographs of identities that pretraining never saw; the
    probes learn from role train, and choose on val which stage's features to take. Of `probe.labels` those are left out
    that no identity has enough training photographs for; one that has fewer gives all that it has. No number of labels that
    fine-tuning uses matters here.

    `metrics`/answers/probe.json holds lists alone, which `dvc metrics` leaves out: which test photograph each way of
    answering gets right, and AUC and EER over resamples of them. A study compares variants by these.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        pretrained: the transformers folder.
        metrics: the folder above `probe/`.

    Raises FacerepError when the model or the data are not there, or there are too few photographs to make a pair.
    """
    discard_finished("pretrain")
    settings, seed = params.probe, params.seed
    device = accelerator_for(Runtime.of(params)).device
    backbone = load_backbone(pretrained).to(device).eval()
    stages = frozen_stages(backbone, data, params.model.image_size, device)
    measure = measure_of(
        params.measure, [name for split in next(iter(stages.values())).values() for name in split.names]
    )
    found = score_frozen(settings, seed, stages, measure)
    test = found.splits["test"]
    answers = {
        "photographs": answers_of(test.keys, test.names, found.right),
        "verification": score_verification(test, settings.verification_pairs, seed),
    }
    write_json_line(metrics / "answers" / "probe.json", answers)
    with atomic_folder(metrics / "probe") as folder:
        draw_frozen(folder, found, seed)
        trained = load_pretext_model(pretrained)
        if trained is not None:
            draw_pretext(folder, *trained, test.pixels, seed, device)
    return found.results
