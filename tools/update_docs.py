"""Makes the tables of README.md and docs/reliability.md from the files under results/.

    python tools/update_docs.py            rewrites the tables
    python tools/update_docs.py --check    exits with 1 if they differ from the files

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is that of its file.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def mobilenet_flowers(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/mobilenet_flowers.py`."""
    rows = [
        "| MobileNet 0.75, 160 px | test accuracy, mean of 3 seeds | range | epochs |",
        "|---|---|---|---|",
    ]
    for variant in results["variants"]:
        low, high = variant["test_accuracy_range"]
        rows.append(
            f"| {variant['name']} | {variant['test_accuracy_mean']:.3f} | {low:.3f} to {high:.3f} "
            f"| {' + '.join(map(str, variant['runs'][0]['epochs']))} |"
        )
    return "\n".join([*rows, "", f"{results['data']}. {_made(results)}"])


def quickstart(results: dict[str, Any]) -> str:
    """Returns the sentence of `benchmarks/quickstart.py`."""
    low, high = results["test_accuracy_range"]
    return (
        f"It reaches a test accuracy of {results['test_accuracy_mean']:.3f} (mean of "
        f"{len(results['runs'])} seeds, {low:.3f} to {high:.3f}) in "
        f"{results['total_seconds_median']:.0f} seconds. {_made(results)}"
    )


