"""Tables of the documents, each from a file of the same name under results/."""

from __future__ import annotations

import datetime
import re
import statistics
from typing import Any


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
            seconds = found["seconds_median"]
            rows.append(
                f"| {what.format(**results[name]['sizes'])}; {words} | {found['test_mean']:.3f} "
                f"| {low:.3f} to {high:.3f} | {len(found['runs'])} "
                f"| {'' if seconds is None else round(seconds)} |"
            )
    timed = "Seconds are the median of the seeds that ran with nothing else beside them."
    return "\n".join([*rows, "", f"{timed} {_made(results)}"])


def text_tasks(results: dict[str, Any]) -> str:
    """Returns the sentences of `benchmarks/text_tasks.py`, on what it was run on."""
    parts = {"questions": _questions, "masked_tokens": _masked_tokens}
    said = [words(results[name]) for name, words in parts.items() if name in results]
    return " ".join([*said, _made(results)])


def _questions(found: dict[str, Any]) -> str:
    runs = list(found["runs"].values())
    tested = [run["sizes"]["test"] for run in runs]
    exact, f1 = found["means"]["exact_match"], found["means"]["f1"]
    low, high = (pick(run["f1"]["value"] for run in runs) for pick in (min, max))
    return (
        f"Questions (XQuAD's English ones, {runs[0]['sizes']['train']:,} to train on, another "
        f"tenth of the articles to test in each of {len(runs)} runs, {min(tested)} to "
        f"{max(tested)} questions): exact match {exact:.3f}, F1 {f1:.3f} ({low:.3f} to "
        f"{high:.3f}). It is a tiny set, and this a small model."
    )


def _masked_tokens(found: dict[str, Any]) -> str:
    stages = ", ".join(f"{loss:.2f} after {name}" for name, loss in found["validation"].items())
    return (
        f"Masked language modelling on {found['sizes']['train']:,} film reviews: the loss on "
        f"held-out ones, from {found['before']:.2f} before, is {stages}; on the test split "
        f"{found['test']:.2f}."
    )


def _made(results: dict[str, Any]) -> str:
    environment = results["environment"]
    packages = environment["packages"]
    return (
        f"Made by `{results['command']}` on {_day(results['date'])}, on "
        f"{environment['cpu_cores']} CPU cores with TensorFlow {packages['tensorflow']} and Keras "
        f"{packages['keras']}."
    )


def _day(date: str) -> str:
    day = datetime.date.fromisoformat(date)
    return f"{day.day} {day:%B %Y}"


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


def scaling(results: dict[str, Any]) -> str:
    """Returns the tables of `benchmarks/scaling.py`."""
    measured, size = results["measured"], results["batch_size"]
    rows = [
        "| processes, each with one core of its own as far as there are | examples a second | x "
        "| a step | of it adding up gradients |",
        "|---|---|---|---|---|",
    ]
    for name in measured["1"]:
        for count, found in measured.items():
            one, own = measured["1"][name], found[name]
            if "step_seconds" in own:
                per_second, ratio = size / own["step_seconds"], one["step_seconds"]
                ratio /= own["step_seconds"]
                step = f"{1000 * own['step_seconds']:.0f} ms"
                exchange = f"{1000 * own['exchange_seconds']:.1f} ms"
                if count == "1":
                    exchange = "none"
            else:
                per_second = results["examples_of_frozen_blocks"] / own["seconds"]
                ratio, step, exchange = one["seconds"] / own["seconds"], "", ""
            rows.append(
                f"| {name}: {count} | {per_second:.0f} | {ratio:.2f} | {step} | {exchange} |"
            )
    predicted = results["predicted"]
    machines = [each["what"] for each in predicted["machines"]]
    guesses = [
        f"| network and stage | gradients a step | {' | '.join(machines)} |",
        "|---|---|" + "---|" * len(machines),
    ]
    for each in predicted["stages"]:
        ratios = " | ".join(f"{each['speed_ups'][what]:.1f} x" for what in machines)
        guesses.append(
            f"| {each['network']}, {each['stage']} | {each['bytes'] / 1e6:,.2f} MB | {ratios} |"
        )
    return "\n".join(
        [
            *rows,
            "",
            f"{results['what']}. {_made(results)}",
            "",
            f"Predicted, and not run, with {predicted['examples_on_a_device']} examples on each "
            "GPU (the model of the cost and the machines that it assumes: "
            "`benchmarks/scaling_cost.py`):",
            "",
            *guesses,
        ]
    )


