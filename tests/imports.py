"""Which module of both packages imports which, read from the source: imports inside functions too.

`graph()` gives an arrow for every import; `LAYERS` is the one order that they follow.
Run as a script, it prints the number of modules, circles and arrows that point back.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "promptprobe"
MAPPED = ("agents", "prompts")  # folders beside `promptprobe/` that are installed as its sub-packages

# Lowest first. A module imports from its own line and from the lines above it. Names are those below `promptprobe.`;
# the package itself is `__init__`. Every module stands on exactly one line; a name that no module has yet does no harm.
LAYERS = [
    "__init__ errors events lazy version forms threads words text fonts schedulers notebook",
    "options settling files seeds stage_rows stages untrusted",
    "icons icons.* phrases prompts",
    "worlds loading",
    "backbones",
    "attention decoders sizes tokens prompt_files prompt_files.*",
    "paused solver guidance",
    "calling",
    "trajectory",
    "observation",
    "card",
    "probe",
    "single_file placing",
    "sources",
    "pipelines rewards rewards.*",
    "diagnosis dataset evaluation",
    "canonical training",
    "records pnginfo heatmaps sheets report",
    "judges judges.*",
    "runner race",
    "scoring thresholds grades staged selection",
    "policies",
    "search",
    "grpo grpo.keeping",
    "grpo.sde grpo.objective grpo.trackers grpo.curves",
    "grpo.policy",
    "grpo.rollout",
    "grpo.watch",
    "grpo.finished",
    "grpo.learning",
    "grpo.state",
    "grpo.run",
    "runs",
    "replaying reports",
    "facts*",
    "agents agents.arguments agents.loose_json agents.fact_check agents.endpoint",
    "agents.answers agents.replies agents.dialect",
    "agents.rewrites agents.guard",
    "agents.call agents.providers",
    "agents.doctor",
    "agents.offline agents.asking agents.rewriter",
    "agents.rewriters",
    "agents.choice agents.checking",
    "agents.plan agents.rounds",
    "agents.seed_choice",
    "agents.final_choice",
    "agents.loop agents.optimize agents.own_plan",
    "agents.desk agents.results agents.estimate agents.batch* agents.ray_batch agents.pictures",
    "agents.session_facts agents.columns",
    "agents.commands",
    "agents.session",
    "agents.modular agents.studio",
    "agents.turns agents.pictures_out agents.gate agents.kept_files",
    "agents.calls agents.images_request agents.tool_arguments",
    "agents.service",
    "agents.images agents.tools",
    "agents.jobs",
    "agents.page agents.page.*",
    "agents.server agents.mcp_results",
    "agents.mcp_server",
    "terminal_kind",
    "terminal word_bars printing view",
    "cli cli.*",
    "__main__",
]


@dataclass(frozen=True)
class Arrow:
    """One import: `source` and `target` are names below `promptprobe.`.

    One for type checkers only (under `if TYPE_CHECKING:`) loads nothing: a package's lazy names, or the name of a type.
    """

    source: str
    target: str
    line: int
    typing: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Name below `promptprobe.` and file of every module of both packages; a package is its `__init__.py`."""
    found = {}
    for folder, head in [(root / PACKAGE, ()), *((root / name, (name,)) for name in MAPPED)]:
        for file in sorted(folder.rglob("*.py")):
            parts = (*head, *file.relative_to(folder).with_suffix("").parts)
            if parts[-1] == "__init__" and len(parts) > 1:
                parts = parts[:-1]
            found[".".join(parts)] = file
    return found


def link_packages(folder: Path) -> None:
    """Lay out both packages in a folder as an installation does, as links to the repository's files."""
    (folder / PACKAGE).mkdir(parents=True)
    for entry in (ROOT / PACKAGE).iterdir():
        (folder / PACKAGE / entry.name).symlink_to(entry)
    for name in MAPPED:
        (folder / PACKAGE / name).symlink_to(ROOT / name)


