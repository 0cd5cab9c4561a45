"""The frames of a run with an overlay as MP4 or GIF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from DeepIterRegLib.common.atomic_output import not_whole
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.results.report.images import to_grey, window_of
from DeepIterRegLib.results.roadmap.draw import burn_notice, over

_END_OF_GIF = b";"
# GIF counts in hundredths of a second, and browsers take 0 and 1 of them for 10.
SHORTEST_S, LONGEST_S = 0.02, 2.0  # a frame's time on screen


def pictures(run: Angiogram, overlays: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Each frame (row, column, 3) uint8 under its overlay (row, column, 4), with its number, time and the notice."""
    window, count = window_of(run), len(run.frames)
    for n, (frame, time_s, overlay) in enumerate(zip(run.frames, run.frame_times_s, overlays, strict=True), start=1):
        caption = f"{n}/{count}   {time_s - run.frame_times_s[0]:.2f} s"
        yield burn_notice(over(to_grey(frame, window), overlay), caption)


def frame_seconds(run: Angiogram) -> np.ndarray:
    """How long each frame (t,) stays: until the next; the last as long as the median."""
    steps = np.diff(run.frame_times_s)
    last = float(np.median(steps)) if steps.size else 1.0
    return np.clip([*steps, last], SHORTEST_S, LONGEST_S)


def write_gif(path: Path, run: Angiogram, overlays: Sequence[np.ndarray]) -> None:
    """The run with an overlay (row, column, RGBA) for each frame; frames keep their own times."""
    # Without dither, which draws noise on even grey and makes the file larger.
    first, *others = (Image.fromarray(p).quantize(256, dither=Image.Dither.NONE) for p in pictures(run, overlays))
    durations_ms = [round(1000 * s) for s in frame_seconds(run)]
    first.save(path, format="GIF", save_all=True, append_images=others, duration=durations_ms, loop=0)
    if not path.read_bytes().endswith(_END_OF_GIF):
        raise not_whole(path)


def write_mp4(path: Path, run: Angiogram, overlays: Sequence[np.ndarray]) -> None:
    """H.264 of the run with an overlay (row, column, RGBA) for each frame, at its median rate.

    An odd last row or column is shown twice.

    Raises
    ------
    InputError
        imageio-ffmpeg is not installed.
    OSError
        The film did not become whole: the disk is full, say.
    """
    try:
        from imageio_ffmpeg import count_frames_and_secs, write_frames
    except ImportError as missing:
        raise InputError(
            Message("An MP4 needs imageio-ffmpeg: pip install 'deepiterreg[video]'", give=(Remedy("to", "gif"),))
        ) from missing
    rows, columns = run.carm.rows, run.carm.columns
    pad = ((0, rows % 2), (0, columns % 2), (0, 0))
    size = (columns + columns % 2, rows + rows % 2)
    rate = 1 / float(np.median(frame_seconds(run)))
    # H.264 halves the resolution of colour, so its sides must be even. The writer would resize to a multiple of 16.
    writer = write_frames(
        str(path), size, fps=rate, codec="libx264", quality=6, macro_block_size=2, ffmpeg_log_level="quiet"
    )
    writer.send(None)
    try:
        for picture in pictures(run, overlays):
            writer.send(np.ascontiguousarray(np.pad(picture, pad, mode="edge")))
    except OSError as error:  # ffmpeg has ended; what it met is not told
        raise not_whole(path) from error
    finally:
        writer.close()
    # ffmpeg's end says nothing of a full disk, so the film is played.
    try:
        played = count_frames_and_secs(str(path))[0] or 0
    except (OSError, RuntimeError) as error:
        raise not_whole(path) from error
    if played < len(run.frames):
        raise not_whole(path)
