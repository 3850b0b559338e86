"""Who someone is (Identity) and how a photograph shows it (Scene), drawn from seed, identity and photograph alone.

Lengths are in head units (about half a head's height), x to the viewer's right, y down, z towards the viewer, the
origin between the eyes.
"""

from types import SimpleNamespace

import numpy as np
from PIL import Image

SKINS = (
    (252, 226, 206),
    (243, 205, 176),
    (226, 177, 139),
    (196, 140, 101),
    (155, 103, 71),
    (112, 72, 50),
    (84, 54, 40),
)
HAIRS = {
    "black": (38, 33, 34), "dark": (66, 44, 33), "brown": (104, 70, 46), "light": (146, 106, 70), "blond": (208, 170, 108),
    "pale": (228, 205, 158), "red": (164, 76, 36), "auburn": (116, 48, 32), "grey": (148, 146, 144),
    "white": (218, 215, 210),
}  # fmt: skip
IRISES = ((74, 46, 30), (98, 64, 38), (130, 96, 52), (96, 118, 70), (92, 128, 164), (116, 136, 150), (64, 92, 150))
STYLES_M = ("bald", "buzz", "short", "short", "side", "side", "quiff", "curly", "afro", "receding", "long")
STYLES_F = ("bob", "bob", "long", "long", "wavy", "wavy", "bun", "bangs", "bangs", "afro", "side")


class Identity(SimpleNamespace):
    """What stays the same in all photographs of someone: colours (float RGB 0 to 255) and lengths (head units)."""


class Scene(SimpleNamespace):
    """What one photograph makes of it: pose (radians), light, expression, place, disturbances."""


def draw_identity(seed: int, number: int) -> Identity:
    """The `number`-th identity (from 1) of `seed`."""
    rng = np.random.default_rng([seed, number, 0])
    u = rng.uniform

    def chance(p: float) -> bool:
        return bool(rng.random() < p)

    woman, melanin, age = chance(0.45), rng.beta(1.1, 1.5) * 5.9, u(0, 1)
    low = int(melanin)
    skin = np.array(SKINS[low]) * (1 - melanin + low) + np.array(SKINS[low + 1]) * (melanin - low)
    skin = skin * (1 + u(-0.05, 0.05) * np.array([1.0, 0.1, -1.0]))
    hair = _hair_colour(rng, melanin, age)
    style = (STYLES_F if woman else STYLES_M)[int(rng.integers(11))]
    beard = "none" if woman else str(rng.choice(["none", "none", "stubble", "moustache", "goatee", "full"]))
    iris = np.array(IRISES[int(rng.integers(2 if melanin > 2.5 else 7))]) * u(0.85, 1.15)
    red, made_up = np.array([208, 96, 100]) if chance(0.6) else np.array([176, 40, 62]), woman * u(0.1, 0.5)
    lips = skin * np.array([0.86, 0.66, 0.64]) * (1 - made_up) + red * made_up
    marks = [(u(-0.6, 0.6), u(-0.6, 0.8), u(0.014, 0.032)) for _ in range(int(rng.integers(0, 4)))]
    freckles = (
        rng.uniform(-1, 1, (46, 2)) * [0.58, 0.2] + [0, 0.2] if melanin < 2 and chance(0.18) else np.zeros((0, 2))
    )
    return Identity(
        number=number, woman=woman, age=age, skin=skin, hair=hair, style=style, beard=beard, iris=iris, lips=lips,
        marks=marks, freckles=freckles, scar=(u(-0.5, 0.5), u(-0.5, 0.6), u(-1, 1)) if chance(0.1) else None,
        width=u(0.68, 0.88), jaw=u(0.52, 0.98) + 0.05 * woman, chin=u(0.9, 1.12), taper=u(0, 0.16),
        eye_x=u(0.29, 0.4), eye_w=u(0.125, 0.19), eye_h=u(0.055, 0.105), slant=u(-0.05, 0.06), lid=u(0.02, 0.07),
        iris_r=u(0.07, 0.09), lashes=u(0.016, 0.034) if woman else u(0.006, 0.014),
        brow_y=u(0.15, 0.27), brow_t=u(0.018, 0.04) if woman else u(0.03, 0.075), brow_arch=u(0, 0.09),
        brow_slant=u(-0.06, 0.06), brow_w=u(0.17, 0.26), nose_y=u(0.3, 0.46), nose_w=u(0.1, 0.2), nose_z=u(0.08, 0.26),
        bridge=u(0.06, 0.12), nostril=u(0.02, 0.04), mouth_y=u(0.16, 0.28), mouth_w=u(0.2, 0.36), upper=u(0.025, 0.085),
        lower=u(0.05, 0.11), bow=u(0, 0.035), ear=u(0.16, 0.27), ear_out=u(0.0, 0.1), hairline=u(-0.72, -0.48),
        volume=u(0.06, 0.24), sides=u(0.02, 0.16), part=u(-0.6, 0.6), length=u(0.75, 1.7), wave=u(0, 0.3), bumps=u(0.6, 1.5),
        cheek=u(0.03, 0.16), folds=0.15 + 0.75 * age, glasses=str(rng.choice(["none"] * 7 + ["round", "square", "wide"])),
        rim=rng.uniform(10, 120, 3) * u(0.2, 1), rim_t=int(rng.integers(3, 8)), earrings=woman and chance(0.35),
        texture=int(rng.integers(1 << 30)),
    )  # fmt: skip


