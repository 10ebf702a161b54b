"""DICOM files, and packages that read them."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from src.config.checks import ConfigError
from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_files import NotReadHere, read_header
from src.data.decoding.picture_format import PictureFormat
from tests.data.decoding.test_rasters import HEIGHT, WIDTH, of_bands, tiff, values
from tests.data.pictures import data_of, opened, write


def dicom(pixels: NDArray[np.int16], **attributes: Any) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.dataset.FileMetaDataset()
    header.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    header.MediaStorageSOPInstanceUID = "1.2.3"
    made = pydicom.dataset.FileDataset(io.BytesIO(), {}, file_meta=header, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = header.MediaStorageSOPClassUID, "1.2.3"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.BitsAllocated, made.BitsStored, made.HighBit = 1, 16, 16, 15
    made.PixelRepresentation, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.PixelData = pixels.astype("<i2").tobytes()
    for name, value in attributes.items():
        setattr(made, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def test_dicom_is_rescaled_windowed_and_inverted() -> None:
    pydicom = pytest.importorskip("pydicom")
    stored = np.random.default_rng(0).integers(0, 3000, (HEIGHT, WIDTH)).astype(np.int16)
    attributes = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    attributes |= {"WindowCenter": 40, "WindowWidth": 400}
    data = dicom(stored, **attributes)
    form = PictureFormat((HEIGHT, WIDTH), 1, dtype="float32")
    found = decode_picture(data, form)[0]
    made = pydicom.dcmread(io.BytesIO(data))
    windowed = pydicom.pixels.apply_windowing(stored * 2.0 - 1000, made)
    low, high = windowed.min(), windowed.max()
    np.testing.assert_allclose(found, (windowed - low) / (high - low) * 255, atol=1e-3)
    inverted = dicom(stored, **attributes, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(decode_picture(inverted, form)[0], 255 - found, atol=1e-4)
    # A range that is set counts before the file's own window.
    stated = PictureFormat((HEIGHT, WIDTH), 1, dtype="float32", value_range=(-1000.0, 5000.0))
    expected = stored.clip(0, 3000) * 2.0 / 6000 * 255
    np.testing.assert_allclose(decode_picture(data, stated)[0], expected, atol=1e-3)


def test_windows_of_files_and_the_range_of_16_bits_share_nothing_that_is_kept(
    tmp_path: Path,
) -> None:
    for number in range(8):
        pixels = np.random.default_rng(number).integers(400, 1700, (HEIGHT, WIDTH)).astype(np.int16)
        data = dicom(pixels, WindowCenter=1000, WindowWidth=1000)
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.dcm", data)
    whole: Any = {"value_range": [0.0, 65535.0]}
    own, scaled, again = (
        opened(tmp_path / "set", tmp_path / "cache", **options) for options in ({}, whole, {})
    )
    alone = opened(tmp_path / "set", tmp_path / "other", **whole)
    assert own.images is not None and scaled.images is not None and alone.images is not None
    assert not scaled.from_cache and again.from_cache
    np.testing.assert_array_equal(scaled.images, alone.images)
    assert own.images.mean() > 100 and scaled.images.mean() < 10
    # Of what other caches go by as well, and where the pictures become 8 bits.
    assert own.identity() != scaled.identity()
    forms = [replace(one.format, dtype="uint8") for one in (own, scaled)]
    assert own.identity(forms[0]) != own.identity(forms[1])


def test_pictures_of_one_patient_stay_together(tmp_path: Path) -> None:
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 900, (HEIGHT, WIDTH)).astype(np.int16)
        window = {"WindowCenter": 450, "WindowWidth": 901}
        data = dicom(pixels, **window, PatientID=f"patient {number // 4}")
        write(tmp_path / "set" / "ab"[number // 2 % 2] / f"{number:02}.dcm", data)
    data = data_of(tmp_path / "set")
    form, groups = data.pictures.format, data.pictures.groups
    assert form.dtype == "float32" and form.value_range is None  # the files have windows
    assert groups is not None and len(set(groups)) == 6
    assert not any("patient" in group for group in groups)
    for group in set(groups):
        mine = [i for i, one in enumerate(groups) if one == group]
        assert len(mine) == 4 and len(set(data.split.parts[mine])) == 1


def test_dicom_without_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    data = bytes(128) + b"DICM" + bytes(99)
    with pytest.raises(NotReadHere, match=r"needs the package pydicom .make install EXTRAS=dicom"):
        read_header(io.BytesIO(data))
    for label in "ab":
        write(tmp_path / "set" / label / "0.dcm", data)
    with pytest.raises(ConfigError, match="EXTRAS=dicom"):
        opened(tmp_path / "set", tmp_path / "cache")


def test_compression_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(page: tifffile.TiffPage) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(NotReadHere, match=r"package imagecodecs .make install EXTRAS=tiff"):
        decode_picture(tiff(values(9)), of_bands(1))


def test_what_a_package_reads_is_taken_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.tif", tiff(values(number)))
    squeezed = tiff(values(6), compression="zlib")
    write(tmp_path / "set" / "a" / "6.tif", squeezed)
    decompress = tifffile.TiffPage.asarray

    def missing(page: tifffile.TiffPage) -> Any:
        if page.compression != 1:
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")
        return decompress(page)

    def store(on_bad_image: str = "skip") -> Any:
        return opened(tmp_path / "set", tmp_path / "cache", on_bad_image=on_bad_image)

    with monkeypatch.context() as patch:
        patch.setattr(tifffile.TiffPage, "asarray", missing)
        assert len(store()) == 6
        again = store()
        assert len(again) == 6 and again.from_cache, "nothing has changed"
        with pytest.raises(ConfigError, match="imagecodecs"):
            store("error")
    assert len(store("error")) == 7


def test_compressed_dicom_without_its_package_is_named() -> None:
    pydicom = pytest.importorskip("pydicom")
    syntax = pydicom.uid.JPEGLSLossless
    if pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip("packages for JPEG-LS are installed")
    made = pydicom.dcmread(io.BytesIO(dicom(np.zeros((HEIGHT, WIDTH), np.int16))))
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = pydicom.encaps.encapsulate([bytes(64)])
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    with pytest.raises(NotReadHere, match=r"JPEG-LS Lossless.* needs .*pyjpegls"):
        read_header(io.BytesIO(stream.getvalue()))
