"""The curves of a head in space: outline, eyes, nose, mouth, hair; and how a turned head shows them."""

import numpy as np

from facerep.synthetic.people import Identity, Scene

T = np.linspace(-1, 1, 13)
RING = np.linspace(0, 2 * np.pi, 28, endpoint=False)
ROUND = np.stack([np.cos(RING), np.sin(RING)], 1)
NECK = np.array([(-0.42, 0.4), (0.42, 0.4), (0.46, 1.7), (-0.46, 1.7)])
SHOULDERS = np.array([(-0.5, 1.28), (0, 1.5), (0.5, 1.28), (1.25, 1.55), (1.7, 3.4), (-1.7, 3.4), (-1.25, 1.55)])
SQUIRCLE = np.sign(ROUND) * np.abs(ROUND) ** 0.45
LENSES = {"none": ROUND, "round": ROUND, "square": SQUIRCLE, "wide": SQUIRCLE * [1.08, 0.72]}
# style: height over the skull, width beside it, length below the eyes (0: ears), fringe, curls
HAIRDOS = {
    "bald": (0, 0, 0, "none", 0), "buzz": (0.12, 0.1, 0, "straight", 0), "short": (0.6, 0.5, 0, "straight", 0),
    "side": (1, 0.6, 0, "parted", 0), "quiff": (1.7, 0.4, 0, "up", 0), "curly": (1.5, 1.3, 0, "jagged", 0.07),
    "afro": (2.4, 3.2, 0.25, "straight", 0.03), "receding": (0.4, 0.4, 0, "receding", 0),
    "bob": (0.9, 1.1, 0.7, "parted", 0),
    "long": (0.8, 0.8, 1.2, "middle", 0), "wavy": (1.2, 1.4, 1.1, "parted", 0.05), "bun": (0.7, 0.3, 0, "middle", 0),
    "bangs": (1, 1, 0.9, "bangs", 0),
}  # fmt: skip


class Curves(dict[str, np.ndarray]):
    """Every curve of the head by name, float K×3 in head units, before the head is turned."""

    def __init__(self, i: Identity, s: Scene) -> None:
        super().__init__()
        self.reach = i.width * 1.08
        self.squeeze = np.array([np.cos(s.yaw), np.cos(s.pitch)])
        _head(self, i, s)
        _hair(self, i, s)
        for side in (-1, 1):
            _eye(self, i, s, side)
        _nose_and_mouth(self, i, s)

    def rim(self, name: str, points: np.ndarray, z: np.ndarray | float) -> None:
        """A silhouette: it shifts, but does not get narrower when the head turns."""
        self[name] = np.column_stack([points / self.squeeze, np.broadcast_to(z, len(points))])

    def on(self, name: str, points: np.ndarray, lift: np.ndarray | float = 0.0) -> None:
        """A curve on the face, `lift` above its surface."""
        q = (points[:, 0] / self.reach) ** 2 + (points[:, 1] / 1.3) ** 2
        self[name] = np.column_stack([points, 0.8 * np.sqrt(np.maximum(1 - q, 0.04)) + lift])


def _head(c: Curves, i: Identity, s: Scene) -> None:
    x, y = ROUND.T
    down = np.maximum(y, 0)
    outline_x = i.width * np.sign(x) * np.abs(x) ** np.where(y > 0, i.jaw, 0.85) * (1 - i.taper * down**2)
    outline_y = np.where(y > 0, (i.chin + 0.06 * s.open) * np.abs(y) ** 0.95, -1.06 * np.abs(y))
    c.rim("face", np.stack([outline_x, outline_y], 1), 0.42 * down**1.5)
    c.rim("neck", NECK * [i.width / 0.8, 1], -0.1)
    c.rim("shoulders", SHOULDERS, -0.2)
    for side in (-1, 1):
        ear = ROUND * [0.1 + 0.1 * max(0.0, -side * np.sin(s.yaw)), i.ear]
        at = np.array([side * (i.width + 0.6 * i.ear_out), 0.08])
        c.rim(f"ear{side}", ear + at, -0.12)
        c.rim(f"hole{side}", ear * [0.45, 0.6] + at, -0.1)
        c.rim(f"drop{side}", ROUND * 0.045 + at + [0, i.ear + 0.06], -0.08)


