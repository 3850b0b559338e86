"""Draw a face: an identity fixes what a person keeps, a photograph varies what a camera meets.

Everything is drawn with Pillow on a canvas of CANVAS pixels in face coordinates (0, 0 the middle of the face, 1 half its
height), shaded with numpy, then turned and resized as a whole. All draws come from the generators that are passed in.
"""

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CANVAS = 288
Color = tuple[int, int, int]
Rng = np.random.Generator

SKINS = np.array(
    [(255, 224, 200), (241, 194, 160), (224, 172, 125), (188, 130, 88), (141, 88, 54), (86, 52, 34)], float
)
HAIRS: tuple[Color, ...] = (
    *((24, 20, 20), (58, 38, 26), (104, 66, 36), (152, 104, 54), (212, 170, 98)),
    *((166, 62, 30), (150, 150, 152), (225, 222, 215)),
)
EYES: tuple[Color, ...] = ((70, 42, 22), (96, 70, 34), (72, 112, 66), (66, 118, 168), (118, 130, 140), (34, 24, 20))
STYLES = ("bald", "buzz", "short", "parted", "fringe", "bob", "long", "curly", "bun", "receding")
BEARDS = ("none", "none", "none", "none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "none", "none", "round", "square", "half")


class Identity(NamedTuple):
    """What a person keeps from photograph to photograph."""

    skin: Color
    width: float  # of the face, as a share of its height
    jaw: float  # width at the chin, as a share of the face's
    eye_x: float
    eye_y: float
    eye_size: float
    eye_tilt: float
    eye_color: Color
    brow_height: float
    brow_thick: float
    brow_slope: float
    nose_width: float
    nose_length: float
    mouth_y: float
    mouth_width: float
    lip_thick: float
    lip_color: Color
    ear: float
    hair: str
    hair_color: Color
    hair_volume: float
    beard: str
    glasses: str
    glasses_color: Color
    moles: tuple[tuple[float, float, float], ...]
    freckles: bool


class Scene(NamedTuple):
    """What varies."""

    yaw: float  # -1 … 1, left … right
    pitch: float  # -1 … 1, down … up
    roll: float  # degrees
    light: tuple[float, float]  # where it comes from
    contrast: float
    tint: tuple[float, float, float]
    smile: float
    open_mouth: float
    brow_raise: float
    lids: float
    size: int  # of the photograph's shorter side, pixels
    aspect: float
    fill: float  # the face's height as a share of the photograph's
    shift: tuple[float, float]
    blur: float
    occlusion: str
    quality: int


def draw_identity(rng: Rng) -> Identity:
    """A person."""
    tone = rng.uniform(0, len(SKINS) - 1.001)
    base = SKINS[int(tone)] * (1 - tone % 1) + SKINS[int(tone) + 1] * (tone % 1)
    skin = _color(base * rng.uniform([0.96, 0.94, 0.9], [1.03, 1.03, 1.06]))
    dark = tone > 2.5
    hair = HAIRS[int(rng.integers(0, 3 if dark else len(HAIRS)))]
    lip = np.array(skin) * np.array([0.86, 0.56, 0.56]) + rng.uniform(-14, 30) * np.array([1, -0.2, 0.1])
    moles = tuple(
        (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.5, 0.75)), float(rng.uniform(0.018, 0.04)))
        for _ in range(int(rng.choice([0, 0, 1, 2])))
    )
    frames: tuple[Color, ...] = ((25, 25, 28), (96, 54, 24), (150, 30, 34), (40, 70, 130), (180, 150, 70))
    return Identity(
        skin=skin,
        width=rng.uniform(0.66, 0.86),
        jaw=rng.uniform(0.5, 0.95),
        eye_x=rng.uniform(0.27, 0.38),
        eye_y=rng.uniform(-0.2, -0.06),
        eye_size=rng.uniform(0.095, 0.15),
        eye_tilt=rng.uniform(-0.25, 0.25),
        eye_color=EYES[int(rng.integers(0, 2 if dark else len(EYES)))],
        brow_height=rng.uniform(0.14, 0.24),
        brow_thick=rng.uniform(0.025, 0.075),
        brow_slope=rng.uniform(-0.35, 0.35),
        nose_width=rng.uniform(0.1, 0.22),
        nose_length=rng.uniform(0.3, 0.5),
        mouth_y=rng.uniform(0.46, 0.6),
        mouth_width=rng.uniform(0.2, 0.36),
        lip_thick=rng.uniform(0.03, 0.085),
        lip_color=_color(lip),
        ear=rng.uniform(0.1, 0.2),
        hair=STYLES[int(rng.integers(len(STYLES)))],
        hair_color=_color(np.array(hair) * rng.uniform(0.85, 1.15)),
        hair_volume=rng.uniform(0.1, 0.3),
        beard=BEARDS[int(rng.integers(len(BEARDS)))],
        glasses=GLASSES[int(rng.integers(len(GLASSES)))],
        glasses_color=frames[int(rng.integers(len(frames)))],
        moles=moles,
        freckles=bool(rng.random() < 0.12),
    )


