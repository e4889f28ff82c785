"""One module's calls on one time axis: names, steps, and ragged rows closed up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradreach.flow.sources.links import Link
from gradreach.flow.track import Segment, Track
from gradreach.kernels.tape import Replay
from gradreach.kernels.time_axis import TimeAxis


def track_of(*lengths, **fields):
    segments = [
        Segment(Replay([], [], True), TimeAxis(max(rows), torch.tensor(rows)), None, None, ())
        for rows in lengths
    ]
    given = {"name": "rnn", "kind": "gru", "source": "fused", "links": [], "layers": 2,
             "directions": 2} | fields  # fmt: skip
    return Track(segments=segments, **given)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4))
def test_rows_of_all_calls_are_joined_without_gaps(lengths):
    track = track_of(*map(list, lengths))
    parts, counted = [], torch.zeros(2, dtype=torch.int64)
    for segment in track.segments:
        steps = torch.arange(segment.axis.steps)[:, None] + counted
        parts.append(torch.where(segment.axis.valid, steps, -1)[..., None].expand(-1, -1, 3))
        counted = counted + segment.axis.lengths

    joined = track.joined(parts)

    assert joined.shape == (track.steps, 2, 3)
    assert torch.equal(track.lengths(), counted)
    for row, length in enumerate(counted.tolist()):
        assert joined[:length, row, 2].tolist() == list(range(length))
        assert (joined[length:, row] == -1).all()


def test_layers_are_named_as_torch_names_their_weights():
    fused, cells = track_of([2]), track_of([2], source="cells")

    assert [fused.layer_name(*place) for place in ((0, 0), (1, 1))] == ["rnn.l0", "rnn.l1_reverse"]
    assert cells.layer_name(0, 0) == "rnn"


@pytest.mark.parametrize(("source", "links"), [("fused", "links"), ("cells", "cell_links")])
def test_links_are_told_by_the_step_they_lead_to(source, links):
    ties = [Link.SAME, Link.DETACHED, Link.TRANSFORMED]
    calls = [[4, 4]] * 4 if source == "fused" else [[4, 4]]

    track = track_of(*calls, source=source, **{links: ties})

    size = 4 if source == "fused" else 1
    assert track.steps_after(Link.DETACHED) == (2 * size,)
    assert track.steps_after(Link.TRANSFORMED) == (3 * size,)
    assert not track.connected
    assert track_of(*calls, source=source, **{links: ties[:2]}).connected
