"""The house in order: imports point one way, what is public is documented, and asking for help loads no torch."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import imports
import pytest
import typer

from promptprobe.cli import app

ROOT = Path(__file__).parent.parent
FACES = ("promptprobe", "promptprobe.agents")  # packages whose `__all__` is what users import


def test_imports_follow_one_order():
    arrows = imports.graph()
    assert {"agents.loop", "rewards", "icons.captions"} <= {a.source for a in arrows}  # every folder is read
    assert [str(a) for a in imports.back_arrows(arrows)] == []
    assert imports.circles(arrows) == []


def test_the_engine_imports_nothing_of_the_agents():
    def of_agents(module: str) -> bool:
        return module.split(".")[0] in ("agents", "cli", "__main__")

    found = [str(a) for a in imports.graph() if of_agents(a.target) and not of_agents(a.source) and not a.typing]
    assert found == []


def house(folder: Path, **files: str) -> Path:
    """A small copy of the layout: file contents by name, `__` for a slash."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for package in ("promptprobe", "agents"):
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").touch()
    return folder


@pytest.mark.parametrize(
    ("files", "back"),
    [
        ({"agents__loop": "def run():\n    from ..cli import app\n"}, ["agents.loop:2 imports cli"]),
        ({"agents__loop": "import promptprobe.cli as c\n"}, ["agents.loop:1 imports cli"]),
        ({"agents__loop": "from .. import cli\n"}, ["agents.loop:1 imports cli"]),
        ({"promptprobe__rewards__clip": "from ..agents.loop import x\n", "promptprobe__rewards____init__": ""},
         ["rewards.clip:1 imports agents", "rewards.clip:1 imports agents.loop"]),
        ({"promptprobe__probe": "if TYPE_CHECKING:\n    from .agents import loop\nfrom .cli import app\n"},
         ["probe:3 imports cli"]),
        ({"promptprobe__probe": "from . import agents\n"}, ["probe:1 imports agents"]),
        ({"promptprobe__probe": "from .agents.loop import x\nfrom .errors import y\nimport agents\n"},
         ["probe:1 imports agents", "probe:1 imports agents.loop"]),
    ],
)  # fmt: skip
def test_an_import_that_points_back_is_found_wherever_it_stands(files, back, tmp_path):
    whole = {"promptprobe__errors": "", "promptprobe__cli": "", "agents__loop": ""} | files
    assert [str(a) for a in imports.back_arrows(imports.graph(house(tmp_path, **whole)))] == back


def test_a_circle_is_found_through_a_function_and_a_package(tmp_path):
    files = {
        "agents__loop": "from .batch import x\n", "agents__batch": "def f():\n    from ..runs import y\n",
        "promptprobe__runs": "from .agents import loop\n", "promptprobe__errors": "",
    }  # fmt: skip
    assert imports.circles(imports.graph(house(tmp_path, **files))) == [{"agents.loop", "agents.batch", "runs"}]


def test_a_module_that_no_layer_names_is_told(tmp_path):
    files = {"promptprobe__novelty": "from .errors import x\n", "promptprobe__errors": ""}
    with pytest.raises(LookupError, match="novelty stands on 0 lines of LAYERS"):
        imports.back_arrows(imports.graph(house(tmp_path, **files)))
    for module in imports.modules():
        imports.layer_of(module)


def documented(thing: object, name: str) -> list[str]:
    """What is missing: the docstring of something public or of a class's public methods, a parameter that it doesn't name."""
    text = inspect.getdoc(thing) or ""
    if not text:
        return [f"{name} has no docstring"]
    if inspect.isclass(thing):
        text += (thing.__init__.__doc__ or "") if "__init__" in vars(thing) else ""
        own = [m for n, m in vars(thing).items() if inspect.isfunction(m) and (n[0] != "_" or n == "__init__")]
        bare = [f"{name}.{m.__name__} has no docstring" for m in own if m.__name__ != "__init__" and not m.__doc__]
        made = [m for m in own if m.__name__ == "__init__" and not dataclasses.is_dataclass(thing)]
        takes = [p for m in made for p in inspect.signature(m).parameters]
    else:
        bare, takes = [], list(inspect.signature(thing).parameters) if callable(thing) else []
    unsaid = [p for p in takes if not re.search(rf"\b({p}|{p.replace('_', ' ')})s?\b", text)]
    return bare + [f"{name} says nothing of {p}" for p in unsaid if p != "self"]


