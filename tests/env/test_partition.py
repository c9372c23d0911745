"""A pilot's partitions: what they say, and what searching near them does."""

from __future__ import annotations

import math

import pytest

from muzero_rc.env._native import FrameDecision
from muzero_rc.env.baselines import AnchorPolicy
from muzero_rc.env.clip import Clip
from muzero_rc.env.first_pass import first_pass
from muzero_rc.env.flight import fly_pilot
from muzero_rc.env.pilot import Pilot, pilot_settings
from muzero_rc.env.rollout import rollout
from muzero_rc.env.session import EncoderSession
from muzero_rc.env.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.types import FrameResult

THREE = EncoderSettings(target_kbps=80, speed=3, effort="layered", passes=3)
SUPERBLOCKS = 3 * 3  # of 176x144
WHOLE = (0, 1, 3, 4)  # of those, the ones that no edge of the picture cuts


def _fly(
    clip: Clip, partitions: dict[int, bytes] | bytes = b"", near: tuple[int, int] = (3, 3)
) -> list[FrameResult]:
    """libvpx's proposals at speed 1, near one partition for all frames or one for each.

    Slower than a pilot: from speed 2 on libvpx also stays near the sizes of neighbours.
    """
    how = pilot_settings(THREE)
    with EncoderSession(clip, how, first_pass=first_pass(clip, THREE)) as session:
        while (info := session.next()) is not None:
            packed = partitions if isinstance(partitions, bytes) else partitions[info.coding_index]
            session._native.submit(
                FrameDecision(
                    info.proposal_qindex,
                    speed=1,
                    frozen_rate_account=True,
                    partition=packed,
                    coarser=near[0],
                    finer=near[1],
                )
            )
            session.result()
        session.finish()
        return [result for result in session.results if result.qindex >= 0]


def _depths(packed: bytes) -> list[list[int]]:
    """Depth of each 8x8 of each superblock, row by row: 0 in a 64x64, 3 in an 8x8."""
    bits = [byte >> place & 1 for byte in packed for place in range(8)]
    given = iter(bits)
    found = []
    for _ in range(SUPERBLOCKS):
        depth = [0] * 64
        if next(given):
            halves = [next(given) for _ in range(4)]
            quarters = [[next(given) if half else 0 for _ in range(4)] for half in halves]
            for place in range(64):
                row, col = divmod(place, 8)
                half = row // 4 * 2 + col // 4
                quarter = row // 2 % 2 * 2 + col // 2 % 2
                depth[place] = 1 + halves[half] + quarters[half][quarter]
        found.append(depth)
    left = list(given)
    assert len(left) < 8 and not any(left)
    return found


def test_only_a_pilots_frames_have_partitions(carphone: Clip) -> None:
    pilot = Pilot.of(fly_pilot(carphone, THREE, first_pass(carphone, THREE)))
    for frame in pilot.frames:
        assert bool(frame.partition) == (frame.qindex >= 0)
    depths = [_depths(frame.partition) for frame in pilot.coded.values()]
    assert {d for frame in depths for superblock in frame for d in superblock} == {0, 1, 2, 3}
    done = rollout(carphone, THREE, AnchorPolicy(), pilot=pilot)
    assert not any(result.partition for _, result in done.frames)


def test_near_any_size_nothing_is_left_out(carphone: Clip) -> None:
    free = _fly(carphone)
    near = _fly(carphone, {result.coding_index: result.partition for result in free})
    assert [(r.bits, r.sse, r.partition) for r in near] == [
        (r.bits, r.sse, r.partition) for r in free
    ]


@pytest.mark.parametrize(
    ("partition", "depth"),
    [(bytes(math.ceil(SUPERBLOCKS / 8)), 0), (b"\xff" * math.ceil(SUPERBLOCKS * 21 / 8), 3)],
)
def test_the_sizes_that_are_given_are_what_is_coded(
    carphone: Clip, partition: bytes, depth: int
) -> None:
    for levels in range(3):
        allowed = set(range(levels + 1)) if depth == 0 else set(range(3 - levels, 4))
        for result in _fly(carphone, partition, (levels, levels)):
            found = _depths(result.partition)
            assert {d for superblock in WHOLE for d in found[superblock]} <= allowed


def test_a_partition_of_another_frame_size_is_refused(carphone: Clip) -> None:
    for wrong in (b"\xff", bytes(9)):
        with pytest.raises(InputError, match="a partition is (shorter|longer) than its frame"):
            _fly(carphone, wrong)
