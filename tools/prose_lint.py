"""Find phrases that read as if translated, and say what to write instead.

    python tools/prose_lint.py [PATH...]

Reads docstrings, comments and string literals of Python files, Markdown, templates and notebooks.
Exit status 1 if there is one. A line that must keep a phrase ends with "prose: ok".
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = ("sft_keras", "recipes", "docs", "notebooks", "tools", "benchmarks", ".")
ENDINGS = (".py", ".md", ".j2", ".ipynb")
QUOTES = ("prose_lint.py", "doc_tables.py")
"""Files that quote the wording they replace."""
PHRASES = {
    r"what (?:\w+ ){1,4}(?:gave|gives)\b": "a noun: output, features, result",
    r"\b(?:is|are|was) told\b": "receives, is configured with",
    r"\bgo(?:es|ing)? on with\b": "resume, continue",
    r"\b(?:comes?|coming) along\b": "built-in",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bof no use\b": "not supported",
    r"\bso many times\b": "a number, a ratio",
    r"\btakes? up\b": "restore, occupy",
    r"\bfor want of\b": "without, because ... is missing",
    r"\bpictures?\b": "image",
    r"\bSee `[A-Z]\w*(?:\.\w+)?`\.?$": "a sentence of its own, or @override without one",
    r"\bwhat is said\b": "message, log line",
    r"\bhas not\.": "is not available",
    r"\bthat there is\b": "that exists",
    r"\b(?:one|one folder|a value|tokens|steps) an? (?:class|example|epoch|stage|split)\b": "per",
    r"\bbelieved\b": "calibrated, reliable",
    r"\bare its figures\b|\bfigures of\b": "metrics",
    r"\bleft alone\b(?! in)": "left unchanged",
    r"\bKnows what\b|\bknows nothing\b": "holds, depends on",
    r"\bcut off\b": "truncated",
    r"\bleaves? out\b|\bleft out\b": "drop, omit",
}
"""{phrase: what to write instead}."""
_PATTERN = re.compile("|".join(f"(?P<p{n}>{phrase})" for n, phrase in enumerate(PHRASES)))
_HINTS = list(PHRASES.values())
# Names and keys within prose, and the code of a template.
_CODE = re.compile(
    r"`[^`]*`|\w+(?:\.\w+)+|\"[\w/{}:-]+\"|'[\w/{}:-]+'|\{\{.*?\}\}|\{%.*?%\}"
    r"|--\w+(?:=\S+)?|[\w-]*picture=\S*|^ +\w+:"
)


def main(names: list[str]) -> int:
    """Print each phrase with its file and line; return the exit status."""
    files = [Path(name) for name in names] or list(_files())
    findings = [finding for path in files for finding in _findings(path)]
    print("\n".join(findings) or "No phrase of the list in any text.")
    return 1 if findings else 0


def _files() -> Iterator[Path]:
    for place in PLACES:
        folder = ROOT / place
        paths = folder.glob("*") if place == "." else folder.rglob("*")
        for path in sorted(paths):
            if path.suffix in ENDINGS and path.name not in QUOTES:
                yield path


def _findings(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for line, text in _texts(path):
        for match in _PATTERN.finditer(_CODE.sub("", text)):
            hint = _HINTS[int((match.lastgroup or "p0")[1:])]
            if "prose: ok" not in text:
                yield f"{name}:{line}: {match[0]!r}; better: {hint}"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of all that people read in a file."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(content.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        is_text = token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and " " in token.string  # else a key or a name
        )
        if is_text:
            yield from enumerate(token.string.splitlines(), token.start[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