def graph(root: Path = ROOT) -> list[Arrow]:
    """Every import of one module by another. Importing a module imports the packages that it lies in, too."""
    files = modules(root)
    packages = {name for name, file in files.items() if file.name == "__init__.py"}
    arrows = []
    for source, file in files.items():
        inside = source if source in packages else source.rpartition(".")[0] or "__init__"
        own = {source, *_parents(source)}
        tree = ast.parse(file.read_text("utf-8"), str(file))
        for_checkers = _lines_for_type_checkers(tree)
        for node, target in _imports(tree, inside, set(files)):
            arrows += [
                Arrow(source, name, node.lineno, node.lineno in for_checkers)
                for name in dict.fromkeys([*_parents(target), target])
                if name not in own and (name == target or name != "__init__")
            ]
    return arrows


def layer_of(module: str) -> int:
    """The number of the line of `LAYERS` that names a module; raises LookupError unless exactly one does."""
    fitting = [i for i, line in enumerate(LAYERS) if any(fnmatchcase(module, p) for p in line.split())]
    if len(fitting) != 1:
        raise LookupError(f"{module} stands on {len(fitting)} lines of LAYERS in {Path(__file__).name}; put it on one")
    return fitting[0]


def back_arrows(arrows: list[Arrow]) -> list[Arrow]:
    """Imports of a module of a higher layer, those for type checkers aside."""
    return [a for a in arrows if layer_of(a.target) > layer_of(a.source) and not a.typing]


def circles(arrows: list[Arrow]) -> list[set[str]]:
    """Sets of modules of which each imports, over others, each: Tarjan's strongly connected components of two or more."""
    following: dict[str, list[str]] = {}
    for arrow in arrows:
        if arrow.typing:
            continue
        following.setdefault(arrow.source, []).append(arrow.target)
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    open_: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        open_.append(module)
        for other in following.get(module, ()):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in open_:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            circle = set(open_[open_.index(module) :])
            del open_[open_.index(module) :]
            if len(circle) > 1:
                found.append(circle)

    for module in following:
        if module not in number:
            visit(module)
    return found


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return ["__init__", *(".".join(parts[:i]) for i in range(1, len(parts)))]


def _lines_for_type_checkers(tree: ast.Module) -> set[int]:
    """Lines under `if TYPE_CHECKING:`, where nothing is loaded."""
    blocks = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {node.lineno for block in blocks for n in block.body for node in ast.walk(n) if hasattr(node, "lineno")}


def _imports(tree: ast.Module, inside: str, known: set[str]) -> Iterator[tuple[ast.stmt, str]]:
    """Each import statement that means a module of ours, with that module's name; `inside` is the package it stands in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                outer = [PACKAGE, *(inside.split(".") if inside != "__init__" else [])]
                base = ".".join([*outer[: len(outer) - node.level + 1], *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
                continue
            target = name.removeprefix(PACKAGE).removeprefix(".")
            while target and target not in known:  # a name of a module's, not a module
                target = target.rpartition(".")[0]
            yield node, target or "__init__"


def main() -> None:
    """Print what the house looks like."""
    arrows = list({(a.source, a.target): a for a in sorted(graph(), key=lambda a: not a.typing)}.values())
    found, back = circles(arrows), back_arrows(arrows)
    named = [a for a in arrows if a.typing and layer_of(a.target) > layer_of(a.source)]
    faces = [a for a in named if modules()[a.source].name == "__init__.py"]
    types = [a for a in named if a not in faces]
    print(f"{len(modules())} modules, {len(arrows)} arrows")
    print(f"{len(found)} circles", *(" <-> ".join(sorted(c)) for c in found), sep="\n    ")
    print(f"{len(back)} arrows back", *back, sep="\n    ")
    print(f"{len(faces)} lazy names of packages; names of types from a higher layer:", *types, sep="\n    ")


if __name__ == "__main__":
    main()
