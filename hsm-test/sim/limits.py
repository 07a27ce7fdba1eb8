"""Rolling request limits, as the real services count them."""

import threading
from collections import deque


class RollingLimit:
    """Counts the requests of each client; the rules are [count, seconds] pairs."""

    def __init__(self):
        self._lock = threading.Lock()
        self._taken = {}

    def take(self, client, rules, now):
        """None if the request is within every rule (and is now counted), else seconds to wait."""
        if not rules:
            return None
        with self._lock:
            times = self._taken.setdefault(client, deque())
            longest = max(seconds for _, seconds in rules)
            while times and times[0] <= now - longest:
                times.popleft()
            wait = 0.0
            for count, seconds in rules:
                if count <= 0:
                    wait = max(wait, seconds)
                elif len(times) >= count and times[-count] > now - seconds:
                    wait = max(wait, times[-count] + seconds - now)
            if wait > 0:
                return wait
            times.append(now)
            return None

    def clear(self):
        with self._lock:
            self._taken.clear()