def draw_scene(rng: Rng) -> Scene:
    """One photograph's circumstances."""
    warm = rng.normal(0, 0.1)
    angle = rng.uniform(0, 2 * np.pi)
    kinds = ("none",) * 16 + ("hand", "scarf", "bar", "sunglasses")
    return Scene(
        yaw=float(np.clip(rng.normal(0, 0.45), -1, 1)),
        pitch=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        roll=float(np.clip(rng.normal(0, 9), -24, 24)),
        light=(float(np.cos(angle)), float(np.sin(angle) * 0.7 - 0.3)),
        contrast=rng.uniform(0.1, 0.6),
        tint=(1 + warm, 1 + rng.normal(0, 0.02), 1 - warm),
        smile=rng.uniform(-0.3, 1),
        open_mouth=max(0.0, rng.uniform(-1, 1)),
        brow_raise=rng.uniform(-0.04, 0.08),
        lids=1.0 if rng.random() > 0.06 else 0.1,
        size=int(rng.integers(120, 401)),
        aspect=rng.uniform(1.0, 1.35),
        fill=rng.uniform(0.5, 0.75),
        shift=(rng.normal(0, 0.04), rng.normal(0, 0.04)),
        blur=max(0.0, rng.normal(0.1, 0.7)),
        occlusion=kinds[int(rng.integers(len(kinds)))],
        quality=int(rng.integers(40, 96)),
    )


def draw_photograph(person: Identity, scene: Scene, rng: Rng) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The photograph, RGB, and the box of its face: x, y, width, height in pixels, which may reach beyond it."""
    pen = _Pen(person, scene)
    _hair_behind(pen, person)
    _ears_and_head(pen, person)
    pen.shade(rng)
    _features(pen, person, scene)
    _hair_front(pen, person)
    _occlude(pen, person, scene, rng)
    return _place(pen, person, scene, rng)


class _Pen:
    """Draws in face coordinates on a transparent canvas; x of what lies on the face is moved as the head turns."""

    def __init__(self, person: Identity, scene: Scene) -> None:
        self.image = Image.new("RGBA", (CANVAS, CANVAS), (*person.skin, 0))
        self.draw = ImageDraw.Draw(self.image)
        self.scene = scene
        self.unit = CANVAS * 0.3
        self.width = person.width

    def at(self, x: float, y: float, depth: float = 0.0) -> tuple[float, float]:
        """Face coordinates to canvas pixels. depth 0: the outline; 1: the front of the face, which moves most."""
        turned = x * (1 - 0.16 * abs(self.scene.yaw) * depth) + 0.2 * self.scene.yaw * depth
        raised = y - 0.12 * self.scene.pitch * depth
        return CANVAS / 2 + turned * self.unit, CANVAS * 0.53 + raised * self.unit

    def polygon(self, points: Any, fill: Color, depth: float = 0.0, alpha: int = 255) -> None:
        self.draw.polygon([self.at(x, y, depth) for x, y in points], fill=(*fill, alpha))

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Color, depth: float = 0.0) -> None:
        cx, cy = self.at(x, y, depth)
        self.draw.ellipse(
            (cx - rx * self.unit, cy - ry * self.unit, cx + rx * self.unit, cy + ry * self.unit), fill=fill
        )

    def line(self, points: Any, fill: Color, width: float, depth: float = 0.0) -> None:
        pixels = max(1, round(width * self.unit))
        self.draw.line([self.at(x, y, depth) for x, y in points], fill=fill, width=pixels, joint="curve")

    def shade(self, rng: Rng) -> None:
        """Light from one side on a rounded head: a soft gradient over all that is drawn so far."""
        axis = np.linspace(-1, 1, 36, dtype=np.float32)
        x, y = np.meshgrid(axis, axis)
        round_off = 1 - 0.25 * (x**2 + (y * 0.8) ** 2)
        light = round_off + self.scene.contrast * 0.6 * (x * self.scene.light[0] + y * self.scene.light[1])
        light += rng.normal(0, 0.01, light.shape)
        soft = Image.fromarray((light.clip(0.25, 1.8) * 128).astype(np.uint8))
        factor = np.asarray(soft.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), dtype=np.uint16)[..., None]
        pixels = np.array(self.image)
        pixels[..., :3] = np.minimum((pixels[..., :3] * factor) >> 7, 255)  # 128 leaves a pixel as it is
        self.image = Image.fromarray(pixels, "RGBA")
        self.draw = ImageDraw.Draw(self.image)


def head_outline(person: Identity) -> list[tuple[float, float]]:
    """The face's outline: an ellipse above, narrowing to the jaw below."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = np.cos(t) * person.width, np.sin(t)
    below = np.clip(y, 0, 1)
    return list(zip(x * (1 - (1 - person.jaw) * below**1.5 * 0.6), y, strict=True))


