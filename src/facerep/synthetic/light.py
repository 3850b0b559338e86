"""Light, shadow and the strands of hair: Lambert's law on a relief, an ellipsoid with Gaussian bumps for the features."""

from functools import cache

import numpy as np
from PIL import Image

from facerep.synthetic.people import Identity, Scene
from facerep.synthetic.shapes import HAIRDOS

CANVAS, GRID = 256, 128  # sides of the square canvas and of the grid of light, pixels

Seen = dict[str, np.ndarray]  # curves by name, K×2: canvas pixels, or head units before the roll


@cache
def pixels() -> np.ndarray:
    """Where the grid of light lies on the canvas: float32 GRID×GRID×2, x and y."""
    y, x = np.mgrid[0:GRID, 0:GRID].astype(np.float32)
    return np.stack([x, y], -1) * (CANVAS / GRID) + 0.5 * CANVAS / GRID


@cache
def _texture(number: int) -> np.ndarray:
    """Float32 1024, mean 0: strands across which hair is lighter and darker."""
    rng = np.random.default_rng([number])
    noise = np.sum([np.repeat(rng.normal(0, 1, 1024 // k), k) for k in (1, 2, 4, 8, 32)], axis=0)
    return (noise / np.std(noise)).astype(np.float32)


def light_of(
    i: Identity, s: Scene, upright: Seen, grid: np.ndarray, hair: Image.Image, soft: Image.Image
) -> Image.Image:
    """What the colours are multiplied by (128: by one), enlarged to the canvas."""
    u, v = grid[..., 0], grid[..., 1]
    q = np.square(u / np.float32(i.width * 1.12)) + np.square((v + 0.02) / np.float32(1.2))
    relief = np.sqrt(np.maximum(1 - q, np.float32(0.05))) * np.float32(0.85)
    down, across = grid[1, 0] - grid[0, 0], grid[0, 1] - grid[0, 0]  # a step of the grid, head units
    step = float(np.hypot(*across))
    for at, wide, tall, high in _bumps(i, upright):
        offset = (at - grid[0, 0]) @ np.stack([down, across], 1) / step**2
        reach = 2.2 * max(wide, tall) / step  # a bump is nothing further out
        low, top = np.clip(offset - reach, 0, GRID).astype(int), np.clip(offset + reach, 0, GRID).astype(int)
        near = (slice(low[0], top[0]), slice(low[1], top[1]))
        x, y, w, t = (np.float32(value) for value in (*at, wide, tall))
        relief[near] += np.float32(high) * np.exp(-np.square((u[near] - x) / w) - np.square((v[near] - y) / t))
    nx = np.gradient(relief, -step, axis=1)
    ny = np.gradient(relief, -step, axis=0)
    norm = 1 / np.sqrt(nx * nx + ny * ny + 1)
    light = (s.light / np.linalg.norm(s.light)).astype(np.float32)
    lambert = np.maximum((nx * light[0] + ny * light[1] + light[2]) * norm, 0)
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    gloss = np.maximum((nx * half[0] + ny * half[1] + half[2]) * norm, 0) ** 16
    shade = np.float32(s.ambient) + np.float32(1.25 * (1 - s.ambient)) * lambert
    shade *= np.asarray(soft, np.float32) * np.float32(1 / 255)
    hairy = np.asarray(hair, np.float32) * np.float32(1 / 255)
    shade += gloss * (np.float32(0.16) + 0.1 * hairy) * np.float32(1 - s.ambient * 0.5)
    angle = np.arctan2(u - np.float32(i.part * 0.5), np.float32(0.25) - v)
    where = angle * np.float32(150) + np.float32(26 * i.wave) * np.sin(v * np.float32(11))
    curls = HAIRDOS[i.style][4]
    if curls:
        where += np.float32(900 * curls) * np.sin(u * np.float32(17)) * np.sin(v * np.float32(15))
    strands = _texture(i.texture)[where.astype(np.int32) & 1023]
    shade *= 1 + np.float32(0.13) * strands * hairy
    shade = np.minimum(shade * np.float32(128), 255).astype(np.uint8)
    return Image.fromarray(shade).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)


def _bumps(i: Identity, upright: Seen) -> list[tuple[np.ndarray, float, float, float]]:
    """The relief's Gaussian bumps: centre, widths, height (head units)."""
    k = i.bumps
    (left, right, eye1, eye2), (cheek1, cheek2) = upright["brows"], upright["cheeks"]
    (wing1, wing2), (bridge1, bridge2) = upright["alae"], upright["bridge"]
    tip, (chin, under, mouth) = upright["tip"][0], upright["chin"]
    return [
        (tip, 0.13, 0.13, 0.55 * i.nose_z + 0.03), (wing1, 0.08, 0.08, 0.05), (wing2, 0.08, 0.08, 0.05),
        (bridge2, i.bridge, 0.22, 0.1 * k), (bridge1, i.bridge, 0.16, 0.05 * k),
        (eye1, 0.2, 0.12, -0.07 * k), (eye2, 0.2, 0.12, -0.07 * k),
        (left, 0.26, 0.1, 0.035 * k), (right, 0.26, 0.1, 0.035 * k),
        (cheek1, 0.22, 0.17, i.cheek), (cheek2, 0.22, 0.17, i.cheek), (chin, 0.2, 0.13, 0.06 * k), (mouth, 0.28, 0.2, 0.05),
        (under, 0.18, 0.05, -0.03 * k),
    ]  # fmt: skip
