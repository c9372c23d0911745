"""Files that were cut off between two packets, and whole ones that look alike."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from muzero_rc import video
from muzero_rc.errors import InputError
from muzero_rc.video.promised import check_promised_end
from tests.app.test_whole_file import ffmpeg

_RATE = "testsrc2=s=64x48:r=25:d=3"


def _ends(data: bytes) -> list[int]:
    """Where packets end."""
    ends, ivf = [], data.startswith(b"DKIF")
    at = 32 if ivf else 13
    while at < len(data):
        if ivf:
            at += 12 + struct.unpack_from("<I", data, at)[0]
        else:
            at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        ends.append(at)
    return ends


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole files: of a constant rate, of a varying one, with longer sound, live."""
    folder = tmp_path_factory.mktemp("promised")
    picture, sound = ("-f", "lavfi", "-i", _RATE), ("-f", "lavfi", "-i", "sine=d=6")
    gap = ("-vf", "select='lt(n,9)+gt(n,60)'", "-fps_mode", "vfr")
    vp9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2")
    ffmpeg(*picture, *vp9, folder / "whole.ivf")
    ffmpeg(*picture, *gap, *vp9, folder / "gap.ivf")
    ffmpeg(*picture, *x264, folder / "whole.flv")
    ffmpeg(*picture, *gap, *x264, folder / "gap.flv")
    ffmpeg(*picture, *sound, *x264, "-c:a", "aac", folder / "sound.flv")
    index = ("-g", "5", "-flvflags", "add_keyframe_index")
    ffmpeg(*picture, *sound, "-shortest", *x264, *index, "-c:a", "aac", folder / "index.flv")
    ffmpeg(*picture, *x264, "-flvflags", "no_duration_filesize", folder / "live.flv")
    data = bytearray((folder / "whole.ivf").read_bytes())
    for name, promised in (("none", 0), ("live", 0xFFFFFFFF)):
        data[24:28] = promised.to_bytes(4, "little")
        (folder / f"{name}.ivf").write_bytes(data)
    return folder


@pytest.mark.parametrize("name", ["whole.ivf", "gap.ivf", "whole.flv", "gap.flv", "sound.flv"])
def test_a_file_that_ends_before_its_header_says_is_refused(
    folder: Path, tmp_path: Path, name: str
) -> None:
    check_promised_end(folder / name)
    data = (folder / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: _ends(data)[len(_ends(data)) // 2]])
    with pytest.raises(InputError, match="is cut off: its header promises"):
        video.open_decoder(path).close()
    # The first frames are there.
    video.open_decoder(path, max_frames=2).close()


@pytest.mark.parametrize("name", ["none.ivf", "live.ivf", "live.flv"])
def test_a_file_without_a_promise_passes(folder: Path, tmp_path: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: _ends(data)[40]])
    check_promised_end(path)


@pytest.mark.parametrize("name", ["whole.flv", "sound.flv", "index.flv"])
def test_an_flv_file_that_ends_within_a_tag_is_refused(
    folder: Path, tmp_path: Path, name: str
) -> None:
    data = (folder / name).read_bytes().replace(b"filesize", b"filesizf")
    for key in (b"filepositions", b"lasttimestamp"):
        data = data.replace(key, key.upper())
    end, path = _ends(data)[-1], tmp_path / name
    last = _ends(data)[-2]
    assert end == len(data)
    # Within what the last tag holds, within its head; what is after a tag may lack, or be odd.
    for cut in (end - 5, end - 6, last + 11, last + 5, last + 1):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match="is cut off: it ends within a tag"):
            check_promised_end(path)
    for whole in (data, data[:-4], data[:last], data + b"\0\0\0", data + bytes(40)):
        path.write_bytes(whole)
        check_promised_end(path)


def test_an_index_of_key_frames_tells_a_cut_in_the_last_second(
    folder: Path, tmp_path: Path
) -> None:
    data = (folder / "index.flv").read_bytes().replace(b"filesize", b"filesizf")
    ends, path = _ends(data), tmp_path / "a.flv"
    late = next(end for end in ends if int.from_bytes(data[end + 4 : end + 7], "big") > 2500)
    for hidden, told in (
        (b"lasttimestamp", "promises a key frame at byte"),
        (b"filepositions", r"promises a tag at 2\.\d\d s, the last one is at 2\.\d\d"),
    ):
        one = data.replace(hidden, hidden.upper())
        path.write_bytes(one)
        check_promised_end(path)
        path.write_bytes(one[:late])
        with pytest.raises(InputError, match=told):
            check_promised_end(path)
    path.write_bytes(one[:late].replace(b"lasttimestamp", b"LASTTIMESTAMP"))
    check_promised_end(path)


def test_lengths_in_time_alone_are_rounded(folder: Path, tmp_path: Path) -> None:
    data = (folder / "whole.flv").read_bytes().replace(b"filesize", b"filesizf")
    ends = _ends(data)
    path = tmp_path / "a.flv"
    path.write_bytes(data[: ends[-5]])
    check_promised_end(path)
    path.write_bytes(data[: ends[len(ends) // 2]])
    with pytest.raises(InputError, match=r"promises 3\.\d\d s, it ends at 1\.\d\d"):
        check_promised_end(path)