def _hair_behind(pen: _Pen, person: Identity) -> None:
    w, v, hair = person.width, person.hair_volume, person.hair_color
    if person.hair == "long":
        pen.ellipse(0, -0.2, w + v, 1.0 + v * 0.6, hair)
        pen.polygon([(-w - v, -0.2), (w + v, -0.2), (w + v * 1.3, 1.7), (-w - v * 1.3, 1.7)], hair)
    elif person.hair == "bob":
        pen.ellipse(0, -0.15, w + v, 1.0 + v * 0.4, hair)
        pen.polygon([(-w - v, -0.15), (w + v, -0.15), (w + v, 0.75), (-w - v, 0.75)], hair)
    elif person.hair == "curly":
        for t in np.linspace(np.pi * 0.9, np.pi * 2.1, 14):
            pen.ellipse(np.cos(t) * (w + v * 0.5), np.sin(t) * 0.95, 0.24 + v * 0.3, 0.24 + v * 0.3, hair)
    elif person.hair == "bun":
        pen.ellipse(0, -1.15 - v * 0.3, 0.3, 0.28, hair)
        pen.ellipse(0, -0.2, w + 0.06, 0.95, hair)


def _ears_and_head(pen: _Pen, person: Identity) -> None:
    for side in (-1, 1):
        pen.ellipse(side * person.width, 0.02, person.ear * 0.7, person.ear * 1.3, _color(np.array(person.skin) * 0.9))
    pen.polygon(head_outline(person), person.skin)


def _features(pen: _Pen, person: Identity, scene: Scene) -> None:
    skin = np.array(person.skin)
    shadow, glow = _color(skin * 0.74), _color(skin * 1.1 + 6)
    for side in (-1, 1):
        pen.ellipse(side * 0.4, 0.28, 0.17, 0.13, _color(skin * [1.02, 0.9, 0.9]), 0.8)
    _beard(pen, person)
    for side in (-1, 1):
        _eye(pen, person, scene, side)
    tip = person.eye_y + person.nose_length
    w = person.nose_width
    pen.line([(0.03, person.eye_y + 0.06), (w * 0.35, tip - 0.1), (w * 0.75, tip)], shadow, 0.03, 1.0)
    pen.ellipse(0, tip, w * 0.75, 0.065, _color(skin * 0.93), 1.1)
    pen.ellipse(-0.02, tip - 0.05, w * 0.25, 0.05, glow, 1.15)
    for side in (-1, 1):
        pen.ellipse(side * w * 0.45, tip + 0.035, w * 0.17, 0.022, _color(skin * 0.5), 1.05)
    _mouth(pen, person, scene)
    for x, y, size in person.moles:
        pen.ellipse(x * person.width, y, size, size, _color(skin * 0.45), 0.8)
    if person.freckles:
        for k in range(26):
            x, y = 0.45 * np.sin(k * 2.4), 0.12 + 0.16 * np.cos(k * 3.7)
            pen.ellipse(x, y, 0.013, 0.013, _color(skin * 0.7), 0.9)
    _glasses(pen, person)


