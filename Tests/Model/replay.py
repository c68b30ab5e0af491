"""Anti-replay (RFC 4303 3.4.3) and extended sequence numbers (Appendix A2)."""


class ReplayWindow:
    """What was received of one SA. A window of 0 keeps nothing."""

    def __init__(self, size, esn):
        self.size, self.esn = size, esn
        self.highest, self.seen = 0, set()

    def inferred(self, low):
        """The whole number of a packet that carries its low 32 bits (A2.2)."""
        if not self.esn:
            return low
        highest_low, highest_high = self.highest & 0xFFFFFFFF, self.highest >> 32
        bottom = highest_low - self.size + 1
        if bottom >= 0:
            return low + (highest_high + (low < bottom) << 32)
        # The window spans two subspaces of numbers.
        return low + (highest_high - (low >= bottom + (1 << 32) and highest_high > 0) << 32)

    def fault(self, sequence):
        """The counters of a number that must not be taken, None where it may."""
        if sequence == 0:
            return ("esp_sequence_zero",)
        if not self.size or sequence > self.highest:
            return None
        if sequence <= self.highest - self.size:
            return ("replay_too_old",)
        return ("replay_duplicate",) if sequence in self.seen else None

    def mark(self, sequence):
        """Called for what is authentic alone."""
        if not self.size:
            return
        self.seen.add(sequence)
        if sequence > self.highest:
            self.highest = sequence
            if len(self.seen) > 4 * self.size:
                self.seen = {number for number in self.seen if number > self.highest - self.size}
