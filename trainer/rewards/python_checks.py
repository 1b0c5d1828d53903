"""`python:module:function` checks: found beside the specification or on the import path, and held to their contract."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from trainer.errors import RewardSpecError

PREFIX = "python:"


def load_function(check: str, folder: Path, origin: str) -> Callable[..., object]:
    """The function a `python:module:function` check names; raises `RewardSpecError` naming `origin`."""
    module_name, separator, function_name = check.removeprefix(PREFIX).partition(":")
    if not (module_name and separator and function_name):
        raise RewardSpecError(f"{origin}: check {check!r}; write python:module:function")
    module = _load_module(module_name, folder, origin)
    function = getattr(module, function_name, None)
    if not callable(function):
        defined = [name for name, value in vars(module).items() if inspect.isfunction(value) and name[0] != "_"]
        raise RewardSpecError(f"{origin}: {module_name} has no function {function_name!r}; it has {', '.join(defined)}")
    loaded: Callable[..., object] = function
    return loaded


def source_hash(function: Callable[..., object]) -> str:
    """The hash of the file that defines the function and of what it imports from its folder: other code, other hash.

    Library code outside that folder does not count; neither does what is imported only while the function runs.
    """
    digest = hashlib.sha256()
    for path in sorted(_sources(sys.modules[function.__module__])):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(start: ModuleType) -> set[Path]:
    found: set[Path] = set()
    folder, todo = None, [start]
    while todo:
        module = todo.pop()
        file = getattr(module, "__file__", None)
        if file is None or not file.endswith(".py") or Path(file) in found:
            continue
        path = Path(file)
        folder = folder or path.parent
        if path.is_relative_to(folder):
            found.add(path)
            todo += [sys.modules[name] for name in _imports(path, module.__package__ or "") if name in sys.modules]
    return found


def _imports(path: Path, package: str) -> list[str]:
    """Every name an import statement of the file may refer to a module by."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
            names += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return names


def _load_module(name: str, folder: Path, origin: str) -> ModuleType:
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    try:
        return _load_file(path, folder) if path.is_file() else importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise RewardSpecError(
            f"{origin}: no module {error.name!r}; put {name}.py beside the specification or on PYTHONPATH"
        ) from None
    except Exception as error:  # a check's module runs foreign code; whatever it raises is its report
        raise RewardSpecError(f"{origin}: module {name} fails to import: {type(error).__name__}: {error}") from error


def _load_file(path: Path, folder: Path) -> ModuleType:
    """A module under a name of its own, so that `checks.py` beside two specifications are two modules."""
    unique = f"spanloop_checks_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(unique, path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name=str(path))
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    spec.loader.exec_module(module)
    return module