def _eye(pen: _Pen, person: Identity, scene: Scene, side: int) -> None:
    x, y, r = side * person.eye_x, person.eye_y, person.eye_size
    tilt = person.eye_tilt * r * side
    height = max(0.12, 0.62 * scene.lids)
    t = np.linspace(0, 2 * np.pi, 20)
    shape = [(x + np.cos(a) * r, y + np.sin(a) * r * height - np.cos(a) * tilt) for a in t]
    pen.ellipse(x, y - 0.02, r * 1.25, r * 0.95, _color(np.array(person.skin) * 0.85), 0.85)
    pen.polygon(shape, (244, 242, 238), 0.9)
    if scene.lids > 0.5:
        gaze = 0.25 * r * scene.light[0]
        pen.ellipse(x + gaze, y, r * 0.52, r * 0.55, person.eye_color, 0.95)
        pen.ellipse(x + gaze, y, r * 0.24, r * 0.26, (12, 10, 10), 0.95)
        pen.ellipse(x + gaze - r * 0.18, y - r * 0.2, r * 0.12, r * 0.12, (255, 255, 255), 0.95)
    pen.line(shape[10:20], (40, 28, 24), 0.025, 0.9)
    lift = y - person.brow_height - scene.brow_raise
    inner, outer = x - side * r * 1.1, x + side * r * 1.3
    slope = person.brow_slope * r
    brow = _color(np.array(person.hair_color) * 0.7)
    pen.line([(inner, lift + slope), (x, lift - 0.03), (outer, lift - slope + 0.02)], brow, person.brow_thick, 0.9)


def _mouth(pen: _Pen, person: Identity, scene: Scene) -> None:
    y, w, h = person.mouth_y, person.mouth_width * (1 + 0.18 * scene.smile), person.lip_thick
    gap = scene.open_mouth * 0.1
    curve = 0.07 * scene.smile
    x = np.linspace(-1, 1, 11)
    bow = -curve * x**2
    top = [
        (a * w, y + b - (1 - a * a) * h * (1 - 0.35 * np.exp(-((a / 0.2) ** 2))) - gap / 2)
        for a, b in zip(x, bow, strict=True)
    ]
    low = [(a * w, y + b + (1 - a * a) * (h * 1.25 + gap)) for a, b in zip(x, bow, strict=True)]
    pen.polygon(top + low[::-1], person.lip_color, 1.0)
    inner = [(a * w * 0.86, y + b - (1 - a * a) * gap * 0.6) for a, b in zip(x, bow, strict=True)]
    under = [(a * w * 0.86, y + b + (1 - a * a) * gap) for a, b in zip(x, bow, strict=True)]
    if gap > 0.02:
        pen.polygon(inner + under[::-1], (70, 22, 24), 1.0)
        teeth = [(a, b + gap * 0.35 * (1 - (a / w) ** 2)) for a, b in inner]
        pen.polygon(inner + teeth[::-1], (246, 243, 236), 1.0)
    else:
        pen.line(inner, _color(np.array(person.lip_color) * 0.55), 0.02, 1.0)


