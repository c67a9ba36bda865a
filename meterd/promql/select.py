"""Which series a selector means."""

from collections.abc import Sequence

from meterd.promql.matcher import Matcher, compiled
from meterd.promql.source import Labelled


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """The matchers of a `match[]`. Raises QueryError (bad_data) where it is no vector selector."""
    from meterd.promql.plan import selector

    return selector(text).matchers


def matching(names: Sequence[Labelled], matchers: Sequence[Matcher]) -> list[int]:
    """The ids (places in names) of the series that meet all matchers."""
    ids = list(range(len(names)))
    for matcher in matchers:
        name, meets = matcher.name, compiled(matcher)
        values = [names[place].labels.get(name, "") for place in ids]
        met = {value: meets(value) for value in set(values)}
        ids = [place for place, value in zip(ids, values, strict=True) if met[value]]
    return ids
