"""`plot()` draws what was measured, and leaves matplotlib as it found it."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tests.records import made, trainings

from gradreach.display.figure import DASHES
from gradreach.errors import MissingExtraError
from gradreach.records import History


def curves(axes):
    """Return the drawn curves by label, without the marks at the edges."""
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    return {line.get_label(): line.get_xydata() for line in lines if len(line.get_xydata()) > 2}


def marks(axes):
    return [line for line in axes.lines if line.get_linestyle() == "None"]


def test_flow_draws_profile_contributions_and_states_of_each_layer():
    flow = made.flow(made.layer("rnn.l0"), made.layer("rnn.l1", lag_profile=0.9 ** np.arange(5.0)))

    figure = flow.plot()

    assert len(figure.axes) == 6
    profile, terms, states = figure.axes[:3]
    ((_, drawn),) = curves(profile).items()
    assert_allclose(drawn[:, 1], flow.layers["rnn.l0"].lag_profile)
    assert_array_equal(drawn[:, 0], np.arange(5))
    by_name = curves(terms)
    assert set(by_name) == {"weight_ih_l0", "weight_hh_l0"}
    assert_array_equal(by_name["weight_hh_l0"][:, 1], [np.nan, 1, 2, 3, 4])  # 0 has no logarithm
    ((_, drawn),) = curves(states).items()
    assert_array_equal(np.isnan(drawn[:, 1]), [False, True, True, True, False])
    assert [axes.get_yscale() for axes in figure.axes] == ["log"] * 6


def test_reach_is_marked_where_it_is():
    flow = made.flow(made.layer(lag_profile=0.1 ** np.arange(5.0)))

    axes = flow.plot().axes[0]

    (line,) = [line for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert line.get_xdata()[0] == flow.layers["rnn"].reach() == 3
    assert [text.get_text() for text in axes.texts] == ["1 %", "reach 3"]


def test_zero_nan_and_infinity_are_marked_each_in_its_way():
    flow = made.flow()  # norms 1e-300, 0, NaN, ∞, 1

    states = flow.plot().axes[2]

    found = {
        (float(line.get_xdata()[0]), line.get_marker(), line.get_markerfacecolor() == "none")
        for line in marks(states)
    }
    assert found == {(1.0, "v", False), (2.0, "^", True), (3.0, "^", False)}


def test_every_axis_says_what_it_shows():
    figures = [made.flow().plot(), trainings.training().plot(), made.layer().plot()]

    for figure in figures:
        for axes in figure.axes:
            assert axes.get_ylabel()
            assert axes.get_xlabel() or axes.get_label() == "<colorbar>"
            assert axes.yaxis.label.get_fontsize() == 8
    assert figures[0].get_size_inches()[0] == 7.2


def test_history_draws_loss_norms_rate_and_reach():
    history = trainings.training(100)

    loss, norms, rate, heat, reach = history.plot().axes[:5]

    assert_allclose(next(iter(curves(loss).values())), np.c_[history["step"], history["loss"]])
    assert_allclose(curves(norms)["before clipping"][:, 1], history["gradient_norm"])
    assert_allclose(curves(norms)["after clipping"][:, 1], history["clipped_norm"])
    assert_allclose(next(iter(curves(rate).values()))[:, 1], 1e-3)
    assert_allclose(reach.lines[0].get_xydata(), [[0, 7], [50, 8]])
    assert_allclose(heat.collections[0].get_array()[0], np.log10(0.5) * np.arange(19, -1, -1))


def test_heat_map_tells_zero_and_faults_from_steps_that_were_not_there():
    history = trainings.broken()  # its last sample has four steps: 1, NaN, ∞, 0

    heat = next(axes for axes in history.plot().axes if axes.get_title(loc="left") == "rnn.l0")

    sizes, zeros, faults = (each.get_array() for each in heat.collections)
    assert sizes.shape == (3, 20)
    assert np.ma.getmaskarray(sizes)[2].tolist() == [True] * 16 + [False, True, True, True]
    assert np.argwhere(~np.ma.getmaskarray(zeros)).tolist() == [[2, 19]]
    assert np.argwhere(~np.ma.getmaskarray(faults)).tolist() == [[2, 17], [2, 18]]


def test_broken_training_leaves_a_gap_and_a_mark():
    loss = trainings.broken(at=60).plot().axes[0]

    drawn = next(iter(curves(loss).values()))
    assert np.isnan(drawn[60:, 1]).all()
    assert np.isfinite(drawn[:60, 1]).all()
    assert_array_equal(marks(loss)[0].get_xdata(), np.arange(60, 100))


def test_curves_are_told_apart_without_colour():
    assert len({str(dash) for dash in DASHES[:6]}) == 6


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_figure_can_be_saved(kind):
    buffer = io.BytesIO()

    made.layer().plot().savefig(buffer, format=kind)

    assert buffer.tell() > 3_000


def test_notebook_is_given_a_picture_without_pyplot():
    picture = made.flow().plot()._repr_png_()

    assert picture.startswith(b"\x89PNG")


def test_plots_leave_settings_and_backend_alone():
    program = (
        "import sys, matplotlib; before = dict(matplotlib.rcParams.copy())\n"
        "from tests.records import made, trainings\n"
        "made.flow().plot(); trainings.training().plot()._repr_png_()\n"
        "print(dict(matplotlib.rcParams.copy()) == before, 'matplotlib.pyplot' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["True", "False"]


def test_importing_a_record_does_not_import_matplotlib():
    program = "import sys, gradreach.records, gradreach.display; print('matplotlib' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    "draw",
    [lambda: made.flow().plot(), lambda: trainings.training().plot(), lambda: made.layer().plot()],
)
def test_without_matplotlib_the_error_names_the_extra(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises((MissingExtraError, ModuleNotFoundError)) as caught:
        draw()

    assert isinstance(caught.value, MissingExtraError)
    assert "pip install 'gradreach[plot]'" in str(caught.value)


def test_names_that_are_not_there_are_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"must be one that was sampled \(rnn.l0\); got 'gru'"):
        trainings.training().plot(layer="gru")
    with pytest.raises(KeyError, match="no layer 'gru' was measured; there is rnn.l0"):
        made.flow().plot(layers=["gru"])
    with pytest.raises(ValueError, match="draws 1 to 6 layers; got 0"):
        made.flow().plot(layers=[])
    with pytest.raises(ValueError, match="there is nothing to draw"):
        History(rows={}).plot()


def test_figure_of_many_layers_asks_for_a_choice():
    flow = made.flow(*(made.layer(f"rnn.l{n}") for n in range(7)))

    with pytest.raises(ValueError, match=r"got 7: name some of them with layers=\[…\]"):
        flow.plot()
    assert len(flow.plot(layers=["rnn.l6", "rnn.l0"]).axes) == 6


def test_records_show_themselves_in_a_notebook_with_a_picture():
    for record in (made.flow(), made.layer(), trainings.training()):
        assert record._repr_html_().count("<svg") >= 1
    assert "&lt;b&gt;" in made.layer("<b>.l0")._repr_html_()
