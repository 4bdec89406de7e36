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


def reason_of(error: BaseException) -> str:
    """An error of some library in one line: its class and the first line of what it says, at most 200 characters."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
