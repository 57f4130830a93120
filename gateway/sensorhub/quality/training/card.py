"""The model card in words, from what training wrote down."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


def card(facts: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        facts: what `train` returns.
    """
    held = facts["held_back"]
    lines = [
        f"# Model card: {facts['name']}",
        "",
        "Written by `sensorhub train`; the numbers are in `anomaly.json` as well.",
        "",
        "A 1-D convolutional network that says of a reading of a weather or air-quality node whether it is sound, true of this place",
        "alone (a local event: smoke of a chimney, a passing lorry), or which of seven faults it shows. It sees the last 32 steps and",
        "48 hours of the series as distances from neighbours, from the series' own past and from sibling channels, never raw values or",
        "places. int8, float inputs and outputs, one model for all channels and cadences. Scores add a residual term that knows no fault",
        "classes, and the rules; a local event counts against a fault.",
        "",
        f"- SHA-256 `{facts['sha256']}`, {facts['bytes']:,} bytes, TensorFlow {facts['tensorflow']}",
        (
            f"- judge `{facts['judge']}`; seed {facts['plan']['seed']}, {facts['plan']['rounds']} rounds, {facts['plan']['epochs']} epochs,"
            f" {facts['plan']['members']} networks of which it is the mean,"
            f" {facts['examples']:,} examples, {facts['seconds'] / 60:.0f} minutes"
        ),
        "",
        "## Data",
        "",
        "Clean readings; faults are put in by formulae. None of the data is in the model or the package.",
        "",
        *_sources(facts),
    ]
    unlearnt = [name for source in facts["sources"] for name in source["unlearnt"]]
    lines += [
        "",
        f"## Held back ({held['readings']:,} readings)",
        "",
        f"The last {100 * held['share']:.0f} % of the days of each source; where nodes were left unlearnt, those on all days.",
        f"Unlearnt: {', '.join(unlearnt) or 'none'}.",
        "",
        "Average precision at 2 % prevalence, mean over sources and channels.",
        "",
        "| fault | shipped int8 | float | residual alone |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {value:.3f} | {held['float'][name]:.3f} | {held['residual'][name]:.3f} |"
        for name, value in held["int8"].items()
    ]
    means = [sum(held[k].values()) / len(held[k]) for k in ("int8", "float", "residual")]
    lines.append("| **mean** | " + " | ".join(f"**{m:.3f}**" for m in means) + " |")
    lines += [
        "",
        f"Of {held['local']['readings']:,} readings of real local events (far above the median of the nodes) {held['local']['flagged']:.1%} are over",
        "the threshold of 0.1 alarms a sensor and day that the model sets itself; the gateway's is higher.",
    ]
    lines += ["", "By family:", "", "| family | int8 |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in held["families"].items()]
    if facts["leave_one_out"]:
        lines += [
            "",
            f"## A fault that training never saw ({facts['plan']['leave_out_epochs']} epochs each)",
            "",
            "| left out | network alone | network and residual | shipped |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {row['network']:.3f} | {row['network and residual']:.3f} | {row['trained with it']:.3f} |"
            for name, row in facts["leave_one_out"].items()
        ]
    lines += [
        "",
        "## Limits",
        "",
        "- It compares; a node without neighbours, or in its first hours, is called isolated and scored 0.4 to 0.6.",
        "- Its faults are formulae. Real faults look different; the residual term is kept for them.",
        "- It was trained on two networks in mid-latitude towns, and on those stretched, thinned and disturbed. Mountains, coasts and deserts",
        "  are outside of what it has seen.",
        "- A lone rise of particles or gases that looks like smoke or traffic is taken for that, also where it is a sensor that counts what is not",
        "  there: of the two mistakes the one that throws away true readings is held to be the worse.",
        "- Most neighbours failing at once in the same direction are believed, and the sound one is not.",
        "- Slow drifts are told late: what a neighbourhood differs by is learnt anew over ten days.",
        "",
    ]
    return "\n".join(lines)


def site_card(facts: Mapping[str, Any]) -> str:
    """The card of a model that was trained for a site, as Markdown.

    Args:
        facts: what `promotion.train_site` writes.
    """
    plan, gate = facts["plan"], facts["gate"]
    start = f"the model `{facts['start']}`" if facts["start"] else f"new weights, {plan['members']} networks"
    lines = [
        f"# Model card: {facts['name']}, for one site",
        "",
        "Written by `sensorhub train --site`; the numbers are in `anomaly.json` as well. What the network is and sees, and its limits, stand",
        "in the card of the packaged model (`sensorhub quality model`); it knows this site's nodes, and says nothing of others.",
        "",
        f"- SHA-256 `{facts['sha256']}`, {facts['bytes']:,} bytes; judge `{facts['judge']}`",
        f"- learnt on from {start}; seed {plan['seed']}, at most {plan['rounds']} rounds, {plan['epochs']} epochs",
        f"- {facts['examples']:,} examples; people judged {facts['people']:,} readings of the log; {facts['seconds'] / 60:.0f} minutes",
        f"- **{'promoted' if gate['promoted'] else 'refused'}**: {gate['why']}",
        "",
        "## Data",
        "",
        *_sources(facts),
        "",
        f"## Held back: the log from {_date(facts['held_back']['from'])} on",
        "",
        "Alarms on these days as they came; the rest with faults and local events put in, the mean of several times. Differences",
        "that may be chance are not named.",
        "",
        "| | in use | new | |",
        "|---|---|---|---|",
        *(f"| {m['name']} | {m['old']:.3f} | {m['new']:.3f} | {m['outcome']} |" for m in gate["measures"]),
        "",
    ]
    return "\n".join(lines)


def _sources(facts: Mapping[str, Any]) -> list[str]:
    """A table of what was learnt from, line by line."""
    lines = [
        "| source | licence | nodes | channels | every | from - to |",
        "|---|---|---|---|---|---|",
    ]
    for source in facts["sources"]:
        span = " - ".join(_date(source[end]) for end in ("from", "to"))
        lines.append(
            f"| {source['citation']} | {source['licence'] or 'not stated'} | {source['nodes']} | {', '.join(source['channels'])}"
            f" | {source['cadence_s'] / 60:g} min | {span} |"
        )
    return lines


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
