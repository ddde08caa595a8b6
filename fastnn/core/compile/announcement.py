"""The logger that says where machine code comes from: compiling explains a first fit that takes seconds."""

import logging


class Announcement:
    """Says once in a fit at INFO that code is compiled, and once that it is loaded; each function at DEBUG.

    Attributes
    ----------
    due, loading_due : bool
        Whether the next function that is compiled, or loaded, is told of at INFO.
    """

    def __init__(self, name):
        self.due = self.loading_due = True
        self._logger = logging.getLogger(name)
        self._logger.addHandler(logging.NullHandler())  # nothing is printed unless a program asks for it

    def give(self, function):
        """To be called where a function, of this name, is about to be compiled."""
        if self.due:
            self.due = False
            self._logger.info("compiling: about 5 s, once for this machine; later processes load the machine code")
        self._logger.debug("compiling %s", function)

    def loaded(self, function):
        """To be called where the machine code of a function has been loaded."""
        if self.loading_due:
            self.loading_due = False
            self._logger.info("machine code is loaded from the cache")
        self._logger.debug("loaded %s", function)


announcement = Announcement(__name__.partition(".core.")[0])


def announced(cache, function):
    """The cache of a function, which tells of what it loads, and where it has nothing to load: that is compiled."""
    load = cache.load_overload

    def load_or_announce(sig, target_context):
        found = load(sig, target_context)
        if found is None:
            announcement.give(function)
        else:
            announcement.loaded(function)
        return found

    cache.load_overload = load_or_announce
    return cache
