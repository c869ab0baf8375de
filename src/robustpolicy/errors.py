"""The one exception for bad input: what was given, what is allowed, how to mend it."""


class UserError(ValueError):
    """Bad input. Its text is one clear line; the command line prints it and exits with code 2.

    A plain ``ValueError`` raised elsewhere is a fault of the program, and keeps its traceback.
    """