@pytest.mark.parametrize("face", FACES)
def test_everything_public_is_exported_and_documented(face):
    package = import_module(face)
    missing = [m for name in package.__all__ for m in documented(getattr(package, name), name)]
    assert missing == []
    assert set(package.__all__) >= set(package._LAZY) and list(package.__all__) == sorted(set(package.__all__))
    tree = ast.parse(Path(package.__file__).read_text("utf-8"))
    for_checkers = {
        alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert for_checkers == set(package._LAZY)  # what is loaded lazily is what type checkers and editors see


def commands() -> list[str]:
    group: Any = typer.main.get_command(app)
    return sorted(group.commands)


SEEN = """
import sys
from promptprobe.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    sys.stderr.write(f"loaded {sorted({'torch', 'diffusers', 'transformers', 'langgraph'} & set(sys.modules))}")
    raise
"""


def at_once(cases: Iterable[tuple[str, ...]], folder: Path) -> dict[tuple[str, ...], subprocess.Popen[str]]:
    """A process for each case's arguments, which says at its end which heavy packages it loaded."""
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    return {
        case: subprocess.Popen(
            [sys.executable, "-c", SEEN, *case], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=folder,
        )
        for case in cases
    }  # fmt: skip


REFUSED = (
    (("optimize", " "), "the prompt is empty"), (("generate", "cat", "--out", "x.jpg"), "it must end in .png"), (("generate", "cat", "--out", "file"), "it must end in .png"),
    (("seeds", "cat", "--seeds", "0"), "seeds is 0"), (("score", "cat", "--model", "nowhere"), "is no folder"),
    (("optimize", "cat", "--report", "file/x.html"), "choose another --report"),
    (("optimize", "cat", "--out", "file/x"), "choose another --out"), (("batch", "missing.txt", "--out", "o"), "missing.txt"),
    (("replay", "missing.png"), "missing.png"), (("evaluate", "missing"), "is no data set"),
    (("session", "--name", "../x"), "session name is"), (("serve", "--host", "0.0.0.0"), "only loopback is served"),
    (("mcp", "--transport", "http", "--host", "::"), "only loopback is served"), (("ui", "missing"), "no results.jsonl"),
    (("grpo", "--prompts", "missing.txt"), "missing.txt"), (("collect", "missing.txt", "--out", "o"), "missing.txt"),
)  # fmt: skip


def test_what_is_refused_is_refused_before_torch_is_loaded(tmp_path):
    (tmp_path / "file").touch()
    for (command, process), (_, message) in zip(
        at_once([c for c, _ in REFUSED], tmp_path).items(), REFUSED, strict=True
    ):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2 and message in err and err.endswith("loaded []"), (command, err)
    assert os.listdir(tmp_path) == ["file"]


def test_help_of_every_command_loads_no_torch(tmp_path):
    for command, process in at_once([("--help",), *((name, "--help") for name in commands())], tmp_path).items():
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "loaded []"), command
        assert "Usage:" in out and " ".join(command[:-1]) in out
    code = "import sys, promptprobe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device without room")
def test_output_that_finds_no_room_ends_in_a_line():
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "promptprobe", "backbones"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert run.returncode == 2 and run.stderr.startswith("promptprobe: the output can't be written: No space left")


def test_documented_commands_and_options_exist():
    commands: Any = typer.main.get_command(app)
    wrong, seen = [], 0
    for path in (ROOT / "README.md", ROOT / "Dockerfile", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        text = path.read_text("utf-8").replace("\\\n", " ")
        for name, rest in re.findall(r"(?:^|[`/&(] *|^ +|\$ )promptprobe ([a-z][a-z-]*)\b([^`|#\n;)]*)", text, re.M):
            if name not in commands.commands:
                if re.match(r" *--?\w|^$", rest) and "`" not in name:
                    wrong.append(f"{path.name}: promptprobe {name}")
                continue
            seen += 1
            known = {flag for p in commands.commands[name].params for flag in (*p.opts, *p.secondary_opts)} | {"--help"}
            wrong += [
                f"{path.name}: promptprobe {name} {flag}"
                for flag in re.findall(r"(?<=\s)--[a-z][a-z-]*", rest)
                if flag not in known
            ]
    assert seen > 20 and wrong == []
