"""Trust: which names in a folder may be imported.

A run's folder records the functions and objects of its config by name, and a folder may
come from anybody. A name in it is imported only if it is

  - a value that this package offers to configs, from the modules in `VALUE_MODULES`;
  - in a package that the user lists, with --trust or `trust`;
  - a value that a config of this process has too, as when a run is resumed.

Whatever the module, a name leads to what that module, or another trusted one, defines:
`own_rewards:os.system` and an imported `own_rewards:call` are refused.
"""

import functools
import importlib
import re
import sys
import types
from collections.abc import Collection
from typing import Any

from jaxsearch.key_addresses import allow_keys
from jaxsearch.run.old_names import OLD_VALUES
from jaxsearch.user_code import import_named

# Modules and packages whose public functions and classes are values of configs. None of
# them imports a module by name, starts a program, or writes a file when it is called
# as a config's value is. The providers of `web` are not among them: they send a key of
# the user to the address that a record gives.
VALUE_MODULES = (
    "jaxsearch.data.dataset",
    "jaxsearch.data.quickstart",
    "jaxsearch.data.sample",
    "jaxsearch.env.search",
    "jaxsearch.env.tools",
    "jaxsearch.models.cudnn_attention",
    "jaxsearch.models.kernels",
    "jaxsearch.models.page_attention",
    "jaxsearch.models.row_attention",
    "jaxsearch.models.splash_attention",
    "jaxsearch.models.tpu_page_attention",
    "jaxsearch.monitor.guards",
    "jaxsearch.protocol",
    "jaxsearch.remote",
    "jaxsearch.rewards.answers",
    "jaxsearch.rewards.contract",
    "jaxsearch.rewards.r1_searcher",
    "jaxsearch.rewards.research",
    "jaxsearch.rewards.search_r1",
    "jaxsearch.rl",
    "jaxsearch.search.tfidf_encoder",
)
# Constants of these modules are values of configs, but not the functions there.
CONSTANT_MODULES = ("jaxsearch.rewards.tasks",)

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PLAIN = types.NoneType | bool | int | float | str
_trusted: set[str] = set()
_own_names: set[str] = set()


class UntrustedError(ValueError):
    """A folder names code that the user does not trust."""


def trust(*packages: str) -> None:
    """Allows folders to name code of these packages, and servers of these addresses.

    Opening a folder that names code imports it, which runs it. A server that a folder
    names is asked in any case, but gets the user's tokens and keys only if its address
    is trusted. This process trusts them from now on.

    Args:
      packages: dotted names, where a package includes its modules; or addresses.

    Raises:
      ValueError: for a name that is none, the standard library, or all of jaxsearch.

    Example:
      >>> jaxsearch.trust("my_rewards", "http://127.0.0.1:8000")
    """
    for package in packages:
        if "://" in package:
            allow_keys(package)
            continue
        if not _NAME.fullmatch(package):
            raise ValueError(
                f"--trust {package}: expected the dotted name of a package or module, "
                "such as my_rewards, or the address of a server, such as "
                "http://127.0.0.1:8000"
            )
        root = package.partition(".")[0]
        if root in sys.stdlib_module_names or package == "jaxsearch":
            raise ValueError(
                f"--trust {package}: it can run any program, and no run needs it; "
                "name the package of your own functions"
            )
        _trusted.add(package)


def trust_own(names: Collection[str]) -> None:
    """Allows folders to name what the program of the user has given to its config.

    Args:
      names: names of values, as `module:qualname`, and modules of the user.
    """
    _own_names.update(names)


def named_in_folder(name: str) -> Any:
    """The object at `module:qualname`, as a folder names it.

    Names of earlier versions are translated.

    Args:
      name: the module and the name in it.

    Raises:
      UntrustedError: if it is not one of this package's values, and not trusted.
      ValueError: if it cannot be imported.
    """
    name = OLD_VALUES.get(name, name)
    module, _, qualname = name.rpartition(":")
    parts = qualname.split(".")
    is_own = name in _own_names
    # A file of a folder is no module: records never name one.
    is_module = bool(_NAME.fullmatch(module)) and not module.endswith(".py")
    is_listed = is_module and (module in _own_names or _is_listed(module))
    if not (is_own or is_listed):
        raise UntrustedError(_refusal(name, module))
    if not is_own and any(part.startswith("_") for part in parts):
        raise UntrustedError(f"it names {name:.200}, which is private")
    try:
        is_ours = module.partition(".")[0] == "jaxsearch"
        value = importlib.import_module(module) if is_ours else import_named(module)
        for part in parts:
            if value is not sys.modules[module] and not isinstance(value, type):
                raise UntrustedError(
                    f"it names {name:.200}, which leads through a "
                    f"{type(value).__name__}; a folder may name what a module or a "
                    "class of it defines"
                )
            value = getattr(value, part)
    except UntrustedError:
        raise
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"{name:.200} cannot be imported ({type(error).__name__}: {error!s:.500})"
        ) from error
    if not (is_own or _is_defined(value)):
        raise UntrustedError(
            f"it names {name:.200}, which {_home(value)} defines; a folder may name "
            "only functions and classes that a trusted module defines itself, or that "
            "jaxsearch offers to configs"
        )
    return value


def _is_listed(module: str) -> bool:
    """Whether a module has values of configs, or is trusted."""
    listed = (*VALUE_MODULES, *CONSTANT_MODULES, *_trusted)
    return any(module == one or module.startswith(f"{one}.") for one in listed)


def _is_defined(value: Any) -> bool:
    """Whether a value can be called, if at all, only as a trusted module defines it."""
    if isinstance(value, tuple | list):
        return all(_is_defined(item) for item in value)
    if isinstance(value, functools.partial):
        return _is_defined(value.func)
    if isinstance(value, types.ModuleType):
        return False
    if isinstance(value, _PLAIN) or not callable(value):
        return True
    home = _home(value)
    is_constant_module = home in CONSTANT_MODULES and home not in _trusted
    return home in _own_names or (_is_listed(home) and not is_constant_module)


def _home(value: Any) -> str:
    """The module that defines a function or class, or the class of an object."""
    # Not all objects of other libraries have a module.
    return str(getattr(value, "__module__", None) or type(value).__module__)


def _refusal(name: str, module: str) -> str:
    """Why a name is not imported, and what to type if it should be."""
    root = module.partition(".")[0]
    is_module = bool(_NAME.fullmatch(module)) and not module.endswith(".py")
    if root in sys.stdlib_module_names or not is_module:
        return f"it names the code {name!r:.200}, which is never imported from a folder"
    if root == "jaxsearch":
        return (
            f"it names {name!r:.200}, which a folder may not name by itself; if the "
            f"run is yours, give --trust {module:.200}"
        )
    return (
        f"it names the code {name!r:.200}, and importing it would run it; if it is "
        f"yours, or you trust its author, give --trust {root:.200}, or call "
        f"jaxsearch.trust({root!r:.200}) in Python"
    )
