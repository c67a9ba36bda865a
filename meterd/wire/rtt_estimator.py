"""How long an answer may take, from how long answers took."""

# Weights of the newest answer in the smoothed time and its deviation (as TCP's RFC 6298 has them).
_GAIN = 1 / 8
_DEVIATION_GAIN = 1 / 4
_DEVIATIONS = 4
# Answers sooner than the mean by this part, by the deviations and by so many seconds are odd.
_EARLY = 0.9
_JITTER = 0.002
# The limit never falls below this part of the link's own timeout: a busy gateway may hesitate.
_FLOOR = 0.5
# So many losses in a row may be slowness, and get the whole timeout; after that it is absence.
_DOUBTS = 2


class RttEstimator:
    """The time limit of one kind of exchange with one device, in seconds."""

    __slots__ = ("_deviation", "_losses", "_mean", "late")

    def __init__(self) -> None:
        self.late = False
        """Whether an answer came after it was given up, and none in time since."""
        self._mean = 0.0
        self._deviation = 0.0
        self._losses = 0

    def limit(self, timeout: float) -> float:
        """At most the link's timeout, at least half of it."""
        if not self._mean or 0 < self._losses <= _DOUBTS:
            return timeout
        usual, least = self._mean + _DEVIATIONS * self._deviation, timeout * _FLOOR
        return least if usual * 2 <= least else min(timeout, usual * 2)

    @property
    def usual(self) -> float:
        """Seconds within which nearly all answers came; 0 before the first."""
        return self._mean + _DEVIATIONS * self._deviation if self._mean else 0.0

    @property
    def soonest(self) -> float:
        """Sooner than this, in seconds, hardly any answer came; 0 where that is not known."""
        return self._mean * _EARLY - _DEVIATIONS * self._deviation - _JITTER

    def answered(self, seconds: float) -> None:
        self._losses = 0
        self.late = False
        if not self._mean:
            self._mean, self._deviation = seconds, seconds / 2
            return
        error = seconds - self._mean
        self._mean += _GAIN * error
        self._deviation += _DEVIATION_GAIN * (abs(error) - self._deviation)

    def lost(self) -> None:
        self._losses += 1
