"""What a user can act on. The command line prints these in one line and exits with 2."""


class PromptProbeError(Exception):
    """Base of every error whose message says what was wrong, with the value, and what to do next."""


class InputError(PromptProbeError):
    """A value given by the user is out of its range."""


class ModelError(PromptProbeError):
    """A pipeline, reward or probe folder can't be used: absent, incomplete, corrupt or of an unknown kind."""


class ProbeMismatchError(PromptProbeError):
    """A probe was trained for something else than what it is asked to judge."""


class CaptureError(PromptProbeError):
    """Attention could not be read faithfully."""
