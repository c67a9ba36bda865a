"""Where a refused query goes astray; the places are those that Prometheus 2.42 names."""

import pytest

from meterd.promql.input_limits import parse
from meterd.promql.result import QueryError


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("foo bar", '1:5: parse error: unexpected identifier "bar"'),
        ("1 2", '1:3: parse error: unexpected number "2"'),
        ('x "a"', '1:3: parse error: unexpected string "\\"a\\""'),
        ("x 5m", '1:3: parse error: unexpected duration "5m"'),
        ("sum by (x) x", '1:12: parse error: unexpected identifier "x"'),
        ("sum(x) by (y) keep", '1:15: parse error: unexpected identifier "keep"'),
        ("x,y", '1:2: parse error: unexpected ","'),
        ("sum(,x)", '1:5: parse error: unexpected ","'),
        ("sum(x) (y)", '1:8: parse error: unexpected "("'),
        ("()", '1:2: parse error: unexpected ")"'),
        ("x and and y", "1:7: parse error: unexpected <op:and>"),
        ("x\n+\n* y", "3:1: parse error: unexpected <op:*>"),
        ("x bool == y", "1:3: parse error: unexpected <bool>"),
        ("group_left", "1:1: parse error: unexpected <group_left>"),
        ("rate(x[5m] smoothed)", '1:12: parse error: unexpected identifier "smoothed"'),
        ('x{a="b"} offset 5m c', '1:20: parse error: unexpected identifier "c"'),
        ("x @ start() c", '1:13: parse error: unexpected identifier "c"'),
        ("a * on (b) group_left (c) d e", '1:29: parse error: unexpected identifier "e"'),
        # What the parser says itself, or nobody can say, stays.
        ("x @ ", "parse error: unexpected end of input in @, expected timestamp"),
        ('x{="b"}', "parse error: syntax error: these words and signs make no expression"),
        ("sum by (a) without (b) (x)", "parse error: syntax error: these words and signs"),
    ],
)
def test_a_refusal_names_the_piece_that_is_out_of_place(query: str, said: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse(query)
    assert str(refused.value).startswith(said)
    assert refused.value.code == "bad_data"
