"""The page: charts of the report's data in a template; no asset is loaded from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainer.report.charts import Change, Column, Line, before_after, column_chart, line_chart, share_bars, sparkline
from trainer.report.data import Gain, PolicyMean, ReportData

METRICS_FIRST = ("loss/train", "loss/grad_norm", "loss/entropy", "loss/clip_fraction", "offpolicy/ess",
                 "offpolicy/mismatch_mean", "data/advantage_std", "data/answer_tokens_mean")  # fmt: skip
"""Shown before the others: what goes wrong first."""

DROP_CLASSES = ("drop1", "drop2", "drop3", "drop4")

LINEAGE_SQL = """SELECT step, policy_version, rollout_id, reward, criterion, criterion_score,
       episode_id, step_index, trace_id, span_id
FROM lineage
WHERE run_id = '{run_id}' AND step = 1
ORDER BY reward DESC;"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """Base against tuned at one temperature."""

    label: str
    gain: Gain


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A diagnostic over the updates."""

    name: str
    first: float
    last: float
    low: float
    high: float
    curve: Markup


def render_page(data: ReportData) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=PackageLoader("trainer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, signed=_signed, percent=_percent)
    legend = _drop_legend(data)
    return environment.get_template("page.html.j2").render(
        data=data,
        headlines=_headlines(data.gains),
        reward_curve=line_chart(_reward_lines(data)),
        aspects=[(label, before_after(changes)) for label, changes in _aspects(data.gains) if changes],
        gains=[gain for gain in data.gains if gain.step_index is None],
        turns=[(label, column_chart(columns)) for label, columns in _turns(data.gains) if columns],
        turn_gains=[gain for gain in data.gains if gain.step_index is not None],
        drops=share_bars(
            [(f"step {item.step}", {"trained on": item.num_trained, **dict(item.dropped)}) for item in data.steps],
            legend,
        ),
        drop_legend=legend,
        metrics=_metrics(data),
        configuration=_configuration(data),
        lineage_sql=LINEAGE_SQL.format(run_id=data.run.run_id),
        temperature_label=temperature_label,
    )


def temperature_label(temperature: float | None) -> str:
    """How a temperature is named on the page."""
    if temperature is None:
        return "as recorded"
    return "greedy" if temperature == 0 else f"T = {temperature:g}"


def _headlines(gains: Sequence[Gain]) -> list[Headline]:
    return [
        Headline(label=temperature_label(gain.temperature), gain=gain)
        for gain in gains
        if gain.aspect == "reward" and gain.step_index is None
    ]


def _reward_lines(data: ReportData) -> list[Line]:
    # The answers of a step come from the policy of the step before: both curves are over policy versions.
    sampled = tuple((float(item.step - 1), item.reward_mean) for item in data.steps)
    lines = [Line(name="training points", css_class="train", points=sampled)]
    for temperature in sorted(
        {item.temperature for item in data.watched if item.temperature is not None}, reverse=True
    ):
        points = [(float(item.policy_version or 0), item.reward_mean) for item in _watched(data, temperature)]
        css_class = "tuned" if temperature > 0 else "greedy"
        lines.append(
            Line(name=f"validation, {temperature_label(temperature)}", css_class=css_class, points=tuple(points))
        )
    return lines


def _watched(data: ReportData, temperature: float) -> list[PolicyMean]:
    newest = {item.policy_version or 0: item for item in data.watched if item.temperature == temperature}
    return [newest[version] for version in sorted(newest)]


def _aspects(gains: Sequence[Gain]) -> list[tuple[str, list[Change]]]:
    temperatures = dict.fromkeys(gain.temperature for gain in gains)
    return [
        (
            temperature_label(temperature),
            [
                Change(
                    name=gain.aspect,
                    before=gain.base,
                    after=gain.tuned,
                    low=None if gain.low is None else gain.base + gain.low,
                    high=None if gain.high is None else gain.base + gain.high,
                )
                for gain in gains
                if gain.temperature == temperature and gain.step_index is None
                if gain.base is not None and gain.tuned is not None
            ],
        )
        for temperature in temperatures
    ]


def _turns(gains: Sequence[Gain]) -> list[tuple[str, list[Column]]]:
    temperatures = dict.fromkeys(gain.temperature for gain in gains)
    return [
        (
            temperature_label(temperature),
            [
                Column(label=f"{gain.step_index}", values=(("base", gain.base), ("tuned", gain.tuned)))
                for gain in gains
                if gain.temperature == temperature and gain.step_index is not None
            ],
        )
        for temperature in temperatures
    ]


def _drop_legend(data: ReportData) -> dict[str, str]:
    reasons = Counter(reason for item in data.steps for reason, _ in item.dropped)
    classes = {reason: DROP_CLASSES[index % len(DROP_CLASSES)] for index, reason in enumerate(sorted(reasons))}
    return {"trained on": "kept", **classes}


def _metrics(data: ReportData) -> list[Metric]:
    names = dict.fromkeys(name for item in data.steps for name, _ in item.metrics)
    ordered = [name for name in METRICS_FIRST if name in names]
    ordered += [name for name in names if name not in METRICS_FIRST]
    return [metric for name in ordered if (metric := _metric(data, name)) is not None]


def _metric(data: ReportData, name: str) -> Metric | None:
    values = [value for item in data.steps for key, value in item.metrics if key == name]
    if not values:
        return None
    return Metric(
        name=name, first=values[0], last=values[-1], low=min(values), high=max(values), curve=sparkline(values)
    )


def _configuration(data: ReportData) -> list[tuple[str, list[tuple[str, str]]]]:
    sections = data.run.config.model_dump(mode="json")
    return [
        (section, [(key, _setting(value)) for key, value in values.items() if value is not None])
        for section, values in sections.items()
    ]


def _setting(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items())
    return ", ".join(map(str, value)) or "all" if isinstance(value, list) else str(value)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if abs(value) >= 1000 or (value and abs(value) < 0.001) else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"
