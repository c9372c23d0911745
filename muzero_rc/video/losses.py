"""What of a source is not in the output, or is not as it was: one line each."""

from __future__ import annotations

from collections.abc import Sequence

from muzero_rc.video.mux import MOST_OPUS_CHANNELS, MuxPlan, opus_kbps
from muzero_rc.video.picture import Picture, plain
from muzero_rc.video.pixel_formats import subsampling_of
from muzero_rc.video.probe import VideoInfo
from muzero_rc.video.tags import written_tags
from muzero_rc.video.tracks import Track

__all__ = ["left_at_edges", "losses"]

_VP9_MATRICES = frozenset({
    None, "bt709", "bt470bg", "smpte170m", "smpte240m", "bt2020nc", "bt2020_ncl", "gbr", "rgb",
})  # fmt: skip
_DISPOSITIONS = {
    "webm": frozenset({"default", "forced"}),
    "mp4": frozenset({"default", "forced", "comment", "hearing_impaired", "visual_impaired"}),
}


def losses(info: VideoInfo, plan: MuxPlan) -> list[str]:
    """Sentences without a full stop, each on one thing that is left out or changed."""
    return [*_of_picture(info, plan.picture), *_of_tracks(info, plan), *_of_texts(plan)]


def left_at_edges(info: VideoInfo, size: tuple[int, int]) -> list[str]:
    """What of pictures that are not scaled the encoder's even sides leave out, likewise.

    Args:
      info: the pictures.
      size: coded width and height, pixels.
    """
    odd = info.width % 2, info.height % 2
    if size != (info.width - odd[0], info.height - odd[1]):
        return []
    edges = [edge for edge, left in zip(("column", "row"), odd, strict=True) if left]
    return [
        f"the last {edge} of pixels is left out: sides become even, {size[0]}x{size[1]}"
        for edge in edges
    ]


def _of_picture(info: VideoInfo, picture: Picture | None) -> list[str]:
    picture = picture or plain(info)
    shown = picture.info
    lines = []
    if shown.alpha:
        lines.append("transparency is left out: what lies under it is seen")
    if info.bit_depth > picture.bit_depth:
        lines.append(f"{info.bit_depth}-bit video becomes {picture.bit_depth}-bit")
    lines += picture.notes
    if info.dynamic:
        lines.append(f"{' and '.join(info.dynamic)}: VP9 has no place for metadata that changes")
    lines += [f"{what} left out: no output has a place for that" for what in info.left]
    info = shown
    subsampling = subsampling_of(info.pix_fmt)
    if shown.color_range == "pc" and picture.out_range != "pc" and not shown.is_rgb:
        lines.append("full range becomes limited range, as all video of 8 bits")
    if info.is_rgb:
        name = "XYZ" if info.pix_fmt.startswith("xyz") else "RGB"
        lines.append(f"{name} becomes YUV 4:2:0")
    elif subsampling is not None:
        lines.append(f"chroma of {':'.join(subsampling)} becomes 4:2:0")
    if info.color_space not in _VP9_MATRICES and not info.is_rgb:
        lines.append(
            f"VP9 cannot name the matrix {info.color_space}: players may show wrong colours; "
            "convert it first: ffmpeg -i IN -vf zscale=matrix=709 OUT"
        )
    if picture.deinterlace:
        lines.append("interlaced video is deinterlaced")
    if info.varying is not None:
        mean, rate = info.varying
        lines.append(
            f"frames come at a varying rate, {float(mean):.4g} a second in the mean, and are "
            f"encoded at {float(rate):.4g}, the densest stretch; others are shown again"
        )
    if info.lost_slots:
        lines.append(f"{info.lost_slots} frames closer to the one before than that are dropped")
    return lines


