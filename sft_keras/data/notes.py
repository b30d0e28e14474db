"""What was dropped, truncated or excluded when the data was read, as sentences for people."""

from __future__ import annotations

from collections.abc import Mapping

from sft_keras.core.reporter import Reporter
from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared

_PLAIN_SPLITS = {"train": "training"}


def data_notes(info: DataInfo, prepared: Mapping[str, Prepared] | None = None) -> list[str]:
    """Return one sentence per way in which the data used differs from the data given.

    Args:
      info: Facts about the data. "dropped", "excluded" and "notes" of its facts are read.
      prepared: The splits as preprocessed, which also know the truncated texts; None before that.

    Example:
      >>> facts = {"dropped": {"empty": 2, "duplicate": 0}}
      >>> data_notes(DataInfo("csv:a", (), {"train": 6, "test": 2}, {}, {}, facts))
      ['Dropped 2 empty; 8 examples remain.']
    """
    notes = [
        _dropped(info),
        _excluded(info.facts.get("excluded", {})),
        *info.facts.get("notes", ()),
        None if prepared is None else truncation_note(prepared),
    ]
    return [note for note in notes if note]


def report_data(
    reporter: Reporter, info: DataInfo, prepared: Mapping[str, Prepared] | None = None
) -> None:
    """Log the summary of the data and its notes; see `data_notes`."""
    for line in data_lines(info, prepared):
        reporter.line(line)


def data_lines(info: DataInfo, prepared: Mapping[str, Prepared] | None = None) -> list[str]:
    """Return the log lines on the data: its summary, what was dropped, and further notes."""
    notes = data_notes(info, prepared)
    lines = [f"data  {info.summary()}"]
    if _dropped(info):
        first, *notes = notes
        lines.append(f"data  {first[0].lower()}{first[1:].removesuffix('.')}")
    return [*lines, *(f"note  {note}" for note in notes)]


def _dropped(info: DataInfo) -> str | None:
    dropped = {reason: count for reason, count in info.facts.get("dropped", {}).items() if count}
    if not dropped:
        return None
    # No sum: some reasons count examples, some files, and some the answers of a question.
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
    return f"Dropped {reasons}; {sum(info.sizes.values()):,} examples remain."


def _excluded(counts: Mapping[str, int]) -> str | None:
    """Return a sentence on the examples that `data.exclude` removed, by split."""
    counts = {split: count for split, count in counts.items() if count}
    if not counts:
        return None
    parts = [f"{count:,} {_PLAIN_SPLITS.get(split, split)}" for split, count in counts.items()]
    evaluated = [split for split in ("validation", "test") if split in counts]
    effect = ""
    if evaluated:
        effect = (
            f" The {' and '.join(evaluated)} score{'s' if len(evaluated) > 1 else ''} "
            f"{'are' if len(evaluated) > 1 else 'is'} measured on the rest: higher if difficult "
            "examples were excluded, and comparable only to runs that exclude the same ones."
        )
    return f"`data.exclude` removed {' and '.join(parts)} examples.{effect}"


def truncation_note(prepared: Mapping[str, Prepared]) -> str | None:
    """Return a sentence on the texts that are longer than the model reads, or None."""
    facts = {name: split.facts for name, split in prepared.items()}
    truncated = {split: values for split, values in facts.items() if values.get("cut_off")}
    if not truncated:
        return None
    parts = [
        f"{values['cut_off']:,} of {values['texts']:,} {_PLAIN_SPLITS.get(split, split)} "
        f"{'questions' if 'windows' in values else 'texts'} "
        f"({values['cut_off'] / values['texts']:.1%})"
        for split, values in truncated.items()
    ]
    first = next(iter(truncated.values()))
    limit = f"`task.sequence_length` ({first['sequence_length']} tokens)"
    if "windows" in first:
        limit = "`task.max_question_length`"
    return f"Truncated, because they are longer than {limit}: {', '.join(parts)}."