def staged(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/staged.py`."""
    rows = [
        "| what is trained | plain Keras | here | ratio | range | validation loss at the end |",
        "|---|---|---|---|---|---|",
    ]
    ideals = []
    for name, case in results["cases"].items():
        above, below = case["seconds_median"].values()
        low, high = case["ratio_range"]
        if name.startswith("ideal"):
            ideals.append(f"{case['ratio_median']:.2f} ({name.removeprefix('ideal_')})")
            continue
        losses = list(case["last_epoch"].values())[-1]["val_loss"].values()
        times = case["ratio"].partition(" x ")[0] + " x " if " x " in case["ratio"] else ""
        rows.append(
            f"| {case['what']} | {times}{above:.0f} s | {below:.0f} s | {case['ratio_median']:.1f} "
            f"| {low:.1f} to {high:.1f} | {' / '.join(f'{loss:.4f}' for loss in losses)} |"
        )
    least = (
        "What no staged run can do without is one pass over the frozen blocks and the steps of "
        "what trains, each timed alone as a graph that was traced before. The whole run, with "
        f"opening the data, building and tracing, takes so many times that: {', '.join(ideals)}."
    )
    return "\n".join([*rows, "", f"Medians of pairs in turn. {_made(results)} {least}"])


def disk_memory(results: dict[str, Any]) -> str:
    """Returns the sentence of `benchmarks/disk_memory.py`."""
    return (
        f"With what frozen blocks give for {results['examples']:,} examples on disk, "
        f"{results['bytes_on_disk'] / 2**30:.1f} GB, a run takes at the most "
        f"{results['bytes_above'] / 2**20:,.0f} MB of memory above the model. {_made(results)}"
    )


def text_lengths(results: dict[str, Any]) -> str:
    """Returns the sentence of `benchmarks/text_lengths.py`."""
    found = " and ".join(
        f"{each['ratio_median']:.1f} at {each['sequence_length']} tokens "
        f"({each['ratio_range'][0]:.1f} to {each['ratio_range'][1]:.1f})"
        for each in results["lengths"]
    )
    tokens = results["lengths"][-1]["mean_tokens"]
    return (
        f"Of {results['texts']} film reviews of {tokens:.0f} tokens on average, an epoch of MiniLM "
        "(6 layers, all trained) on batches padded to `sequence_length` takes so many times as "
        f"long as on batches of like length: {found}. {_made(results)}"
    )


def views(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/views.py`."""
    rows = [
        "| augmentation | test accuracy | range | seconds |",
        "|---|---|---|---|",
    ]
    for variant in results["variants"]:
        score = variant["scores"]["test"]
        rows.append(
            f"| {variant['name']} | {score['mean']:.3f} | {score['low']:.3f} to "
            f"{score['high']:.3f} | {statistics.median(variant['seconds']):.0f} |"
        )
    return "\n".join(
        [
            *rows,
            "",
            f"MobileNet 0.75 on tf_flowers, head and top blocks, {results['seeds']} seeds each. "
            f"{_made(results)}",
        ]
    )


def texts(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/texts.py`."""
    names = {
        "staged": "here, in stages",
        "all layers": "here, all layers at once",
        "trainer": "Hugging Face's Trainer, all layers",
    }
    cases = {
        "reviews": "film reviews, {train:,} sentences: accuracy",
        "entities": "WNUT-17, {train:,} sentences: F1 of entities",
    }
    rows = [
        "| MiniLM (6 layers), at most 64 tokens, batch 32 | test, mean | range | seeds | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, what in cases.items():
        for side, words in names.items():
            found = results.get(name, {}).get("sides", {}).get(side)
            if found is None:
                continue
            low, high = found["test_range"]
            rows.append(
                f"| {what.format(**results[name]['sizes'])}; {words} | {found['test_mean']:.3f} "
                f"| {low:.3f} to {high:.3f} | {len(found['runs'])} "
                f"| {found['seconds_median']:.0f} |"
            )
    return "\n".join([*rows, "", f"Seconds are the median of the seeds'. {_made(results)}"])


def _made(results: dict[str, Any]) -> str:
    environment = results["environment"]
    packages = environment["packages"]
    return (
        f"Made by `{results['command']}` on {environment['cpu_cores']} CPU cores with "
        f"TensorFlow {packages['tensorflow']} and Keras {packages['keras']}."
    )


def kills(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/kills.py`."""
    rows = [
        "| run | killed after | the last thing it had said | same weights | same figures |",
        "|---|---|---|---|---|",
    ]
    for kill in results["kills"]:
        said = re.split("  loss|[:;]", kill["last_line_before"])[0]
        rows.append(
            f"| {kill['run']} | {kill['killed_after_seconds']:.1f} s | {said} "
            f"| {_yes(kill['same_weights'])} | {_yes(kill['same_figures'])} |"
        )
    unbroken = " and ".join(
        f"{seconds:.0f} s ({name})" for name, seconds in results["unbroken_seconds"].items()
    )
    return "\n".join(
        [
            f"Survived: {results['survived']} of {len(results['kills'])}. An unbroken run takes "
            f"{unbroken}. {_made(results)}",
            "",
            *rows,
        ]
    )


def fuzz(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/fuzz.py`."""
    rows = ["| reader | inputs | refused | read | crashes |", "|---|---|---|---|---|"]
    rows += [
        f"| {name} | {each['cases']:,} | {each['refused']:,} | {each['accepted']:,} "
        f"| {each['crashes']} |"
        for name, each in results["readers"].items()
    ]
    return "\n".join([*rows, "", _made(results)])


def planted(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/planted.py`."""
    rows = [
        "| data | fault | planted | found | missed | others named |",
        "|---|---|---|---|---|---|",
    ]
    before = []
    for name, data in results["data"].items():
        rows += [
            f"| {name} | {row['fault']} | {row['planted']} | {row['found']} | {row['missed']} "
            f"| {row['others_named']} |"
            for row in data["rows"]
        ]
        there = {k: v for k, v in data["without_planted_faults"].items() if v}
        named = ", ".join(f"{kind}: {count}" for kind, count in there.items()) or "nothing"
        before.append(f"Named in the {data['examples']:,} {name} without planted faults: {named}.")
    return "\n".join([*rows, "", " ".join(before), "", _made(results)])


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "**no**"


PAGES = {
    "README.md": (
        *(mobilenet_flowers, quickstart, staged, disk_memory, text_lengths, texts, views),
    ),
    "docs/reliability.md": (kills, fuzz, planted),
}


def main() -> None:
    """Rewrites the pages, or compares them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 on a difference"
    )
    only_check = parser.parse_args().check
    for name, makers in PAGES.items():
        page = ROOT / name
        before = page.read_text(encoding="utf-8")
        after = _rewritten(name, before, makers)
        if only_check and after != before:
            sys.exit(f"{name} differs from results/; run tools/update_docs.py")
        page.write_text(after, encoding="utf-8")


def _rewritten(page: str, text: str, makers: Sequence[Callable[[dict[str, Any]], str]]) -> str:
    for make in makers:
        name = make.__name__
        file = ROOT / "results" / f"{name}.json"
        if not file.exists():
            continue  # its benchmark has not been run
        results = json.loads(file.read_text(encoding="utf-8"))
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"{page} must hold {start.strip()} and {end} once each.")
        above, rest = text.split(start)
        text = f"{above}{start}{make(results)}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    main()