def tpu_programs(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/tpu_programs.py`."""
    rows = [
        "| network and stage | program | shapes | memory, the most | GFLOP, the most |",
        "|---|---|---|---|---|",
    ]
    for network, programs in results["runs"].items():
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for each in programs:
            if each["kind"] not in ("frozen blocks", "training step"):
                continue  # which need less
            groups.setdefault((each["stage"], each["kind"]), []).append(each)
        for (stage, kind), group in groups.items():
            memory, flops = (
                max(each[name] for each in group) for name in ("memory_bytes", "flops")
            )
            rows.append(
                f"| {network}, {stage} | {kind} | {len(group)} | {memory / 1e6:,.0f} MB "
                f"| {flops / 1e9:,.1f} |"
            )
    versions = next(iter(results["runs"].values()))[0]["compiler"]
    return "\n".join(
        [
            *rows,
            "",
            f"{results['examples']} examples on a core of a TPU "
            f"{results['topology'].split(':')[0]}, mixed_bfloat16; compiled by libtpu "
            f"{versions['libtpu']}, with no TPU there. "
            f"{_made(results)}",
        ]
    )


def serving_load(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/serving_load.py`."""
    served, bare = results["served"], results["bare"]
    good, alone = served["good_milliseconds"], served["one_by_one_milliseconds"]
    memory = [size / 2**20 for size in served["memory_bytes"].values()]
    answers = ", ".join(f"{count:,} x {status}" for status, count in served["answers"].items())
    rows = [
        ("the server, requests at once", results["at_once"], served["good_per_second"], good),
        ("the server, one after the other", 1, 1000 / alone["p50"], alone),
        ("the bare signature in a loop", 1, bare["per_second"], bare["milliseconds"]),
    ]
    return "\n".join(
        [
            "| what is asked | at once | images a second | median | 99th percentile |",
            "|---|---|---|---|---|",
            *(
                f"| {what} | {at_once} | {rate:.0f} | {took['p50']:.0f} ms | {took['p99']:.0f} ms |"
                for what, at_once, rate, took in rows
            ),
            "",
            f"{results['requests']:,} requests, one in {results['bad_every']} bad: {answers}; "
            f"{len(served['faults'])} with another status or answer than they should have. "
            f"Memory of the server before, in the middle and at the end: {memory[0]:.0f}, "
            f"{memory[1]:.0f} and {memory[2]:.0f} MB. The bare signature, asked for batches of "
            f"{bare['batch']}, answers {bare['in_batches_per_second']:.0f} images a second. The "
            f"sender shares the machine with the server. {_made(results)}",
        ]
    )


def exports(results: dict[str, Any]) -> str:
    """Returns the table of `benchmarks/exports.py`."""
    rows = [
        "| run and format | MB | largest difference | same class | test score | 1, ms | 32, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    decided = []
    for name, run in results["runs"].items():
        examples = run["rows"][0]["examples"]
        rows.append(
            f"| **{name}**, {run['backbone']}, {examples:,} test examples; trained | | | "
            f"| {run['score']} {run['trained']:.4f} | | |"
        )
        for row in run["rows"]:
            one, many = (row["milliseconds"][size] for size in ("1", "32"))
            rows.append(
                f"| `{row['format']}` | {row['bytes'] / 1e6:.1f} | {row['largest_difference']:.1e} "
                f"| {row['agreement']:.2%} | {row['score']:.4f} | {one:.1f} | {many:.0f} |"
            )
            if row["validation"]:
                before, after = row["validation"]["trained"], row["validation"]["exported"]
                verdict = "refused" if before - after > results["largest_loss"] + 1e-9 else "kept"
                decided.append(f"{before:.4f} to {after:.4f} ({name}; {verdict} by default)")
    integers = f"On validation, integers went from {' and from '.join(decided)}. "
    return "\n".join([*rows, "", f"{integers if decided else ''}{_made(results)}"])


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "**no**"