def _beard(pen: _Pen, person: Identity) -> None:
    hair = _color(np.array(person.hair_color) * 0.8)
    y, w = person.mouth_y, person.mouth_width
    if person.beard in ("full", "stubble"):
        lower = [(px * 0.99, py) for px, py in head_outline(person) if py > 0.12]
        fill = hair if person.beard == "full" else _color(np.array(person.skin) * 0.72 + np.array(hair) * 0.08)
        left, right = min(lower), max(lower)
        pen.polygon(
            [*lower, (left[0] * 0.75, 0.2), (-w * 1.3, y - 0.14), (w * 1.3, y - 0.14), (right[0] * 0.75, 0.2)],
            fill,
            0.3,
        )
    if person.beard in ("moustache", "goatee", "full"):
        pen.polygon([(-w * 1.1, y), (-w * 0.8, y - 0.13), (0, y - 0.1), (w * 0.8, y - 0.13), (w * 1.1, y)], hair, 1.0)
    if person.beard == "goatee":
        pen.ellipse(0, y + 0.22, w * 0.75, 0.22, hair, 0.9)


def _glasses(pen: _Pen, person: Identity) -> None:
    if person.glasses == "none":
        return
    r, thick = person.eye_size * 1.75, max(2, round(0.035 * pen.unit))
    for side in (-1, 1):
        cx, cy = pen.at(side * person.eye_x, person.eye_y + 0.02, 1.0)
        a, b = r * pen.unit, r * pen.unit * (1.0 if person.glasses == "round" else 0.72)
        box = (cx - a, cy - b, cx + a, cy + b)
        if person.glasses == "round":
            pen.draw.ellipse(box, outline=person.glasses_color, width=thick)
        else:
            pen.draw.rounded_rectangle(box, a * 0.3, outline=person.glasses_color, width=thick)
        if person.glasses == "half":
            pen.draw.line((box[0], box[1], box[2], box[1]), fill=person.glasses_color, width=thick * 2)
        pen.line(
            [(side * (person.eye_x + r), person.eye_y), (side * person.width, person.eye_y - 0.04)],
            person.glasses_color,
            0.03,
            0.8,
        )
    pen.line([(-person.eye_x + r, person.eye_y), (person.eye_x - r, person.eye_y)], person.glasses_color, 0.035, 1.0)


def _hair_front(pen: _Pen, person: Identity) -> None:
    w, v, hair = person.width, person.hair_volume, person.hair_color
    if person.hair == "bald":
        return
    line = {"receding": -0.78, "buzz": -0.55, "fringe": -0.32, "curly": -0.5}.get(person.hair, -0.5)
    grow = {"buzz": 0.02, "receding": 0.03}.get(person.hair, 0.35 * v)
    t = np.linspace(np.pi, 2 * np.pi, 25)
    outer = [(np.cos(a) * (w + grow), np.sin(a) * (1 + grow) - 0.02) for a in t]
    inner = [(a * w * 0.98, line + 0.4 * abs(a) ** 2.5) for a in np.linspace(1, -1, 15)]
    if person.hair == "parted":
        inner = [(a * w * 0.98, line - 0.22 + 0.42 * abs(a - 0.45)) for a in np.linspace(1, -1, 15)]
    elif person.hair == "fringe":
        inner = [(a * w * 0.98, line + 0.05 * (k % 2)) for k, a in enumerate(np.linspace(1, -1, 15))]
    pen.polygon(outer + inner, hair, 0.25)
    strand, shine = _color(np.array(hair) * 0.75), _color(np.array(hair) * 1.25 + 10)
    for k, a in enumerate(np.linspace(-0.85, 0.85, 12)):
        root = (a * w * 0.9, -0.98 * np.sqrt(max(0.05, 1 - a * a)) + 0.02)
        pen.line([root, (a * w, line + 0.3 * abs(a) ** 2.5 - 0.06)], shine if k % 4 == 1 else strand, 0.014, 0.25)


def _occlude(pen: _Pen, person: Identity, scene: Scene, rng: Rng) -> None:
    color = _color(rng.uniform(20, 230, 3))
    if scene.occlusion == "scarf":
        pen.polygon([(-1.1, 0.62), (1.1, 0.7), (1.2, 1.9), (-1.2, 1.9)], color)
    elif scene.occlusion == "bar":
        x = rng.uniform(-0.7, 0.7)
        pen.polygon([(x, -1.7), (x + 0.22, -1.7), (x + 0.3, 2), (x + 0.08, 2)], color)
    elif scene.occlusion == "hand":
        side = rng.choice([-1, 1])
        for k in range(4):
            pen.line(
                [(side * 0.9, 0.95 - 0.15 * k), (side * 0.3, 0.62 - 0.12 * k)],
                _color(np.array(person.skin) * (0.85 + 0.05 * k)),
                0.15,
            )
    elif scene.occlusion == "sunglasses":
        for side in (-1, 1):
            pen.ellipse(side * person.eye_x, person.eye_y + 0.02, 0.25, 0.2, (18, 18, 22), 1.0)
        pen.line([(-0.2, person.eye_y), (0.2, person.eye_y)], (18, 18, 22), 0.05, 1.0)


