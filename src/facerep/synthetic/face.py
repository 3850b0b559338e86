"""A photograph of a drawn face: colours filled at twice the canvas' resolution, then light, shadow and the camera."""

from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from facerep.synthetic.light import CANVAS, GRID, Seen, light_of, pixels
from facerep.synthetic.people import Identity, Scene
from facerep.synthetic.shapes import HAIRDOS, ROUND, Curves


class Drawing(NamedTuple):
    """A photograph and where its face is."""

    image: Image.Image  # RGB
    box: tuple[int, int, int, int]  # x, y, width, height, pixels; may reach beyond the photograph
    landmarks: np.ndarray  # float N×2, pixels: the face's outline from forehead to chin, eyes, nose and mouth


def draw(i: Identity, s: Scene) -> Drawing:
    """The photograph of `i` in the scene `s`, before anything spoils it."""
    width, height = s.size
    scale = CANVAS / max(s.size)  # canvas pixels of one of the photograph's
    unit = s.fill * min(height, 1.2 * width) * scale / 2.1  # canvas pixels of a head unit
    middle = np.array([width * (0.5 + s.dx), height * (0.5 + s.dy)]) * scale
    curves = Curves(i, s)
    names, sizes = list(curves), np.cumsum([len(p) for p in curves.values()])[:-1]
    points = _turned(np.concatenate(list(curves.values())), s)
    upright = dict(zip(names, np.split(points, sizes), strict=True))  # as seen, head units, before the roll
    cos, sin = np.cos(s.roll), np.sin(s.roll)
    roll = np.array([[cos, sin], [-sin, cos]])
    seen = dict(zip(names, np.split(points @ roll * unit + middle, sizes), strict=True))  # canvas pixels

    albedo, cover = _paint(i, s, seen, unit)
    hair, soft, beard = _masks(i, s, seen, unit)
    grid = ((pixels() - middle) @ roll.T / unit).astype(np.float32)
    light = np.asarray(light_of(i, s, upright, grid, hair, soft))
    if beard is not None:
        albedo.paste(_rgb(i.hair * 0.85), mask=beard)
    lit = np.multiply(np.asarray(albedo), light[..., None], dtype=np.uint16)  # at most 255 × 255
    lit >>= 7
    figure = Image.fromarray(np.minimum(lit, 255).astype(np.uint8))
    behind = s.backdrop.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
    behind.paste(figure, mask=cover)
    image = _camera(behind, s).resize(s.size, Image.Resampling.BILINEAR, (0, 0, width * scale, height * scale))
    marks = np.concatenate([seen[n] for n in ("face", "white-1", "white1", "tip", "lips")]) / scale
    return Drawing(image, _box(marks, s.margins), marks)


def _box(marks: np.ndarray, margins: np.ndarray) -> tuple[int, int, int, int]:
    low, high = marks.min(0), marks.max(0)
    size = high - low
    x, y = np.floor(low - margins[:2] * size).astype(int).tolist()
    right, bottom = np.ceil(high + margins[2:] * size).astype(int).tolist()
    return x, y, right - x, bottom - y


def _turned(points: np.ndarray, s: Scene) -> np.ndarray:
    """Turned to the side, nodded, and seen from a few metres: K×3 to K×2, head units."""
    x, y, z = points.T
    x, z = x * np.cos(s.yaw) + z * np.sin(s.yaw), z * np.cos(s.yaw) - x * np.sin(s.yaw)
    y, z = y * np.cos(s.pitch) - z * np.sin(s.pitch), z * np.cos(s.pitch) + y * np.sin(s.pitch)
    return np.stack([x, y], 1) * (1 + 0.1 * z[:, None])


