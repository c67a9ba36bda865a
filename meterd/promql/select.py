"""Selects series by label matchers."""

from collections.abc import Sequence

from meterd.promql.matcher import Matcher, compile_matcher
from meterd.promql.source import Labelled


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """The matchers of a `match[]`. Raises QueryError (bad_data) where it is no vector selector."""
    from meterd.promql.plan import selector

    return selector(text).matchers


def matching_ids(names: Sequence[Labelled], matchers: Sequence[Matcher]) -> list[int]:
    """The ids (indices in `names`) of the series that satisfy all matchers."""
    ids = list(range(len(names)))
    for matcher in matchers:
        name, predicate = matcher.name, compile_matcher(matcher)
        values = [names[series_id].labels.get(name, "") for series_id in ids]
        matches = {value: predicate(value) for value in set(values)}
        ids = [series_id for series_id, value in zip(ids, values, strict=True) if matches[value]]
    return ids