def _hair_colour(rng: np.random.Generator, melanin: float, age: float) -> np.ndarray:
    if rng.random() < 0.04:  # dyed
        return np.array([(196, 60, 110), (60, 120, 170), (110, 70, 160)][int(rng.integers(3))], float)
    odds = np.array([4, 4, 3, 2, 2, 1, 1.2, 1, 0, 0]) if melanin < 2.2 else np.array([7, 3, 1, 0, 0, 0, 0, 0.4, 0, 0])
    odds = odds + np.array([0] * 8 + [6, 4]) * (age > 0.72)
    return np.array(list(HAIRS.values())[int(rng.choice(len(HAIRS), p=odds / odds.sum()))]) * rng.uniform(0.88, 1.12)


def draw_scene(seed: int, number: int, photo: int) -> Scene:
    """The `photo`-th photograph (from 1) of the `number`-th identity."""
    rng = np.random.default_rng([seed, number, photo])
    u, n = rng.uniform, rng.normal
    long = int(np.exp(u(np.log(150), np.log(401))))
    short = max(120, int(long * u(0.76, 1)))
    warmth, azimuth, slope = n(0, 0.11), u(0, 2 * np.pi), u(0.1, 1.1)
    off = 0.14 if rng.random() < 0.06 else 0.05  # some faces lie partly outside
    return Scene(
        size=(long, short) if rng.random() < 0.3 else (short, long),
        fill=u(0.5, 0.75), dx=n(0, off), dy=n(0.02, off), margins=u(0.0, 0.16, 4),
        yaw=float(np.clip(n(0, 0.3), -0.66, 0.66)), pitch=float(np.clip(n(0, 0.13), -0.3, 0.3)),
        roll=float(np.clip(n(0, 0.15), -0.4, 0.4)),
        light=np.array([np.cos(azimuth) * slope, np.sin(azimuth) * slope * 0.7 - 0.35, 0.75]),
        ambient=u(0.34, 0.75), tint=np.array([1 + warmth, 1 + n(0, 0.025), 1 - warmth]), exposure=np.exp(n(0.06, 0.2)),
        gamma=np.exp(n(0, 0.18)), saturation=float(np.clip(n(0.95, 0.18), 0.3, 1.3)), haze=max(0.0, n(0, 0.09)),
        smile=u(-0.25, 1), open=max(0.0, u(-0.7, 1)), brows=n(0, 0.028), lids=float(np.clip(n(0.95, 0.2), 0.12, 1.25)),
        gaze=(n(0, 0.35), n(0, 0.2)), mess=u(-0.05, 0.05), glasses=rng.random() < 0.85, cloth=u(25, 215) + n(0, 30, 3),
        backdrop=_backdrop(rng), blur=max(0.0, n(0.2, 0.6)), motion=u(0, 2.5) * (rng.random() < 0.08), noise=u(0, 9),
        over=str(rng.choice(["none", "sunglasses", "hand", "scarf", "bar"], p=[0.86, 0.04, 0.035, 0.035, 0.03])),
        over_at=(u(-0.5, 0.5), u(0, 1)), over_colour=u(25, 205) + n(0, 35, 3), grain=tuple(rng.integers(0, 64, 2).tolist()),
        quality=int(rng.integers(40, 96)),
    )  # fmt: skip


def _backdrop(rng: np.random.Generator) -> Image.Image:
    """A small picture that is enlarged behind the head: a slope of two colours, with blotches or with stripes."""
    kind = int(rng.integers(4))
    a, b = (rng.uniform(20, 235) + rng.normal(0, 26, 3) for _ in range(2))
    y, x = np.mgrid[0:1:16j, 0:1:16j][..., None]
    turn = rng.uniform(0, 2 * np.pi)
    slope = 0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)
    if kind == 3:  # stripes
        slope = (0.5 + np.sin(slope * rng.uniform(6, 16))).clip(0, 1)
    picture = Image.fromarray((a * slope + b * (1 - slope)).clip(0, 255).astype(np.uint8))
    if kind in (1, 2):  # things out of focus
        side = int(rng.integers(3, 9))
        noise = rng.normal(0, rng.uniform(10, 45), (side, side, 1)) + rng.normal(0, 14, (side, side, 3)) + (a + b) / 2
        blotches = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).resize((16, 16), Image.Resampling.BICUBIC)
        picture = Image.blend(picture, blotches, 0.75)
    return picture
