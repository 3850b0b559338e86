"""What a file is that is no archive or photograph of ours, by its first bytes or its name, and what to do about it."""

import re
from typing import NamedTuple


class Kind(NamedTuple):
    """Something that people have in the place of an archive or a photograph."""

    what: str
    do: str


_CONVERT = "convert it to JPEG or PNG"
_UNPACK = "unpack it and give the folder, or pack it as tar or zip"
_JOIN = "join the parts first (`zip -s 0 first.zip --out whole.zip`, or `cat` for .001, .002, …)"
LFS = Kind("a Git LFS pointer in the place of the file", "run `git lfs pull` where it was cloned")
EMPTY = Kind("an empty file", "copy it again")
HTML = Kind("a web page", "open the URL in a browser: it may ask to log in or to confirm, or the file is not there")

# first bytes; ISO's media files (HEIC, AVIF, MP4) have their brand behind `ftyp`
_MAGIC = (
    (rb"version https://git-lfs", LFS),
    (rb"....ftyp(?:avif|avis)", Kind("an AVIF image", _CONVERT)),
    (rb"....ftyp(?:heic|heix|hevc|hevx|heim|heis|mif1|msf1)", Kind("a HEIC image", _CONVERT)),
    (rb"....ftyp", Kind("a video", "take photographs out of it first")),
    (rb"\x1a\x45\xdf\xa3|RIFF....AVI ", Kind("a video", "take photographs out of it first")),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", Kind("a JPEG XL image", _CONVERT)),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", Kind("a JPEG 2000 image", _CONVERT)),
    (rb"8BPS", Kind("a Photoshop document", _CONVERT)),
    (rb"%PDF-", Kind("a PDF", "take the images out of it (`pdfimages`)")),
    (rb".{128}DICM", Kind("a DICOM file", "convert it to PNG (`dcm2pnm`, or pydicom)")),
    (rb"\x89HDF\r\n", Kind("an HDF5 file", "take the images out of it")),
    (rb"\x93NUMPY", Kind("a NumPy array", "save its images as PNG")),
    (rb"PAR1", Kind("a Parquet file", "save its images as files in class folders")),
    (rb"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)),
    (rb"Rar!\x1a\x07", Kind("a RAR archive", _UNPACK)),
    (rb"\x28\xb5\x2f\xfd", Kind("compressed by Zstandard", _UNPACK)),
    (rb"\x04\x22\x4d\x18", Kind("compressed by LZ4", _UNPACK)),
    (rb"PK\x07\x08|PK00PK", Kind("one part of a split zip", _JOIN)),
    (rb"\x1f\x8b|BZh|\xfd7zXZ\0", Kind("compressed, and no tar or damaged", f"copy it again, or {_UNPACK}")),
    (rb"\s*<(?:!doctype html|html|head|\?xml)", HTML),
)
_HEAD = 256  # bytes that are enough for all of them
_PART = re.compile(r"\.(?:z\d\d|(?:zip|7z|tar|tar\.gz|tgz|rar)\.\d{2,3}|part\d+\.rar|r\d\d)$", re.IGNORECASE)
# suffixes of what is no photograph here, though a class folder may hold nothing else
_SUFFIXES = {
    ".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".jxl": "JPEG XL", ".jp2": "JPEG 2000", ".j2k": "JPEG 2000",
    ".dcm": "DICOM", ".dicom": "DICOM", ".psd": "Photoshop", ".svg": "SVG", ".pdf": "PDF", ".nii": "NIfTI",
    ".cr2": "raw", ".cr3": "raw", ".nef": "raw", ".arw": "raw", ".dng": "raw", ".orf": "raw", ".rw2": "raw", ".raf": "raw",
    ".mp4": "video", ".mov": "video", ".avi": "video", ".mkv": "video", ".mts": "video", ".webm": "video",
    ".npy": "NumPy", ".npz": "NumPy", ".h5": "HDF5", ".parquet": "Parquet", ".tfrecord": "TFRecord",
    ".7z": "7z", ".rar": "RAR", ".zip": "zip in an archive", ".tar": "tar in an archive", ".gz": "gzip in an archive",
}  # fmt: skip


def kind_of(head: bytes, name: str = "") -> Kind | None:
    """What the bytes are that a file begins with, or what its name says; None where neither is known.

    Signatures: https://en.wikipedia.org/wiki/List_of_file_signatures; Git LFS: its pointer specification.
    """
    head = head[:_HEAD]
    if not head.strip(b"\0"):
        return EMPTY if not head else Kind("nothing but zeros", "copy it again: it was not written to its end")
    if is_part(name):
        return Kind(f"one part of a split archive ({name.rsplit('/', 1)[-1]})", _JOIN)
    return next((kind for magic, kind in _MAGIC if re.match(magic, head, re.DOTALL | re.IGNORECASE)), None)


def is_part(name: str) -> bool:
    """Whether a file is called as one part of a split archive is: faces.zip.001, faces.z01, faces.part2.rar."""
    return _PART.search(name) is not None


def format_of(suffix: str) -> str | None:
    """The format of files with this suffix, which holds pictures but is not read; None for any other suffix."""
    return _SUFFIXES.get(suffix.lower())
