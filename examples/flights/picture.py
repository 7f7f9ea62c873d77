"""Draws the demo's one picture: what happened in the test months, and who saw it coming.

It is its own file because drawing needs matplotlib and taste, and nothing else in the demo needs either. The demo calls
`draw` once, with the probabilities it has just measured. It must never compute a prediction or smooth one: every cell,
curve and dot is a plain mean or count of its input.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from model import roc
from numpy.typing import NDArray
from pyarrow import parquet

INK, MUTED, WARM, COOL, PAPER = "#22262b", "#7d858e", "#c8442b", "#5b7c99", "#fbfaf7"
CALIBRATION_BINS = 20
DARKEST_SHARE = 0.75
DAY_HOURS = 24
FIRST_HOUR, LAST_HOUR = 5, 23
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = DAY_HOURS * HOUR_US
ASK_BEFORE_DEPARTURE_US = HOUR_US
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


class Answers:
    """The test flights with both models' probabilities, as arrays ready to be counted."""

    def __init__(
        self, asked: pa.Table, with_features: NDArray[np.float64], schedule_alone: NDArray[np.float64]
    ) -> None:
        leaves = asked["event_timestamp"].cast(pa.int64()).to_numpy() + ASK_BEFORE_DEPARTURE_US
        self.hour: NDArray[np.int64] = asked["hour"].to_numpy()
        # The schedule prints New York's clock, so the offset from UTC is in the data; no time zone table is needed.
        clock = self.hour * HOUR_US + asked["minute"].to_numpy() * MINUTE_US
        self.offset_us: NDArray[np.int64] = (clock - leaves + DAY_US // 2) % DAY_US - DAY_US // 2
        self.day: NDArray[np.int64] = (leaves + self.offset_us) // DAY_US
        self.origin: NDArray[np.object_] = asked["origin"].to_numpy()
        self.late: NDArray[np.bool_] = asked["late"].combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
        self.with_features = with_features
        self.schedule_alone = schedule_alone

    def worst_day(self) -> tuple[int, str]:
        """The day, and the airport on it, with the most late flights."""
        day = int(np.bincount(self.day[self.late]).argmax())
        names, counts = np.unique(self.origin[self.late & (self.day == day)], return_counts=True)
        return day, str(names[counts.argmax()])


def draw(answers: Answers, data_dir: str | Path, path: str | Path) -> Path:
    """Writes the picture as PNG to `path`."""
    # A bare Figure draws with Agg: no display, no global state left behind.
    with rc_context(STYLE):
        figure = Figure(figsize=(13.5, 10.5), dpi=130)
        grid = figure.add_gridspec(2, 1, height_ratios=[1.35, 1], hspace=0.24)
        figure.subplots_adjust(left=0.065, right=0.95, top=0.88, bottom=0.065)
        upper = grid[0].subgridspec(3, 1, hspace=0.34)
        lower = grid[1].subgridspec(1, 3, width_ratios=[1, 1, 1.55], wspace=0.24)
        _headline(figure, answers)
        strips = [figure.add_subplot(upper[row]) for row in range(3)]
        _strips(figure, strips, answers)
        _roc(figure.add_subplot(lower[0]), answers)
        _calibration(figure.add_subplot(lower[1]), answers)
        _worst_day(figure.add_subplot(lower[2]), answers, Path(data_dir))
        figure.savefig(path)
    return Path(path)


def _headline(figure: Figure, answers: Answers) -> None:
    first, last = _date(int(answers.day.min())), _date(int(answers.day.max()))
    figure.text(0.065, 0.957, "Will this flight arrive more than 15 minutes late?", fontsize=19, weight="bold")
    figure.text(
        0.065,
        0.945,
        f"{len(answers.late):,} flights out of New York, {first:%B} {first.day} to {last:%B} {last.day}, {last.year}, "
        "each asked about one hour before departure.\nA cell is all flights scheduled in that hour of that day.",
        fontsize=10,
        color=MUTED,
        va="top",
        linespacing=1.5,
    )


def _strips(figure: Figure, axes: list[Axes], answers: Answers) -> None:
    rows = (
        ("What happened: share of flights late", answers.late.astype(np.float64)),
        ("Seen an hour ahead, with features", answers.with_features),
        ("Seen an hour ahead, schedule alone", answers.schedule_alone),
    )
    image: AxesImage | None = None
    for axis, (title, values) in zip(axes, rows, strict=True):
        image = _strip(axis, answers, values)
        axis.set_title(title, loc="left", fontsize=10.5, weight="bold", pad=4)
        axis.tick_params(labelbottom=axis is axes[-1])
    if image is not None:
        bar = figure.add_axes((0.785, 0.915, 0.165, 0.011))
        figure.colorbar(image, cax=bar, orientation="horizontal", ticks=[0, 0.25, 0.5, 0.75])
        bar.set_xticklabels(["0 %", "25 %", "50 %", "75 %"])
        bar.tick_params(length=0, labelsize=8, pad=2)


def _strip(axis: Axes, answers: Answers, values: NDArray[np.float64]) -> AxesImage:
    first = int(answers.day.min())
    shape = (LAST_HOUR - FIRST_HOUR + 1, int(answers.day.max()) - first + 1)
    cell = (np.clip(answers.hour, FIRST_HOUR, LAST_HOUR) - FIRST_HOUR) * shape[1] + answers.day - first
    size = shape[0] * shape[1]
    count = np.bincount(cell, minlength=size)
    with np.errstate(invalid="ignore"):
        share = (np.bincount(cell, weights=values, minlength=size) / count).reshape(shape)
    image = axis.imshow(share, aspect="auto", cmap="magma_r", vmin=0, vmax=DARKEST_SHARE, interpolation="nearest")
    axis.set_yticks([hour - FIRST_HOUR for hour in (6, 12, 18)], ["6:00", "12:00", "18:00"])
    dates = [_date(first + offset) for offset in range(shape[1])]
    marks = [offset for offset, date in enumerate(dates) if date.day in (1, 15)]
    axis.set_xticks(marks, [f"{dates[offset]:%b} {dates[offset].day}" for offset in marks])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=2)
    return image


