"""The logger that says that code is compiled: it explains a first fit that takes seconds."""

import logging


class Announcement:
    """Says that code is compiled: once at INFO, then each function at DEBUG.

    Attributes
    ----------
    due : bool
        Whether the next function is told of at INFO.
    """

    def __init__(self, name):
        self.due = True
        self._logger = logging.getLogger(name)
        self._logger.addHandler(logging.NullHandler())  # nothing is printed unless a program asks for it

    def give(self, function):
        """To be called where a function, of this name, is about to be compiled."""
        if self.due:
            self.due = False
            self._logger.info("compiling, which may take some seconds; later processes load the machine code")
        self._logger.debug("compiling %s", function)


announcement = Announcement(__name__.partition(".core.")[0])


def announced(cache, function):
    """The cache of a function, which gives an announcement where it has nothing to load: it is compiled then."""
    load = cache.load_overload

    def load_or_announce(sig, target_context):
        found = load(sig, target_context)
        if found is None:
            announcement.give(function)
        return found

    cache.load_overload = load_or_announce
    return cache
