"""Which file of a Rust crate uses what of which other file, read from `use` and from paths in the code.

Enough of Rust for this: comments, strings and what is compiled for tests alone are left out, and names that a module
passes on are followed to where they come from. What macros of `macro_rules!` bring into scope is not seen.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

Names = tuple[str, ...]
"""A path from the crate's root."""

# Comments, raw strings, strings, characters (but not lifetimes).
SKIPPED = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\b[bc]?r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^'\\])'""",
    re.DOTALL,
)
TOKEN = re.compile(r"\w+|::|->|=>|\S")
TEST = ["#", "[", "cfg", "(", "test", ")", "]"]


class Use(NamedTuple):
    """What a `use` brings into a module, under a name; "*" for all that there is."""

    path: Names
    name: str
    passed_on: bool


class Module:
    def __init__(self, file: Path):
        self.file = file
        self.uses: list[Use] = []
        self.paths: list[Names] = []  # in the code
        self.words: set[str] = set()  # in the code, too
        self.defined: set[str] = set()


class Crate:
    """The modules of a folder `src`."""

    def __init__(self, src: Path):
        self.modules: dict[Names, Module] = {}
        files = sorted(src.rglob("*.rs"))
        for file in files:
            self.modules[name_of(file.relative_to(src))] = Module(file.relative_to(src))
        for file in files:
            read(self.modules, name_of(file.relative_to(src)), file)

    def used(self) -> Iterator[tuple[Path, Names]]:
        """Each file with each path in the crate that it uses, as it is written there."""
        for name, module in self.modules.items():
            for use in module.uses:
                # What a module has from below only to pass it on, it does not use itself.
                if not use.passed_on or use.path[: len(name)] != name or use.name in module.words:
                    yield module.file, use.path
            for path in module.paths:
                yield module.file, path

    def where(self, path: Names, seen: frozenset[Names] = frozenset()) -> Path:
        """The file in which the thing of this path is defined."""
        at: Names = ()
        for index, name in enumerate(path):
            if (*at, name) in self.modules:
                at = (*at, name)
                continue
            for use in self.modules[at].uses:
                further = (*use.path, *path[index + 1 :])
                if use.name == name and further not in seen:
                    return self.where(further, seen | {path})
            for use in self.modules[at].uses:
                if use.name == "*" and use.path in self.modules and name in self.modules[use.path].defined:
                    return self.modules[use.path].file
            break
        return self.modules[at].file

    def imports(self) -> dict[Path, set[Path]]:
        """Of each file the others that it uses."""
        found: dict[Path, set[Path]] = {module.file: set() for module in self.modules.values()}
        for file, path in self.used():
            found[file].add(self.where(path))
        return {file: others - {file} for file, others in found.items()}


def circles(imports: dict[Path, set[Path]]) -> set[frozenset[str]]:
    """The sets of files each of which needs all others of its set, directly or by way of others."""
    needs = {file: set(others) for file, others in imports.items()}
    for file in needs:
        for one in needs:
            if file in needs[one]:
                needs[one] |= needs[file]
    return {
        frozenset(str(other) for other in others if file in needs[other])
        for file, others in needs.items()
        if file in others
    }


def name_of(file: Path) -> Names:
    parts = file.with_suffix("").parts
    return parts[:-1] if parts[-1] in ("mod", "lib") else parts


def read(modules: dict[Names, Module], name: Names, file: Path) -> None:
    """Fills in what is in a file, and in the modules that are written out in it."""
    tokens = TOKEN.findall(SKIPPED.sub(" ", file.read_text()))
    modules_at = [name]  # by the depth of braces
    k = 0
    while k < len(tokens):
        here = modules_at[-1]
        if tokens[k] == "mod" and tokens[k + 2] == ";":
            k += 3
            continue
        modules[here].words.add(tokens[k])
        token, after = tokens[k], tokens[k + 1 : k + 2]
        if tokens[k : k + len(TEST)] == TEST:
            k = end_of_item(tokens, k + len(TEST))
            continue
        if token == "{":
            modules_at.append(here)
        elif token == "}":
            modules_at.pop()
        elif token == "mod" and tokens[k + 2] == "{":
            inner = (*here, tokens[k + 1])
            modules[inner] = Module(modules[name].file)
            modules_at.append(inner)
            k += 2
        elif token == "pub" and after == ["("]:
            k = tokens.index(")", k)
            if tokens[k + 1] == "use":
                k = read_use(modules, here, tokens, k + 2, passed_on=True)
        elif token == "use" and after != ["<"]:
            k = read_use(modules, here, tokens, k + 1, passed_on=tokens[k - 1] == "pub")
        elif token in ("struct", "enum", "union", "trait", "type", "fn", "const", "static") and after:
            modules[here].defined.add(after[0])
        elif (re.match(r"[^\W\d]", token) and after == ["::"]) and tokens[k - 1] not in ("::", "."):
            segments = [token]
            while tokens[k + 1] == "::" and re.match(r"\w", tokens[k + 2]):
                segments.append(tokens[k + 2])
                k += 2
            path = from_root(modules, here, segments)
            if path is not None:
                modules[here].paths.append(path)
        k += 1


def end_of_item(tokens: list[str], k: int) -> int:
    """Past the item that begins here: past its `;`, or its last brace."""
    depth = 0
    while k < len(tokens):
        depth += (tokens[k] in "{([") - (tokens[k] in "})]")
        k += 1
        if depth == 0 and tokens[k - 1] in (";", "}"):
            break
    return k


def read_use(modules: dict[Names, Module], here: Names, tokens: list[str], k: int, passed_on: bool) -> int:
    """Reads what stands behind `use`; answers where its `;` is."""
    end = tokens.index(";", k)
    for segments, name in leaves(tokens[k:end]):
        path = from_root(modules, here, segments)
        if path is not None:
            modules[here].uses.append(Use(path, name, passed_on))
    return end


def leaves(tree: list[str]) -> Iterator[tuple[list[str], str]]:
    """Each path of a `use`, and its name: `a::{self, b::c as d}` is `a` as a, and `a::b::c` as d."""
    prefix: list[str] = []
    k = 0
    while k < len(tree) and tree[k] != "{":
        if tree[k] != "::" or k == 0:
            prefix.append(tree[k])
        k += 1
    if k == len(tree):
        name = prefix[-1]
        if len(prefix) > 2 and prefix[-2] == "as":
            prefix = prefix[:-2]
        if prefix[-1] in ("*", "self") and len(prefix) > 1:
            prefix = prefix[:-1]
            name = prefix[-1] if name == "self" else name
        yield prefix, name
        return
    depth, start = 0, k + 1
    for index in range(k, len(tree)):
        depth += (tree[index] == "{") - (tree[index] == "}")
        if (depth == 1 and tree[index] == ",") or depth == 0:
            if tree[start:index]:
                for rest, name in leaves(tree[start:index]):
                    whole = prefix + rest
                    yield (whole[:-1], prefix[-1]) if rest == ["self"] else (whole, name)
            start = index + 1


def from_root(modules: dict[Names, Module], here: Names, segments: list[str]) -> Names | None:
    """A path from the crate's root, if it is one into the crate."""
    if segments[0] == "crate":
        return tuple(segments[1:])
    at, k = here, 0
    if segments[0] == "self":
        k = 1
    while k < len(segments) and segments[k] == "super":
        at, k = at[:-1], k + 1
    if k == 0 and (*here, segments[0]) not in modules:
        return None
    return (*at, *segments[k:])