def _eye(c: Curves, i: Identity, s: Scene, side: int) -> None:
    """Lids are arcs from the inner (-1) to the outer corner (1); the iris is a disc that the lids cut."""
    opened = s.lids * (1 - 0.18 * max(0.0, s.smile))
    dome = np.sqrt(1 - T**2)
    tilt = -i.slant * T
    top, bottom = tilt - i.eye_h * opened * dome, tilt + 0.55 * i.eye_h * opened * dome
    x = side * (i.eye_x + i.eye_w * T)
    upper, lower = np.stack([x, top], 1), np.stack([x, bottom], 1)
    c.on(f"white{side}", np.concatenate([upper, lower[::-1]]), 0.02)
    thick = np.stack([0 * T, i.lashes * (0.6 + 0.4 * T)], 1)
    c.on(f"lash{side}", np.concatenate([upper - thick, upper[::-1] + 0.3 * thick[::-1]]), 0.02)
    c.on(f"wing{side}", np.concatenate([lower, lower[::-1] + np.array([0, 0.012])]), 0.02)
    crease = upper - [0, i.lid]
    c.on(f"crease{side}", np.concatenate([crease, crease[::-1] + np.array([0, 0.014])]), 0.02)
    gaze = np.array([side * i.eye_x + s.gaze[0] * i.eye_w * 0.6, s.gaze[1] * i.eye_h - 0.012])
    for name, radius in (("iris", 1.0), ("ring", 0.74), ("pupil", 0.42)):
        disc = ROUND * i.iris_r * radius + gaze
        t = (disc[:, 0] * side - i.eye_x) / i.eye_w
        disc[:, 1] = np.clip(disc[:, 1], np.interp(t, T, top), np.interp(t, T, bottom))
        c.on(f"{name}{side}", disc, 0.02)
    c.on(f"glint{side}", ROUND * i.iris_r * 0.2 + gaze + s.light[:2] * i.iris_r * 0.4, 0.03)
    inner = i.eye_x - i.brow_w * (1.0 + 0.25 * (s.brows < -0.02))
    bx = inner + (T + 1) * i.brow_w
    by = -i.brow_y - s.brows - i.brow_slant * T - i.brow_arch * (1 - (T - 0.25) ** 2)
    taper = i.brow_t * np.clip(1.05 - T, 0.12, 1) * np.clip(3 + 2.4 * T, 0.55, 1)
    brow = np.stack([side * bx, by], 1)
    edge = np.stack([0 * T, taper], 1)
    c.on(f"brow{side}", np.concatenate([brow - edge * 0.6, (brow + edge * 0.6)[::-1]]), 0.04)
    c.on(f"lens{side}", LENSES[i.glasses] * [0.25, 0.22] + [side * 0.335, 0.03], 0.06)
    c.on(f"bar{side}", np.array([(side * 0.1, -0.03), (0.0, -0.05)]), 0.12)
    c.on(f"arm{side}", np.array([(side * 0.57, -0.04), (side * i.width * 1.05, -0.03)]), -0.05)


def _nose_and_mouth(c: Curves, i: Identity, s: Scene) -> None:
    for side in (-1, 1):
        c.on(
            f"nostril{side}",
            ROUND * [i.nostril * 1.3, i.nostril * 0.8] + [side * i.nose_w * 0.5, i.nose_y + 0.045],
            i.nose_z * 0.7,
        )
        wing = np.stack([side * i.nose_w * (0.86 + 0.22 * np.sqrt(1 - T**2)), i.nose_y + 0.085 * T - 0.01], 1)
        c.on(f"wing_of_nose{side}", np.concatenate([wing, wing[::-1] - [side * 0.02, 0]]), i.nose_z * 0.3)
        fold = np.stack(
            [side * (i.nose_w + 0.06 + 0.09 * (T + 1) * (1 + s.smile * 0.5)), i.nose_y + 0.16 * (T + 0.9)], 1
        )
        c.on(f"fold{side}", np.concatenate([fold, fold[::-1] + np.array([side * 0.035, 0])]))
    my, width = i.nose_y + i.mouth_y, i.mouth_w * (1 + 0.16 * s.smile - 0.12 * s.open)
    curve = s.smile * 0.09 * (0.4 - T**2)
    gap = s.open * 0.15 * (1 - T**2)
    dome = np.sqrt(1 - T**2)
    cupid = i.bow * np.exp(-((T / 0.16) ** 2))
    x = width * T
    seam_up, seam_low = my + curve - 0.25 * gap, my + curve + 0.75 * gap
    upper = seam_up - i.upper * (1 - 0.3 * max(0, s.smile)) * dome + cupid
    lower = seam_low + i.lower * (1 - 0.2 * max(0, s.smile)) * dome

    def between(name: str, a: np.ndarray, b: np.ndarray) -> None:
        c.on(name, np.concatenate([np.stack([x, a], 1), np.stack([x, b], 1)[::-1]]), 0.03)

    between("upper", upper, seam_up)
    between("lower", seam_low, lower)
    between("mouth", seam_up - 0.008, seam_low + 0.008)
    between("teeth", seam_up, seam_up + np.minimum(gap * 0.55, 0.07))
    between("shine", seam_low + i.lower * 0.28 * dome, seam_low + i.lower * 0.5 * dome)
    between("lips", upper - 0.03, lower + 0.03)
    moustache = np.stack([width * 1.3 * T, my + curve - i.upper * 0.6 - 0.02 + 0.1 * T**2], 1)
    tall = np.stack([0 * T, 0.1 * np.clip(1.5 - np.abs(T), 0.5, 1)], 1)
    c.on("moustache", np.concatenate([moustache - tall, moustache[::-1] + tall[::-1] * 0.15]), 0.03)
    c.on("goatee", ROUND * [width * 0.8, 0.3] + [0, my + 0.22], 0.02)
    t = np.linspace(-1, 1, 21)
    inner = np.stack([i.width * 0.8 * t, my - 0.1 + 0.0 * t - 0.62 * np.abs(t) ** 5], 1)
    low = c["face"][ROUND[:, 1] > -0.3, :2] * c.squeeze
    c.rim("jaw", np.concatenate([low[np.argsort(low[:, 0])] * 1.03, inner[::-1]]), 0.2)
    c.on("tip", np.array([(0, i.nose_y)]), i.nose_z)
    c.on("bridge", np.array([(0, 0.0), (0, i.nose_y * 0.5)]), 0.03)
    c.on("cheeks", np.array([(-0.45, i.nose_y - 0.02), (0.45, i.nose_y - 0.02)]))
    c.on("chin", np.array([(0, i.chin * 0.86), (0, my + i.lower + 0.1), (0, my)]))
    c.on("alae", np.array([(-i.nose_w * 0.75, i.nose_y + 0.02), (i.nose_w * 0.75, i.nose_y + 0.02)]), i.nose_z * 0.5)
    c.on("brows", np.array([(-0.3, -i.brow_y), (0.3, -i.brow_y), (-i.eye_x, 0.0), (i.eye_x, 0.0)]))
    c.on(
        "marks", np.array([(0.0, 0.0), *[m[:2] for m in i.marks], *i.freckles, *([i.scar[:2]] if i.scar else [])]), 0.01
    )


