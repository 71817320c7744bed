"""The one exception for what a user can put right: the command line prints its message alone and exits with 2."""


class InputError(ValueError):
    """A file, folder or option that cannot be used; the message names it and says what would work."""
