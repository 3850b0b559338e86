"""The one exception that a user is meant to read."""


class FacerepError(Exception):
    """Something that the user can mend: its text is one clear sentence naming the file, key or value and what to do.

    Stages print the sentence without a traceback and exit with 1; every other exception is a bug and keeps its traceback.
    """
