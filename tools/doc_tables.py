"""Render the generated parts of the documentation.

Each public function renders results/NAME.json, where NAME is the name of the function, as Markdown.
"""

from __future__ import annotations

import datetime
import re
import statistics
from typing import Any

# The present wording of names that earlier versions of the benchmarks recorded in results/. Keyed
# by the whole recorded string. A name that is missing here is shown as it is.
_WORDING = {
    # staged
    "ResNet50, 96 px, random weights, 200 random images, batch 32: 10 epochs of the head, 10 with "
    "conv5_block3": "ResNet50, 96 px, random weights, 200 random images: head for 10 epochs, then "
    "`conv5_block3` for 10",
    "MiniLM (6 layers), 500 film reviews, sequence_length 64, batch 32: 10 epochs of the head, 3 "
    "with the top two layers": "MiniLM (6 layers), 500 film reviews, 64 tokens: head for 10 "
    "epochs, then the top two layers for 3",
    "MobileNet 0.75, 160 px, ImageNet weights, tf_flowers, batch 32: 10 epochs of the head, 10 "
    "with the top block": "MobileNet 0.75, 160 px, ImageNet weights, tf_flowers: head for 10 "
    "epochs, then the top block for 10",
    "VGG16, 96 px, random weights, 200 random images, batch 32: 20 epochs of the head": "VGG16, "
    "96 px, random weights, 200 random images: head for 20 epochs",
    "the same with each of 8 learning rates: so many times the seconds of the script / one sweep "
    "with its report": "Same VGG16 head, sweep over 8 learning rates: 8 script runs vs. one "
    "`--sweep`, report included",
    "VGG16, 96 px, random weights, 200 random images, batch 32: 10 epochs of the head, 10 with "
    "block5": "VGG16, 96 px, random weights, 200 random images: head for 10 epochs, then `block5` "
    "for 10",
    "resnet50": "ResNet50",
    "vgg_top": "VGG16 with `block5`",
    # mobilenet_flowers
    "random weights, all trained": "random weights, all layers trained",
    "head on the frozen backbone": "head only, frozen backbone",
    # views
    "views: 1": "1 cached view",
    "views: 4": "4 cached views",
    "views: 16": "16 cached views",
    "drawn anew in every epoch": "new augmentation every epoch",
    # kills, by the recorded log line up to its details
    "(it had said nothing)": "(none yet)",
    "head  frozen blocks": "stage `head`: features cached",
    "top  frozen blocks": "stage `top`: features cached",
    "top  epoch 1/3": "stage `top`: epoch 1/3",
    "top  ran all its epochs": "stage `top`: finished",
    "export  writing the SavedModel and asking it in a fresh process": "export: writing and "
    "verifying the SavedModel",
    "export  writing and verifying the SavedModel": "export: writing and verifying the SavedModel",
    "predict": "run finished",
    # fuzz
    "texts in CSV": "texts, CSV",
    "texts in TSV": "texts, TSV",
    "texts in JSON lines": "texts, JSON Lines",
    "several labels in JSON lines": "multi-label texts, JSON Lines",
    "numbers in JSON lines": "regression targets, JSON Lines",
    "images in CSV": "image table, CSV",
    "images": "image files",
    # planted
    "the same in train and test": "exact duplicates across train and test",
    "nearly the same in train and test": "near-duplicates across train and test",
    "cut off or empty": "truncated or empty",
    "nearly the same across splits": "near-duplicates across splits",
    "likely wrong labels": "likely label errors",
    # scaling
    "8 GPUs of one machine, 200 GB/s between them": "8 GPUs in one machine, 200 GB/s interconnect",
    "32 machines with such a GPU each, 25 Gbit/s between them": "32 machines with one such GPU "
    "each, 25 Gbit/s network",
    # tpu_programs
    "before": "feature cache",
}


def _worded(name: str) -> str:
    return _WORDING.get(name, name)


