"""Shards against Python's tarfile, and what a reader says when they are not whole."""

import io
import pickle
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from facerep.core.errors import FacerepError
from facerep.crop.writer import ShardWriter
from facerep.faces.shards import INDEX_SCHEMA, ShardReader, read_index, write_index

FACES = [(f"test/n{i:06d}/{i:04d}_01", bytes([i]) * (300 * i + 1)) for i in range(12)] + [
    ("all/Zoë Ωmega/" + "long" * 40, b"a name that does not fit into a tar header")
]


def write(folder: Path, shard_mb: float) -> list[tuple[str, int, int]]:
    folder.mkdir()
    writer = ShardWriter(folder, shard_mb)
    places = [writer.add(key, data) for key, data in FACES]
    writer.close()
    assert writer.shards == len(list(folder.iterdir()))
    return places


def row(n: int) -> dict:
    return {
        "key": f"all/a/{n}",
        "identity": "a",
        "split": "all",
        "shard": "shard-000000.tar",
        "offset": 512 * n,
        "length": n,
        "sha256": f"{n:064x}",
        "phash": bytes(32),
        "sharpness": n / 2,
        "side": n,
        "found": "box",
    }


def test_tarfile_and_the_places_agree(tmp_path: Path) -> None:
    places = write(tmp_path / "faces", shard_mb=0.01)
    found = {}
    for path in (tmp_path / "faces").iterdir():
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.mode, member.uid, member.gid, member.uname) == (0, 0o644, 0, 0, "")
                data = tar.extractfile(member)
                assert data is not None
                found[member.name] = (path.name, member.offset_data, data.read())
    assert found == {f"{k}.jpg": (s, o, data) for (k, data), (s, o, _) in zip(FACES, places, strict=True)}
    reader = ShardReader(tmp_path / "faces")
    for (_, data), place in reversed(list(zip(FACES, places, strict=True))):
        assert reader.read(*place) == data


def test_a_shard_is_the_file_that_tarfile_writes(tmp_path: Path) -> None:
    write(tmp_path / "faces", shard_mb=1)
    with tarfile.open(tmp_path / "theirs.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for key, data in FACES:
            info = tarfile.TarInfo(f"{key}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert (tmp_path / "faces" / "shard-000000.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


def test_a_shard_ends_once_it_passes_its_size(tmp_path: Path) -> None:
    places = write(tmp_path / "faces", shard_mb=0.01)
    by_shard: dict[str, list[int]] = {}
    for shard, offset, length in places:
        by_shard.setdefault(shard, []).append(offset + length)
    assert list(by_shard) == sorted(by_shard) == [f"shard-{n:06d}.tar" for n in range(len(by_shard))]
    assert len(by_shard) > 2
    limit = 0.01 * 2**20
    for ends in list(by_shard.values())[:-1]:
        assert -(-ends[-1] // 512) * 512 >= limit
    for ends in by_shard.values():
        assert all(-(-end // 512) * 512 < limit for end in ends[:-1])


def test_the_same_faces_are_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.01)
    write(tmp_path / "b", 0.01)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_reader_goes_through_pickle(tmp_path: Path) -> None:
    places = write(tmp_path / "faces", 1)
    reader = ShardReader(tmp_path / "faces")
    assert reader.read(*places[3]) == FACES[3][1]  # open now: a file cannot be pickled
    assert pickle.loads(pickle.dumps(reader)).read(*places[4]) == FACES[4][1]


def test_missing_and_short_shards_are_named(tmp_path: Path) -> None:
    places = write(tmp_path / "faces", 1)
    shard = tmp_path / "faces" / places[-1][0]
    with pytest.raises(FacerepError, match=r"shard-000007\.tar: .*dvc pull.*dvc repro"):
        ShardReader(shard.parent).read("shard-000007.tar", 0, 1)
    shard.write_bytes(shard.read_bytes()[:5000])
    reader = ShardReader(shard.parent)
    assert reader.read(*places[0]) == FACES[0][1]
    with pytest.raises(FacerepError, match=r"shard-000000\.tar: .*cut short.*dvc pull"):
        reader.read(*places[-1])
    shard.write_bytes(b"")
    with pytest.raises(FacerepError, match="dvc pull"):
        ShardReader(shard.parent).read(*places[0])


def test_the_index_comes_back_and_has_one_form(tmp_path: Path) -> None:
    rows = [row(n) for n in range(70_000)]  # more than one row group
    write_index(tmp_path / "a.parquet", iter(rows))
    write_index(tmp_path / "b.parquet", rows)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    table = read_index(tmp_path / "a.parquet")
    assert table.schema.equals(INDEX_SCHEMA)
    assert table.to_pylist() == rows
    write_index(tmp_path / "empty.parquet", [])
    assert read_index(tmp_path / "empty.parquet").num_rows == 0


def test_an_index_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    with pytest.raises(FacerepError, match=r"index\.parquet: not there; run `dvc repro crop`"):
        read_index(path)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(FacerepError, match=r"index\.parquet: damaged"):
        read_index(path)
    write_index(path, [row(1)])
    pq.write_table(pq.read_table(path).drop_columns(["phash"]), path)
    with pytest.raises(FacerepError, match=r"index\.parquet: not the index of this version"):
        read_index(path)


def test_nothing_stays_when_rows_fail(tmp_path: Path) -> None:
    def rows():
        yield row(1)
        raise RuntimeError("the rest is missing")

    with pytest.raises(RuntimeError):
        write_index(tmp_path / "index.parquet", rows())
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_a_plain_tar(tmp_path: Path) -> None:
    """No compression, else nothing could be read at random."""
    write(tmp_path / "faces", 1)
    data = (tmp_path / "faces" / "shard-000000.tar").read_bytes()
    tarfile.open(fileobj=io.BytesIO(data), mode="r:").close()
    assert data.count(FACES[-1][1]) == 1
