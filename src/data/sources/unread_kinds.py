"""Kinds of files that people have pictures in and that are not read, and what to do with them."""

from __future__ import annotations

from os.path import basename

from ..decoding.videos import VIDEO_ENDINGS

__all__ = ["unread_kind"]

# What such a file is, with the remedy, and the endings of its name.
_KINDS = (
    ("a PDF file: save its pages as PNG", ".pdf"),
    ("a drawing: save it as PNG of the size that it is to be seen in", ".svg .svgz .eps .ps .ai"),
    (
        "a camera's raw file: save it as JPEG or TIFF with a raw converter",
        ".raw .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .iiq",
    ),
    ("a file of a paint program: save it as PNG", ".psd .psb .xcf .kra .clip .afphoto"),
    (
        "a volume: save its slices as PNG or as .npy files",
        ".nii .nii.gz .mha .mhd .nrrd .mgz .mrc .hdr .img",
    ),
    (
        "a whole slide: save its tiles as JPEG or PNG",
        ".svs .ndpi .mrxs .scn .bif .svslide .vms .vsi",
    ),
    (
        "a file of a microscope: save its pictures as TIFF",
        ".czi .nd2 .lif .lsm .oib .oif .oir .dv .ims .zvi .stk",
    ),
    ("a file of several arrays: save each picture as PNG or as a .npy file", ".npz .mat .h5 .hdf5"),
    ("a picture of a kind that is not read: save it as PNG", ".jxl .tga .pcx .ico .exr .fits .fit"),
    (
        "an archive: unpack it",
        ".zip .rar .7z .tar .tgz .tar.gz .tbz2 .tar.bz2 .txz .tar.xz",
    ),
    (
        "a video: set data.frames=25 to take every 25th frame (extra video)",
        " ".join(sorted(VIDEO_ENDINGS)),
    ),
)
_BY_ENDING = {ending: f"is {what}" for what, endings in _KINDS for ending in endings.split()}


def unread_kind(path: str) -> str | None:
    """Return what a file is by its name, with the remedy, to be read after the name.

    None for a picture of a kind that is read, and for what holds no picture.
    """
    _, _, last = basename(path).lower().rpartition(".")
    _, _, both = basename(path).lower().removesuffix(f".{last}").rpartition(".")
    return _BY_ENDING.get(f".{both}.{last}") or _BY_ENDING.get(f".{last}")
