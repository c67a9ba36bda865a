"""Adaptive reply timeouts from measured round-trip times, as TCP estimates them (RFC 6298)."""

# Weights of the newest sample in the smoothed RTT and in its deviation (RFC 6298, section 2).
_MEAN_WEIGHT = 1 / 8
_DEVIATION_WEIGHT = 1 / 4
_DEVIATIONS = 4
# `soonest` is this part of the mean RTT, less the deviations, less the timer's jitter in seconds.
_SOONEST_MEAN_PART = 0.9
_TIMER_JITTER_S = 0.002
# The limit never falls below this part of the link's own timeout: a busy gateway may hesitate.
_TIMEOUT_PART_MIN = 0.5
# After 1 to so many lost replies in a row the device may be slow and gets the whole timeout; after
# more it counts as absent.
_LOSSES_BEFORE_ABSENCE = 2


class RttEstimator:
    """Smoothed RTT and deviation of one request (or kind of them) to one device, in seconds."""

    __slots__ = ("_deviation", "_losses", "_mean", "late")

    def __init__(self) -> None:
        self.late = False
        """Whether a reply came after its timeout, and none in time since."""
        self._mean = 0.0
        self._deviation = 0.0
        self._losses = 0

    def limit(self, timeout: float) -> float:
        """The timeout for the next exchange: at most the link's `timeout`, at least half of it."""
        if not self._mean or 0 < self._losses <= _LOSSES_BEFORE_ABSENCE:
            return timeout
        upper, lower = self._mean + _DEVIATIONS * self._deviation, timeout * _TIMEOUT_PART_MIN
        return lower if upper * 2 <= lower else min(timeout, upper * 2)

    @property
    def usual(self) -> float:
        """Seconds within which nearly all replies came; 0 before the first."""
        return self._mean + _DEVIATIONS * self._deviation if self._mean else 0.0

    @property
    def soonest(self) -> float:
        """Seconds before which hardly any reply came; not positive where that is not known."""
        return self._mean * _SOONEST_MEAN_PART - _DEVIATIONS * self._deviation - _TIMER_JITTER_S

    def answered(self, seconds: float) -> None:
        self._losses = 0
        self.late = False
        if not self._mean:
            self._mean, self._deviation = seconds, seconds / 2
            return
        error = seconds - self._mean
        self._mean += _MEAN_WEIGHT * error
        self._deviation += _DEVIATION_WEIGHT * (abs(error) - self._deviation)

    def lost(self) -> None:
        self._losses += 1
