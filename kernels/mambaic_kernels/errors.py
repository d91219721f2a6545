"""The one error of the kernels."""


class KernelUnavailable(RuntimeError):
    """A backend was asked for that cannot run here; the message says how to get it."""