def _rgb(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(int(v) for v in np.clip(colour, 0, 255))


def _flat(points: np.ndarray, factor: float) -> list[float]:
    return (points * factor).ravel().tolist()


def _paint(i: Identity, s: Scene, seen: Seen, unit: float) -> tuple[Image.Image, Image.Image]:
    """The head's own colours without light, and where it covers the background; canvas size."""
    big = (2 * CANVAS, 2 * CANVAS)
    skin, hair = i.skin, i.hair
    albedo = Image.new("RGB", big, _rgb(hair if "back" in seen else skin * 0.8))
    cover = Image.new("L", big, 0)
    pen, mask = ImageDraw.Draw(albedo), ImageDraw.Draw(cover)

    def fill(name: str, colour: np.ndarray, outside: bool = False) -> None:
        if name in seen:
            points = _flat(seen[name], 2)
            pen.polygon(points, _rgb(colour))
            if outside:
                mask.polygon(points, 255)

    def ear(side: int) -> None:
        fill(f"ear{side}", skin * [0.95, 0.88, 0.86], True)
        fill(f"hole{side}", skin * 0.7)
        if i.earrings and not HAIRDOS[i.style][2]:
            fill(f"drop{side}", np.array([232, 205, 120]), True)

    near = -1 if s.yaw > 0 else 1
    fill("bun", hair * 0.9, True)
    fill("crown", hair * 0.75, True)
    fill("back", hair * 0.62, True)
    fill("neck", skin * 0.86, True)
    fill("shoulders", s.cloth, True)
    ear(-near)
    ear(near)
    fill("face", skin, True)
    if abs(s.yaw) > 0.2:
        ear(near)
    for x, y in seen["marks"][1 + len(i.marks) : 1 + len(i.marks) + len(i.freckles)] * 2:
        r = 0.016 * unit * 2
        pen.ellipse((x - r, y - r, x + r, y + r), _rgb(skin * [0.86, 0.74, 0.66]))
    for (x, y), (_, _, size) in zip(seen["marks"][1:] * 2, i.marks, strict=False):
        r = size * unit * 2
        pen.ellipse((x - r, y - r, x + r, y + r), _rgb(skin * [0.45, 0.36, 0.34]))
    if i.scar:
        at, along = seen["marks"][-1] * 2, np.array([0.1, 0.16 * i.scar[2]]) * unit * 2
        pen.line([*(at - along), *(at + along)], _rgb(skin * [1.08, 0.9, 0.88] + 8), max(2, int(unit * 0.05)))
    for side in (-1, 1):
        fill(f"crease{side}", skin * [0.76, 0.66, 0.62])
        fill(f"white{side}", np.array([238, 234, 228]))
        fill(f"iris{side}", i.iris * 0.55)
        fill(f"ring{side}", i.iris)
        fill(f"pupil{side}", np.array([16, 13, 14]))
        if s.lids > 0.45:
            fill(f"glint{side}", np.array([255, 255, 255]))
        fill(f"lash{side}", np.array([34, 26, 25]))
        fill(f"wing{side}", skin * [0.68, 0.54, 0.5])
        fill(f"nostril{side}", skin * [0.38, 0.26, 0.24])
        fill(f"wing_of_nose{side}", skin * [0.84, 0.75, 0.72])
        fill(f"brow{side}", hair * 0.72 if hair.sum() < 480 else hair * 0.66)
    fill("mouth", np.array([86, 32, 34]))
    if s.open > 0.1:
        fill("teeth", np.array([240, 236, 226]))
    fill("upper", i.lips * 0.86)
    fill("lower", i.lips)
    fill("shine", i.lips * 0.8 + 48)
    fill("cap", hair, True)
    for side in (-1, 1):
        fill(f"strand{side}", hair * 0.92, True)
    if (i.glasses != "none" and s.glasses) or s.over == "sunglasses":
        for side in (-1, 1):
            frame, thick = i.rim, max(2, int(unit * i.rim_t / 72))
            pen.line(_flat(seen[f"arm{side}"], 2), _rgb(frame), thick)
            pen.line(_flat(seen[f"bar{side}"], 2), _rgb(frame), thick)
            lens = _flat(seen[f"lens{side}"], 2)
            if s.over == "sunglasses":
                pen.polygon(lens, _rgb(s.over_colour * 0.15 + 10))
            pen.line(lens + lens[:4], _rgb(frame), thick, joint="curve")
    _cover_up(i, s, pen, mask, seen, unit)
    return albedo.reduce(2), cover.reduce(2)


def _cover_up(
    i: Identity, s: Scene, pen: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw, seen: Seen, unit: float
) -> None:
    """A hand, a scarf or a bar before the face."""
    (ax, ay), at = s.over_at, 2 * seen["chin"]
    shapes: list[np.ndarray] = []
    if s.over == "scarf":
        low = 2 * seen["jaw"]
        shapes = [
            low + np.array([0, unit * (0.1 + ay * 0.3)]),
            (low - low.mean(0)) * 1.25 + low.mean(0) + [0, unit * 1.1],
        ]
    elif s.over == "bar":
        along = np.array([np.cos(3 * ay), np.sin(3 * ay)]) * 900
        across = np.array([-along[1], along[0]]) / 900 * unit * (0.2 + 0.2 * ay)
        centre = at[2] + np.array([ax, -0.6 + ay]) * unit * 2
        shapes = [
            np.stack(
                [centre - along - across, centre + along - across, centre + along + across, centre - along + across]
            )
        ]
    elif s.over == "hand":
        palm = at[0] + np.array([ax * 2.2, 0.25]) * unit
        tilt = ax * 1.2
        for finger in range(4):
            t = (finger - 1.5) * 0.26 - tilt
            tip = palm + np.array([np.sin(t), -np.cos(t)]) * unit * (1.25 + 0.5 * ay - 0.14 * abs(finger - 1.3))
            n = np.array([np.cos(t), np.sin(t)]) * unit * 0.155
            shapes.append(np.concatenate([[palm - n, tip - n], tip + ROUND[14:] * unit * 0.155, [tip + n, palm + n]]))
        shapes.append(palm + ROUND * unit * [0.62, 0.72])
    for k, shape in enumerate(shapes):
        colour = i.skin * (0.9 + 0.04 * (k % 3)) if s.over == "hand" else s.over_colour * (1 - 0.15 * k)
        pen.polygon(_flat(shape, 1), _rgb(colour))
        mask.polygon(_flat(shape, 1), 255)


def _masks(i: Identity, s: Scene, seen: Seen, unit: float) -> tuple[Image.Image, Image.Image, Image.Image | None]:
    """Where hair is, soft shadows (255: none), and where a beard grows; the first two on the grid of light."""
    f = GRID / CANVAS
    hair, soft = Image.new("L", (GRID, GRID), 0), Image.new("L", (GRID, GRID), 255)
    pen, dark = ImageDraw.Draw(hair), ImageDraw.Draw(soft)
    for name, value in (
        ("back", 255),
        ("neck", 0),
        ("shoulders", 0),
        ("crown", 255),
        ("face", 0),
        ("cap", 255),
        ("strand-1", 255),
        ("strand1", 255),
        ("bun", 255),
    ):
        if name in seen:
            pen.polygon(_flat(seen[name], f), value)
    drop = np.array([-0.06 * s.light[0], 0.13]) * unit
    dark.polygon(_flat(seen["face"] + drop, f), 120)
    dark.polygon(_flat(seen["face"], f), 255)
    for name in ("cap", "strand-1", "strand1"):
        if name in seen:
            dark.polygon(_flat(seen[name] + drop * 0.5, f), 165)
    for side in (-1, 1):
        dark.polygon(_flat(seen[f"fold{side}"], f), int(255 - 120 * i.folds))
        dark.polygon(_flat(seen[f"white{side}"] - [0, 0.03 * unit], f), 205)
    tip = seen["tip"] + (seen["chin"][0] - seen["tip"]) * 0.13 + drop * 0.2
    dark.polygon(_flat(tip + ROUND * unit * [i.nose_w * 0.9, 0.05], f), 150)
    dark.polygon(_flat(seen["chin"][1] + ROUND * unit * [i.mouth_w * 0.6, 0.035], f), 175)
    for name in ("cap", "strand-1", "strand1"):
        if name in seen:
            dark.polygon(_flat(seen[name], f), 255)
    soft = soft.filter(ImageFilter.BoxBlur(unit / 50)).filter(ImageFilter.BoxBlur(unit / 50))
    if i.beard == "none":
        return hair, soft, None
    beard = Image.new("L", (GRID, GRID), 0)
    pen = ImageDraw.Draw(beard)
    strength = {"stubble": 95, "moustache": 235, "goatee": 235, "full": 240}[i.beard]
    for name in {"moustache": ["moustache"], "goatee": ["moustache", "goatee"]}.get(i.beard, ["jaw", "moustache"]):
        pen.polygon(_flat(seen[name], f), strength)
    for name in ("upper", "mouth", "lower"):
        pen.polygon(_flat(seen[name], f), 0)
    return hair, soft, beard.filter(ImageFilter.BoxBlur(unit / 60)).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)