def _roc(axis: Axes, answers: Answers) -> None:
    axis.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (2, 3)))
    for values, colour, name, height in (
        (answers.with_features, WARM, "with features", 0.22),
        (answers.schedule_alone, COOL, "schedule alone", 0.06),
    ):
        false_rate, true_rate, area = roc(answers.late, values)
        axis.plot(false_rate, true_rate, color=colour, lw=2)
        words = f"{name}\nAUC {area:.3f}"
        axis.text(0.97, height, words, color=colour, fontsize=9.5, weight="bold", ha="right")
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="punctual flights flagged", ylabel="late flights found")
    axis.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set_title("Telling late from punctual", loc="left", fontsize=10.5, weight="bold")


def _calibration(axis: Axes, answers: Answers) -> None:
    axis.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (2, 3)))
    for values, colour in ((answers.schedule_alone, COOL), (answers.with_features, WARM)):
        groups = np.array_split(np.argsort(values, kind="stable"), CALIBRATION_BINS)
        said = [float(values[group].mean()) for group in groups]
        came = [float(answers.late[group].mean()) for group in groups]
        axis.plot(said, came, color=colour, lw=1.4, marker="o", ms=4, mec=PAPER, mew=0.6)
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability given", ylabel="share that came late")
    axis.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set_title("Meaning what it says", loc="left", fontsize=10.5, weight="bold")
    words = f"each dot: a {1 / CALIBRATION_BINS:.0%} slice of the flights"
    axis.text(0.97, 0.04, words, ha="right", color=MUTED, fontsize=8)


def _worst_day(axis: Axes, answers: Answers, data_dir: Path) -> None:
    day, origin = answers.worst_day()
    here = (answers.day == day) & (answers.origin == origin)
    hours, overdue = _overdue(data_dir, origin, day * DAY_US - int(answers.offset_us[here][0]))
    side = axis.twinx()
    axis.fill_between(hours, overdue, step="post", color=MUTED, alpha=0.28, lw=0)
    slots = np.unique(answers.hour[here])
    for values, colour, style in (
        (answers.schedule_alone, COOL, "-"),
        (answers.with_features, WARM, "-"),
        (answers.late.astype(np.float64), INK, "none"),
    ):
        means = [float(values[here & (answers.hour == slot)].mean()) for slot in slots]
        side.plot(slots + 0.5, means, color=colour, lw=2, ls=style, marker="o", ms=6 if style == "none" else 3.5)
    side.set(ylim=(0, 1.14))
    side.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set(xlim=(FIRST_HOUR, LAST_HOUR + 1), ylim=(0, max(float(overdue.max()), 1.0) * 1.25))
    axis.set_xticks([6, 9, 12, 15, 18, 21, 24], ["6:00", "9:00", "12:00", "15:00", "18:00", "21:00", "24:00"])
    axis.set_ylabel("flights overdue at the airport (grey)")
    side.tick_params(length=2)
    date = _date(day)
    axis.set_title(f"The worst day: {origin}, {date:%B} {date.day}", loc="left", fontsize=10.5, weight="bold")
    _key(axis)


def _key(axis: Axes) -> None:
    for place, colour, words in (
        (0.02, INK, "share late"),
        (0.22, WARM, "with features"),
        (0.47, COOL, "schedule alone"),
    ):
        axis.text(place, 0.965, f"● {words}", transform=axis.transAxes, color=colour, fontsize=8.5, va="center")


def _overdue(data_dir: Path, origin: str, midnight_us: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hours since that midnight, and how many flights were overdue from each on."""
    table = parquet.read_table(
        data_dir / "origin_traffic.parquet",
        columns=["event_timestamp", "origin_overdue_now"],
        filters=[("origin", "==", origin)],
    )
    hours = (table["event_timestamp"].cast(pa.int64()).to_numpy() - midnight_us) / HOUR_US
    chosen = (hours >= 0) & (hours < DAY_HOURS)
    order = np.argsort(hours[chosen], kind="stable")
    return hours[chosen][order], table["origin_overdue_now"].to_numpy()[chosen][order].astype(np.float64)


def _date(day: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(days=day)