def _of_tracks(info: VideoInfo, plan: MuxPlan) -> list[str]:
    container, kept, lines = plan.container, plan.kept(info), []
    for track in info.tracks:
        if track.index == info.stream_index:
            continue
        if track.kind == "audio" and plan.audio == "none":
            continue  # asked for
        if track.chapters and info.chapters:
            continue  # chapters are told of by themselves
        if track not in kept:
            lines.append(f"{track.name} is left out: {_why(track, plan)}")
        elif (
            track.kind == "subtitle"
            and track.codec in ("ass", "ssa")
            and not container.text >= {track.codec}
        ):
            lines.append(f"{track.name} becomes {container.text_codec}: its styles are left out")
    if plan.audio_kbps is not None and (why := _no_opus_made(kept, plan)):
        lines.append(f"--audio-bitrate {plan.audio_kbps}k is left out: {why}")
    channels = {sound.index: sound.channels for sound in info.audio}
    for track in kept:
        if track.kind != "audio" or container.copies_audio(track, plan.audio):
            continue
        count = channels.get(track.index, 2)
        lines.append(f"{track.name} becomes Opus of {opus_kbps(count, plan.audio_kbps)} kbit/s")
        if count > MOST_OPUS_CHANNELS:
            lines.append(
                f"{track.name}: of {count} channels {MOST_OPUS_CHANNELS} are kept, Opus has no more"
            )
    takes = _DISPOSITIONS.get(container.muxer)
    if takes is not None:
        for track in kept:
            gone = [name for name in track.dispositions if name not in takes]
            if gone:
                lines.append(f"{track.name} is no longer marked as {', '.join(gone)}")
    if not container.tracks and (plan.picture.info if plan.picture else info).hdr is not None:
        lines.append(
            f"mastering display and light levels are left out: {container.name} has no "
            "place for them"
        )
    if not container.tracks and (tags := _tags(info)):
        lines.append(f"{tags} left out: {container.name} holds the video alone")
    if not container.tracks and info.chapters:
        lines.append(f"chapters are left out: {container.name} holds the video alone")
    return lines


def _no_opus_made(kept: Sequence[Track], plan: MuxPlan) -> str:
    """Why no audio becomes Opus; empty if some does."""
    sounds = [track for track in kept if track.kind == "audio"]
    if not all(plan.container.copies_audio(track, plan.audio) for track in sounds):
        return ""
    if not sounds:
        return "the output has no audio"
    if all(track.codec == "opus" for track in sounds):
        return "all audio is Opus and is copied"
    return "all audio is copied; --audio opus makes Opus of it"


def _tags(info: VideoInfo) -> str:
    """The tags of a file and of its video that somebody wrote; empty if there are none."""
    names = sorted(written_tags(info.path))
    video = info.video_track
    names += [
        f"{what} of the video"
        for what, text in (("title", video.title), ("language", video.language))
        if text
    ]
    if not names:
        return ""
    one = len(names) == 1
    return f"{'the tag' if one else 'tags'} {', '.join(names)} {'is' if one else 'are'}"


def _why(track: Track, plan: MuxPlan) -> str:
    container = plan.container
    if not container.tracks:
        return f"{container.name} holds the video alone"
    if track.cover and container.keeps(track):
        return "it cannot be read"
    if track.picture and not track.cover:
        return "pictures that do not move are not encoded"
    if track.kind == "video" and not track.cover:
        return "one video is encoded"
    # Other files have no codec: fonts have a name for some types, font/ttf is not among them.
    if track.codec == "unknown" and track.kind != "attachment":
        return "ffmpeg does not know its codec"
    others = "; an output that ends in .mkv keeps it" if container.muxer != "matroska" else ""
    return f"{container.name} does not take it{others if track.kind != 'data' else ''}"


def _of_texts(plan: MuxPlan) -> list[str]:
    lines = []
    for text in plan.texts:
        if text.drawings:
            lines.append(f"{text.track.name}: drawings are left out, {text.drawings} of them")
        if text.empty:
            lines.append(f"{text.track.name}: cues without text are left out, {text.empty} of them")
        if not text.cues:
            lines.append(f"{text.track.name} has no other cues and is left out")
    return lines