@cache
def _grain() -> np.ndarray:
    """Normal noise with standard deviation 64, int16."""
    return np.random.default_rng(0).normal(0, 64, (CANVAS + 64, CANVAS + 64, 3)).clip(-255, 255).astype(np.int16)


def _camera(image: Image.Image, s: Scene) -> Image.Image:
    """Blur, saturation, exposure, gamma, haze and noise."""
    if s.blur > 0.3 or s.motion:
        image = image.filter(ImageFilter.BoxBlur((s.blur + s.motion, s.blur)))
    matrix = np.zeros((3, 4))
    matrix[:, :3] = (1 - s.saturation) * np.array([0.299, 0.587, 0.114]) + np.eye(3) * s.saturation
    image = image.convert("RGB", tuple(matrix.ravel().tolist()))
    level = np.arange(256) / 255
    curve = (level * s.exposure * s.tint[:, None]).clip(0, 1) ** s.gamma * (1 - s.haze) + s.haze * 0.8
    image = image.point((curve.ravel() * 255).round().clip(0, 255).astype(int).tolist())
    y, x = s.grain
    noise = _grain()[y : y + CANVAS, x : x + CANVAS] * np.int16(s.noise * 8)
    noise >>= 9
    noise += np.asarray(image)
    return Image.fromarray(np.clip(noise, 0, 255, out=noise).astype(np.uint8))
