"""benchmarks/pretexts.py: neighbours against the stage's own votes, one photograph left out at a time; the probe's draws."""

import numpy as np
import pytest

from benchmarks import pretexts
from facerep.training.probes import LinearProbe, knn_answers


def some_features(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of six identities, a little apart, from 13 to 18 photographs each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(6), np.arange(13, 19))
    centers = rng.normal(size=(6, 16))
    return (centers[labels] + 1.5 * rng.normal(size=(len(labels), 16))).astype(np.float32), labels


@pytest.mark.parametrize("seed", [0, 1])
def test_each_photograph_is_judged_by_the_others(seed: int) -> None:
    features, labels = some_features(seed)
    right = [
        knn_answers(np.delete(features, n, 0), np.delete(labels, n), features[n : n + 1])[0] == labels[n]
        for n in range(len(labels))
    ]
    assert 0.2 < np.mean(right) < 0.95
    assert pretexts.leave_one_out(features, labels) == pytest.approx(np.mean(right))


def test_the_probe_learns_from_so_many_of_each_and_is_judged_on_neither_these_nor_those_that_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = some_features()
    features[:, 0] = np.arange(len(labels))  # tells which photograph it is
    seen: list[list[set[float]]] = []
    fit, answers = pretexts.fit_probe, LinearProbe.answers

    def fitted(x: np.ndarray, y: np.ndarray, val_x: np.ndarray, val_y: np.ndarray, measure: str) -> LinearProbe:
        assert set(np.bincount(y)) in ({3}, {12})
        seen.append([set(x[:, 0]), set(val_x[:, 0])])
        return fit(x, y, val_x, val_y, measure)

    def answered(self: LinearProbe, x: np.ndarray) -> np.ndarray:
        seen[-1].append(set(x[:, 0]))
        return answers(self, x)

    monkeypatch.setattr(pretexts, "fit_probe", fitted)
    monkeypatch.setattr(LinearProbe, "answers", answered)
    few, many = pretexts.probes(features, labels)
    assert 1 / 6 < few < many <= 1
    assert len(seen) == 6 and len({frozenset(learned) for learned, _, _ in seen}) == 6
    for learned, chooses, judges in seen:
        assert not learned & chooses and not learned & judges and not chooses & judges
        assert len(learned | chooses | judges) == len(labels)