def mobilenet_flowers(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/mobilenet_flowers.py`."""
    rows = [
        "| MobileNet 0.75, 160 px | test accuracy (mean of 3 seeds) | range | epochs |",
        "|---|---|---|---|",
    ]
    for variant in results["variants"]:
        low, high = variant["test_accuracy_range"]
        rows.append(
            f"| {_worded(variant['name'])} | {variant['test_accuracy_mean']:.3f} "
            f"| {low:.3f} to {high:.3f} | {' + '.join(map(str, variant['runs'][0]['epochs']))} |"
        )
    return "\n".join([*rows, "", f"{results['data']}. {_provenance(results)}"])


def quickstart(results: dict[str, Any]) -> str:
    """Return the sentence of `benchmarks/quickstart.py`."""
    low, high = results["test_accuracy_range"]
    return (
        f"Test accuracy **{results['test_accuracy_mean']:.3f}** (mean of {len(results['runs'])} "
        f"seeds, range {low:.3f} to {high:.3f}) in "
        f"**{results['total_seconds_median']:.0f} seconds** (median), from reading the data to the "
        f"verified SavedModel. {_provenance(results)}"
    )


def staged(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/staged.py`."""
    rows = [
        "| model, data and stages (batch size 32) | plain Keras | sft_keras | speed-up | range "
        "| final validation loss, Keras / sft_keras |",
        "|---|---|---|---|---|---|",
    ]
    ideals, pairs = [], set()
    for name, case in results["cases"].items():
        above, below = case["seconds_median"].values()
        low, high = case["ratio_range"]
        pairs.add(len(case["ratios"]))
        if name.startswith("ideal"):
            model = _worded(name.removeprefix("ideal_"))
            ideals.append(f"{case['ratio_median']:.2f} ({model})")
            continue
        losses = list(case["last_epoch"].values())[-1]["val_loss"].values()
        times = case["ratio"].partition(" x ")[0] + " x " if " x " in case["ratio"] else ""
        rows.append(
            f"| {_worded(case['what'])} | {times}{above:.0f} s | {below:.0f} s "
            f"| **{case['ratio_median']:.1f} x** | {low:.1f} to {high:.1f} "
            f"| {' / '.join(f'{loss:.4f}' for loss in losses)} |"
        )
    measured = (
        f"Medians of {' or '.join(map(str, sorted(pairs)))} alternating pairs of runs, timed from "
        "after the imports to the trained model: opening the data, building, and every epoch with "
        "its validation."
    )
    least = (
        "The lower bound of a staged run is one pass over the frozen blocks plus the training "
        "steps, timed separately on graphs traced beforehand; a whole run, with opening the data, "
        f"building and tracing, takes this many times the bound: {', '.join(ideals)}."
    )
    return "\n".join([*rows, "", f"{measured} {least} {_provenance(results)}"])


def disk_memory(results: dict[str, Any]) -> str:
    """Return the sentence of `benchmarks/disk_memory.py`."""
    return (
        f"With the cached features of {results['examples']:,} examples on disk "
        f"({results['bytes_on_disk'] / 2**30:.1f} GB), a run needs at most "
        f"{results['bytes_above'] / 2**20:,.0f} MB of memory on top of the model. "
        f"{_provenance(results)}"
    )


def text_lengths(results: dict[str, Any]) -> str:
    """Return the sentence of `benchmarks/text_lengths.py`."""
    ratios = " and ".join(
        f"{row['ratio_median']:.1f} (`sequence_length` {row['sequence_length']}, range "
        f"{row['ratio_range'][0]:.1f} to {row['ratio_range'][1]:.1f})"
        for row in results["lengths"]
    )
    tokens = results["lengths"][-1]["mean_tokens"]
    return (
        f"An epoch of MiniLM (6 layers, all trained) on {results['texts']} film reviews of "
        f"{tokens:.0f} tokens on average: padding every batch to `sequence_length` takes {ratios} "
        f"times as long as bucketing by length. {_provenance(results)}"
    )


def views(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/views.py`."""
    rows = [
        "| augmentation | test accuracy | range | seconds |",
        "|---|---|---|---|",
    ]
    for variant in results["variants"]:
        score = variant["scores"]["test"]
        rows.append(
            f"| {_worded(variant['name'])} | {score['mean']:.3f} | {score['low']:.3f} to "
            f"{score['high']:.3f} | {statistics.median(variant['seconds']):.0f} |"
        )
    return "\n".join(
        [
            *rows,
            "",
            f"MobileNet 0.75 on tf_flowers, head and top blocks; test accuracy is the mean of "
            f"{results['seeds']} seeds, seconds are the median. "
            f"{_provenance(results)}",
        ]
    )


def texts(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/texts.py`."""
    names = {
        "staged": "sft_keras, staged",
        "all layers": "sft_keras, all layers at once",
        "trainer": "Hugging Face Trainer, all layers",
    }
    cases = {
        "reviews": "film reviews ({train:,} training sentences), accuracy",
        "entities": "WNUT-17 NER ({train:,} training sentences), entity F1",
    }
    rows = [
        "| data and metric | method | test (mean) | range | seeds | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, what in cases.items():
        for side, method in names.items():
            result = results.get(name, {}).get("sides", {}).get(side)
            if result is None:
                continue
            low, high = result["test_range"]
            seconds = result["seconds_median"]
            rows.append(
                f"| {what.format(**results[name]['sizes'])} | {method} | {result['test_mean']:.3f} "
                f"| {low:.3f} to {high:.3f} | {len(result['runs'])} "
                f"| {'' if seconds is None else round(seconds)} |"
            )
    timed = (
        "MiniLM (6 layers), at most 64 tokens, batch size 32. Seconds are the median of the runs "
        "that had the machine to themselves."
    )
    return "\n".join([*rows, "", f"{timed} {_provenance(results)}"])


def text_tasks(results: dict[str, Any]) -> str:
    """Return the list of `benchmarks/text_tasks.py`, an item per part that was run."""
    parts = {"questions": _questions, "masked_tokens": _masked_tokens}
    items = [f"- {render(results[name])}" for name, render in parts.items() if name in results]
    return "\n".join([*items, "", _provenance(results)])


def _questions(result: dict[str, Any]) -> str:
    runs = list(result["runs"].values())
    tested = [run["sizes"]["test"] for run in runs]
    exact, f1 = result["means"]["exact_match"], result["means"]["f1"]
    low, high = (pick(run["f1"]["value"] for run in runs) for pick in (min, max))
    return (
        f"Question answering on the English part of XQuAD: exact match {exact:.3f}, F1 {f1:.3f} "
        f"({low:.3f} to {high:.3f}). Means of {len(runs)} runs, each tested on a different tenth "
        f"of the articles ({min(tested)} to {max(tested)} questions); the first was trained on "
        f"{runs[0]['sizes']['train']:,} questions. This is a very small training set and a small "
        "model."
    )


def _masked_tokens(result: dict[str, Any]) -> str:
    stages = ", ".join(
        f"{loss:.2f} after stage `{name}`" for name, loss in result["validation"].items()
    )
    return (
        f"Masked language modelling on {result['sizes']['train']:,} film reviews: validation loss "
        f"{result['before']:.2f} before training, {stages}; test loss {result['test']:.2f}."
    )


def _provenance(results: dict[str, Any]) -> str:
    environment = results["environment"]
    packages = environment["packages"]
    return (
        f"Measured by `{results['command']}` on {_day(results['date'])}: "
        f"{environment['cpu_cores']} CPU cores, TensorFlow {packages['tensorflow']}, Keras "
        f"{packages['keras']}."
    )


def _day(date: str) -> str:
    day = datetime.date.fromisoformat(date)
    return f"{day.day} {day:%B %Y}"


def kills(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/kills.py`."""
    rows = [
        "| run | killed after | last log message | identical weights | identical metrics |",
        "|---|---|---|---|---|",
    ]
    for kill in results["kills"]:
        line = re.split("  loss|[:;]", kill["last_line_before"])[0]
        rows.append(
            f"| {kill['run']} | {kill['killed_after_seconds']:.1f} s | {_worded(line)} "
            f"| {_yes(kill['same_weights'])} | {_yes(kill['same_figures'])} |"
        )
    unbroken = " and ".join(
        f"{seconds:.0f} s ({name})" for name, seconds in results["unbroken_seconds"].items()
    )
    return "\n".join(
        [
            f"{results['survived']} of {len(results['kills'])} killed runs resumed to an identical "
            f"result. An uninterrupted run takes {unbroken}. {_provenance(results)}",
            "",
            *rows,
        ]
    )


def fuzz(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/fuzz.py`."""
    rows = ["| reader | inputs | rejected | accepted | crashes |", "|---|---|---|---|---|"]
    rows += [
        f"| {_worded(name)} | {counts['cases']:,} | {counts['refused']:,} "
        f"| {counts['accepted']:,} | {counts['crashes']} |"
        for name, counts in results["readers"].items()
    ]
    return "\n".join([*rows, "", _provenance(results)])


def planted(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/planted.py`."""
    rows = [
        "| data | fault | planted | found | missed | others flagged |",
        "|---|---|---|---|---|---|",
    ]
    before = []
    for name, data in results["data"].items():
        rows += [
            f"| {name} | {_worded(row['fault'])} | {row['planted']} | {row['found']} "
            f"| {row['missed']} | {row['others_named']} |"
            for row in data["rows"]
        ]
        flagged = {k: v for k, v in data["without_planted_faults"].items() if v}
        listed = ", ".join(f"{count} {_worded(kind)}" for kind, count in flagged.items())
        before.append(
            f"Flagged in the {data['examples']:,} {name} before any fault was planted: "
            f"{listed or 'nothing'}."
        )
    return "\n".join([*rows, "", " ".join(before), "", _provenance(results)])


def scaling(results: dict[str, Any]) -> str:
    """Return the tables of `benchmarks/scaling.py`."""
    measured, size = results["measured"], results["batch_size"]
    rows = [
        "| what is computed | processes | examples per second | speed-up | step time "
        "| of which all-reduce |",
        "|---|---|---|---|---|---|",
    ]
    for name in measured["1"]:
        for count, timings in measured.items():
            single, timing = measured["1"][name], timings[name]
            if "step_seconds" in timing:
                per_second, ratio = size / timing["step_seconds"], single["step_seconds"]
                ratio /= timing["step_seconds"]
                step = f"{1000 * timing['step_seconds']:.0f} ms"
                exchange = f"{1000 * timing['exchange_seconds']:.1f} ms"
                if count == "1":
                    exchange = "none"
            else:
                per_second = results["examples_of_frozen_blocks"] / timing["seconds"]
                ratio, step, exchange = single["seconds"] / timing["seconds"], "", ""
            rows.append(
                f"| {name} | {count} | {per_second:.0f} | {ratio:.2f} | {step} | {exchange} |"
            )
    predicted = results["predicted"]
    machines = [machine["what"] for machine in predicted["machines"]]
    predictions = [
        f"| model and stage | gradients per step | {' | '.join(map(_worded, machines))} |",
        "|---|---|" + "---|" * len(machines),
    ]
    for stage in predicted["stages"]:
        ratios = " | ".join(f"{stage['speed_ups'][machine]:.1f} x" for machine in machines)
        predictions.append(
            f"| {stage['network']}, {stage['stage']} | {stage['bytes'] / 1e6:,.2f} MB | {ratios} |"
        )
    return "\n".join(
        [
            *rows,
            "",
            f"{results['what']}. Each process has a core to itself as long as there are enough. "
            f"{_provenance(results)}",
            "",
            f"Predicted speed-ups, not measured, for {predicted['examples_on_a_device']} examples "
            "per GPU. The cost model and the assumed hardware are in "
            "`benchmarks/scaling_cost.py`.",
            "",
            *predictions,
        ]
    )


def tpu_programs(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/tpu_programs.py`."""
    rows = [
        "| model and stage | program | shapes | peak memory | peak GFLOP |",
        "|---|---|---|---|---|",
    ]
    for network, programs in results["runs"].items():
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for program in programs:
            if program["kind"] not in ("frozen blocks", "training step"):
                continue  # the programs of validation and prediction need less
            groups.setdefault((program["stage"], program["kind"]), []).append(program)
        for (stage, kind), group in groups.items():
            memory, flops = (
                max(program[name] for program in group) for name in ("memory_bytes", "flops")
            )
            rows.append(
                f"| {network}, {_worded(stage)} | {kind} | {len(group)} | {memory / 1e6:,.0f} MB "
                f"| {flops / 1e9:,.1f} |"
            )
    versions = next(iter(results["runs"].values()))[0]["compiler"]
    return "\n".join(
        [
            *rows,
            "",
            f"{results['examples']} examples per core of a TPU "
            f"{results['topology'].split(':')[0]}, mixed_bfloat16; compiled with libtpu "
            f"{versions['libtpu']} on a machine without a TPU. "
            f"{_provenance(results)}",
        ]
    )


def serving_load(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/serving_load.py`."""
    served, bare = results["served"], results["bare"]
    good, alone = served["good_milliseconds"], served["one_by_one_milliseconds"]
    memory = [size / 2**20 for size in served["memory_bytes"].values()]
    answers = ", ".join(f"{count:,} x {status}" for status, count in served["answers"].items())
    rows = [
        ("server, concurrent requests", results["at_once"], served["good_per_second"], good),
        ("server, one request after another", 1, 1000 / alone["p50"], alone),
        ("SavedModel signature, called in a loop", 1, bare["per_second"], bare["milliseconds"]),
    ]
    return "\n".join(
        [
            "| what is called | concurrency | images per second | median latency | p99 latency |",
            "|---|---|---|---|---|",
            *(
                f"| {what} | {at_once} | {rate:.0f} | {took['p50']:.0f} ms | {took['p99']:.0f} ms |"
                for what, at_once, rate, took in rows
            ),
            "",
            f"{results['requests']:,} requests, one in {results['bad_every']} invalid. Responses: "
            f"{answers}; {len(served['faults'])} with a wrong status or prediction. Memory of the "
            f"server before, halfway and at the end: {memory[0]:.0f}, {memory[1]:.0f} and "
            f"{memory[2]:.0f} MB. Called in batches of {bare['batch']}, the signature processes "
            f"{bare['in_batches_per_second']:.0f} images per second. Client and server share the "
            f"machine. {_provenance(results)}",
        ]
    )


def exports(results: dict[str, Any]) -> str:
    """Return the table of `benchmarks/exports.py`."""
    rows = [
        "| run and format | size, MB | largest difference | same prediction | test score "
        "| batch of 1, ms | batch of 32, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    decided = []
    for name, run in results["runs"].items():
        examples = run["rows"][0]["examples"]
        rows.append(
            f"| **{name}** ({run['backbone']}, {examples:,} test examples), trained model | | | "
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
                verdict = "rejected" if before - after > results["largest_loss"] + 1e-9 else "kept"
                decided.append(f"from {before:.4f} to {after:.4f} ({name}; {verdict} by default)")
    integers = f"Validation score with int8: {', '.join(decided)}. "
    return "\n".join([*rows, "", f"{integers if decided else ''}{_provenance(results)}"])


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "**no**"
