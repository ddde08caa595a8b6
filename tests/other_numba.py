"""Makes the Numba of a process another one: parts renamed, given other parameters, or out of fastnn's sight.

Tests run this text in processes of their own, before fastnn is imported there.
"""

import functools
import gc
import importlib
import inspect
import sys
import types

OTHER = "_of_another_version"


def modules():
    """Those of Numba and llvmlite."""
    return [m for name, m in list(sys.modules.items()) if m and name.split(".")[0] in ("numba", "llvmlite")]


def rename(module, owner, member):
    """Give a part another name, wherever Numba or llvmlite say it."""
    importlib.import_module(module)
    names = {m.__name__ for m in modules()}
    for thing in gc.get_objects():
        if type(thing) is types.FunctionType and thing.__module__ in names:
            thing.__code__ = renamed(thing.__code__, member)
        elif issubclass(type(thing), type) and thing.__module__ in names and member in vars(thing):
            setattr(thing, member + OTHER, vars(thing)[member])
            delattr(thing, member)
        elif type(thing).__module__ in names:
            attributes = getattr(thing, "__dict__", None)
            if type(attributes) is dict and member in attributes:
                attributes[member + OTHER] = attributes.pop(member)
    for each in modules():
        if member in vars(each):
            found = vars(each)[member + OTHER] = vars(each).pop(member)
            if isinstance(found, type):
                found.__name__ = member + OTHER


def renamed(code, name):
    """A code object that says another name, and so do those inside of it."""
    inner = [renamed(c, name) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    names = [n + OTHER if n == name else n for n in code.co_names]
    return code.replace(co_consts=tuple(inner), co_names=tuple(names))


def change(module, owner, member):
    """Give what is called parameters without names."""
    place = importlib.import_module(module)
    place = getattr(place, owner) if owner else place
    original = inspect.getattr_static(place, member)
    function = getattr(original, "__func__", original)

    def changed(*args, **named):
        return function(*args, **named)

    setattr(place, member, type(original)(changed) if function is not original else changed)


class Sight:
    """All of something but one attribute of it, or with a `Sight` in the place of that."""

    def __init__(self, whole, name, instead=None):
        self.__dict__.update(whole=whole, name=name, instead=instead)

    def __getattr__(self, name):
        if name == self.name:
            if self.instead is None:
                raise AttributeError(name)
            return self.instead
        return getattr(self.whole, name)


def hide(module, owner, member):
    """Let who looks a part up by name not find it."""
    whole = importlib.import_module(module)
    path = [*filter(None, (owner, member))]
    seen = Sight(getattr(whole, path[0]), path[1]) if len(path) > 1 else None
    seen = Sight(whole, path[0], seen)
    original = importlib.import_module

    @functools.wraps(original)
    def import_module(name, package=None):
        return seen if name == module else original(name, package)

    importlib.import_module = import_module
