"""Results that survive an interrupt: one line of JSON for each, found again by what they depend on."""
import hashlib
import json
from pathlib import Path


class Journal:
    """A file of results, appended to as they come.

    Args:
        path (Path): Made where it is missing. A line that was cut short by a kill is passed over.
        fresh (bool): Forget what it holds.
    """

    def __init__(self, path, fresh=False):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.results = {}
        if fresh:
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            return
        text = self.path.read_text(encoding='utf-8', errors='replace')
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self.results[entry['key']] = entry['result']
            except (ValueError, KeyError, TypeError):
                continue
        if text and not text.endswith('\n'):
            self.append('\n')

    def get(self, key):
        """The result of a key, or None."""
        return self.results.get(key)

    def put(self, key, result):
        """Keeps a result (what JSON takes) under a key, and writes it at once."""
        self.results[key] = result
        self.append(json.dumps({'key': key, 'result': result}, ensure_ascii=False) + '\n')

    def append(self, text):
        with self.path.open('a', encoding='utf-8') as file:
            file.write(text)


def key_of(*parts):
    """A key from whatever the result depends on, as JSON takes it."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