def _hair(c: Curves, i: Identity, s: Scene) -> None:
    top, side, length, fringe, curls = HAIRDOS[i.style]
    if fringe == "none":
        return
    a = np.linspace(np.pi, 2 * np.pi, 41)
    frizz = 1 + curls * np.abs(np.sin(9 * a + i.part)) + s.mess * 0.3 * np.sin(5 * a)
    wide, high = i.width + 0.02 + side * i.sides, 1.07 + top * i.volume
    outer = np.stack([wide * np.cos(a), -high * np.abs(np.sin(a)) ** 0.78 - 0.02], 1) * frizz[:, None]
    t = np.linspace(1, -1, 25)
    off, low = np.abs(t - i.part), -0.02 - i.hairline
    line = i.hairline + s.mess + low * np.abs(t) ** 7
    line = line + {
        "straight": 0.03 * np.cos(3 * t), "up": -0.06 * np.cos(2 * t), "jagged": 0.05 * np.abs(np.sin(8 * t)),
        "parted": 0.2 * np.minimum(off, 0.9) ** 0.8, "middle": 0.26 * np.abs(t - 0.2 * i.part) ** 0.9,
        "receding": -0.16 - 0.1 * np.cos(4.2 * t), "bangs": 0.3 + 0.02 * np.abs(np.sin(11 * t)) - 0.12 * np.abs(t),
    }[fringe]  # fmt: skip
    c.rim("crown", outer * [1, 0.99], -0.2)
    c.rim("cap", outer, -0.12)
    c.on("hairline", np.stack([0.99 * i.width * t, np.minimum(line, 0.1)], 1), 0.03)
    c["cap"] = np.concatenate([c["cap"], c.pop("hairline")])
    if i.style == "bun":
        c.rim("bun", ROUND * [0.34, 0.3] + [i.part * 0.3, -high - 0.14], -0.3)
    if length:
        end = length * i.length
        y = np.linspace(-0.5, end, 15)
        fall = (y + 0.5) / (end + 0.5)
        sway = (0.03 + curls) * np.sin(9 * y + 5 * i.part) + 0.05 * fall
        hull = wide * np.sqrt(np.clip(1 - (np.minimum(y + 0.05, 0) / 1.2) ** 2, 0, 1)) + sway
        hull = hull * (1 - 0.25 * np.clip(fall - 0.8, 0, 1) * 5)
        c.rim("back", np.concatenate([np.stack([-hull, y], 1), np.stack([hull, y], 1)[::-1]]), -0.3)
        inside = i.width * (0.98 - 0.13 * np.sin(np.pi * np.clip(fall, 0, 1))) + 0.4 * sway
        for sign in (-1, 1):
            strand = np.concatenate(
                [np.stack([sign * hull, y], 1), np.stack([sign * np.minimum(inside, hull), y], 1)[::-1]]
            )
            c.rim(f"strand{sign}", strand, 0.0)