def _place(pen: _Pen, person: Identity, scene: Scene, rng: Rng) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Turn, resize and put the head on a background; camera blur, the light's colour."""
    width, height = scene.size, round(scene.size * scene.aspect)
    half = scene.fill * height / 2  # of the face's height, in photograph pixels
    scale = pen.unit / half
    angle = np.deg2rad(scene.roll)
    cx, cy = width * (0.5 + scene.shift[0]), height * (0.52 + scene.shift[1])
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    mx, my = CANVAS / 2, CANVAS * 0.53
    affine = (c, s, mx - c * cx - s * cy, -s, c, my + s * cx - c * cy)
    photo = _background(width, height, rng)
    _shoulders(photo, person, (cx, cy), half, rng)
    # a larger step than one pixel needs smoothing first, or edges would break up
    head = pen.image.reduce(int(scale)) if scale >= 2 else pen.image
    shrunk = CANVAS / head.width
    head = head.transform(
        (width, height), Image.Transform.AFFINE, tuple(v / shrunk for v in affine), Image.Resampling.BILINEAR
    )
    photo.paste(head, (0, 0), head)
    if scene.blur > 0.3:
        photo = photo.filter(ImageFilter.GaussianBlur(scene.blur * width / 200))
    tint = np.array(scene.tint, np.float32) * np.float32(1 + 0.25 * (scene.contrast - 0.35) + rng.normal(0, 0.1))
    table = (np.arange(256, dtype=np.float32)[None] * tint[:, None]).clip(0, 255).astype(np.uint8)
    photo = photo.point(table.ravel().tolist())
    # a box from brow to chin, drawn by an annotator who is never quite exact
    w, h = 1.75 * person.width * half, 1.75 * half
    jitter = rng.normal(0, 0.03, 4) * half
    x, y = cx - w / 2 + 0.1 * scene.yaw * half + jitter[0], cy - 0.78 * half + jitter[1]
    return photo, (round(x), round(y), max(1, round(w + jitter[2])), max(1, round(h + jitter[3])))


def _background(width: int, height: int, rng: Rng) -> Image.Image:
    """Soft blotches of colour, as things out of focus are."""
    mean = rng.uniform(20, 235) + rng.normal(0, 18, 3)
    shape = (int(rng.integers(1, 5)), int(rng.integers(1, 5)), 1)
    coarse = mean + rng.normal(0, 40, shape) + rng.normal(0, 18, (*shape[:2], 3))
    blotches = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    return blotches.resize((width, height), Image.Resampling.BICUBIC)


def _shoulders(photo: Image.Image, person: Identity, center: tuple[float, float], half: float, rng: Rng) -> None:
    """Neck and clothes, which stay upright when the head tilts."""
    draw = ImageDraw.Draw(photo)
    cx, cy = center
    wide = person.width * half

    def polygon(points: list[tuple[float, float]], fill: Color) -> None:
        draw.polygon([(cx + x * wide, cy + y * half) for x, y in points], fill=fill)

    cloth = _color(rng.uniform(15, 215) + rng.normal(0, 35, 3))
    polygon([(-2.4, 3), (-2.2, 1.75), (-0.6, 1.3), (0.6, 1.3), (2.2, 1.75), (2.4, 3)], cloth)
    polygon([(-0.6, 0.2), (0.6, 0.2), (0.68, 1.35), (0, 1.6), (-0.68, 1.35)], _color(np.array(person.skin) * 0.72))


def _color(values: Any) -> Color:
    r, g, b = (int(v) for v in np.asarray(values, float).clip(0, 255))
    return r, g, b
