"""What a suite, or a request to one, can be refused with."""


class SuiteError(ValueError):
    """A suite, its data or a config that cannot be used; the message says where and what to do."""


class NotInSuite(SuiteError):  # noqa: N818 (reads better than NotInSuiteError)
    """A variant or an inference setting that the suite does not contain."""
