"""Reads the Markdown of README.md and docs/: blocks of code, commands, links and anchors."""

import dataclasses
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"\bpython3? (?:-m pse_jax ([a-z][a-z-]*)|(train|eval)\.py\b)")
FENCE = re.compile(r" *(`{3,}) *(\S*)[^`]*$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^)]*\))?)\)")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code, fenced or indented, and the HTML comments that stand right before it."""

    page: str
    line: int  # the first of its text, from 1
    language: str
    text: str
    comments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README.md and every page of docs/, relative to the repository."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return ["README.md", *(str(f.relative_to(ROOT)) for f in found if "_build" not in f.parts)]


def read(page: str) -> str:
    return (ROOT / page).read_text()


def split(page: str, text: str) -> tuple[list[Block], list[str]]:
    """The blocks of code of a page, and its lines with those of the blocks empty."""
    lines, prose, blocks = text.splitlines(), [], []
    comments, at = (), 0
    while at < len(lines):
        line, start = lines[at], at
        if fence := FENCE.match(line):
            rest = range(at + 1, len(lines))
            end = next(i for i in rest if lines[i].strip().startswith(fence[1]))
            inside, at = textwrap.dedent("\n".join(lines[at + 1 : end])), end + 1
            blocks.append(Block(page, start + 2, fence[2], inside, comments))
        elif line.startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            inside = [line[4:] for line in lines[start:at]]
            blocks.append(Block(page, start + 1, "", "\n".join(inside), comments))
        else:
            comment = re.fullmatch(r"<!-- (.*) -->", line.strip())
            if line.strip():
                comments = (*comments, comment[1]) if comment else ()
            prose.append(line)
            at += 1
            continue
        prose += [""] * (at - start)
        comments = ()
    return blocks, prose


def blocks(page: str) -> list[Block]:
    return split(page, read(page))[0]


def commands(text: str) -> Iterator[tuple[str, list[str], bool]]:
    """Verb and arguments of every command of this package, and whether it is shown in full."""
    for line in text.replace("\\\n", " ").splitlines():
        matches = list(COMMAND.finditer(line))
        ends = [*(match.start() for match in matches[1:]), len(line)]
        for match, end in zip(matches, ends, strict=False):
            rest = line[match.end() : end].partition("`")[0]
            rest = re.sub(r"\[(--[^\]]*)\]", r"\1", rest)  # [--optional]
            words = _words(re.sub(r"(?<=\s)[12](?=>)", "", rest))
            whole = "..." not in words
            yield match[1] or match[2], [word for word in words if word != "..."], whole


def _words(text: str) -> list[str]:
    """The words of a command, up to a comment, a redirection or the next command."""
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        found: list[str] = []
        for word in lexer:
            if set(word) <= set("();<>|&"):
                break
            found.append(word)
        return found
    except ValueError:  # inside the quotes of another command
        return _words(text[: max(text.rfind("'"), text.rfind('"'))])


def inline_code(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Line and text of every code span of the prose; a span may go over two lines."""
    text = "\n".join(lines)
    for match in re.finditer(r"`([^`]+)`", text):
        yield text.count("\n", 0, match.start()) + 1, match[1].replace("\n", " ")


def links(page: str) -> Iterator[tuple[int, str]]:
    """Line and target of every link and picture; those in HTML comments are none."""
    text = "\n".join(split(page, read(page))[1])
    for pattern in (r"<!--.*?-->", r"`[^`]+`"):
        text = re.sub(pattern, lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL)
    for match in LINK.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1]


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: dict[str, int] = {}
    slugs = set()
    for line in split(page, read(page))[1]:
        if heading := re.match(r"#{1,6} +(.*)", line):
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
            slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            slugs.add(f"{slug}-{count}" if count else slug)
    return slugs
